//! Rows that can be sorted, filtered and searched, whatever they are about.

use std::collections::{BTreeMap, BTreeSet};

use super::subject::Subject;
use crate::render::page::Style;
use crate::report::order;

/// A column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// What stands above it.
    pub title: &'static str,
    /// Numbers are flush right.
    pub right: bool,
    /// How long it stays when there is no room: the highest go first, 0 never.
    pub goes: u8,
}

impl Column {
    /// Of names.
    pub const fn left(title: &'static str, goes: u8) -> Self {
        Self {
            title,
            right: false,
            goes,
        }
    }

    /// Of numbers.
    pub const fn right(title: &'static str, goes: u8) -> Self {
        Self {
            title,
            right: true,
            goes,
        }
    }
}

/// What a cell is sorted by.
#[derive(Clone, Debug, PartialEq)]
pub enum Sort {
    /// Larger ones come first.
    Number(f64),
    /// In the order of the alphabet.
    Text(String),
    /// Comes last.
    Unknown,
}

/// A cell.
#[derive(Clone, Debug)]
pub struct Cell {
    /// What is seen.
    pub text: String,
    /// How it stands out.
    pub style: Style,
    /// What it is sorted by.
    pub sort: Sort,
}

impl Cell {
    /// A name.
    pub fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        Self {
            sort: Sort::Text(text.to_lowercase()),
            text,
            style: Style::Normal,
        }
    }

    /// A number as it is.
    pub fn number(value: u64) -> Self {
        Self::shown(value as f64, value.to_string())
    }

    /// A number that is written otherwise.
    pub fn shown(value: f64, text: String) -> Self {
        Self {
            text,
            style: Style::Normal,
            sort: Sort::Number(value),
        }
    }

    /// What may be unknown.
    pub fn maybe<T>(value: Option<T>, show: impl FnOnce(T) -> Self) -> Self {
        value.map_or_else(
            || Self {
                text: "-".to_owned(),
                style: Style::Faint,
                sort: Sort::Unknown,
            },
            show,
        )
    }

    /// The same, standing out.
    pub fn styled(mut self, style: Style) -> Self {
        self.style = style;
        self
    }

    /// The same, standing out unless it is 0.
    pub fn alarming(self, style: Style) -> Self {
        match self.sort {
            Sort::Number(value) if value != 0.0 => self.styled(style),
            _ => self,
        }
    }
}

/// A row.
#[derive(Clone, Debug)]
pub struct Row {
    /// What it is about.
    pub subject: Subject,
    /// As many as there are columns.
    pub cells: Vec<Cell>,
}

/// A table.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// The columns.
    pub columns: &'static [Column],
    /// The rows.
    pub rows: Vec<Row>,
    /// Rows that there were before the filter.
    pub unfiltered: usize,
    /// What is said when there are none.
    pub empty: String,
}

impl Table {
    /// Leaves only rows that contain this text, in any cell, whatever the case.
    pub fn filter(&mut self, wanted: &str) {
        self.unfiltered = self.rows.len();
        if !wanted.is_empty() {
            self.rows.retain(|row| contains(row, wanted));
        }
    }

    /// Sorts by a column; numbers from the largest, text from A, unless reversed. What is unknown
    /// is last either way.
    pub fn sort(&mut self, column: usize, reverse: bool) {
        let sorts = || {
            let rows = self.rows.iter();
            rows.map(|row| {
                row.cells
                    .get(column)
                    .map_or(&Sort::Unknown, |cell| &cell.sort)
            })
        };
        let words: BTreeSet<&str> = sorts()
            .filter_map(|sort| match sort {
                Sort::Text(text) => Some(text.as_str()),
                _ => None,
            })
            .collect();
        let ranks: BTreeMap<&str, u64> = words.into_iter().zip(0..).collect();
        let keys = sorts().map(|sort| {
            let key = match sort {
                Sort::Unknown => return u64::MAX,
                Sort::Number(number) => !order::key(*number),
                Sort::Text(text) => ranks.get(text.as_str()).copied().unwrap_or(0),
            };
            // Below that of what is unknown.
            let key = if reverse { !key } else { key };
            key.min(u64::MAX - 1)
        });
        let order = order::order(keys);
        self.rows = order::arrange(std::mem::take(&mut self.rows), &order);
    }

    /// The next row from `from` on (not itself) that contains this text, around the end.
    pub fn find(&self, wanted: &str, from: usize, backwards: bool) -> Option<usize> {
        let len = self.rows.len();
        (1..=len)
            .map(|step| if backwards { len - step } else { step })
            .map(|step| (from + step) % len)
            .find(|at| self.rows.get(*at).is_some_and(|row| contains(row, wanted)))
    }
}

/// Whether any cell of a row contains this text.
pub fn contains(row: &Row, wanted: &str) -> bool {
    let wanted = wanted.to_lowercase();
    row.cells
        .iter()
        .any(|cell| cell.text.to_lowercase().contains(&wanted))
}
