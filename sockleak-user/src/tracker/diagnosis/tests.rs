//! Leaks and limits as findings, for and against.

use super::testing::{TO, World, failure, leak, space};
use super::*;
use crate::model::{Cause, Op, ProcessInfo};
use crate::report::{After, Holder, LeakClass, Limit, LimitName, OrphanPeer};
use crate::tracker::testing::{NETNS, process};

#[test]
fn nothing_comes_of_nothing() {
    assert!(World::default().diagnose().is_empty());
    let idle = World {
        spaces: vec![space()],
        ..World::default()
    };
    assert!(idle.diagnose().is_empty());
}

#[test]
fn leaks_are_named_by_what_had_happened() {
    use After::*;
    for (class, fates, id) in [
        (
            LeakClass::Unbound,
            &[(NeverUsed, 900)][..],
            FindingId::ClosedLeak,
        ),
        (LeakClass::Unbound, &[(Unknown, 900)], FindingId::ClosedLeak),
        (
            LeakClass::Unbound,
            &[(ConnectRefused, 900)],
            FindingId::RefusedLeak,
        ),
        (
            LeakClass::Unbound,
            &[(ConnectTimedOut, 900)],
            FindingId::RefusedLeak,
        ),
        // Old ones only show that connect() failed, and of the oldest nothing is known.
        (
            LeakClass::Unbound,
            &[
                (Unknown, 600),
                (ConnectFailed, 200),
                (NeverUsed, 150),
                (ConnectRefused, 50),
            ],
            FindingId::RefusedLeak,
        ),
        (
            LeakClass::Unbound,
            &[(NeverUsed, 600), (ConnectRefused, 300)],
            FindingId::ClosedLeak,
        ),
        (
            LeakClass::Unbound,
            &[(PeerReset, 900)],
            FindingId::ClosedLeak,
        ),
        (LeakClass::Bound, &[(BoundOnly, 900)], FindingId::BoundLeak),
        (
            LeakClass::CloseWait,
            &[(PeerClosed, 900)],
            FindingId::CloseWaitLeak,
        ),
    ] {
        let world = World {
            leaks: vec![leak(7, class, 900, fates)],
            spaces: vec![space()],
            ..World::default()
        };
        assert_eq!(world.found(), [(id, Some(7), None)], "{fates:?}");
        let finding = world.first();
        assert_eq!(finding.severity, Severity::Warning);
        assert!(
            finding
                .evidence
                .contains(&"evidence of the verdict".to_owned())
        );
        assert_eq!(finding.remedy, ["remedy of the verdict"]);
    }
    let refused = World {
        leaks: vec![leak(
            7,
            LeakClass::Unbound,
            900,
            &[(ConnectFailed, 800), (ConnectRefused, 100)],
        )],
        ..World::default()
    };
    let title = refused.first().title;
    assert!(
        title.contains("is refused") && title.contains(TO),
        "{title}"
    );
}

#[test]
fn a_leak_is_critical_when_its_limit_is_near() {
    let limited = |used, eta_s| {
        let mut one = leak(7, LeakClass::Unbound, 900, &[]);
        one.limit = Some(Limit {
            name: LimitName::FdLimit,
            value: 1024,
            used: Some(used),
            eta_s,
        });
        let world = World {
            leaks: vec![one],
            ..World::default()
        };
        world.first().severity
    };
    assert_eq!(limited(500, None), Severity::Warning);
    assert_eq!(limited(500, Some(90_000.0)), Severity::Warning);
    assert_eq!(limited(500, Some(3_000.0)), Severity::Critical);
    assert_eq!(limited(1000, None), Severity::Critical);
}

/// 12,001 ports of CLOSED sockets of process 7.
fn taken() -> World {
    World {
        leaks: vec![
            leak(7, LeakClass::Unbound, 28_983, &[(After::Unknown, 28_983)]),
            leak(7, LeakClass::Bound, 12_001, &[(After::BoundOnly, 12_001)]),
            leak(9, LeakClass::Unbound, 40_000, &[(After::NeverUsed, 40_000)]),
        ],
        spaces: vec![Space {
            range: (50_000, 62_000),
            size: 12_001,
            bound: 12_001,
            bound_closed: 12_001,
            bind_free: Some(0),
            closed: vec![(process(7), 12_001)],
            ..space()
        }],
        failures: vec![failure(
            12,
            Op::Connect,
            Cause::EphemeralExhausted,
            Some(TO),
        )],
        ..World::default()
    }
}

#[test]
fn the_bound_leak_comes_before_what_follows_from_it() {
    let world = taken();
    assert_eq!(
        world.found(),
        [
            (FindingId::BoundLeak, Some(7), None),
            (
                FindingId::EphemeralExhausted,
                Some(7),
                Some(FindingId::BoundLeak)
            ),
            (FindingId::ClosedLeak, Some(9), None),
            (FindingId::ClosedLeak, Some(7), Some(FindingId::BoundLeak)),
        ]
    );
    let findings = world.diagnose();
    assert!(findings[0].title.contains("all ports of 50000-62000"));
    let quoted = findings[1].evidence.join("\n");
    assert!(
        quoted.contains("victim[12]: 34 connect() calls to 10.0.0.5:6379"),
        "{quoted}"
    );
}

#[test]
fn a_leak_does_not_take_the_blame_for_ports_that_others_hold() {
    let mut world = taken();
    world.spaces[0].closed = vec![(process(8), 11_000), (process(7), 1_001)];
    let found = world.found();
    assert!(
        found.contains(&(FindingId::EphemeralExhausted, Some(8), None)),
        "{found:?}"
    );
    assert!(
        found.contains(&(FindingId::ClosedLeak, Some(7), None)),
        "{found:?}"
    );
    // And while some ports are left nothing is exhausted.
    let mut world = taken();
    world.spaces[0].bound = 12_000;
    world.failures.clear();
    let found = world.found();
    assert!(
        !found
            .iter()
            .any(|one| one.0 == FindingId::EphemeralExhausted),
        "{found:?}"
    );
}

fn process_with(used: u64, limit: u64) -> World {
    let info = ProcessInfo {
        comm: "app".to_owned(),
        fd_used: Some(used),
        fd_limit: Some(limit),
        ..ProcessInfo::default()
    };
    World {
        infos: [(process(7), info)].into(),
        ..World::default()
    }
}

#[test]
fn descriptors() {
    assert!(process_with(800, 1024).diagnose().is_empty());
    assert!(
        process_with(30, 32).diagnose().is_empty(),
        "small by intent"
    );
    let mut near = process_with(960, 1024);
    assert_eq!(near.found(), [(FindingId::FdLimitNear, Some(7), None)]);
    assert_eq!(near.first().severity, Severity::Warning);
    assert!(near.first().remedy.join("").contains("LimitNOFILE=2048"));
    near.leaks = vec![leak(
        7,
        LeakClass::Unbound,
        900,
        &[(After::ConnectFailed, 900)],
    )];
    let cause = Some(FindingId::RefusedLeak);
    assert_eq!(
        near.found(),
        [
            (FindingId::RefusedLeak, Some(7), None),
            (FindingId::FdLimitNear, Some(7), cause)
        ]
    );
    assert_eq!(
        process_with(1010, 1024).first().severity,
        Severity::Critical
    );
}

#[test]
fn files_of_the_host() {
    let files = |used| World {
        files: Some(FileLimits { used, max: 100_000 }),
        ..World::default()
    };
    assert!(files(80_000).diagnose().is_empty());
    assert_eq!(
        files(95_000).found(),
        [(FindingId::FileMaxNear, None, None)]
    );
    let mut leaking = files(99_000);
    leaking.leaks = vec![leak(7, LeakClass::Unbound, 60_000, &[])];
    let cause = Some(FindingId::ClosedLeak);
    assert!(
        leaking
            .found()
            .contains(&(FindingId::FileMaxNear, None, cause))
    );
}

#[test]
fn memory_of_tcp() {
    let pages = |mem_pages| World {
        tcp_mem: Some([1_000, 2_000, 3_000]),
        mem_pages,
        ..World::default()
    };
    assert!(pages(1_900).diagnose().is_empty());
    assert_eq!(
        pages(2_100).found(),
        [(FindingId::TcpMemPressure, None, None)]
    );
    assert_eq!(pages(2_100).first().severity, Severity::Warning);
    assert_eq!(pages(2_800).first().severity, Severity::Critical);
    let mut unread = pages(2_100);
    unread.leaks = vec![leak(
        7,
        LeakClass::CloseWait,
        900,
        &[(After::PeerClosed, 900)],
    )];
    let cause = Some(FindingId::CloseWaitLeak);
    assert_eq!(unread.found()[1], (FindingId::TcpMemPressure, None, cause));
    let unknown = World {
        mem_pages: 1 << 40,
        ..World::default()
    };
    assert!(unknown.diagnose().is_empty());
}

fn orphaned(count: u64, window_closed: u64) -> World {
    World {
        orphans: Some(OrphansReport {
            count,
            max: Some(131_072),
            effective_max: Some(65_536),
            listed: count,
            with_unsent: window_closed,
            window_closed,
            peers: vec![OrphanPeer {
                netns: NETNS,
                peer: TO.to_owned(),
                local: None,
                count,
                unsent_bytes: 0,
            }],
            processes: vec![Holder {
                pid: 7,
                comm: "httpdns".to_owned(),
                count: 20,
            }],
            ..OrphansReport::default()
        }),
        ..World::default()
    }
}

#[test]
fn orphans_of_a_busy_front_end_are_ordinary() {
    assert!(orphaned(2_000, 10).diagnose().is_empty());
    let stuck = orphaned(600, 600);
    assert_eq!(stuck.found(), [(FindingId::OrphanPressure, Some(7), None)]);
    let mut unseen = orphaned(600, 600);
    if let Some(orphans) = &mut unseen.orphans {
        orphans.processes.clear();
    }
    assert_eq!(unseen.found(), [(FindingId::OrphanPressure, None, None)]);
    let near = orphaned(20_000, 0);
    assert_eq!(near.first().severity, Severity::Warning);
    let mut reset = orphaned(300, 0);
    if let Some(orphans) = &mut reset.orphans {
        orphans.aborted_on_memory = Some(3);
    }
    assert_eq!(reset.first().severity, Severity::Critical);
}
