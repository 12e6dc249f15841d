//! A map of the range: one character for each piece, whose most of it is.

use super::super::app::Screen;
use crate::render::page::{Line, Style};
use crate::render::plain::process;
use crate::render::units::count;
use crate::report::{OccupancyReport, PortPiece, order};

/// Column at which a row of the map begins, behind its first port.
const COLUMN: usize = 7;
/// Processes that have a letter; others share one.
const LETTERS: &str = "ABCDEFGHIJKLMNO";
/// Processes that the legend names.
const NAMED: usize = 6;

/// The map and its legend.
pub fn lines(look: &OccupancyReport, screen: Screen) -> Vec<Line> {
    let [low, high] = look.range;
    let step = usize::from(look.map.step.max(1));
    let all = (usize::from(high).saturating_sub(low.into()) + 1).div_ceil(step);
    let room = usize::from(screen.width).saturating_sub(COLUMN + 1).max(16);
    // Rows that begin at even places, as a ruler does.
    let wide = (room / 16 * 16).min(all.max(1));
    let mut cells: Vec<(Style, char)> = vec![(Style::Faint, '.'); all];
    let letters = letters(look);
    for piece in &look.map.pieces {
        let at = usize::from(piece.first).saturating_sub(low.into()) / step;
        if let Some(cell) = cells.get_mut(at) {
            *cell = mark(piece, step, &letters);
        }
    }
    let mut lines: Vec<Line> = Vec::new();
    for (n, row) in cells.chunks(wide).enumerate() {
        let first = usize::from(low) + n * wide * step;
        let mut line = vec![(Style::Faint, format!("{first:>5}  "))];
        for (style, c) in row {
            match line.last_mut() {
                Some((known, text)) if known == style && text.len() > COLUMN => text.push(*c),
                _ => line.push((*style, c.to_string())),
            }
        }
        lines.push(line);
    }
    lines.extend(legend(look, &letters, step));
    lines
}

/// The letter of each process that holds most of some piece, those with most pieces first.
fn letters(look: &OccupancyReport) -> Vec<(u32, char, usize)> {
    let mut pieces: Vec<(u32, usize)> = Vec::new();
    for pid in look.map.pieces.iter().filter_map(|piece| piece.pid) {
        match pieces.iter_mut().find(|(known, _)| *known == pid) {
            Some((_, count)) => *count += 1,
            None => pieces.push((pid, 1)),
        }
    }
    let most = order::order(pieces.iter().map(|(_, count)| !(*count as u64)));
    let pieces = order::arrange(pieces, &most);
    let letters = LETTERS.chars().chain(std::iter::repeat('X'));
    let lettered = pieces.into_iter().zip(letters);
    lettered.map(|((pid, count), c)| (pid, c, count)).collect()
}

/// Capital when half of the piece or more is not free.
fn mark(piece: &PortPiece, step: usize, letters: &[(u32, char, usize)]) -> (Style, char) {
    let [reserved, bound, connected, time_wait] = [
        piece.reserved,
        piece.bound,
        piece.connected,
        piece.time_wait,
    ]
    .map(usize::from);
    let used = reserved + bound + connected + time_wait;
    let held = bound + connected;
    let is_full = used * 2 >= step;
    let letter = |c: char| {
        if is_full { c } else { c.to_ascii_lowercase() }
    };
    if reserved > held.max(time_wait) {
        return (Style::Faint, '#');
    }
    if time_wait > held {
        let style = if is_full { Style::Warn } else { Style::Normal };
        return (style, letter('T'));
    }
    let style = match (is_full, bound >= connected) {
        (true, true) => Style::Bad,
        (true, false) => Style::Warn,
        (false, _) => Style::Normal,
    };
    match piece.pid {
        None => (style, '?'),
        Some(pid) => {
            let known = letters.iter().find(|(known, _, _)| *known == pid);
            (style, letter(known.map_or('X', |(_, c, _)| *c)))
        }
    }
}

fn legend(look: &OccupancyReport, letters: &[(u32, char, usize)], step: usize) -> Vec<Line> {
    let text =
        format!("       one mark is {step} ports; a capital, half of them or more; . all free");
    let rest =
        "       T TIME_WAIT  # reserved  ? of nobody who could be seen  X of others".to_owned();
    let mut lines = vec![vec![(Style::Faint, text)], vec![(Style::Faint, rest)]];
    for (pid, c, _) in letters.iter().take(NAMED) {
        let holder = look.holders.iter().find(|holder| holder.pid == *pid);
        let (name, text) = match holder {
            Some(holder) => (
                process(&holder.comm, holder.pid),
                format!(
                    "  {} by CLOSED sockets, {} connected, {} listening",
                    count(holder.bound),
                    count(holder.connected),
                    count(holder.listening)
                ),
            ),
            None => (process("", *pid), String::new()),
        };
        lines.push(vec![
            (Style::Strong, format!("     {c} {name}")),
            (Style::Normal, text),
        ]);
    }
    if letters.len() > NAMED {
        let text = format!("       and {} more processes", letters.len() - NAMED);
        lines.push(vec![(Style::Faint, text)]);
    }
    lines
}
