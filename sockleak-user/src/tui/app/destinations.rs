//! What goes on towards each destination: searches, failures and room, put together.

use super::known::Known;
use super::rows::{percent, used_style};
use super::subject::Subject;
use super::table::{Cell, Column, Row};
use crate::render::page::Style;
use crate::render::units::{short_age, short_latency};
use crate::report::{PressureReport, SearchReport, order};

/// The columns.
pub const COLUMNS: &[Column] = &[
    Column::left("DESTINATION", 0),
    Column::right("CALLS", 0),
    Column::right("FAIL", 0),
    Column::right("FAILED", 1),
    Column::right("PROCS", 0),
    Column::right("P99", 2),
    Column::right("2ND%", 0),
    Column::right("CPU%", 0),
    Column::right("TIMEW", 3),
    Column::right("USED%", 0),
    Column::right("FREE", 0),
    Column::right("NONE IN", 0),
    Column::right("NETNS", 4),
];

#[derive(Default)]
struct Towards<'a> {
    dst: &'a str,
    netns: u32,
    searches: Vec<&'a SearchReport>,
    /// In the newest interval, and since the start.
    failed: [u64; 2],
    pids: Vec<u32>,
    pressure: Option<&'a PressureReport>,
}

/// One row for each destination, most calls first.
pub fn rows(known: &Known) -> Vec<Row> {
    let mut all: Vec<Towards<'_>> = Vec::new();
    for search in known.searches() {
        if let Some(dst) = &search.dst {
            let row = entry(&mut all, dst, search.netns);
            row.searches.push(search);
            note(&mut row.pids, search.pid);
        }
    }
    for failed in &known.failures {
        let Some(report) = failed.report() else {
            continue;
        };
        if let Some(dst) = &report.dst {
            let row = entry(&mut all, dst, report.netns);
            row.failed[0] = row.failed[0].saturating_add(failed.now);
            row.failed[1] = row.failed[1].saturating_add(failed.total);
            note(&mut row.pids, report.pid);
        }
    }
    for pressure in known.pressures() {
        let row = entry(&mut all, &pressure.dst, pressure.netns);
        row.pressure = Some(pressure);
        for who in &pressure.who {
            note(&mut row.pids, who.pid);
        }
    }
    let busiest = order::order(all.iter().map(|row| !calls(row)));
    order::arrange(all, &busiest).iter().map(row).collect()
}

fn entry<'v, 'a>(all: &'v mut Vec<Towards<'a>>, dst: &'a str, netns: u32) -> &'v mut Towards<'a> {
    let known = all
        .iter()
        .position(|row| row.dst == dst && row.netns == netns);
    let at = known.unwrap_or_else(|| {
        all.push(Towards {
            dst,
            netns,
            ..Towards::default()
        });
        all.len() - 1
    });
    &mut all[at]
}

fn note(pids: &mut Vec<u32>, pid: u32) {
    if !pids.contains(&pid) {
        pids.push(pid);
    }
}

fn calls(row: &Towards<'_>) -> u64 {
    row.searches.iter().map(|search| search.calls).sum()
}

fn row(row: &Towards<'_>) -> Row {
    let calls = calls(row);
    // The slowest process stands for all: quantiles cannot be added up.
    let p99 = row.searches.iter().filter_map(|search| search.p99_ns).max();
    let second: f64 = (row.searches.iter())
        .map(|search| search.second_parity * search.calls as f64)
        .sum();
    let second = (calls > 0).then(|| second / calls as f64);
    let shares: Vec<f64> = (row.searches.iter())
        .filter_map(|search| search.cpu_share)
        .collect();
    let cpu = (!shares.is_empty()).then(|| shares.iter().sum::<f64>());
    let time_waits = row.searches.iter().map(|search| search.time_waits).sum();
    let pressure = row.pressure;
    let used = pressure.and_then(|pressure| {
        let (used, size) = (pressure.used?, pressure.size?);
        (size > 0).then(|| used as f64 / size as f64)
    });
    let [now, total] = row.failed;
    Row {
        subject: Subject::Destination(row.dst.to_owned(), row.netns),
        cells: vec![
            Cell::text(row.dst),
            Cell::number(calls),
            Cell::number(now).alarming(Style::Bad),
            Cell::number(total),
            Cell::number(row.pids.len() as u64),
            Cell::maybe(p99, |ns| Cell::shown(ns as f64, short_latency(ns))),
            Cell::maybe(second, |share| {
                let style = if share >= 0.5 {
                    Style::Bad
                } else {
                    Style::Normal
                };
                percent(share, style)
            }),
            Cell::maybe(cpu, |share| {
                Cell::shown(share, format!("{:.1}", share * 100.0))
            }),
            Cell::number(time_waits),
            Cell::maybe(used, |share| percent(share, used_style(share))),
            Cell::maybe(pressure.and_then(|one| one.free), Cell::number),
            Cell::maybe(pressure.and_then(|one| one.eta_s), |eta| {
                Cell::shown(-eta, short_age(eta)).styled(Style::Warn)
            }),
            Cell::number(row.netns.into()),
        ],
    }
}
