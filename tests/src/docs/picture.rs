//! `docs/img/watch.svg`: the screen of `watch` as it was while an incident was recorded, cell by cell.

use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;

use anyhow::{Context as _, Result};
use ratatui_core::buffer::{Buffer, Cell};
use ratatui_core::layout::Rect;
use ratatui_core::style::{Color, Modifier};
use sockleak::report::{Body, Report};
use sockleak::source::recording::{Item, Reader};
use sockleak::tui::app::{App, Batch, Screen};
use sockleak::tui::view;

/// Columns and rows.
const SIZE: (u16, u16) = (100, 24);
/// A cell, in the units of the picture: what monospaced fonts of 14 have.
const CELL: (f64, f64) = (8.4, 18.0);
const MARGIN: f64 = 12.0;

const PAPER: &str = "#14181f";
const INK: &str = "#d5dae2";
const FAINT: &str = "#8b95a5";
const RED: &str = "#ff7b72";
const YELLOW: &str = "#e3b341";

/// The screen after the last interval of a recording, as SVG.
///
/// # Errors
/// When it cannot be read or has no interval.
pub fn of_recording(path: &Path) -> Result<String> {
    let what = || format!("{} is no recording", path.display());
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut reader = Reader::new(file).with_context(what)?;
    let mut reports = Vec::new();
    while let Some(item) = reader.next_item().with_context(what)? {
        if let Item::Line(line) = item {
            let report = Report::from_json(&line).with_context(what)?;
            match report.body {
                Body::End(_) => break,
                _ => reports.push(report),
            }
        }
    }
    let (width, height) = SIZE;
    let screen = Screen {
        width,
        height,
        color: true,
        unicode: true,
    };
    let mut app = App::new(screen, false);
    app.take(Batch {
        reports,
        ..Batch::default()
    });
    let at = app.shown().at_ms().with_context(what)?;
    app.tick(at + 1000);
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
    view::draw(&app, &mut buffer);
    Ok(svg(&buffer))
}

/// Cells as text, a run of equal style at a time, each where it belongs whatever the font.
pub fn svg(buffer: &Buffer) -> String {
    let (columns, rows) = (buffer.area.width, buffer.area.height);
    let width = f64::from(columns) * CELL.0 + 2.0 * MARGIN;
    let height = f64::from(rows) * CELL.1 + 2.0 * MARGIN;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.1} {height:.1}\" width=\"{width:.1}\" \
         height=\"{height:.1}\" role=\"img\" aria-label=\"The screen of sockleak watch\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"{PAPER}\"/>\n\
         <g font-family=\"ui-monospace,SFMono-Regular,Menlo,Consolas,DejaVu Sans Mono,monospace\" font-size=\"14\" \
         xml:space=\"preserve\">\n"
    );
    for row in 0..rows {
        let mut column = 0;
        while column < columns {
            let (text, look, end) = run(buffer, row, column);
            put(&mut out, &text, look, (column, row), end - column);
            column = end;
        }
    }
    out.push_str("</g>\n</svg>\n");
    out
}

/// How a cell looks: colour of the text, of what is behind it, bold, underlined.
type Look = (&'static str, Option<&'static str>, bool, bool);

fn look(cell: &Cell) -> Look {
    let has = |modifier| cell.modifier.contains(modifier);
    let ink = match cell.fg {
        Color::Red | Color::LightRed => RED,
        Color::Yellow | Color::LightYellow => YELLOW,
        _ if has(Modifier::DIM) => FAINT,
        _ => INK,
    };
    let bold = has(Modifier::BOLD);
    match has(Modifier::REVERSED) {
        true => (PAPER, Some(ink), bold, has(Modifier::UNDERLINED)),
        false => (ink, None, bold, has(Modifier::UNDERLINED)),
    }
}

/// The cells from here on that look the same, and the column behind them.
fn run(buffer: &Buffer, row: u16, begin: u16) -> (String, Look, u16) {
    let first = buffer
        .cell((begin, row))
        .map(look)
        .unwrap_or((INK, None, false, false));
    let mut text = String::new();
    let mut end = begin;
    while let Some(cell) = buffer.cell((end, row)).filter(|cell| look(cell) == first) {
        text.push_str(cell.symbol());
        end += 1;
    }
    (text, first, end.max(begin + 1))
}

fn put(
    out: &mut String,
    text: &str,
    (ink, behind, bold, underlined): Look,
    (column, row): (u16, u16),
    cells: u16,
) {
    let x = MARGIN + f64::from(column) * CELL.0;
    let y = MARGIN + f64::from(row) * CELL.1;
    let length = f64::from(cells) * CELL.0;
    if let Some(behind) = behind {
        let height = CELL.1;
        let _ = writeln!(
            out,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{height:.1}\" fill=\"{behind}\"/>"
        );
    }
    if text.trim().is_empty() {
        return;
    }
    let weight = if bold { " font-weight=\"bold\"" } else { "" };
    let line = if underlined {
        " text-decoration=\"underline\""
    } else {
        ""
    };
    let baseline = y + 13.0;
    let text = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        // Browsers make one of several spaces, whatever `xml:space` says, and then stretch the rest.
        .replace(' ', "\u{a0}");
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{baseline:.1}\" textLength=\"{length:.1}\" lengthAdjust=\"spacingAndGlyphs\" fill=\"{ink}\"{weight}{line}>{text}</text>"
    );
}

#[cfg(test)]
mod tests {
    use ratatui_core::style::Style;

    use super::*;

    #[test]
    fn cells_become_runs_at_their_places() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 8, 2));
        buffer.set_string(0, 0, "a<b", Style::new());
        buffer.set_string(
            3,
            0,
            "b d",
            Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
        );
        buffer.set_string(
            0,
            1,
            "cursor",
            Style::new().add_modifier(Modifier::REVERSED),
        );
        let picture = svg(&buffer);
        let texts: Vec<&str> = picture
            .lines()
            .filter(|line| line.starts_with("<text"))
            .collect();
        let [plain, bad, cursor] = &texts[..] else {
            panic!("{picture}")
        };
        assert!(
            plain.contains("x=\"12.0\"") && plain.ends_with(">a&lt;b</text>"),
            "{plain}"
        );
        assert!(
            bad.contains(RED)
                && bad.contains(">b\u{a0}d<")
                && bad.contains("bold")
                && bad.contains("x=\"37.2\""),
            "{bad}"
        );
        assert!(
            cursor.contains(PAPER) && cursor.contains("y=\"43.0\""),
            "{cursor}"
        );
        assert!(
            picture.contains(&format!("width=\"50.4\" height=\"18.0\" fill=\"{INK}\"")),
            "{picture}"
        );
    }
}
