//! What holds whatever the facts are.

use proptest::prelude::*;

use super::testing::{TO, World, failure, leak, route, space};
use super::*;
use crate::model::{Cause, Op, ProcessInfo};
use crate::report::{After, LeakClass};
use crate::tracker::Binder;
use crate::tracker::testing::{NETNS, process};

fn worlds() -> impl Strategy<Value = World> {
    let class = prop::sample::select(vec![
        LeakClass::Unbound,
        LeakClass::Bound,
        LeakClass::CloseWait,
    ]);
    let after = prop::sample::select(vec![
        After::Unknown,
        After::ConnectRefused,
        After::NeverUsed,
        After::BindFailed,
    ]);
    let leaks = prop::collection::vec((1..5_u32, class, 8..50_000_u64, after), 0..4);
    let op = prop::sample::select(vec![Op::Connect, Op::Bind]);
    let failures = prop::collection::vec((1..9_u32, op, any::<bool>()), 0..4);
    let ports = (0..30_000_u64, 0..30_000_u64, 0..30_000_u64, 0..30_000_u64);
    let limits = (0..2_000_u64, 0..4_000_u64, 0..200_000_u64);
    (leaks, failures, ports, limits).prop_map(
        |(leaks, failures, (closed, early, connected, waiting), (fds, pages, files))| {
            let mut space = space();
            space.bound_closed = closed.min(space.size);
            let early = early.min(space.size - space.bound_closed);
            space.bound = space.bound_closed + early;
            space.closed = vec![(process(1), space.bound_closed)];
            let binder = Binder {
                ports: early,
                ..Binder::default()
            };
            space.binders = vec![(process(2), binder)];
            let left = space.size - space.bound;
            let connected = connected.min(left);
            let waiting = waiting.min(left - connected);
            space.routes = vec![route(&space, connected, waiting, space.bound)];
            let info = ProcessInfo {
                fd_used: Some(fds),
                fd_limit: Some(1_024),
                ..ProcessInfo::default()
            };
            World {
                leaks: (leaks.into_iter())
                    .map(|(pid, class, count, after)| leak(pid, class, count, &[(after, count)]))
                    .collect(),
                spaces: vec![space],
                failures: (failures.into_iter())
                    .map(|(pid, op, known)| {
                        let dst = known.then_some(TO);
                        failure(pid, op, Cause::EphemeralExhausted, dst)
                    })
                    .collect(),
                infos: [(process(1), info)].into(),
                files: Some(FileLimits {
                    used: files,
                    max: 150_000,
                }),
                tcp_mem: Some([1_000, 2_000, 3_000]),
                mem_pages: pages,
                ..World::default()
            }
        },
    )
}

proptest! {
    #[test]
    fn the_most_severe_comes_first_and_every_cause_before_what_it_causes(world in worlds()) {
        let findings = world.diagnose();
        for (first, second) in findings.iter().zip(findings.iter().skip(1)) {
            prop_assert!(first.severity >= second.severity);
        }
        if let Some(first) = findings.first() {
            prop_assert!(first.caused_by.is_none(), "{first:?}");
        }
        for (at, finding) in findings.iter().enumerate() {
            prop_assert!((0.0..=1.0).contains(&finding.confidence));
            prop_assert!(!finding.title.is_empty() && !finding.evidence.is_empty());
            prop_assert!(!finding.remedy.is_empty(), "{:?}", finding.id);
            if let Some(cause) = &finding.caused_by {
                let is_it = |one: &FindingReport| {
                    (one.id, one.pid, one.netns) == (cause.id, cause.pid, cause.netns)
                };
                prop_assert!(findings[..at].iter().any(is_it), "{cause:?} in {findings:?}");
            }
        }
    }

    /// Leaks are neither invented nor lost.
    #[test]
    fn every_leak_is_one_finding(world in worlds()) {
        let findings = world.diagnose();
        let leaks = findings.iter().filter(|one| matches!(
            one.id,
            FindingId::ClosedLeak | FindingId::BoundLeak | FindingId::RefusedLeak
                | FindingId::CloseWaitLeak
        ));
        prop_assert_eq!(leaks.count(), world.leaks.len());
    }

    /// A call that found no port is never passed over.
    #[test]
    fn no_failure_without_a_finding(world in worlds()) {
        let findings = world.diagnose();
        if !world.failures.is_empty() {
            prop_assert!(findings.iter().any(|one| one.severity == Severity::Critical));
        }
    }

    /// A pool of any size that leaves the second half alone, and TIME_WAIT below the threshold,
    /// accuse nobody.
    #[test]
    fn ordinary_use_is_no_finding(pool in 0..7_000_u64, waiting in 0..6_800_u64) {
        let mut space = space();
        space.routes = vec![route(&space, pool, waiting, 0)];
        let world = World { spaces: vec![space], ..World::default() };
        prop_assert_eq!(world.diagnose(), Vec::new());
    }

    /// No change takes ports away, but a range may be full of listeners.
    #[test]
    fn changes_are_for_the_better(world in worlds()) {
        let changes = world.with(|facts| what_if(facts, &[NETNS]));
        let now = changes[0].ports_per_destination;
        for change in changes.iter().filter(|one| !one.change.contains("port_range")) {
            prop_assert!(change.ports_per_destination >= now, "{change:?}");
            prop_assert!(change.free >= changes[0].free || change.free.is_none(), "{change:?}");
        }
    }
}
