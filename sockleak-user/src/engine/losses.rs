//! Every way in which an observation was lost, put together.

use std::collections::BTreeMap;

use crate::{model::Counters, report::Loss};

/// What was lost since attach. `overflow` is how many events did not fit into our own queue,
/// `None` without events; `programs_missed` are skipped runs by program.
pub fn loss(
    counters: &Counters,
    overflow: Option<u64>,
    programs_missed: BTreeMap<String, u64>,
    undecodable: u64,
) -> Loss {
    let mut dropped = BTreeMap::new();
    if let Some(overflow) = overflow {
        for (kind, count) in [
            ("alloc", counters.dropped_alloc),
            ("accept", counters.dropped_accept),
            ("destroy", counters.dropped_destroy),
            ("release", counters.dropped_release),
            ("connect", counters.dropped_connect),
            ("bind", counters.dropped_bind),
            ("queue", overflow),
        ] {
            dropped.insert(kind.to_owned(), count);
        }
    }
    Loss {
        sockets_full: counters.sockets_full,
        sockets_failed: counters.sockets_failed,
        sockets_stale: counters.sockets_stale,
        sockets_undeleted: counters.sockets_undeleted,
        processes_full: counters.processes_full,
        processes_failed: counters.processes_failed,
        searches_full: counters.searches_full,
        failures_full: counters.failures_full,
        searches_unmatched: counters.searches_unmatched,
        endings_full: counters.endings_full,
        stacks_missed: stacks_missed(counters),
        events_dropped: dropped,
        programs_missed,
        undecodable,
    }
}

fn stacks_missed(counters: &Counters) -> BTreeMap<String, u64> {
    [
        ("collided", counters.stacks_collided),
        ("unreadable", counters.stacks_faulted),
        ("other", counters.stacks_failed),
    ]
    .map(|(reason, count)| (reason.to_owned(), count))
    .into()
}
