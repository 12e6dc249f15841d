//! Text on its way out: the only place that writes an escape sequence, and it writes its own.

use std::io::{self, Write};

use unicode_width::UnicodeWidthStr;

use crate::sanitize::defused;

/// How a piece of text stands out, where colour is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// Not at all.
    #[default]
    Normal,
    /// Headings and names.
    Strong,
    /// What needs action.
    Bad,
    /// What needs attention.
    Warn,
    /// What can be skipped.
    Faint,
}

impl Style {
    /// Parameters of the SGR sequence (ECMA-48 8.3.117).
    fn sgr(self) -> Option<&'static str> {
        match self {
            Self::Normal => None,
            Self::Strong => Some("1"),
            Self::Bad => Some("1;31"),
            Self::Warn => Some("33"),
            Self::Faint => Some("2"),
        }
    }
}

/// A line as pieces that stand out in different ways.
pub type Line = Vec<(Style, String)>;

/// Lines collected for one report.
#[derive(Debug)]
pub struct Page {
    lines: Vec<Line>,
    current: Line,
    color: bool,
    width: usize,
}

impl Page {
    /// An empty page that is `width` columns wide.
    pub fn new(width: usize, color: bool) -> Self {
        Self {
            lines: Vec::new(),
            current: Line::new(),
            color,
            width,
        }
    }

    /// Adds text to the current line. Nothing harmful passes, not even a line break; no-break
    /// spaces become ordinary ones, so that grep finds what is seen.
    pub fn put(&mut self, style: Style, text: &str) -> &mut Self {
        if !text.is_empty() {
            let text = defused(text).replace('\u{a0}', " ");
            self.current.push((style, text));
        }
        self
    }

    /// Ends the current line.
    pub fn end_line(&mut self) {
        self.lines.push(std::mem::take(&mut self.current));
    }

    /// A line of its own.
    pub fn line(&mut self, style: Style, text: &str) {
        self.put(style, text).end_line();
    }

    /// An empty line, unless the page is empty.
    pub fn gap(&mut self) {
        if !self.lines.is_empty() || !self.current.is_empty() {
            self.end_line();
        }
    }

    /// A label followed by text that is wrapped at the page's width and aligned behind it.
    ///
    /// The label begins at column `indent`, the text at `column`, or one space behind a longer
    /// label. A word longer than a line is not broken, so that it can be copied.
    pub fn labelled(
        &mut self,
        indent: usize,
        label: &str,
        column: usize,
        style: Style,
        text: &str,
    ) {
        let start = column.max(indent + label.width() + 1);
        self.spaces(indent).put(Style::Strong, label);
        self.spaces(start - indent - label.width());
        self.wrapped(start, column, style, text);
    }

    /// The same for a list: the label once, each item on lines of its own.
    pub fn labelled_list(&mut self, indent: usize, label: &str, column: usize, items: &[String]) {
        let mut label = label;
        for item in items {
            self.labelled(indent, label, column, Style::Normal, item);
            label = "";
        }
    }

    /// Writes everything.
    pub fn write_to(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(self.text().as_bytes())?;
        out.flush()
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (n, line) in self.lines.iter().chain([&self.current]).enumerate() {
            if n > 0 {
                text.push('\n');
            }
            for (style, piece) in line {
                match style.sgr().filter(|_| self.color) {
                    Some(parameters) => {
                        text.extend(["\x1b[", parameters, "m", piece, "\x1b[0m"]);
                    }
                    None => text.push_str(piece),
                }
            }
        }
        text
    }

    /// The lines, for a screen that has its own way to make text stand out.
    pub fn into_lines(mut self) -> Vec<Line> {
        if !self.current.is_empty() {
            self.end_line();
        }
        self.lines
    }

    fn spaces(&mut self, n: usize) -> &mut Self {
        self.put(Style::Normal, &" ".repeat(n))
    }

    /// Words from column `at` on; further lines begin at `hang`.
    fn wrapped(&mut self, at: usize, hang: usize, style: Style, text: &str) {
        let mut at = at;
        let mut line = String::new();
        for word in text.split(' ').filter(|word| !word.is_empty()) {
            let word = defused(word);
            if !line.is_empty() && at + line.width() + 1 + word.width() > self.width {
                self.line(style, &line);
                self.spaces(hang);
                line.clear();
                at = hang;
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(&word);
        }
        self.line(style, &line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wraps_behind_the_label() {
        let mut page = Page::new(20, false);
        page.labelled(2, "why", 6, Style::Normal, "one two three four five");
        page.labelled(
            2,
            "held by",
            6,
            Style::Normal,
            "a-word-longer-than-a-line b",
        );
        assert_eq!(
            page.text(),
            "  why one two three\n      four five\n  held by a-word-longer-than-a-line\n      b\n"
        );
    }

    #[test]
    fn colour_only_when_wanted_and_only_ours() {
        let mut page = Page::new(80, true);
        page.line(Style::Bad, "x\x1b[2Jy");
        page.line(Style::Normal, "z");
        assert_eq!(page.text(), "\x1b[1;31mx\\x1b[2Jy\x1b[0m\nz\n");
        let mut page = Page::new(80, false);
        page.line(Style::Bad, "x\ny");
        assert_eq!(page.text(), "x\\x0ay\n");
    }
}
