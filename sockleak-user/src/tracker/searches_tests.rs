//! Deltas of searches and failures against what really happened.

use std::collections::BTreeMap;

use proptest::prelude::*;
use sockleak_ebpf::{LATENCY_BUCKETS, latency_bucket};

use super::failures::Failures;
use super::searches::{SearchActivity, Searches};
use super::testing::{NETNS, process};
use crate::model::{
    Cause, FailureCounters, FailureId, Family, Op, PortOptions, SearchCounters, SearchId,
};

pub(super) fn search_id(pid: u32) -> SearchId {
    SearchId {
        process: process(pid),
        op: Op::Connect,
        netns: NETNS,
        family: Family::V4,
        dst: Some("10.0.0.5:6379".parse().unwrap()),
    }
}

pub(super) fn failure_id(pid: u32) -> FailureId {
    FailureId {
        search: search_id(pid),
        cause: Cause::EphemeralExhausted,
        errno: 99,
        src: None,
        range: Some((32768, 60999)),
        options: PortOptions::default(),
    }
}

/// As the kernel side counts it.
pub(super) fn counters(id: SearchId) -> SearchCounters {
    SearchCounters {
        id,
        calls: 0,
        failed: 0,
        timed: 0,
        upper_bounds: 0,
        total_ns: 0,
        max_ns: 0,
        measured: 0,
        cpu_ns: 0,
        counted: 0,
        candidates: 0,
        candidates_max: 0,
        second_parity: 0,
        time_waits: 0,
        last_ns: 0,
        latency: Box::new([[0; LATENCY_BUCKETS]; 2]),
    }
}

/// A search that took `ns` and looked at `candidates` ports.
pub(super) fn search(counters: &mut SearchCounters, ns: u64, candidates: u64, second: bool) {
    counters.calls += 1;
    counters.timed += 1;
    counters.total_ns += ns;
    counters.max_ns = counters.max_ns.max(ns);
    counters.measured += 1;
    counters.cpu_ns += ns;
    counters.counted += 1;
    counters.candidates += candidates;
    counters.candidates_max = counters.candidates_max.max(candidates);
    counters.second_parity += u64::from(second);
    counters.last_ns += ns;
    counters.latency[usize::from(second)][latency_bucket(ns)] += 1;
}

fn failures(pid: u32, count: u64) -> FailureCounters {
    FailureCounters {
        id: failure_id(pid),
        count,
        timed: count,
        total_ns: count * 1_000,
        counted: count / 2,
        candidates: count / 2 * 28_232,
        tid: pid + 1,
        port: None,
        last_ns: count,
    }
}

#[test]
fn an_interval_has_what_came_since_the_last_reading() {
    let mut searches = Searches::new(16);
    let mut now = counters(search_id(1));
    search(&mut now, 2_000_000, 20_000, true);
    searches.advance(vec![now.clone()]);
    let first = &searches.interval()[0];
    assert_eq!((first.calls, first.max_ns), (1, Some(2_000_000)));
    assert!(!first.max_is_bound);
    assert_eq!(first.candidates_max, Some(20_000));

    for _ in 0..9 {
        search(&mut now, 1_000, 1, false);
    }
    searches.advance(vec![now.clone()]);
    let second = &searches.interval()[0];
    assert_eq!((second.calls, second.total_ns), (9, 9_000));
    // The longest since attach is not of this interval, so the histogram bounds it.
    assert_eq!((second.max_ns, second.max_is_bound), (Some(1_023), true));
    assert_eq!(second.candidates_max, None);
    assert_eq!(second.candidates_avg(), Some(1.0));
    assert_eq!(second.second_parity_share(), 0.0);

    searches.advance(vec![now]);
    assert!(searches.interval().is_empty(), "nothing is not an activity");
    let all = searches.since_attach();
    assert_eq!((all[0].calls, all[0].max_ns), (10, Some(2_000_000)));
    assert!((all[0].second_parity_share() - 0.1).abs() < 1e-9);
}

/// The kernel side stores times and maxima without a lock: a thread that is preempted before it
/// does sets them back. That is not a new element, all of whose calls would be new.
#[test]
fn what_a_late_thread_sets_back_does_not_count_everything_again() {
    let mut searches = Searches::new(16);
    let mut now = counters(search_id(1));
    for _ in 0..1_000 {
        search(&mut now, 2_000_000, 20_000, true);
    }
    searches.advance(vec![now.clone()]);
    search(&mut now, 1_000, 1, false);
    (now.last_ns, now.max_ns, now.candidates_max) = (1, 1_000, 1);
    searches.advance(vec![now]);
    assert_eq!(searches.interval()[0].calls, 1);
    assert_eq!(searches.since_attach()[0].calls, 1_001);

    let mut failed = Failures::new(16);
    let mut now = failures(1, 1_000);
    failed.advance(vec![now.clone()]);
    (now.count, now.timed, now.last_ns) = (1_001, 1_001, 5);
    failed.advance(vec![now]);
    assert_eq!(failed.interval()[0].count, 1);
    assert_eq!(failed.known(), [1_001, 0, 0]);
}

#[test]
fn waiting_for_a_cpu_is_not_searching() {
    let mut now = counters(search_id(1));
    for n in 0..1_000 {
        // One in a hundred is preempted for 10 ms.
        search(
            &mut now,
            if n % 100 == 0 { 10_000_000 } else { 40_000 },
            1_000,
            false,
        );
    }
    let activity = SearchActivity::between(None, &now);
    assert_eq!(activity.total_ns, 139_600_000);
    let busy = activity.busy_ns() as f64;
    assert!((busy / 40_400_000.0 - 1.0).abs() < 0.35, "{busy}");
    // Two speeds of which neither is rare both count.
    let mut two = counters(search_id(2));
    (0..1_000).for_each(|n| search(&mut two, if n % 3 == 0 { 200_000 } else { 1_000 }, 1, false));
    let two = SearchActivity::between(None, &two);
    assert_eq!(two.busy_ns(), two.total_ns);
}

#[test]
fn an_element_that_counts_less_is_a_new_one() {
    let mut searches = Searches::new(16);
    let mut old = counters(search_id(1));
    (0..10).for_each(|_| search(&mut old, 1_000, 1, false));
    searches.advance(vec![old]);
    let mut new = counters(search_id(1));
    (0..3).for_each(|_| search(&mut new, 5_000, 1, false));
    searches.advance(vec![new]);
    assert_eq!(searches.interval()[0].calls, 3);
    assert_eq!(searches.interval()[0].max_ns, Some(5_000));
    assert_eq!(searches.since_attach()[0].calls, 13);
}

#[test]
fn without_a_measured_latency_there_is_none() {
    let mut searches = Searches::new(16);
    let now = SearchCounters {
        calls: 5,
        second_parity: 5,
        ..counters(search_id(1))
    };
    searches.advance(vec![now]);
    let activity = &searches.interval()[0];
    assert_eq!((activity.max_ns, activity.percentile_ns(0.5)), (None, None));
    assert_eq!(
        (activity.candidates_avg(), activity.candidates_max),
        (None, None)
    );
    assert_eq!(activity.second_parity_share(), 1.0);
}

#[test]
fn failures_are_counted_exactly_and_means_are_of_the_interval() {
    let mut failed = Failures::new(16);
    failed.advance(vec![failures(1, 4)]);
    failed.advance(vec![failures(1, 10), failures(2, 1)]);
    let interval = failed.interval();
    assert_eq!((interval[0].count, interval[1].count), (6, 1));
    assert_eq!(interval[0].search_ns(), Some(1_000));
    assert_eq!(interval[0].candidates(), Some(28_232));
    assert_eq!((interval[1].candidates(), interval[1].tid), (None, 3));
    assert_eq!(failed.known(), [11, 0, 0]);
}

#[test]
fn processes_that_are_over_are_named_in_the_end() {
    let mut failed = Failures::new(16);
    failed.advance(vec![failures(1, 4), failures(2, 1)]);
    failed.forget(|process| process.pid == 1);
    failed.advance(vec![failures(2, 1)]);
    assert!(failed.interval().is_empty());
    assert_eq!(failed.known(), [5, 0, 0]);
    assert_eq!(failed.since_attach().len(), 2);
    // The same pid and start time again: the element was made anew.
    failed.advance(vec![failures(1, 3), failures(2, 1)]);
    assert_eq!(failed.interval()[0].count, 3);
    assert_eq!(failed.since_attach()[0].count, 7);
}

#[test]
fn memory_is_bounded_and_what_is_not_named_is_counted() {
    let mut failed = Failures::new(8);
    let mut searches = Searches::new(8);
    let mut truth = 0;
    for round in 0..400_u32 {
        let pids = round * 8..round * 8 + 8;
        failed.advance(
            pids.clone()
                .map(|pid| failures(pid, 1 + u64::from(round)))
                .collect(),
        );
        searches.advance(
            pids.map(|pid| {
                let mut now = counters(search_id(pid));
                search(&mut now, 1_000, 1, false);
                now
            })
            .collect(),
        );
        truth += 8 * (1 + u64::from(round));
        failed.forget(|_| true);
        searches.forget(|_| true);
    }
    assert_eq!(failed.known(), [truth, 0, 0]);
    let named: u64 = failed.since_attach().iter().map(|f| f.count).sum();
    assert!(failed.since_attach().len() <= 2048);
    assert_eq!(named + failed.ended_omitted()[0], truth);
    let named = searches.since_attach().len() as u64;
    assert!(named <= 512);
    assert_eq!(named + searches.ended_omitted(), 3_200);
}

/// What happens to one key in one interval.
#[derive(Clone, Debug)]
struct Step {
    /// ns, candidates.
    searches: Vec<(u64, u64)>,
    /// Its element is removed from the kernel's map first.
    replaced: bool,
    /// The reading misses it.
    missed: bool,
    /// The reading has it twice, the first time with fewer calls.
    twice: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let searches = proptest::collection::vec((1_u64..1 << 24, 1_u64..30_000), 0..6);
    let seldom = || proptest::bool::weighted(0.15);
    (searches, seldom(), seldom(), seldom()).prop_map(|(searches, replaced, missed, twice)| Step {
        searches,
        replaced,
        missed,
        twice,
    })
}

proptest! {
    /// Elements that are removed and made anew, missed by a reading or read twice: the intervals
    /// add up to what happened.
    #[test]
    fn intervals_add_up(steps in proptest::collection::vec(proptest::collection::vec(step(), 3), 1..20)) {
        let mut searches = Searches::new(64);
        let mut kernel: BTreeMap<u32, SearchCounters> = BTreeMap::new();
        let mut read: BTreeMap<u32, u64> = BTreeMap::new();
        let mut truth: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        let mut found: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        let mut clock = 0;
        let add = |found: &mut BTreeMap<u32, (u64, u64)>, activity: &SearchActivity| {
            let sums = found.entry(activity.id.process.pid).or_default();
            sums.0 += activity.calls;
            sums.1 += activity.candidates;
            prop_assert!(activity.max_ns.is_some_and(|max| max > 0));
            prop_assert!(activity.percentile_ns(0.99) <= activity.max_ns);
            prop_assert_eq!(activity.latencies().count(), activity.calls);
            Ok(())
        };
        for row in &steps {
            let mut reading = Vec::new();
            for (pid, step) in (1..).zip(row) {
                let now = kernel.entry(pid).or_insert_with(|| counters(search_id(pid)));
                // User space removes what it has read, of processes that do nothing any more.
                if step.replaced && read.get(&pid) == Some(&now.calls) {
                    searches.forget(|process| process.pid == pid);
                    *now = counters(search_id(pid));
                    read.remove(&pid);
                }
                let mut earlier = now.clone();
                for (ns, candidates) in &step.searches {
                    earlier = now.clone();
                    search(now, *ns, *candidates, false);
                    clock += 1;
                    now.last_ns = clock;
                    let sums = truth.entry(pid).or_default();
                    (sums.0, sums.1) = (sums.0 + 1, sums.1 + candidates);
                }
                if !step.missed {
                    if step.twice {
                        reading.push(earlier);
                    }
                    reading.push(now.clone());
                    read.insert(pid, now.calls);
                }
            }
            searches.advance(reading);
            for activity in searches.interval() {
                add(&mut found, activity)?;
            }
        }
        searches.advance(kernel.values().cloned().collect());
        for activity in searches.interval() {
            add(&mut found, activity)?;
        }
        prop_assert_eq!(&found, &truth);
        let since: BTreeMap<u32, (u64, u64)> = searches.since_attach().iter()
            .map(|a| (a.id.process.pid, (a.calls, a.candidates))).collect();
        prop_assert_eq!(since, truth);
    }
}
