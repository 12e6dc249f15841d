//! Tables of processes: all classes of a look, and the movement of an interval.

use super::super::columns::{Align, Columns, alarming, maybe, number, text};
use super::super::page::{Page, Style};
use super::super::units::{count, growth, short_age};
use super::{TEXT, process, short_id};
use crate::report::{IntervalProcess, ProcessReport};

/// Every class. The namespace is shown where there is more than one; below the table, which
/// processes are in containers.
#[inline(never)]
pub fn put_classes(page: &mut Page, processes: &[&ProcessReport]) {
    let mut namespaces = processes.iter().map(|process| process.netns);
    let first = namespaces.next();
    let several = namespaces.any(|netns| Some(netns) != first);

    let mut heading = vec![
        ("PID", Align::Right),
        ("COMM", Align::Left),
        ("TOTAL", Align::Right),
        ("UNBOUND", Align::Right),
        ("BOUND", Align::Right),
        ("LISTEN", Align::Right),
        ("CONN", Align::Right),
        ("ESTAB", Align::Right),
        ("CLOSEW", Align::Right),
        ("CLOSING", Align::Right),
        ("FD/LIMIT", Align::Right),
    ];
    if several {
        heading.push(("NETNS", Align::Right));
    }
    let mut table = Columns::new(&heading);
    for process in processes {
        let mut row = vec![
            number(process.pid.into()),
            text(&process.comm),
            number(process.total),
            alarming(Style::Warn, process.unbound),
            alarming(Style::Warn, process.bound),
            number(process.listen),
            number(process.connecting),
            number(process.established),
            alarming(Style::Warn, process.close_wait),
            number(process.closing),
            descriptors(process),
        ];
        if several {
            row.push(maybe(process.netns, |netns| netns.to_string()));
        }
        table.row(row);
    }
    table.put(page);
    let contained: Vec<String> = processes.iter().copied().filter_map(whereabouts).collect();
    let lines = contained.get(..CONTAINED).unwrap_or(&contained);
    page.labelled_list(0, "inside", TEXT, lines);
    if contained.len() > lines.len() {
        let text = format!(
            "and {} more in containers",
            count((contained.len() - lines.len()) as u64)
        );
        page.labelled(0, "", TEXT, Style::Faint, &text);
    }
}

/// Containers that are shown; JSON has all.
const CONTAINED: usize = 20;

/// `nginx[912]: pid 7 in container 4f66ff0ce8c9 of pod 8f1d0c1e-...`; `None` outside of containers.
fn whereabouts(row: &ProcessReport) -> Option<String> {
    let mut parts = Vec::new();
    if let Some(pid) = row.ns_pid {
        parts.push(format!("pid {pid}"));
    }
    if let Some(container) = &row.container {
        parts.push(format!("in container {}", short_id(container)));
    }
    if let Some(pod) = &row.pod {
        parts.push(format!("of pod {pod}"));
    }
    (!parts.is_empty()).then(|| format!("{}: {}", process(&row.comm, row.pid), parts.join(" ")))
}

/// What moved in an interval.
pub fn put_movement(page: &mut Page, processes: &[IntervalProcess]) {
    let mut table = Columns::new(&[
        ("PID", Align::Right),
        ("COMM", Align::Left),
        ("TOTAL", Align::Right),
        ("UNBOUND", Align::Right),
        ("BOUND", Align::Right),
        ("ESTAB", Align::Right),
        ("CLOSEW", Align::Right),
        ("NEW", Align::Right),
        ("GONE", Align::Right),
        ("+/MIN", Align::Right),
        ("OLDEST", Align::Right),
        ("FD%", Align::Right),
    ]);
    for process in processes {
        let held = &process.held;
        table.row(vec![
            number(held.pid.into()),
            text(&held.comm),
            number(held.total),
            alarming(Style::Warn, held.unbound),
            alarming(Style::Warn, held.bound),
            number(held.established),
            alarming(Style::Warn, held.close_wait),
            number(process.allocated.saturating_add(process.accepted)),
            number(process.destroyed),
            // Without its separators, so that awk can calculate with it.
            maybe(process.closed_per_min, |rate| growth(rate).replace(',', "")),
            maybe(process.oldest_closed_s, short_age),
            descriptors_used(held),
        ]);
    }
    table.put(page);
}

fn descriptors(process: &ProcessReport) -> (Style, String) {
    let (used, limit) = (process.fd_used, process.fd_limit);
    if used.is_none() && limit.is_none() {
        return maybe(None::<u64>, |_| String::new());
    }
    let show = |value: Option<u64>| value.map_or("?".to_owned(), |value| value.to_string());
    let style = urgency(used, limit);

    // RLIM_INFINITY is the largest value of the type.
    let limit = match limit {
        Some(u64::MAX) => "unlimited".to_owned(),
        limit => show(limit),
    };
    (style, format!("{}/{limit}", show(used)))
}

/// Per cent of the descriptor limit.
fn descriptors_used(process: &ProcessReport) -> (Style, String) {
    match (process.fd_used, process.fd_limit) {
        (Some(used), Some(limit @ 1..)) => {
            let percent = u128::from(used) * 100 / u128::from(limit);
            (urgency(Some(used), Some(limit)), percent.to_string())
        }
        _ => maybe(None::<u64>, |_| String::new()),
    }
}

/// Nine tenths of the descriptors are in use.
fn urgency(used: Option<u64>, limit: Option<u64>) -> Style {
    match (used, limit) {
        (Some(used), Some(limit)) if used >= limit / 10 * 9 => Style::Bad,
        _ => Style::Normal,
    }
}
