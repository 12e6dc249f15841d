//! Cells to draw on. Nothing is written outside of them, and nothing that a terminal obeys.

use ratatui_core::{
    buffer::Buffer,
    layout::Rect,
    style::{Color, Modifier, Style as CellStyle},
};
use unicode_width::UnicodeWidthChar as _;

use super::super::app::Screen;
use crate::render::page::{Line, Style};
use crate::sanitize::is_harmless;

/// A screen to draw on.
pub struct Canvas<'a> {
    buffer: &'a mut Buffer,
    screen: Screen,
}

impl<'a> Canvas<'a> {
    /// All of a buffer, or as much of the screen as there is of it.
    pub fn new(buffer: &'a mut Buffer, screen: Screen) -> Self {
        let area = *buffer.area();
        let screen = Screen {
            width: screen.width.min(area.width),
            height: screen.height.min(area.height),
            ..screen
        };
        Self { buffer, screen }
    }

    /// Columns.
    pub fn width(&self) -> u16 {
        self.screen.width
    }

    /// Rows.
    pub fn height(&self) -> u16 {
        self.screen.height
    }

    /// Puts text at a place; gives the column behind it.
    pub fn text(&mut self, x: u16, y: u16, style: Style, text: &str) -> u16 {
        self.clipped(i32::from(x), y, style, text)
    }

    /// Puts a line, whose first `skip` columns are left out, and a mark where it does not end.
    pub fn line(&mut self, y: u16, skip: u16, line: &Line) {
        let mut x = -i32::from(skip);
        for (style, text) in line {
            self.clipped(x, y, *style, text);
            let width: usize = text.chars().map(width).sum();
            x = x.saturating_add(i32::try_from(width).unwrap_or(i32::MAX));
        }
        if x > i32::from(self.screen.width) {
            let last = self.screen.width.saturating_sub(1);
            self.text(last, y, Style::Faint, "~");
        }
    }

    /// Puts a line flush right.
    pub fn right(&mut self, y: u16, line: &Line) {
        let all: usize = line
            .iter()
            .flat_map(|(_, text)| text.chars().map(width))
            .sum();
        let all = u16::try_from(all).unwrap_or(u16::MAX);
        let mut x = self.screen.width.saturating_sub(all);
        for (style, text) in line {
            x = self.text(x, y, *style, text);
        }
    }

    /// A line from side to side, with a word in it.
    pub fn rule(&mut self, y: u16, word: &str) {
        let dash = if self.screen.unicode { "─" } else { "-" };
        let all = dash.repeat(self.screen.width.into());
        self.text(0, y, Style::Faint, &all);
        if !word.is_empty() {
            self.right(
                y,
                &vec![
                    (Style::Normal, format!(" {word} ")),
                    (Style::Faint, dash.repeat(2)),
                ],
            );
        }
    }

    /// Turns a row's cells from `from` to `until` around, light on dark.
    pub fn reverse(&mut self, from: u16, y: u16, until: u16) {
        let until = until.min(self.screen.width);
        if y < self.screen.height && from < until {
            let area = Rect::new(from, y, until - from, 1);
            let reversed = CellStyle::new().add_modifier(Modifier::REVERSED);
            self.buffer.set_style(area, reversed);
        }
    }

    /// Underlines a row's cells.
    pub fn underline(&mut self, y: u16) {
        if y < self.screen.height {
            let area = Rect::new(0, y, self.screen.width, 1);
            let underlined = CellStyle::new().add_modifier(Modifier::UNDERLINED);
            self.buffer.set_style(area, underlined);
        }
    }

    fn clipped(&mut self, x: i32, y: u16, style: Style, text: &str) -> u16 {
        let style = cell_style(style, self.screen.color);
        let (mut at, end) = (x, i32::from(self.screen.width));
        if y >= self.screen.height {
            return 0;
        }
        for c in text.chars() {
            // Joined by what is no space for awk and sorting, and looks like one.
            let c = if c == '\u{a0}' { ' ' } else { c };
            let columns = i32::try_from(width(c)).unwrap_or(0);
            // Report text is harmless already; what is not is dropped here.
            if columns == 0 || !is_harmless(c) {
                continue;
            }
            if at >= end || at + columns > end {
                return self.screen.width;
            }
            if at >= 0
                && let Ok(column) = u16::try_from(at)
            {
                let mut bytes = [0; 4];
                self.buffer
                    .set_stringn(column, y, c.encode_utf8(&mut bytes), 2, style);
            }
            at += columns;
        }
        u16::try_from(at).unwrap_or(0)
    }
}

fn width(c: char) -> usize {
    c.width().unwrap_or(0)
}

fn cell_style(style: Style, color: bool) -> CellStyle {
    let plain = CellStyle::new();
    match (style, color) {
        (Style::Normal, _) => plain,
        (Style::Strong, _) => plain.add_modifier(Modifier::BOLD),
        (Style::Faint, _) => plain.add_modifier(Modifier::DIM),
        (Style::Bad, true) => plain.fg(Color::Red).add_modifier(Modifier::BOLD),
        (Style::Bad, false) => plain.add_modifier(Modifier::BOLD | Modifier::UNDERLINED),
        (Style::Warn, true) => plain.fg(Color::Yellow),
        (Style::Warn, false) => plain.add_modifier(Modifier::UNDERLINED),
    }
}
