//! One event, one line, always the same columns:
//! time, event, pid, tid, comm, local, peer, age, netns, sk; of a port search also errno, time,
//! ports examined.

use super::super::columns::{Align, maybe, number, put_line, text};
use super::super::page::Page;
use super::super::units::{short_age, short_latency};
use crate::report::{EventReport, SearchOutcome};

pub fn put(page: &mut Page, time: &str, event: &EventReport) {
    let search = event.search.as_ref();
    put_line(
        page,
        &[
            (12, Align::Left, text(time)),
            (7, Align::Left, text(&event.event)),
            (7, Align::Right, number(event.pid.into())),
            (7, Align::Right, number(event.tid.into())),
            (15, Align::Left, text(&event.comm)),
            (21, Align::Left, maybe(event.src.as_deref(), str::to_owned)),
            (21, Align::Left, maybe(event.dst.as_deref(), str::to_owned)),
            (6, Align::Right, maybe(event.age_s, short_age)),
            (
                10,
                Align::Right,
                maybe(event.netns, |netns| netns.to_string()),
            ),
            (18, Align::Left, text(&event.sk)),
            (13, Align::Left, maybe(search, outcome)),
            (6, Align::Right, maybe(search.and_then(took), |took| took)),
            (
                6,
                Align::Right,
                maybe(search.and_then(|search| search.candidates), |n| {
                    n.to_string()
                }),
            ),
        ],
    );
}

fn outcome(search: &SearchOutcome) -> String {
    search.errno.clone().unwrap_or_else(|| "ok".to_owned())
}

/// `<` marks an upper bound.
fn took(search: &SearchOutcome) -> Option<String> {
    let mark = if search.search_is_upper_bound {
        "<"
    } else {
        ""
    };
    let ns = search.search_ns?;
    Some(format!("{mark}{}", short_latency(ns)))
}
