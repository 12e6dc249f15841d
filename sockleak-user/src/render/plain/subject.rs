//! Everything about one process, or one destination, put together from the lines of an interval.

use super::super::page::{Page, Style};
use super::super::units::{count, counted, duration, growth};
use super::{TEXT, failure, leak, pressure, process, processes, put_container, search};
use crate::report::{
    FailureReport, HotLoop, IntervalProcess, Leak, OpCounts, PressureReport, SearchReport,
};

/// What is known about one process.
#[derive(Debug, Default)]
pub struct ProcessNow<'a> {
    /// What it holds and does; `None` when it is in no list.
    pub row: Option<&'a IntervalProcess>,
    /// What it leaks, or holds of others' leaks.
    pub leaks: Vec<&'a Leak>,
    /// Its failed calls.
    pub failures: Vec<&'a FailureReport>,
    /// Its port searches.
    pub searches: Vec<&'a SearchReport>,
    /// Of those, that burn CPU time.
    pub hot_loops: Vec<&'a HotLoop>,
}

/// A process: what it holds, leaks with their stacks, failures, searches.
pub fn put_process(page: &mut Page, pid: u32, now: &ProcessNow<'_>) {
    match now.row {
        None => {
            let text = format!("process {pid} holds no TCP sockets any more, or is left out");
            page.line(Style::Faint, &text);
        }
        Some(row) => put_row(page, row),
    }
    for one in &now.leaks {
        page.gap();
        leak::put(page, one);
    }
    for one in &now.failures {
        page.gap();
        failure::put(page, one);
    }
    for one in &now.hot_loops {
        page.gap();
        search::put_hot(page, one);
    }
    if !now.searches.is_empty() {
        page.gap();
        search::put_table(page, &now.searches);
    }
    if now.leaks.is_empty() && now.failures.is_empty() && now.hot_loops.is_empty() {
        page.gap();
        page.line(
            Style::Normal,
            "no leak, no failed call, no dear port search found",
        );
    }
}

fn put_row(page: &mut Page, row: &IntervalProcess) {
    let held = &row.held;
    let since = held
        .start_time
        .as_ref()
        .map_or(String::new(), |at| format!("  since {at}"));
    page.put(Style::Strong, &process(&held.comm, held.pid))
        .put(Style::Normal, &since)
        .end_line();
    put_container(page, 0, TEXT, held.container.as_deref());
    if let Some(cgroup) = &held.cgroup {
        page.labelled(0, "cgroup", TEXT, Style::Normal, cgroup);
    }
    let rate = row
        .closed_per_min
        .map_or("not known yet".to_owned(), |rate| {
            format!("{}/min", growth(rate))
        });
    let oldest = row
        .oldest_closed_s
        .map_or(String::new(), |age| format!(", oldest {}", duration(age)));
    let text = format!(
        "{} created, {} accepted, {} gone in this interval; CLOSED grow {rate}{oldest}",
        count(row.allocated),
        count(row.accepted),
        count(row.destroyed),
    );
    page.labelled(0, "pace", TEXT, Style::Normal, &text);
    for (creator, sockets) in &held.created_by {
        let text = format!("{} created by pid {creator}", counted(*sockets, "socket"));
        page.labelled(0, "from", TEXT, Style::Normal, &text);
    }
    page.gap();
    processes::put_classes(page, &[held]);
}

/// A destination: how much room is left, who goes there, and what has failed.
pub fn put_destination(
    page: &mut Page,
    (dst, netns): (&str, u32),
    pressures: &[&PressureReport],
    searches: &[&SearchReport],
    failures: &[&FailureReport],
) {
    page.put(Style::Strong, dst)
        .put(Style::Normal, &format!("  netns {netns}"))
        .end_line();
    for one in pressures {
        page.gap();
        pressure::put(page, one);
    }
    if !searches.is_empty() {
        page.gap();
        search::put_table(page, searches);
    }
    for one in failures {
        page.gap();
        failure::put(page, one);
    }
}

/// Failed calls of the host, in words; `None` when none failed.
pub fn failed(failed: &OpCounts) -> Option<String> {
    let each = [
        ("connect", failed.connect),
        ("bind", failed.bind),
        ("listen", failed.listen),
    ];
    let each: Vec<String> = each
        .into_iter()
        .filter_map(|(name, calls)| {
            let calls = calls.filter(|calls| *calls > 0)?;
            Some(format!("{name} {}", count(calls)))
        })
        .collect();
    (!each.is_empty()).then(|| each.join("  "))
}
