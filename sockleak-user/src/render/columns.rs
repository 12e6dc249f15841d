//! Aligned columns: as wide as their content, one space apart, one word per cell, so that the
//! n-th field is the n-th column for awk.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::page::{Page, Style};
use crate::sanitize::defused;

/// A cell wider than this is cut, so that one hostile name cannot push a table off the screen.
const WIDEST: usize = 48;

/// What stands where a value is unknown or does not apply.
const NOTHING: &str = "-";

/// Side on which a column is flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Names.
    Left,
    /// Numbers.
    Right,
    /// Sentences of ours: the only cells that have several words, and only in the last column.
    Sentence,
}

/// Rows under a heading.
#[derive(Debug)]
pub struct Columns {
    heading: Vec<(&'static str, Align)>,
    rows: Vec<Vec<(Style, String)>>,
}

impl Columns {
    /// A table without rows.
    pub fn new(heading: &[(&'static str, Align)]) -> Self {
        Self {
            heading: heading.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<(Style, String)>) {
        let cells = self.heading.iter().zip(cells);
        let cells = cells.map(|((_, align), (style, text))| match align {
            Align::Sentence => (style, text),
            Align::Left | Align::Right => (style, one_word(&text)),
        });
        self.rows.push(cells.collect());
    }

    /// Adds the table to a page; nothing when there are no rows.
    pub fn put(&self, page: &mut Page) {
        if self.rows.is_empty() {
            return;
        }
        let widths: Vec<usize> = (0..self.heading.len()).map(|n| self.width(n)).collect();
        let heading: Vec<_> = self
            .heading
            .iter()
            .map(|(title, _)| (Style::Strong, (*title).to_owned()))
            .collect();
        for row in std::iter::once(&heading).chain(&self.rows) {
            self.put_row(page, &widths, row);
        }
    }

    fn width(&self, column: usize) -> usize {
        let title = self
            .heading
            .get(column)
            .map_or(0, |(title, _)| title.width());
        self.rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|(_, text)| text.width())
            .fold(title, usize::max)
    }

    fn put_row(&self, page: &mut Page, widths: &[usize], row: &[(Style, String)]) {
        let cells = self.heading.iter().zip(widths).zip(row);
        put_cells(
            page,
            cells.map(|(((_, align), width), (style, text))| {
                (*width, *align, *style, text.as_str())
            }),
        );
    }
}

/// A line of cells whose least widths are given, for tables that never end.
pub fn put_line(page: &mut Page, cells: &[(usize, Align, (Style, String))]) {
    let words: Vec<_> = cells
        .iter()
        .map(|(_, _, (_, text))| one_word(text))
        .collect();
    let cells = cells.iter().zip(&words);
    put_cells(
        page,
        cells.map(|((width, align, (style, _)), word)| (*width, *align, *style, word.as_str())),
    );
}

fn put_cells<'a>(page: &mut Page, cells: impl Iterator<Item = (usize, Align, Style, &'a str)>) {
    let mut owed = 0;
    for (width, align, style, text) in cells {
        let padding = width.saturating_sub(text.width());
        let (before, after) = match align {
            Align::Left | Align::Sentence => (0, padding),
            Align::Right => (padding, 0),
        };
        // Padding behind the last cell is never written.
        page.put(Style::Normal, &" ".repeat(owed + before));
        page.put(style, text);
        owed = after + 1;
    }
    page.end_line();
}

/// A number.
pub fn number(value: u64) -> (Style, String) {
    (Style::Normal, value.to_string())
}

/// A number that stands out unless it is zero.
pub fn alarming(style: Style, value: u64) -> (Style, String) {
    let style = if value == 0 { Style::Normal } else { style };
    (style, value.to_string())
}

/// A name.
pub fn text(value: &str) -> (Style, String) {
    (Style::Normal, value.to_owned())
}

/// Something that may be unknown.
pub fn maybe<T>(value: Option<T>, show: impl FnOnce(T) -> String) -> (Style, String) {
    match value {
        Some(value) => (Style::Normal, show(value)),
        None => (Style::Faint, NOTHING.to_owned()),
    }
}

/// As lsof does it: a space inside a name is shown as `\x20`.
fn one_word(text: &str) -> String {
    let text = defused(text).replace(char::is_whitespace, "\\x20");
    if text.is_empty() {
        return NOTHING.to_owned();
    }
    if text.width() <= WIDEST {
        return text;
    }
    let mut room = WIDEST - 1;
    let mut cut: String = text
        .chars()
        .take_while(|c| {
            let width = c.width().unwrap_or(0);
            let fits = width <= room;
            room = room.saturating_sub(width);
            fits
        })
        .collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_single_words_of_bounded_width() {
        assert_eq!(one_word("Web Content"), "Web\\x20Content");
        assert_eq!(one_word(""), "-");
        let long = one_word(&"日".repeat(60));
        assert!(long.width() <= WIDEST, "{long}");
        assert!(long.ends_with('…'));
    }
}
