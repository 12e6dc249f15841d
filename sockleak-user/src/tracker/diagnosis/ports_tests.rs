//! What is wrong with ports, for and against.

use std::net::{IpAddr, SocketAddr};

use super::testing::{OWN, TO, World, failure, route, space, with_route};
use super::*;
use crate::model::{Cause, HeldSocket, ListedSocket, Op, PortSettings, SocketClass, TcpState};
use crate::report::{Caller, ChecksReport, Holder, PortBreakdown, SearchReport};
use crate::tracker::testing::{NETNS, process, socket};
use crate::tracker::{Binder, NetnsSockets, PortHolders};

#[test]
fn time_wait_is_the_cause_and_the_failure_its_consequence() {
    let mut full = with_route(0, 28_232);
    assert_eq!(full.found(), [(FindingId::TimeWaitPressure, None, None)]);
    assert_eq!(full.first().severity, Severity::Critical);
    let remedy = full.first().remedy.join("\n");
    assert!(remedy.contains("tcp_tw_reuse=1 (now 2)"), "{remedy}");
    full.failures = vec![failure(
        12,
        Op::Connect,
        Cause::EphemeralExhausted,
        Some(TO),
    )];
    let cause = Some(FindingId::TimeWaitPressure);
    assert_eq!(
        full.found(),
        [
            (FindingId::TimeWaitPressure, None, None),
            (FindingId::EphemeralExhausted, None, cause)
        ]
    );
    // Who makes most connections while it is watched is to blame.
    let caller = |pid, connections| Caller {
        pid,
        comm: "worker".to_owned(),
        connections,
        time_waits: None,
    };
    full.failures[0].callers = vec![caller(3, 900), caller(4, 100)];
    assert_eq!(
        full.found()[0],
        (FindingId::TimeWaitPressure, Some(3), None)
    );
    full.failures[0].callers = vec![caller(3, 500), caller(4, 500)];
    assert_eq!(full.found()[0], (FindingId::TimeWaitPressure, None, None));
}

#[test]
fn some_time_wait_is_ordinary() {
    assert!(with_route(60, 7_000).diagnose().is_empty());
    assert!(with_route(0, 16_000).diagnose().is_empty());
    let much = with_route(100, 20_000).first();
    assert_eq!(
        (much.id, much.severity),
        (FindingId::TimeWaitPressure, Severity::Warning)
    );
    // What can be taken over is not in the way.
    let mut reused = with_route(0, 28_232);
    reused.spaces[0].routes[0].room.time_wait_reusable = Some(28_000);
    assert!(reused.diagnose().is_empty());
}

#[test]
fn the_second_half_is_the_parity_search() {
    assert!(with_route(13_000, 0).diagnose().is_empty());
    let still = with_route(17_116, 0);
    assert_eq!(still.found(), [(FindingId::ParitySearch, Some(7), None)]);
    let still = still.first();
    assert_eq!(still.severity, Severity::Warning);
    assert!(
        still.title.contains("14,116 of the 14,116"),
        "{}",
        still.title
    );

    // Who burns the time comes before who holds the ports.
    let mut hot = with_route(17_116, 0);
    hot.hot_loops.push(HotLoop {
        search: SearchReport {
            pid: 5,
            comm: "gateway".to_owned(),
            netns: NETNS,
            op: Op::Connect,
            dst: Some(TO.to_owned()),
            calls: 1000,
            candidates_avg: Some(14_200.0),
            second_parity: 1.0,
            cpu_share: Some(0.5),
            ..search_defaults()
        },
        container: None,
        hot_for_s: 5.0,
        meaning: "each call looks at 14200 ports".to_owned(),
        remedy: vec!["remedy of the hot loop".to_owned()],
    });
    let found = hot.first();
    assert_eq!((found.id, found.pid), (FindingId::ParitySearch, Some(5)));
    assert!(found.confidence > still.confidence);
    assert_eq!(found.remedy, ["remedy of the hot loop"]);

    // A range in which both halves are small walks nothing.
    let mut small = with_route(0, 0);
    small.spaces[0].size = 1_500;
    let all = small.spaces[0].clone();
    small.spaces[0].routes = vec![route(&all, 800, 0, 0)];
    assert!(small.diagnose().is_empty());
}

fn search_defaults() -> SearchReport {
    SearchReport {
        pid: 0,
        comm: String::new(),
        netns: 0,
        op: Op::Connect,
        dst: None,
        calls: 0,
        failed: 0,
        total_ns: None,
        p50_ns: None,
        p99_ns: None,
        max_ns: None,
        max_is_upper_bound: false,
        latency_is_upper_bound: false,
        candidates_avg: None,
        candidates_max: None,
        second_parity: 0.0,
        first_parity_latency: None,
        second_parity_latency: None,
        cpu_share: None,
        cpu_share_at_most: None,
        cpu_share_is_lower_bound: false,
        time_waits: 0,
    }
}

#[test]
fn a_pool_that_has_every_port_is_exhausted() {
    let world = with_route(28_232, 0);
    assert_eq!(
        world.found(),
        [(FindingId::EphemeralExhausted, Some(7), None)]
    );
}

#[test]
fn failures_that_left_no_trace_are_not_lost() {
    let mut world = with_route(60, 100);
    world.failures = vec![
        failure(12, Op::Connect, Cause::LocalRangeExhausted, Some(TO)),
        failure(12, Op::Connect, Cause::AddressNotLocal, Some(TO)),
    ];
    world.failures[0].held_by = vec![Holder {
        pid: 5,
        comm: "pool".to_owned(),
        count: 10,
    }];
    assert_eq!(
        world.found(),
        [(FindingId::EphemeralExhausted, Some(5), None)]
    );
    assert_eq!(world.first().remedy, ["remedy of the failure"]);
    // What it looked like when it failed tells more than what is left of it.
    world.failures[0].breakdown = Some(PortBreakdown {
        connected: 60,
        time_wait: 28_000,
        bound: 0,
        reserved: 0,
        other: 172,
        age_s: 3.0,
    });
    assert_eq!(world.first().id, FindingId::TimeWaitPressure);
}

fn binder(ports: u64, contested: u64, with: u32) -> Binder {
    Binder {
        ports,
        contested,
        with: (contested > 0)
            .then_some((process(with), contested))
            .into_iter()
            .collect(),
    }
}

fn bound_by(binders: Vec<(ProcessId, Binder)>, bound: u64) -> World {
    let contested = binders.iter().map(|(_, one)| one.contested).max();
    World {
        spaces: vec![Space {
            range: (40_000, 41_999),
            size: 2_000,
            bound,
            bind_free: Some(2_000 - bound),
            contested: contested.unwrap_or(0),
            binders,
            ..space()
        }],
        ..World::default()
    }
}

#[test]
fn bind_before_connect_is_blamed_on_who_does_it_on_a_large_scale() {
    let all = bound_by(vec![(process(7), binder(2_000, 0, 0))], 2_000);
    let cause = Some(FindingId::BindBeforeConnect);
    assert_eq!(
        all.found(),
        [
            (FindingId::BindBeforeConnect, Some(7), None),
            (FindingId::EphemeralExhausted, Some(7), cause)
        ]
    );
    assert!(
        all.first()
            .remedy
            .join("")
            .contains("IP_BIND_ADDRESS_NO_PORT")
    );
    let half = bound_by(vec![(process(7), binder(900, 0, 0))], 900).first();
    assert_eq!(half.severity, Severity::Warning);
    let few = bound_by(vec![(process(7), binder(200, 0, 0))], 200);
    assert!(few.diagnose().is_empty());
    // Failed calls make the difference.
    let mut failing = few;
    failing.failures = vec![failure(7, Op::Bind, Cause::EphemeralExhausted, None)];
    let found = failing.first();
    assert_eq!(
        (found.id, found.severity),
        (FindingId::BindBeforeConnect, Severity::Critical)
    );
}

#[test]
fn the_thief_is_who_has_bound_ports_of_its_own() {
    let parties = vec![
        (process(7), binder(1_000, 800, 5)),
        (process(5), binder(800, 800, 7)),
    ];
    let world = bound_by(parties, 1_000);
    assert_eq!(world.found(), [(FindingId::ReuseBoundPorts, Some(7), None)]);
    assert_eq!(world.first().confidence, 0.9);
    let equal = vec![
        (process(7), binder(800, 800, 5)),
        (process(5), binder(800, 800, 7)),
    ];
    let doubtful = bound_by(equal, 800).first();
    assert_eq!(
        (doubtful.id, doubtful.confidence),
        (FindingId::ReuseBoundPorts, 0.6)
    );
    assert!(!doubtful.coverage.is_empty());
    let few = bound_by(vec![(process(7), binder(20, 10, 5))], 20);
    assert!(few.diagnose().is_empty());
}

#[test]
fn ranges_that_are_too_small() {
    let ranged = |size, reserved, listening| World {
        spaces: vec![Space {
            size,
            reserved,
            bound: listening,
            bound_listening: listening,
            ..space()
        }],
        ..World::default()
    };
    for (size, reserved, listening) in [(28_232, 100, 30), (1_000, 0, 0), (28_232, 10_000, 9_000)] {
        let world = ranged(size, reserved, listening);
        assert!(world.diagnose().is_empty(), "{size} {reserved} {listening}");
    }
    for (size, reserved, listening) in [(999, 0, 0), (28_232, 15_000, 0), (28_232, 0, 20_000)] {
        let world = ranged(size, reserved, listening);
        assert_eq!(
            world.found(),
            [(FindingId::PortRangeMisconfigured, None, None)]
        );
        assert_eq!(world.first().severity, Severity::Info);
    }
}

#[test]
fn what_changes_come_to() {
    let mut world = bound_by(vec![(process(7), binder(1_900, 0, 0))], 1_950);
    world.spaces[0].bound_closed = 50;
    let all = world.spaces[0].clone();
    let towards = RouteUse {
        connected_bound: 250,
        ..route(&all, 0, 0, 1_950)
    };
    world.spaces[0].routes = vec![towards];
    let changes = world.with(|facts| what_if(facts, &[NETNS]));
    let of = |text: &str| {
        let one = changes.iter().find(|one| one.change.contains(text));
        let one = one.expect(text);
        (one.ports_per_destination, one.free, one.sustained_per_s)
    };
    assert_eq!(of("as it is"), (50, Some(50), 0.8));
    assert_eq!(of("CLOSED"), (100, Some(100), 1.7));
    // 250 of the 1,900 go to this destination and stay in its way.
    assert_eq!(of("IP_BIND_ADDRESS_NO_PORT"), (1_950, Some(1_700), 32.5));
    assert_eq!(of("10240 65535").0, 55_296);
    assert_eq!(of("tcp_tw_reuse=1").2, 50.0);
    assert_eq!(of("source address").0, 100);
}

#[test]
fn a_healthy_machine_is_told_so_with_figures() {
    let world = with_route(60, 7_000);
    let one = busiest(&world.spaces).expect("a destination");
    assert_eq!((one.used, one.size), (7_060, 28_232));
    let checks = ChecksReport {
        conntrack: Some([5_000, 262_144]),
        ..ChecksReport::default()
    };
    let text = healthy(Some(&one), 0, &checks, Some(5.04));
    assert_eq!(
        text,
        "the local TCP stack is healthy: 25 % of ports towards the busiest destination \
         (10.0.0.5:6379: 7,060 of 28,232), no failures in 5 s; if connections still fail, look at \
         SNAT / conntrack (5,000 of 262,144) / the remote side"
    );
    let full = ChecksReport {
        conntrack: Some([262_000, 262_144]),
        ..checks
    };
    assert!(healthy(None, 0, &full, None).contains("nearly full"));
}

/// Sockets of processes on ports of a namespace, as the kernel and an inventory list them.
fn found_in(held: &[(u32, u32, u16)]) -> Space {
    let settings = PortSettings {
        netns: NETNS,
        range: (40_000, 40_999),
        ..PortSettings::default()
    };
    let mut sockets = NetnsSockets::new(settings, None);
    let mut holders = PortHolders::default();
    let mut listed = std::collections::BTreeSet::new();
    for (inode, pid, port) in held {
        let local = SocketAddr::new(OWN.parse::<IpAddr>().unwrap(), *port);
        let peer = Some(SocketAddr::new([10, 0, 0, 5].into(), 1_000 + *inode as u16));
        holders.add(&HeldSocket {
            inode: (*inode).into(),
            local,
            peer,
            port_bound: Some(true),
            ..socket((*inode).into(), process(*pid), SocketClass::Established)
        });
        if listed.insert(*inode) {
            sockets.add(&ListedSocket {
                local,
                peer,
                state: TcpState::Established,
                is_time_wait: false,
                inode: *inode,
                expires_ms: None,
                v6only: None,
            });
        }
    }
    sockets.listed(true);
    Space::new(&sockets, &holders)
}

#[test]
fn a_port_is_contested_by_sockets_not_by_processes() {
    // 7 and 5 have sockets of their own on 40000; 8 and 9 share one on 40001 since a fork.
    let space = found_in(&[
        (1, 7, 40_000),
        (2, 5, 40_000),
        (3, 8, 40_001),
        (3, 9, 40_001),
    ]);
    assert_eq!((space.bound, space.contested), (2, 1));
    let of = |pid| {
        let known = space
            .binders
            .iter()
            .find(|(known, _)| *known == process(pid));
        known.map(|(_, one)| (one.ports, one.contested))
    };
    assert_eq!(of(7), Some((1, 1)));
    assert_eq!(of(5), Some((1, 1)));
    assert_eq!(of(8), Some((1, 0)));
    assert_eq!(of(9), Some((1, 0)));
}
