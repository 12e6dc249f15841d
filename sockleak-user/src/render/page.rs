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

/// Lines collected for one report.
#[derive(Debug)]
pub struct Page {
    text: String,
    color: bool,
    width: usize,
}

impl Page {
    /// An empty page that is `width` columns wide.
    pub fn new(width: usize, color: bool) -> Self {
        Self {
            text: String::new(),
            color,
            width,
        }
    }

    /// Adds text to the current line. Nothing harmful passes, not even a line break; no-break
    /// spaces become ordinary ones, so that grep finds what is seen.
    pub fn put(&mut self, style: Style, text: &str) -> &mut Self {
        let sgr = style.sgr().filter(|_| self.color && !text.is_empty());
        if let Some(parameters) = sgr {
            self.text.extend(["\x1b[", parameters, "m"]);
        }
        self.text.push_str(&defused(text).replace('\u{a0}', " "));
        if sgr.is_some() {
            self.text.push_str("\x1b[0m");
        }
        self
    }

    /// Ends the current line.
    pub fn end_line(&mut self) {
        self.text.push('\n');
    }

    /// A line of its own.
    pub fn line(&mut self, style: Style, text: &str) {
        self.put(style, text).end_line();
    }

    /// An empty line, unless the page is empty.
    pub fn gap(&mut self) {
        if !self.text.is_empty() {
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
        out.write_all(self.text.as_bytes())?;
        out.flush()
    }

    fn spaces(&mut self, n: usize) -> &mut Self {
        self.text.extend(std::iter::repeat_n(' ', n));
        self
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

    fn text(page: &Page) -> &str {
        &page.text
    }

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
            text(&page),
            "  why one two three\n      four five\n  held by a-word-longer-than-a-line\n      b\n"
        );
    }

    #[test]
    fn colour_only_when_wanted_and_only_ours() {
        let mut page = Page::new(80, true);
        page.line(Style::Bad, "x\x1b[2Jy");
        page.line(Style::Normal, "z");
        assert_eq!(text(&page), "\x1b[1;31mx\\x1b[2Jy\x1b[0m\nz\n");
        let mut page = Page::new(80, false);
        page.line(Style::Bad, "x\ny");
        assert_eq!(text(&page), "x\\x0ay\n");
    }
}
