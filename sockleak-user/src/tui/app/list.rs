//! Where the cursor of a list is, and how the list is ordered.

use super::subject::Subject;
use super::table::Table;

/// Cursor, order and filter of one view.
#[derive(Clone, Debug, Default)]
pub struct List {
    /// Row of the cursor.
    pub cursor: usize,
    /// First row that is seen.
    pub offset: usize,
    /// What the cursor is on, once it was moved: it stays there when rows move.
    pub on: Option<Subject>,
    /// Column that it is sorted by, and whether reversed; `None` is the order of the report.
    pub sort: Option<(usize, bool)>,
    /// Only rows with this text.
    pub filter: String,
    /// What was searched for last.
    pub search: String,
}

impl List {
    /// Filters and sorts a table as this list is.
    pub fn arrange(&self, table: &mut Table) {
        table.filter(&self.filter);
        if let Some((column, reverse)) = self.sort {
            table.sort(column, reverse);
        }
    }

    /// The next column to sort by, from the order of the report through all columns.
    pub fn sort_next(&mut self, columns: usize, backwards: bool) {
        let place = self.sort.map_or(0, |(column, _)| column + 1);
        let places = columns + 1;
        let next = if backwards {
            (place + places - 1) % places
        } else {
            (place + 1) % places
        };
        self.sort = next.checked_sub(1).map(|column| (column, false));
    }

    /// The other way round.
    pub fn reverse(&mut self) {
        if let Some((_, reverse)) = &mut self.sort {
            *reverse = !*reverse;
        }
    }

    /// Puts the cursor on a row.
    pub fn go(&mut self, to: usize, table: &Table) {
        self.cursor = to.min(table.rows.len().saturating_sub(1));
        self.on = table.rows.get(self.cursor).map(|row| row.subject.clone());
    }

    /// Moves the cursor.
    pub fn step(&mut self, by: isize, table: &Table) {
        self.go(self.cursor.saturating_add_signed(by), table);
    }

    /// Follows what the cursor is on, and keeps it within `height` rows that are seen.
    pub fn settle(&mut self, table: &Table, height: usize) {
        if let Some(on) = &self.on {
            let mut rows = table.rows.iter();
            match rows.position(|row| row.subject == *on) {
                Some(at) => self.cursor = at,
                // It is gone: the cursor stays where it was, on whatever is there now.
                None => self.go(self.cursor, table),
            }
        }
        let rows = table.rows.len();
        self.cursor = self.cursor.min(rows.saturating_sub(1));
        let height = height.max(1);
        self.offset = self
            .offset
            .min(self.cursor)
            .max((self.cursor + 1).saturating_sub(height))
            .min(rows.saturating_sub(height));
    }
}
