//! Failures, processes and ports as tables; on a narrow screen every row becomes a block.

use super::super::plain::{failure, process};
use super::super::units::{count, counted, duration, short_latency};
use super::Html;
use crate::report::history::History;
use crate::report::{FailureReport, IntervalProcess, PortsReport};

/// Rows of a table.
const ROWS: usize = 100;

pub(super) fn put(page: &mut Html, history: &History) {
    put_failures(page, &history.failures());
    put_processes(page, history.processes());
    if let Some(at) = &history.end {
        put_ports(page, &at.body.ports);
    }
}

/// A table of texts; those in columns that begin with `#` are numbers.
struct Table<'a> {
    columns: &'a [&'a str],
    rows: Vec<Vec<String>>,
    omitted: usize,
}

impl Table<'_> {
    fn put(&self, page: &mut Html) {
        page.raw("<div class=\"scroll\"><table class=\"blocks\"><thead><tr>");
        for column in self.columns {
            let (class, name) = heading(column);
            page.raw(&format!("<th scope=\"col\"{class}>"));
            page.text(name);
            page.raw("</th>");
        }
        page.raw("</tr></thead><tbody>\n");
        for row in &self.rows {
            page.raw("<tr>");
            for (column, cell) in self.columns.iter().zip(row) {
                let (class, name) = heading(column);
                page.raw(&format!("<td{class} data-label=\""));
                page.text(name);
                page.raw("\">");
                page.text(cell);
                page.raw("</td>");
            }
            page.raw("</tr>\n");
        }
        page.raw("</tbody></table></div>\n");
        if self.omitted > 0 {
            let text = format!("And {}.", counted(self.omitted as u64, "more row"));
            page.element("p class=\"faint\"", &text);
        }
    }
}

fn heading(column: &str) -> (&'static str, &str) {
    match column.strip_prefix('#') {
        Some(name) => (" class=\"n\"", name),
        None => ("", column),
    }
}

fn put_failures(page: &mut Html, failures: &[FailureReport]) {
    if failures.is_empty() {
        return;
    }
    page.section("failures", "Failed calls");
    let row = |failed: &FailureReport| {
        vec![
            process(&failed.comm, failed.pid),
            format!("{}()", failed.op.name()),
            failed.errno.clone(),
            failed.cause.name().to_owned(),
            failed
                .dst
                .clone()
                .or(failed.src.clone())
                .unwrap_or_default(),
            count(failed.count),
            failed.search_ns.map_or("?".to_owned(), short_latency),
            failure::holders(&failed.held_by),
        ]
    };
    let columns = &[
        "process",
        "call",
        "error",
        "cause",
        "address",
        "#times",
        "#search",
        "ports held by",
    ];
    Table {
        columns,
        rows: failures.iter().take(ROWS).map(row).collect(),
        omitted: failures.len().saturating_sub(ROWS),
    }
    .put(page);
    page.end_section();
}

fn put_processes(page: &mut Html, processes: &[IntervalProcess]) {
    let holding: Vec<_> = processes.iter().filter(|one| one.held.total > 0).collect();
    if holding.is_empty() {
        return;
    }
    page.section("processes", "Processes with TCP sockets");
    let row = |process: &&IntervalProcess| {
        let held = &process.held;
        let limit = held.fd_limit.map_or("?".to_owned(), count);
        let used = held.fd_used.map_or("?".to_owned(), count);
        vec![
            super::super::plain::process(&held.comm, held.pid),
            count(held.total),
            count(held.unbound),
            count(held.bound),
            count(held.close_wait),
            count(held.established),
            count(held.listen),
            process.oldest_closed_s.map_or("-".to_owned(), duration),
            format!("{used} of {limit}"),
        ]
    };
    let columns = &[
        "process",
        "#sockets",
        "#CLOSED, no port",
        "#CLOSED, bound",
        "#CLOSE_WAIT",
        "#ESTABLISHED",
        "#LISTEN",
        "#oldest CLOSED",
        "#descriptors",
    ];
    Table {
        columns,
        rows: holding.iter().take(ROWS).map(row).collect(),
        omitted: holding.len().saturating_sub(ROWS),
    }
    .put(page);
    page.end_section();
}

fn put_ports(page: &mut Html, namespaces: &[PortsReport]) {
    if namespaces.is_empty() {
        return;
    }
    page.section("port-use", "Local ports");
    let row = |ports: &PortsReport| {
        let range = ports.range.map(|[low, high]| format!("{low} to {high}"));
        vec![
            ports.netns.to_string(),
            range.unwrap_or_else(|| "?".to_owned()),
            count(ports.size),
            count(ports.bound),
            count(ports.connected),
            count(ports.listening),
            count(ports.time_wait),
            count(ports.reserved),
            count(ports.free),
        ]
    };
    let columns = &[
        "network namespace",
        "range",
        "#ports",
        "#by CLOSED",
        "#by connections",
        "#by listeners",
        "#by TIME_WAIT",
        "#reserved",
        "#free",
    ];
    Table {
        columns,
        rows: namespaces.iter().take(ROWS).map(row).collect(),
        omitted: namespaces.len().saturating_sub(ROWS),
    }
    .put(page);
    page.end_section();
}
