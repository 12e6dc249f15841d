//! Every rule from both sides: what must be accused and what must not.

use super::testing::{NETNS, S, Watched, born, process, socket};
use super::{Config, Rules};
use crate::model::{HeldSocket, NamespacePorts, SocketClass};
use crate::report::{After, LeakClass, LimitName};

use SocketClass::{Bound, CloseWait, Established, Listen, Unbound};

/// `count` sockets of process `pid`, which created all of them at `at_s`.
fn many(pid: u32, class: SocketClass, count: u64, at_s: u64) -> Vec<HeldSocket> {
    let first = u64::from(pid) << 32;
    (0..count)
        .map(|n| {
            born(
                socket(first + n, process(pid), class),
                process(pid),
                at_s * S,
            )
        })
        .collect()
}

/// The same sockets, held by another process as well.
fn also_held(sockets: &[HeldSocket], pid: u32) -> Vec<HeldSocket> {
    let mut copies = sockets.to_vec();
    for socket in &mut copies {
        socket.holder = process(pid);
    }
    copies
}

fn range(lo: u16, hi: u16) -> NamespacePorts {
    NamespacePorts {
        netns: NETNS,
        range: (lo, hi),
        ..NamespacePorts::default()
    }
}

#[test]
fn a_healthy_server_is_not_accused() {
    let mut watched = Watched::new();
    watched.namespaces.push(range(32_768, 60_999));
    watched.name(process(1), "nginx").fd_limit = Some(1_048_576);
    for at_s in 0..60 {
        let now = 100 + at_s * 5;
        // A pool, idle and stable; listeners that workers share; churn that is always young;
        // connections; a handful of forgotten sockets as any long-lived process has.
        let mut all = many(1, Unbound, 200, 50);
        all.extend(many(2, Listen, 64, 10));
        for worker in 3..40 {
            all.extend(also_held(&many(2, Listen, 64, 10), worker));
        }
        all.extend((0..900).map(|n| {
            let n = (7 << 32) + at_s * 1000 + n;
            born(socket(n, process(5), Unbound), process(5), now * S - S)
        }));
        all.extend(many(6, Established, 5000, 20));
        watched.inventory(now, all);
        assert_eq!(watched.leaks(), [], "at {now} s");
    }
}

#[test]
fn a_thousand_idle_sockets_are_a_leak_and_one_less_is_a_pool() {
    for (count, expected) in [(999, 0), (1000, 1)] {
        let mut watched = Watched::new();
        watched.inventory(100, many(1, Unbound, count, 10));
        watched.inventory(110, many(1, Unbound, count, 10));
        assert_eq!(watched.leaks().len(), expected, "{count}");
    }
}

#[test]
fn a_young_process_is_not_accused_before_its_sockets_are_old() {
    let mut watched = Watched::new();
    watched.inventory(101, many(1, Unbound, 20_000, 100));
    watched.inventory(129, many(1, Unbound, 20_000, 100));
    assert_eq!(watched.leaks(), []);
    watched.inventory(130, many(1, Unbound, 20_000, 100));
    let leaks = watched.leaks();
    assert_eq!(leaks.len(), 1);
    assert_eq!(leaks[0].count, 20_000);
    assert_eq!(leaks[0].oldest_age_s, Some(30.0));
    assert!(!leaks[0].age_is_lower_bound);
}

#[test]
fn a_slow_leak_is_accused_within_a_minute() {
    let mut watched = Watched::new();
    let mut accused_at = None;
    for at_s in 0..120 {
        let leaked = (0..at_s).map(|n| born(socket(n, process(1), Unbound), process(1), n * S));
        watched.inventory(at_s, leaked);
        if !watched.leaks().is_empty() {
            accused_at.get_or_insert(at_s);
        }
    }
    assert!(accused_at.is_some_and(|at| at <= 60), "{accused_at:?}");
    let leaks = watched.leaks();
    let rate = leaks[0].rate_per_min.unwrap_or(0.0);
    assert!((57.0..=63.0).contains(&rate), "{rate}");
    assert_eq!(leaks[0].count, 90);
}

#[test]
fn fewer_than_eight_are_never_a_leak() {
    for (count, expected) in [(7, 0), (8, 1)] {
        let mut watched = Watched::new();
        for at_s in 0..200 {
            let leaked = (0..count)
                .filter(|n| 20 * n < at_s)
                .map(|n| born(socket(n, process(1), Unbound), process(1), 20 * n * S));
            watched.inventory(at_s, leaked);
            if at_s == 175 {
                assert_eq!(watched.leaks().len(), expected, "{count}");
            }
        }
    }
}

#[test]
fn filling_a_pool_is_no_leak_however_often_one_looks() {
    for every in [1, 3, 10] {
        let mut watched = Watched::new();
        for at_s in (0u64..400).step_by(every) {
            // 500 sockets within 20 s, then no more.
            let count = (at_s.saturating_sub(100) * 25).min(500);
            let pool = (0..count).map(|n| {
                born(
                    socket(n, process(1), Bound),
                    process(1),
                    100 * S + n * S / 25,
                )
            });
            watched.inventory(at_s, pool);
            assert_eq!(watched.leaks(), [], "at {at_s} s, every {every} s");
        }
    }
}

#[test]
fn a_leak_that_has_ended_while_small_is_no_longer_accused() {
    let mut watched = Watched::new();
    for at_s in 0..300 {
        let leaked =
            (0..at_s.min(100)).map(|n| born(socket(n, process(1), Unbound), process(1), n * S));
        watched.inventory(at_s, leaked);
        let accused = !watched.leaks().is_empty();
        if (60..=100).contains(&at_s) {
            assert!(accused, "at {at_s} s");
        }
        if at_s > 150 {
            assert!(!accused, "at {at_s} s");
        }
    }
}

#[test]
fn a_slow_leak_is_seen_among_noise() {
    let mut watched = Watched::new();
    for at_s in 0..200u64 {
        let leaked =
            (0..at_s / 2).map(|n| born(socket(n, process(1), Unbound), process(1), 2 * n * S));
        // Up to ten sockets at any moment that are between socket() and connect().
        let young = super::hash::mix(0, at_s) % 10;
        let passing = (0..young).map(|n| {
            let n = (1 << 40) + at_s * 100 + n;
            born(socket(n, process(1), Unbound), process(1), at_s * S)
        });
        watched.inventory(at_s, leaked.chain(passing));
        if at_s > 120 {
            assert_eq!(watched.leaks().len(), 1, "at {at_s} s");
        }
    }
}

#[test]
fn a_burst_that_goes_away_leaves_no_accusation() {
    let mut watched = Watched::new();
    watched.inventory(10, []);
    watched.inventory(20, many(1, Unbound, 5000, 15));
    watched.inventory(30, many(1, Unbound, 5000, 15));
    watched.inventory(40, []);
    assert_eq!(watched.leaks(), []);
}

#[test]
fn connections_reset_all_at_once_are_not_old_at_once() {
    let mut watched = Watched::new();
    watched.inventory(1000, many(1, Established, 5000, 10));
    // All reset by the peer: CLOSED, 1010 s after their creation.
    watched.inventory(1010, many(1, Unbound, 5000, 10));
    assert_eq!(watched.leaks(), []);
    // Never closed, though.
    watched.inventory(1020, many(1, Unbound, 5000, 10));
    assert_eq!(watched.leaks(), []);
    watched.inventory(1040, many(1, Unbound, 5000, 10));
    assert_eq!(watched.leaks().len(), 1);
}

#[test]
fn without_births_age_counts_from_the_first_look() {
    let old = || (0..2000).map(|n| socket(n, process(1), Unbound));
    let mut watched = Watched::new();
    watched.inventory(1000, old());
    watched.inventory(1029, old());
    assert_eq!(watched.leaks(), []);
    watched.inventory(1030, old());
    let leaks = watched.leaks();
    assert_eq!(leaks.len(), 1);
    assert!(leaks[0].age_is_lower_bound);
    assert_eq!(leaks[0].oldest_age_s, Some(30.0));
    assert!(
        leaks[0].evidence[0].contains("at least 30 s"),
        "{:?}",
        leaks[0].evidence
    );
    assert!(
        leaks[0].coverage[0].contains("2,000 of 2,000"),
        "{:?}",
        leaks[0].coverage
    );
}

#[test]
fn a_quarter_of_the_descriptors_is_a_leak() {
    for (count, limit, expected) in [(255, 1024, 0), (256, 1024, 1), (15, 20, 0), (16, 20, 1)] {
        let mut watched = Watched::new();
        let info = watched.name(process(1), "java");
        info.fd_limit = Some(limit);
        info.fd_used = Some(count + 2);
        for at_s in [100, 110] {
            watched.inventory(at_s, many(1, Unbound, count, 10));
        }
        let leaks = watched.leaks();
        assert_eq!(leaks.len(), expected, "{count} of {limit}");
        if let Some(leak) = leaks.first() {
            let reached = leak
                .limit
                .as_ref()
                .map(|l| (l.name, l.value, l.used, l.eta_s));
            let used = Some(count + 2);
            assert_eq!(reached, Some((LimitName::FdLimit, limit, used, None)));
        }
    }
}

#[test]
fn a_quarter_of_the_port_range_is_a_leak() {
    // Ports start at 10000 in these tests.
    for (count, expected) in [(24, 0), (25, 1)] {
        let mut watched = Watched::new();
        watched.namespaces.push(range(10_000, 10_099));
        watched.inventory(
            100,
            (0..count).map(|n| born(socket(n, process(1), Bound), process(1), S)),
        );
        assert_eq!(watched.leaks().len(), expected, "{count}");
    }
    // The same ports in the range of nobody knows which namespace say nothing.
    let mut watched = Watched::new();
    watched.inventory(
        100,
        (0..25).map(|n| born(socket(n, process(1), Bound), process(1), S)),
    );
    assert_eq!(watched.leaks(), []);
}

#[test]
fn the_incident_of_the_forty_thousand_closed_sockets() {
    let mut watched = Watched::new();
    watched.namespaces.push(range(50_000, 62_000));
    let info = watched.name(process(4684), "java");
    (info.fd_used, info.fd_limit) = (Some(41_100), Some(65_536));
    let mut all = many(4684, Unbound, 28_983, 10);
    for port in 49_990..=62_000u16 {
        let mut bound = socket(u64::from(port), process(4684), Bound);
        bound.local.set_port(port);
        all.push(born(bound, process(4684), 20 * S));
    }
    for at_s in [60, 70] {
        watched.inventory(at_s, all.clone());
    }
    let leaks = watched.leaks();
    let [unbound, bound] = leaks.as_slice() else {
        panic!("two groups expected: {leaks:?}");
    };
    assert_eq!((unbound.pid, unbound.comm.as_str()), (4684, "java"));
    assert_eq!(
        (unbound.class, unbound.count, unbound.after),
        (LeakClass::Unbound, 28_983, After::Unknown)
    );
    assert_eq!(unbound.holders, [4684]);
    assert_eq!(
        unbound.evidence,
        [
            "28,983 CLOSED sockets without a local port, idle for 30 s or longer; the longest for 60 s",
            "28,983 are 44 % of the 65,536 descriptors that java[4684] may have open; 41,100 are in use",
        ]
    );
    assert_eq!(
        (bound.class, bound.count, bound.after),
        (LeakClass::Bound, 12_011, After::BoundOnly)
    );
    assert_eq!(
        bound.evidence,
        [
            "12,011 CLOSED sockets that hold a local port, idle for 30 s or longer; the longest for 50 s",
            "12,001 ports of the range 50000-62000 (100 %) are held by them in network namespace \
             4026531840; 0 of 12,001 are free; 10 ports outside it as well: 49990, 49991, 49992, \
             49993, 49994 and 5 more",
        ]
    );
    let limit = bound.limit.as_ref().map(|l| (l.name, l.value, l.eta_s));
    assert_eq!(limit, Some((LimitName::PortRange, 12_001, Some(0.0))));
    assert!(
        bound
            .remedy
            .iter()
            .any(|line| line.contains("IP_BIND_ADDRESS_NO_PORT"))
    );
    assert!(bound.confidence >= 0.9, "{}", bound.confidence);
}

#[test]
fn sockets_shared_by_fork_are_one_accusation() {
    let own = many(10, Unbound, 1500, 10);
    let mut watched = Watched::new();
    watched.name(process(10), "parent");
    watched.name(process(11), "child");
    let mut all = own.clone();
    for child in 11..15 {
        all.extend(also_held(&own, child));
    }
    watched.inventory(60, all.clone());
    let leaks = watched.leaks();
    assert_eq!(leaks.len(), 1);
    assert_eq!((leaks[0].pid, leaks[0].count), (10, 1500));
    assert_eq!(leaks[0].holders, [10, 11, 12, 13, 14]);
    assert!(leaks[0].held_by.iter().all(|holder| holder.count == 1500));
    assert!(
        leaks[0]
            .evidence
            .iter()
            .any(|line| line.starts_with("parent[10] shares them")),
        "{:?}",
        leaks[0].evidence
    );
    assert!(
        leaks[0]
            .remedy
            .iter()
            .any(|line| line.contains("SOCK_CLOEXEC"))
    );

    // The creator has exited; its name and its responsibility stay.
    watched.infos.remove(&process(10));
    watched.infos.entry(process(10)).or_default().exited = true;
    let orphans: Vec<_> = all
        .into_iter()
        .filter(|s| s.holder != process(10))
        .collect();
    watched.inventory(70, orphans);
    let leaks = watched.leaks();
    assert_eq!(
        (leaks.len(), leaks[0].pid, leaks[0].comm.as_str()),
        (1, 10, "parent")
    );
    assert_eq!(leaks[0].holders, [11, 12, 13, 14]);
    assert!(
        leaks[0].evidence.iter().any(|line| {
            line == "parent[10] created them and has exited; they are open in child[11] (1,500), \
                     pid 12 (1,500), pid 13 (1,500), pid 14 (1,500)"
        }),
        "{:?}",
        leaks[0].evidence
    );
}

#[test]
fn without_a_known_creator_the_oldest_holder_answers() {
    let own: Vec<_> = (0..1500).map(|n| socket(n, process(20), Unbound)).collect();
    let mut watched = Watched::new();
    let mut all = also_held(&own, 33);
    all.extend(own.clone());
    all.extend(also_held(&own, 27));
    watched.inventory(100, all.clone());
    watched.inventory(140, all);
    let leaks = watched.leaks();
    assert_eq!(leaks.len(), 1);
    assert_eq!(
        (leaks[0].pid, leaks[0].holders.as_slice()),
        (20, &[20, 27, 33][..])
    );
}

#[test]
fn sockets_passed_on_are_their_creators_and_say_who_has_them() {
    let mut watched = Watched::new();
    watched.inventory(60, also_held(&many(10, Unbound, 1500, 10), 99));
    let leaks = watched.leaks();
    assert_eq!((leaks[0].pid, leaks[0].holders.as_slice()), (10, &[99][..]));
    assert!(
        leaks[0]
            .evidence
            .iter()
            .any(|l| l.contains("has none of them open any more"))
    );
}

#[test]
fn close_wait_that_grows_is_a_leak_and_a_stable_handful_is_not() {
    let waiting = |count| (0..count).map(|n| socket(n, process(1), CloseWait));
    let mut growing = Watched::new();
    let mut stable = Watched::new();
    for at_s in (0..120).step_by(5) {
        growing.inventory(at_s, waiting(at_s * 3));
        stable.inventory(at_s, waiting(300));
    }
    let leaks = growing.leaks();
    assert_eq!(leaks.len(), 1);
    assert_eq!(leaks[0].class, LeakClass::CloseWait);
    assert!(leaks[0].age_is_lower_bound);
    assert_eq!(stable.leaks(), []);
}

#[test]
fn the_forecast_meets_the_nearest_limit() {
    let mut watched = Watched::new();
    watched.namespaces.push(range(10_000, 50_000));
    for at_s in (0..=100).step_by(2) {
        let info = watched.name(process(1), "leaky");
        (info.fd_used, info.fd_limit) = (Some(at_s * 10 + 24), Some(4096));
        let leaked =
            (0..at_s * 10).map(|n| born(socket(n, process(1), Bound), process(1), n * S / 10));
        watched.inventory(at_s, leaked);
    }
    let leaks = watched.leaks();
    let limit = leaks[0].limit.as_ref().expect("a limit is in sight");
    // 10 per second; 4096 - 1024 descriptors are left, and 39,001 ports.
    assert_eq!(
        (limit.name, limit.value, limit.used),
        (LimitName::FdLimit, 4096, Some(1024))
    );
    let eta = limit.eta_s.unwrap_or(0.0);
    assert!((300.0..=315.0).contains(&eta), "{eta}");

    watched.name(process(1), "leaky").fd_limit = Some(1_000_000_000);
    let limit = watched.leaks()[0]
        .limit
        .clone()
        .expect("ports are in sight");
    assert_eq!(limit.name, LimitName::PortRange);
    let eta = limit.eta_s.unwrap_or(0.0);
    assert!((3860.0..=3940.0).contains(&eta), "{eta}");
}

#[test]
fn descriptors_counted_long_ago_are_at_least_as_many_as_sockets() {
    let mut watched = Watched::new();
    let info = watched.name(process(1), "leaky");
    (info.fd_used, info.fd_limit) = (Some(20), Some(1000));
    watched.inventory(60, many(1, Unbound, 1000, 10));
    let limit = watched.leaks().remove(0).limit.expect("it is reached");
    assert_eq!(
        (limit.name, limit.used, limit.eta_s),
        (LimitName::FdLimit, Some(1000), Some(0.0))
    );
}

#[test]
fn a_limit_years_away_is_not_in_sight() {
    let mut watched = Watched::new();
    watched.name(process(1), "slow").fd_limit = Some(1 << 40);
    watched.name(process(1), "slow").fd_used = Some(100);
    for at_s in 0..100 {
        let leaked = (0..at_s).map(|n| born(socket(n, process(1), Unbound), process(1), n * S));
        watched.inventory(at_s, leaked);
    }
    let leaks = watched.leaks();
    assert_eq!((leaks.len(), &leaks[0].limit), (1, &None));
}

#[test]
fn what_was_not_visible_lowers_the_confidence_and_is_said() {
    let confidence = |complete: bool, lost: u64| {
        let mut watched = Watched::new();
        (watched.complete, watched.lost) = (complete, lost);
        watched.inventory(60, many(1, Unbound, 2000, 10));
        watched.inventory(70, many(1, Unbound, 2000, 10));
        let leak = watched.leaks().remove(0);
        let says = |what: &str| leak.coverage.iter().any(|line| line.contains(what));
        assert_eq!(says("incomplete"), !complete);
        assert_eq!(says("lost"), lost > 0);
        leak.confidence
    };
    assert!(confidence(true, 0) > confidence(false, 0));
    assert!(confidence(true, 0) > confidence(true, 1));
    assert!(confidence(false, 0) > confidence(false, 3));
}

#[test]
fn a_full_memory_of_idle_sockets_is_said_and_accuses_less_not_more() {
    let config = Config {
        idle_sockets: 1200,
        ..Config::default()
    };
    let old = || (0..3000).map(|n| socket(n, process(1), Unbound));
    let mut watched = Watched::with(config);
    watched.inventory(100, old());
    watched.inventory(140, old());
    let leaks = watched.leaks();
    assert_eq!(leaks[0].count, 1200);
    assert!(
        leaks[0]
            .coverage
            .iter()
            .any(|line| line.starts_with("1,800 further"))
    );
}

#[test]
fn rules_can_be_set() {
    let rules = Rules {
        large: 50,
        ..Rules::default()
    };
    let mut watched = Watched::with(Config {
        older_ns: S,
        rules,
        ..Config::default()
    });
    watched.inventory(3, many(1, Unbound, 50, 1));
    assert_eq!(watched.leaks().len(), 1);
}
