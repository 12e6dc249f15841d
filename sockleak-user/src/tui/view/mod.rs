//! The state as cells of a screen. Everything shown is in a report.

mod canvas;
mod detail;
mod help;
mod overview;
mod port_map;
mod table;
#[cfg(test)]
mod tests;

use ratatui_core::buffer::Buffer;

use super::app::{App, Known, Prompt, Screen, Subject, Table, View};
use crate::render::page::{Line, Style};
use crate::render::plain::clock;
use crate::render::units::{count, duration, short_age};
use canvas::Canvas;

/// Smallest screen that is drawn on.
pub const SMALLEST: (u16, u16) = (40, 8);
/// Rows of the frame: the views above, the keys below.
const FRAME: u16 = 2;
/// Before the views.
const NAME: &str = "sockleak ";
/// A report that is late by so many intervals is said to be.
const LATE: f64 = 2.5;

/// Rows between the frame's.
pub fn body_height(screen: Screen) -> u16 {
    screen.height.saturating_sub(FRAME)
}

/// Rows of the list that are seen at a time.
pub fn list_height(app: &App, table: &Table) -> usize {
    usize::from(layout(app, table).rows)
}

/// Rows of the parts of a view.
struct Layout {
    /// Lines above the table.
    top: u16,
    /// Rows of the table, without its heading.
    rows: u16,
    /// Rows for what the cursor is on, without the rule above it.
    preview: u16,
}

fn layout(app: &App, table: &Table) -> Layout {
    let body = body_height(app.screen);
    let rows = u16::try_from(table.rows.len()).unwrap_or(u16::MAX);
    match app.view {
        View::Overview => {
            let top = u16::try_from(overview::top(app).len()).unwrap_or(u16::MAX);
            // The table keeps some rows, whatever was found.
            let top = top.min(body.saturating_sub(6));
            Layout {
                top,
                rows: body.saturating_sub(top + 1),
                preview: 0,
            }
        }
        View::Events => Layout {
            top: 0,
            rows: body.saturating_sub(1),
            preview: 0,
        },
        _ => {
            // A third for the list, unless it needs less; a heading and a rule.
            let seen = rows.clamp(1, (body / 3).max(3)).min(body.saturating_sub(2));
            Layout {
                top: 0,
                rows: if rows == 0 {
                    body.saturating_sub(1)
                } else {
                    seen
                },
                preview: if rows == 0 {
                    0
                } else {
                    body.saturating_sub(seen + 2)
                },
            }
        }
    }
}

/// Draws everything.
pub fn draw(app: &App, buffer: &mut Buffer) {
    let mut canvas = Canvas::new(buffer, app.screen);
    let (width, height) = (app.screen.width, app.screen.height);
    if width < SMALLEST.0 || height < SMALLEST.1 {
        canvas.text(0, 0, Style::Normal, "screen too small");
        return;
    }
    draw_title(&mut canvas, app);
    if app.help.is_some() || !app.opened.is_empty() {
        draw_opened(&mut canvas, app);
    } else {
        draw_view(&mut canvas, app);
    }
    draw_foot(&mut canvas, app);
}

fn draw_title(canvas: &mut Canvas<'_>, app: &App) {
    let right = when(app);
    let room = canvas.width().saturating_sub(right_width(&right) + 1);
    // Names of views that do not fit are cut; our own is what is missed least.
    let full: usize = View::ALL.iter().map(|view| view.title().len() + 4).sum();
    let short = full > usize::from(room);
    let name = if full + NAME.len() > usize::from(room) {
        ""
    } else {
        NAME
    };
    let mut x = canvas.text(0, 0, Style::Strong, name);
    for (n, view) in View::ALL.iter().enumerate() {
        let is_here = *view == app.view;
        let title = if short && !is_here {
            let letters: String = view.title().chars().take(4).collect();
            format!("{}{letters}", n + 1)
        } else {
            format!("{} {}", n + 1, view.title())
        };
        let title = if is_here {
            format!("[{title}]")
        } else {
            format!(" {title} ")
        };
        let style = match mark(*view, app) {
            Some(style) => style,
            None if is_here => Style::Strong,
            None => Style::Normal,
        };
        x = canvas.text(x, 0, style, &title);
        if is_here {
            canvas.reverse(x - u16::try_from(title.len()).unwrap_or(0), 0, x);
        }
    }
    canvas.right(0, &right);
}

fn right_width(line: &Line) -> u16 {
    let width: usize = line.iter().map(|(_, text)| text.len()).sum();
    u16::try_from(width).unwrap_or(u16::MAX)
}

/// A view that has something to say stands out.
fn mark(view: View, app: &App) -> Option<Style> {
    let known = app.shown();
    let some = |is: bool, style| is.then_some(style);
    match view {
        View::Leaks => some(known.leaks().next().is_some(), Style::Bad),
        View::Failures => some(known.failures.iter().any(|one| one.now > 0), Style::Bad),
        View::Searches => some(known.hot_loops().next().is_some(), Style::Bad),
        View::Destinations => some(known.pressures().next().is_some(), Style::Warn),
        _ => None,
    }
}

/// How long ago the newest report was made, whole seconds, when it is late.
pub fn age_s(app: &App) -> Option<u64> {
    let known = app.shown();
    let (at, interval) = (known.at_ms()?, known.interval()?);
    let age = app.now_ms().saturating_sub(at) / 1000;
    (age as f64 > interval.interval_s.max(1.0) * LATE).then_some(age)
}

/// Time of what is shown, and whether it is the newest.
fn when(app: &App) -> Line {
    let known = app.shown();
    let time = clock(&known.ts).split('.').next().unwrap_or_default();
    let mut line = Line::new();
    if let Some(behind) = app.paused_ms() {
        let text = if behind == 0 {
            "PAUSED ".to_owned()
        } else {
            format!("PAUSED -{} ", short_age(behind as f64 / 1e3))
        };
        line.push((Style::Bad, text));
    } else if let Some(age) = age_s(app) {
        line.push((Style::Warn, format!("{} old ", short_age(age as f64))));
    }
    line.push((Style::Normal, time.to_owned()));
    line
}

fn draw_foot(canvas: &mut Canvas<'_>, app: &App) {
    let y = canvas.height() - 1;
    if let Some(prompt) = &app.prompt {
        let (label, text) = match prompt {
            Prompt::Filter(text, _) => ("filter: ", text),
            Prompt::Search(text) => ("search: ", text),
        };
        let x = canvas.text(0, y, Style::Strong, label);
        let x = canvas.text(x, y, Style::Normal, text);
        canvas.text(x, y, Style::Normal, "_");
        canvas.right(
            y,
            &vec![(Style::Faint, "Enter takes it, Esc drops it".to_owned())],
        );
        return;
    }
    if let Some(message) = app.message() {
        canvas.text(0, y, Style::Strong, message);
        return;
    }
    let mut x = 0;
    for (keys, what) in hints(app) {
        let width = u16::try_from(keys.len() + what.len() + 3).unwrap_or(u16::MAX);
        if x + width > canvas.width() + 2 {
            break;
        }
        x = canvas.text(x, y, Style::Strong, keys);
        x = canvas.text(x + 1, y, Style::Normal, what) + 2;
    }
}

/// The keys that matter here.
fn hints(app: &App) -> Vec<(&'static str, &'static str)> {
    if app.help.is_some() {
        return vec![("Esc", "back"), ("q", "quit")];
    }
    if let Some(opened) = app.opened.last() {
        let mut hints = vec![("Esc", "back"), ("j k", "scroll"), ("h l", "sideways")];
        if process_of(&opened.subject, app.shown()).is_some() {
            hints.push(("Enter", "its process"));
        }
        hints.extend([("^S", "export"), ("?", "help"), ("q", "quit")]);
        return hints;
    }
    vec![
        ("q", "quit"),
        ("?", "help"),
        ("Tab", "view"),
        ("Enter", "open"),
        ("s", "sort"),
        ("f", "filter"),
        ("/", "search"),
        ("p", "pause"),
        ("^S", "export"),
    ]
}

fn draw_view(canvas: &mut Canvas<'_>, app: &App) {
    let table = app.table();
    let layout = layout(app, &table);
    let mut y = 1;
    if app.view == View::Overview {
        let top = overview::top(app);
        for line in top.iter().take(layout.top.into()) {
            canvas.line(y, 0, line);
            y += 1;
        }
    }
    table::draw(canvas, app, &table, (y, layout.rows));
    y += layout.rows + 1;
    if layout.preview == 0 {
        return;
    }
    let subject = table.rows.get(app.list().cursor).map(|row| &row.subject);
    canvas.rule(y, &below(app, table.rows.len(), usize::from(layout.rows)));
    if let Some(subject) = subject {
        let lines = detail::lines(subject, app.shown(), app.screen);
        for (n, line) in lines.iter().take(layout.preview.into()).enumerate() {
            let row = y + 1 + u16::try_from(n).unwrap_or(u16::MAX);
            let is_last = n + 1 == usize::from(layout.preview) && lines.len() > n + 1;
            if is_last {
                let more = format!("{} more lines: Enter opens them", lines.len() - n);
                canvas.text(0, row, Style::Faint, &more);
            } else {
                canvas.line(row, 0, line);
            }
        }
    }
}

/// What the rule below a list says about the rows that are not seen.
fn below(app: &App, rows: usize, seen: usize) -> String {
    let offset = app.list().offset;
    if rows > seen {
        format!("{}-{} of {rows}", offset + 1, (offset + seen).min(rows))
    } else {
        String::new()
    }
}

/// Lines of what is open.
fn opened_lines(app: &App) -> Vec<Line> {
    match (&app.help, app.opened.last()) {
        (Some(_), _) => help::lines(app),
        (None, Some(opened)) => detail::lines(&opened.subject, app.shown(), app.screen),
        (None, None) => Vec::new(),
    }
}

/// The last line to which what is open can be scrolled; `None` when nothing is.
pub fn last_line(app: &App) -> Option<usize> {
    if app.help.is_none() && app.opened.is_empty() {
        return None;
    }
    let lines = opened_lines(app).len();
    Some(lines.saturating_sub(body_height(app.screen).into()))
}

fn draw_opened(canvas: &mut Canvas<'_>, app: &App) {
    let (from, column) = match (&app.help, app.opened.last()) {
        (Some(line), _) => (*line, 0),
        (None, Some(opened)) => (opened.line, opened.column),
        (None, None) => (0, 0),
    };
    let lines = opened_lines(app);
    let seen = usize::from(body_height(app.screen));
    for (n, line) in lines.iter().skip(from).take(seen).enumerate() {
        canvas.line(1 + u16::try_from(n).unwrap_or(u16::MAX), column, line);
    }
    if lines.len() > seen {
        let until = (from + seen).min(lines.len());
        let text = format!(" lines {}-{until} of {} ", from + 1, lines.len());
        canvas.right(canvas.height() - 1, &vec![(Style::Faint, text)]);
    }
}

/// The process behind something that was opened; `None` for what is no process's, or is one.
pub fn process_of(subject: &Subject, known: &Known) -> Option<Subject> {
    match subject {
        Subject::Leak(pid, _) | Subject::Search(pid, ..) => Some(Subject::Process(*pid)),
        Subject::Failure(key) => Some(Subject::Process(key.pid)),
        Subject::Event(number) => {
            let mut events = known.events();
            let (_, _, event) = events.find(|(known, _, _)| known == number)?;
            Some(Subject::Process(event.pid))
        }
        Subject::Process(_) | Subject::Destination(..) | Subject::Namespace(_) => None,
    }
}

/// What was never drawn, in words; `None` when nothing.
fn missed(known: &Known) -> Option<String> {
    let mut parts = Vec::new();
    if known.missed_intervals > 0 {
        parts.push(format!("{} intervals", count(known.missed_intervals)));
    }
    if known.missed_events > 0 {
        parts.push(format!("{} events", count(known.missed_events)));
    }
    if known.failures_not_kept > 0 {
        parts.push(format!("{} failed calls", count(known.failures_not_kept)));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// How long something has been watched.
fn watched(known: &Known) -> Option<String> {
    let interval = known.interval()?;
    let seconds = known.history.len() as f64 * interval.interval_s;
    Some(duration(seconds))
}
