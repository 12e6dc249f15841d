//! A table that fits: columns that can be missed go first.

use unicode_width::UnicodeWidthStr as _;

use super::super::app::table::{Column, Table};
use super::super::app::{App, Screen};
use super::canvas::Canvas;
use crate::render::page::Style;

/// A cell wider than this is cut, while others need the room.
const WIDEST: usize = 24;
/// Columns for the mark of the cursor.
const GUTTER: u16 = 2;

/// Draws heading and rows from row `y` on.
pub fn draw(canvas: &mut Canvas<'_>, app: &App, table: &Table, (y, rows): (u16, u16)) {
    let list = app.list();
    if table.rows.is_empty() {
        let text = if table.unfiltered > 0 {
            format!(
                "nothing matches the filter: {}  (Esc drops it)",
                list.filter
            )
        } else {
            table.empty.clone()
        };
        canvas.text(GUTTER, y, Style::Normal, &text);
        return;
    }
    let columns = fitting(table, canvas.width(), list.sort.map(|(column, _)| column));
    let mut x = GUTTER;
    for (column, width) in &columns {
        let Some(known) = table.columns.get(*column) else {
            continue;
        };
        let title = title(known, list.sort.filter(|(at, _)| at == column), app.screen);
        put(canvas, (x, y), (known.right, *width), Style::Strong, &title);
        x += width + 1;
    }
    if !list.filter.is_empty() {
        let text = format!(
            " filter: {}, {} of {} ",
            list.filter,
            table.rows.len(),
            table.unfiltered
        );
        canvas.right(y, &vec![(Style::Warn, text)]);
    }
    canvas.underline(y);
    let seen = table.rows.iter().enumerate().skip(list.offset);
    for (n, (at, row)) in seen.take(rows.into()).enumerate() {
        let line = y + 1 + u16::try_from(n).unwrap_or(u16::MAX - y - 1);
        let mut x = GUTTER;
        for (column, width) in &columns {
            let known = table.columns.get(*column);
            if let (Some(known), Some(cell)) = (known, row.cells.get(*column)) {
                put(
                    canvas,
                    (x, line),
                    (known.right, *width),
                    cell.style,
                    &cell.text,
                );
            }
            x += width + 1;
        }
        if at == list.cursor {
            canvas.text(0, line, Style::Strong, ">");
            canvas.reverse(0, line, canvas.width());
        }
    }
}

/// A title, marked when the table is sorted by it.
fn title(column: &Column, sort: Option<(usize, bool)>, screen: Screen) -> String {
    let mark = match (sort, screen.unicode) {
        (None, _) => "",
        (Some((_, false)), true) => "▼",
        (Some((_, true)), true) => "▲",
        (Some((_, false)), false) => "v",
        (Some((_, true)), false) => "^",
    };
    format!("{}{mark}", column.title)
}

fn put(
    canvas: &mut Canvas<'_>,
    (x, y): (u16, u16),
    (right, width): (bool, u16),
    style: Style,
    text: &str,
) {
    let text = cut(text, width.into());
    let own = u16::try_from(text.width()).unwrap_or(width);
    let x = if right {
        x + width.saturating_sub(own)
    } else {
        x
    };
    canvas.text(x, y, style, &text);
}

/// The text, or as much of it as there is room for and a mark that it goes on.
pub fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    for c in text.chars() {
        kept.push(c);
        if kept.width() + 1 > width {
            kept.pop();
            break;
        }
    }
    kept.push('~');
    kept
}

/// Columns that fit, with their widths. The one that is sorted by stays.
fn fitting(table: &Table, screen: u16, sorted: Option<usize>) -> Vec<(usize, u16)> {
    let natural = |at: usize, column: &Column| {
        let cells = table.rows.iter().filter_map(|row| row.cells.get(at));
        let widest = cells.map(|cell| cell.text.width()).max().unwrap_or(0);
        // Room for the mark of the order, so that nothing moves when it comes and goes.
        widest.max(column.title.width() + 1)
    };
    let mut columns: Vec<(usize, usize, u8)> = (table.columns.iter().enumerate())
        .map(|(at, column)| {
            let goes = if sorted == Some(at) { 0 } else { column.goes };
            (at, natural(at, column), goes)
        })
        .collect();
    let room = usize::from(screen.saturating_sub(GUTTER));
    let total = |columns: &[(usize, usize, u8)], widest: usize| {
        let widths = columns.iter().map(|(_, width, _)| (*width).min(widest) + 1);
        widths.sum::<usize>().saturating_sub(1)
    };
    while total(&columns, WIDEST) > room {
        let goes = columns.iter().map(|(_, _, goes)| *goes).max().unwrap_or(0);
        if goes == 0 {
            break;
        }
        columns.retain(|(_, _, other)| *other != goes);
    }
    // Cells as wide as they are, if there is room for it.
    let mut widest = WIDEST;
    while widest < usize::from(screen) && total(&columns, widest + 1) <= room {
        widest += 1;
    }
    while widest > 6 && total(&columns, widest) > room {
        widest -= 1;
    }
    let columns = columns.into_iter();
    columns
        .map(|(at, width, _)| (at, u16::try_from(width.min(widest)).unwrap_or(u16::MAX)))
        .collect()
}
