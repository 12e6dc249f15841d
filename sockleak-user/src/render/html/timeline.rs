//! How sockets, ports and failures went.

use super::super::plain::process;
use super::super::units::count;
use super::chart::{Chart, Series};
use super::{Html, time_of_day};
use crate::report::history::{Held, Point, Timeline};

/// Curves of a kind in one chart; there are six colours.
const CURVES: usize = 4;

pub(super) fn put(page: &mut Html, timeline: &Timeline) {
    let points = timeline.points.as_slice();
    if points.len() < 2 {
        return;
    }
    let at_s: Vec<_> = points.iter().map(|point| point.at_s).collect();
    let labels: Vec<_> = points.iter().map(|point| time_of_day(&point.ts)).collect();
    page.section("timeline", "Timeline");
    let chart = |id, title, note, series, (color, columns)| Chart {
        id,
        title,
        note,
        at_s: &at_s,
        labels: &labels,
        series,
        color,
        columns,
    };

    let mut sockets = vec![Series {
        name: "all TCP sockets of the host".to_owned(),
        values: points.iter().map(|point| Some(point.alloc)).collect(),
    }];
    sockets.extend(holders(timeline, |held| held.idle, "idle in"));
    let note = "Idle: CLOSED, with or without a port, or CLOSE_WAIT. What leaks only rises.";
    chart("sockets", "Sockets", note, sockets, (0, false)).put(page);

    let mut ports: Vec<_> = holders(timeline, |held| held.bound, "CLOSED, bound in").collect();
    if points.iter().any(|point| point.time_wait > 0) {
        ports.push(Series {
            name: "TIME_WAIT where sockleak ran".to_owned(),
            values: points.iter().map(|point| Some(point.time_wait)).collect(),
        });
    }
    ports.extend(destinations(timeline));
    ports.truncate(5);
    if !ports.is_empty() {
        let note =
            "What holds local ports; towards a destination, only after ports got scarce there.";
        chart("ports", "Ports", note, ports, (1, false)).put(page);
    }

    if timeline.had_many_orphans {
        let orphans = vec![Series {
            name: "orphans of the host".to_owned(),
            values: points.iter().map(|point| Some(point.orphans)).collect(),
        }];
        let note = "Closed by their process, kept by the kernel until the peer has everything.";
        chart("orphans", "Orphans", note, orphans, (4, false)).put(page);
    }

    if points.iter().any(|point| point.failed > 0) {
        let failed = vec![Series {
            name: "failed connect(), bind(), listen()".to_owned(),
            values: points.iter().map(|point| Some(point.failed)).collect(),
        }];
        let note = "For want of a port or an address, per interval, on the whole host.";
        chart(
            "failures-over-time",
            "Failed calls",
            note,
            failed,
            (1, true),
        )
        .put(page);
    }
    page.end_section();
}

/// Those that held most at any time.
fn holders<'a>(
    timeline: &'a Timeline,
    figure: impl Fn(&Held) -> u64 + Copy + 'a,
    what: &'a str,
) -> impl Iterator<Item = Series> + 'a {
    let value = move |point: &Point, of: usize| {
        let held = point.held.iter().find(|(at, _)| *at == of);
        held.map(|(_, held)| figure(held))
    };
    let mut most: Vec<(u64, usize)> = (0..timeline.processes.len())
        .map(|of| {
            let values = timeline.points.iter().filter_map(|point| value(point, of));
            (values.max().unwrap_or(0), of)
        })
        .filter(|(most, _)| *most > 0)
        .collect();
    most.sort_by_key(|(most, of)| (std::cmp::Reverse(*most), *of));
    most.truncate(CURVES);
    most.into_iter().filter_map(move |(_, of)| {
        let (pid, comm) = timeline.processes.get(of)?;
        let values = timeline.points.iter().map(|point| value(point, of));
        Some(Series {
            name: format!("{what} {}", process(comm, *pid)),
            values: values.collect(),
        })
    })
}

fn destinations(timeline: &Timeline) -> impl Iterator<Item = Series> {
    let each = timeline.destinations.iter().enumerate();
    each.map(|(of, (dst, size))| {
        let value = |point: &Point| {
            let used = point.used.iter().find(|(at, _)| *at == of);
            used.map(|(_, used)| *used)
        };
        let size = size.map_or(String::new(), |size| format!(" (of {})", count(size)));
        Series {
            name: format!("not usable towards {dst}{size}"),
            values: timeline.points.iter().map(value).collect(),
        }
    })
}
