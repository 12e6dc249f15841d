//! What reports say about connect(), bind() and listen().

use std::collections::HashMap;

use super::searches_tests::{counters, failure_id, search, search_id};
use super::testing::{NETNS, S, Watched, all_calls, process};
use super::{
    CallsInput, CallsReading, EndInput, IntervalInput, PortFeatures, PortOwners, ProcessInfos,
    RangeUse, Selection, VisibleCalls, end, failures, hot_loops, interval,
};
use crate::model::{Counters, FailureCounters, FailureId, ProcessInfo};
use crate::report::{Cause, EndReport, IntervalReport, Loss, Op, OpCounts, SelfCost};

fn failed(id: FailureId, count: u64) -> FailureCounters {
    FailureCounters {
        id,
        count,
        timed: count,
        total_ns: count * 1_000_000,
        counted: count,
        candidates: count * 28_232,
        tid: 7,
        port: None,
        last_ns: count,
    }
}

fn bind_conflict(pid: u32) -> FailureId {
    let mut id = failure_id(pid);
    id.search.op = Op::Bind;
    id.search.dst = None;
    id.cause = Cause::PortConflict;
    id.errno = 98;
    id.range = None;
    id
}

/// Client 1 searches and fails, server 2 fails to bind; five failures found no room.
fn watched() -> Watched {
    let mut watched = Watched::new();
    let mut searches = counters(search_id(1));
    (0..50).for_each(|_| search(&mut searches, 1_000_000, 28_232, false));
    searches.failed = 50;
    let mut user = counters(search_id(5));
    (0..20).for_each(|_| search(&mut user, 1_000, 1, false));
    user.time_waits = 12;
    let mut before = Counters {
        searches: [50, 9, 2],
        failures: [55, 3, 0],
        ..Counters::default()
    };
    before.allocated = 1;
    let calls = watched.tracker.calls_mut();
    calls.see(VisibleCalls {
        connect: true,
        bind: true,
        only_failed_binds: true,
        bounded_connects: false,
    });
    calls.advance(CallsReading {
        at_ns: S,
        before,
        searches: vec![searches, user],
        failures: vec![
            failed(failure_id(1), 50),
            FailureCounters {
                port: Some(8080),
                ..failed(bind_conflict(2), 3)
            },
        ],
    });
    watched
}

fn interval_of(watched: &Watched, calls: CallsInput<'_>) -> IntervalReport {
    let input = IntervalInput {
        namespaces: &[],
        infos: &watched.infos,
        boot_unix_ns: 0,
        selection: Selection::default(),
        calls,
        orphans: None,
        loss: Loss::default(),
        self_cost: SelfCost::default(),
    };
    interval(&watched.tracker, input)
}

fn end_of(watched: &Watched) -> EndReport {
    let input = EndInput {
        pressures: Vec::new(),
        infos: &watched.infos,
        boot_unix_ns: 0,
        selection: Selection::default(),
        calls: all_calls(),
        namespaces: &[],
        kernel_sockets: None,
        hidden: None,
        accept_visible: true,
        leaks: Vec::new(),
        coverage: Vec::new(),
        orphans: None,
        loss: Loss::default(),
        self_cost: SelfCost::default(),
    };
    end(&watched.tracker, input)
}

#[test]
fn a_failure_says_who_why_and_who_has_the_ports() {
    let watched = watched();
    let info = |comm: &str| ProcessInfo {
        comm: comm.to_owned(),
        cgroup: Some("/app".to_owned()),
        ..ProcessInfo::default()
    };
    let infos: ProcessInfos = [(process(1), info("client")), (process(3), info("holder"))].into();
    let ranges = HashMap::from([(
        failure_id(1),
        RangeUse {
            connected: 28_000,
            time_wait: 200,
            other: 32,
            holders: vec![(process(3), 28_000)],
            at_ns: S / 2,
            ..RangeUse::default()
        },
    )]);
    let owners = HashMap::from([(
        bind_conflict(2),
        PortOwners {
            port: 8080,
            processes: vec![process(3)],
        },
    )]);
    let features = PortFeatures::default();
    let input = CallsInput {
        infos: &infos,
        keep: &|_, _| true,
        features: &features,
        ranges: &ranges,
        owners: &owners,
    };
    let found = failures(watched.tracker.calls(), &input);
    let first = &found[0];
    assert_eq!(
        (first.pid, first.comm.as_str(), first.tid),
        (1, "client", 7)
    );
    assert_eq!((first.errno.as_str(), first.count), ("EADDRNOTAVAIL", 50));
    assert_eq!(first.dst.as_deref(), Some("10.0.0.5:6379"));
    assert_eq!((first.src.as_deref(), first.port), (None, None));
    assert_eq!(first.cgroup.as_deref(), Some("/app"));
    assert_eq!(
        (first.search_ns, first.candidates),
        (Some(1_000_000), Some(28_232))
    );
    let breakdown = first.breakdown.as_ref().unwrap();
    assert_eq!((breakdown.connected, breakdown.other), (28_000, 32));
    assert!((breakdown.age_s - 0.5).abs() < 1e-9);
    assert_eq!(first.holders, [3]);
    let callers = &first.callers;
    assert_eq!(callers.len(), 1, "whoever fails has used none");
    assert_eq!((callers[0].pid, callers[0].connections), (5, 20));
    assert_eq!(callers[0].time_waits, Some(12));
    assert_eq!(
        (first.held_by[0].comm.as_str(), first.held_by[0].count),
        ("holder", 28_000)
    );
    let remedy = first.remedy.join("\n");
    assert!(
        !remedy.contains("tcp_tw_reuse"),
        "hardly any TIME_WAIT: {remedy}"
    );

    let second = &found[1];
    assert_eq!((second.op, second.cause), (Op::Bind, Cause::PortConflict));
    assert_eq!(second.src.as_deref(), Some("0.0.0.0:8080"));
    assert_eq!(
        (second.holders.as_slice(), second.held_by[0].comm.as_str()),
        (&[3][..], "holder")
    );
    assert_eq!(
        (second.comm.as_str(), second.breakdown.is_some()),
        ("", false)
    );
}

#[test]
fn an_interval_counts_the_host_and_shows_what_was_asked_for() {
    let watched = watched();
    let all = interval_of(&watched, all_calls());
    let expected = OpCounts {
        connect: Some(55),
        bind: Some(3),
        listen: Some(0),
    };
    assert_eq!((all.failed, all.failed_unlisted), (expected, 5));
    let searches = all.searches.unwrap();
    assert_eq!((searches.len(), searches[0].calls), (2, 50));
    assert!((searches[0].cpu_share.unwrap() - 0.05).abs() < 1e-9);
    assert_eq!(searches[0].netns, NETNS);

    let other = CallsInput {
        keep: &|id, _| id.process.pid != 1,
        ..all_calls()
    };
    let filtered = interval_of(&watched, other);
    assert_eq!(filtered.searches.map_or(0, |searches| searches.len()), 1);
    assert_eq!(filtered.failed, expected, "of the whole host all the same");
    assert_eq!(failures(watched.tracker.calls(), &other).len(), 1);
    assert!(hot_loops(watched.tracker.calls(), &other).is_empty());

    let hot = hot_loops(watched.tracker.calls(), &all_calls());
    assert_eq!(hot.len(), 1);
    assert!(
        hot[0].meaning.contains("all of them fail"),
        "{}",
        hot[0].meaning
    );
    assert!(
        hot[0]
            .remedy
            .iter()
            .any(|line| line.contains("(now 32768 60999)"))
    );
}

#[test]
fn what_is_not_visible_is_not_zero() {
    let mut watched = watched();
    let end = end_of(&watched);
    let searched = OpCounts {
        connect: Some(50),
        bind: None,
        listen: None,
    };
    assert_eq!(end.searched, searched, "of bind() only failures are seen");
    assert_eq!(end.failed.bind, Some(3));
    assert_eq!(end.failed_unlisted, 5);
    assert_eq!(end.failures_by_cause.len(), 2);
    assert_eq!((end.failures.len(), end.hot_loops.len()), (2, 1));
    assert!((end.hot_loops[0].hot_for_s - 1.0).abs() < 1e-9);

    // Ten quiet minutes later it is no hot loop over the whole time, but it was one.
    let mut searches = counters(search_id(1));
    (0..50).for_each(|_| search(&mut searches, 1_000_000, 28_232, false));
    (0..5_000).for_each(|_| search(&mut searches, 1_000, 1, false));
    searches.failed = 50;
    watched.tracker.calls_mut().advance(CallsReading {
        at_ns: 600 * S,
        before: Counters::default(),
        searches: vec![searches],
        failures: vec![failed(failure_id(1), 50)],
    });
    assert!(hot_loops(watched.tracker.calls(), &all_calls()).is_empty());
    let end = end_of(&watched);
    assert!((end.hot_loops[0].hot_for_s - 1.0).abs() < 1e-9);
    assert!(end.hot_loops[0].search.cpu_share.unwrap() < 0.001);

    watched.tracker.calls_mut().see(VisibleCalls::default());
    let blind = interval_of(&watched, all_calls());
    assert_eq!((blind.searches, blind.failed), (None, OpCounts::default()));
    assert_eq!(end_of(&watched).failed, OpCounts::default());
}
