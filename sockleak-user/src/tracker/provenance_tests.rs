//! What a leak says about where its sockets come from, and who is looked at closer.

use std::collections::HashMap;

use super::provenance::{NamedStack, NamedStacks, Pasts};
use super::testing::{S, Watched, born, process, socket};
use super::{Config, Surroundings, suspects};
use crate::model::{Ending, HeldSocket, Past, ProcessId, SocketClass, Stack, TcpState};
use crate::report::{After, Leak, LimitName};

const REFUSED: u32 = 77;
const RESET: u32 = 78;
const LOST: u32 = 79;

fn endings() -> HashMap<u32, Ending> {
    let ending = |errno, state| Ending {
        peer: Some("10.0.0.9:2280".parse().unwrap()),
        errno,
        state,
    };
    HashMap::from([
        (REFUSED, ending(111, TcpState::SynSent)),
        (RESET, ending(104, TcpState::Established)),
    ])
}

fn leaks(watched: &Watched, pasts: Pasts<'_>) -> Vec<Leak> {
    watched.tracker.leaks(&Surroundings {
        infos: &watched.infos,
        namespaces: &watched.namespaces,
        files: None,
        tcp_mem: None,
        lost: 0,
        pasts,
        coverage: &[],
    })
}

/// Nineteen seconds in which a process forgets `per_s` sockets a second; `--older` is 5 s.
fn forgetful(who: ProcessId, per_s: u64, past: impl Fn(u64) -> Past) -> Watched {
    let mut watched = Watched::with(Config {
        older_ns: 5 * S,
        ..Config::default()
    });
    let mut all = Vec::new();
    watched.inventory(1, all.clone());
    for second in 1..20 {
        for _ in 0..per_s {
            let n = all.len() as u64;
            let at_ns = second * S + S / 2;
            let mut one = born(socket(n, who, SocketClass::Unbound), who, at_ns);
            one.past = past(n);
            all.push(one);
        }
        watched.inventory(second + 1, all.clone());
    }
    watched
}

fn past(ending: u32, stack: u32) -> Past {
    Past {
        tried: ending != 0,
        stack: match stack {
            0 => Stack::None,
            id => Stack::Id(id),
        },
        ending,
    }
}

#[test]
fn fates_and_stacks_are_told_apart_and_counted() {
    let who = process(7);
    // Of every four, three were refused, two of those with a stack; one was never used.
    let watched = forgetful(who, 8, |n| match n % 4 {
        0 | 1 => past(REFUSED, 5),
        2 => past(REFUSED, 0),
        _ => past(0, 6),
    });
    let endings = endings();
    let frames = vec!["socket".to_owned(), "ChannelManager::connect".to_owned()];
    let named = NamedStack {
        frames: frames.clone(),
        unnamed: None,
    };
    let stacks = NamedStacks::from([((who, 5), named)]);
    let found = leaks(
        &watched,
        Pasts {
            endings: Some(&endings),
            connects: true,
            stacks: Some(&stacks),
        },
    );
    let leak = &found[0];
    // Those of the last five seconds are too young.
    assert_eq!(leak.count, 14 * 8);
    assert_eq!(leak.after, After::ConnectRefused);
    assert_eq!(leak.errno.as_deref(), Some("ECONNREFUSED"));
    assert_eq!(leak.peer.as_deref(), Some("10.0.0.9:2280"));
    assert_eq!(leak.stack, Some(frames.clone()));
    assert_eq!(leak.stacked, 14 * 6);
    let first = &leak.origins[0];
    assert_eq!((first.count, &first.stack), (14 * 4, &Some(frames)));
    let rate = first.rate_per_min.unwrap();
    assert!((rate - 240.0).abs() < 12.0, "4 a second, reported {rate}");
    let mut others = leak.origins.iter();
    let unused = others.find(|one| one.after == After::NeverUsed).unwrap();
    assert_eq!(unused.count, 14 * 2);
    assert!(unused.stack.is_none() && unused.unnamed.is_some());
    let counts: u64 = leak.origins.iter().map(|one| one.count).sum();
    assert_eq!(counts + leak.other_origins, leak.count);
    let refused = format!("{} of them: connect() was refused", 14 * 6);
    let said = |line: &String| line.starts_with(&refused);
    assert!(leak.evidence.iter().any(said), "{:?}", leak.evidence);
    assert!((leak.median_age_s.unwrap() - 12.0).abs() < 1.01);
}

#[test]
fn nothing_is_claimed_that_was_not_seen() {
    let after = |ending, tried, endings: Option<&HashMap<u32, Ending>>, connects| {
        let watched = forgetful(process(7), 2, |_| Past {
            tried,
            ending,
            ..Past::default()
        });
        let pasts = Pasts {
            endings,
            connects,
            stacks: None,
        };
        leaks(&watched, pasts)[0].after
    };
    let known = endings();
    let refused = after(REFUSED, true, Some(&known), true);
    assert_eq!(refused, After::ConnectRefused);
    assert_eq!(after(RESET, true, Some(&known), true), After::PeerReset);
    let lost = after(LOST, true, Some(&known), true);
    assert_eq!(lost, After::Unknown, "nobody knows that ending");
    assert_eq!(after(0, true, Some(&known), true), After::ConnectionEnded);
    assert_eq!(after(0, false, Some(&known), true), After::NeverUsed);
    let unseen = after(0, false, Some(&known), false);
    assert_eq!(unseen, After::Unknown, "connect() is not seen");
    assert_eq!(after(0, false, None, true), After::Unknown);
}

#[test]
fn more_origins_than_are_listed_are_counted() {
    let watched = forgetful(process(7), 40, |n| past(0, 100 + n as u32 % 20));
    let endings = endings();
    let stacks: NamedStacks = (0..20)
        .map(|n| {
            let named = NamedStack {
                frames: vec![format!("f{n}")],
                unnamed: None,
            };
            ((process(7), 100 + n), named)
        })
        .collect();
    let pasts = Pasts {
        endings: Some(&endings),
        connects: true,
        stacks: Some(&stacks),
    };
    let leak = &leaks(&watched, pasts)[0];
    let listed: u64 = leak.origins.iter().map(|one| one.count).sum();
    assert_eq!(leak.origins.len(), 5);
    assert_eq!(listed + leak.other_origins, leak.count);
    assert_eq!(leak.stacked, leak.count);
}

#[test]
fn the_slow_leak_is_suspected_and_the_busy_client_is_not() {
    let (slow, busy) = (process(7), process(8));
    let mut watched = Watched::new();
    let mut forgotten = Vec::new();
    for second in 1..12 {
        let one = socket(second, slow, SocketClass::Unbound);
        forgotten.push(born(one, slow, second * S));
        // Between socket() and connect(): others at every look, now more, now fewer.
        let passing = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 2][second as usize];
        let mut all = forgotten.clone();
        all.extend((0..passing).map(|n| {
            let n = 10_000 + second * 100 + n;
            born(socket(n, busy, SocketClass::Unbound), busy, second * S)
        }));
        watched.inventory(second + 1, all);
    }
    assert_eq!(suspects(watched.tracker.groups(), 64), [slow]);
    assert!(suspects(watched.tracker.groups(), 0).is_empty());
}

#[test]
fn the_time_left_counts_from_now() {
    let who = process(7);
    let mut watched = forgetful(who, 8, |_| Past::default());
    let info = watched.name(who, "app");
    (info.fd_limit, info.fd_used) = (Some(1000), Some(152));
    let eta = |watched: &Watched| {
        let leak = &leaks(watched, Pasts::default())[0];
        leak.limit.as_ref().unwrap().eta_s.unwrap()
    };
    let then = eta(&watched);
    assert!((then - 106.0).abs() < 3.0, "848 left at 8 a second: {then}");
    watched.without_inventory(20 + 30);
    assert!((then - eta(&watched) - 30.0).abs() < 0.01);
    watched.without_inventory(20 + 300);
    assert!(
        (0.0..1.0).contains(&eta(&watched)),
        "soon, as far as is known"
    );
}

/// Nineteen seconds in which 10 connections a second are left in CLOSE_WAIT by `make`.
fn half_closed(first: Option<HeldSocket>, make: impl Fn(u64, u64) -> HeldSocket) -> Vec<Leak> {
    let mut watched = Watched::with(Config {
        older_ns: 5 * S,
        ..Config::default()
    });
    let mut all: Vec<HeldSocket> = first.into_iter().collect();
    for second in 1..20 {
        for _ in 0..10 {
            all.push(make(all.len() as u64, second * S));
        }
        watched.inventory(second + 1, all.clone());
    }
    leaks(&watched, Pasts::default())
}

#[test]
fn close_wait_says_to_whom_the_process_had_connected() {
    let who = process(1);
    let leaks = half_closed(None, |n, at_ns| {
        let mut one = born(socket(n, who, SocketClass::CloseWait), who, at_ns);
        let port = if n % 10 == 0 { 81 } else { 80 };
        one.peer = Some(([10, 0, 0, 9], port).into());
        one
    });
    let [leak] = &leaks[..] else {
        panic!("{leaks:?}")
    };
    assert_eq!(leak.after, After::PeerClosed);
    assert_eq!(leak.peer.as_deref(), Some("10.0.0.9:80"));
    let origins: Vec<_> = (leak.origins.iter())
        .map(|origin| origin.peer.as_deref().unwrap_or_default())
        .collect();
    assert_eq!(origins, ["10.0.0.9:80", "10.0.0.9:81"]);
    let evidence = leak.evidence.join("\n");
    assert!(evidence.contains("to 10.0.0.9:81"), "{evidence}");
}

#[test]
fn close_wait_of_accepted_connections_says_where_they_were_accepted() {
    let who = process(1);
    let mut listener = socket(9_000, who, SocketClass::Listen);
    listener.local.set_port(8080);
    let leaks = half_closed(Some(listener), |n, _| {
        let mut one = socket(n, who, SocketClass::CloseWait);
        one.local.set_port(8080);
        one.peer = Some(([10, 0, 0, 7], 1_000 + n as u16).into());
        one
    });
    let [leak] = &leaks[..] else {
        panic!("{leaks:?}")
    };
    assert_eq!((leak.peer.as_ref(), leak.origins.len()), (None, 1));
    let evidence = leak.evidence.join("\n");
    let wanted = format!("{} of them were accepted on port 8080", leak.count);
    assert!(evidence.contains(&wanted), "{evidence}");
    let coverage = leak.coverage.join("\n");
    assert!(
        coverage.contains("no stack is taken of accept()"),
        "{coverage}"
    );
}

#[test]
fn many_peers_do_not_take_the_room_of_other_origins() {
    let mut census = super::Census::new();
    for n in 0..20_000 {
        let mut one = born(socket(n, process(1), SocketClass::CloseWait), process(1), S);
        one.peer = Some((std::net::Ipv4Addr::from(0x0a00_0000 + n as u32), 80).into());
        census.add(&one);
    }
    assert_eq!(census.seen(), 20_000);
    let told = (0..=u16::MAX).filter(|index| census.origin_at(*index).far.is_some());
    assert_eq!(told.count(), 1 << 10);
}

#[test]
fn memory_is_the_limit_of_what_nobody_reads() {
    let limit_of = |class, growing| {
        let who = process(7);
        let mut watched = Watched::with(Config {
            older_ns: 5 * S,
            ..Config::default()
        });
        let mut all = Vec::new();
        watched.mem_pages = if growing { 0 } else { 100 };
        watched.inventory(1, all.clone());
        for second in 1..30 {
            for _ in 0..20 {
                all.push(socket(all.len() as u64, who, class));
            }
            watched.mem_pages = if growing { second * 100 } else { 100 };
            watched.inventory(second + 1, all.clone());
        }
        let leaks = watched.tracker.leaks(&Surroundings {
            infos: &watched.infos,
            namespaces: &watched.namespaces,
            files: None,
            tcp_mem: Some(10_000),
            lost: 0,
            pasts: Pasts::default(),
            coverage: &[],
        });
        leaks[0].limit.clone()
    };
    let limit = limit_of(SocketClass::CloseWait, true).unwrap();
    assert_eq!((limit.name, limit.value), (LimitName::TcpMem, 10_000));
    assert_eq!(limit.used, Some(2_900));
    let eta = limit.eta_s.unwrap();
    assert!(
        (eta - 71.0).abs() < 2.0,
        "7,100 left at 100 a second: {eta}"
    );
    assert_eq!(limit_of(SocketClass::CloseWait, false), None);
    assert_eq!(
        limit_of(SocketClass::Unbound, true),
        None,
        "they hold no data"
    );
}

/// Sockets that are older than sockleak: what they hold of a connection is all there is.
#[test]
fn what_old_sockets_still_hold_of_a_connection_is_told() {
    use crate::report::LeakClass;
    use crate::tracker::{Census, Far, Origin, provenance};

    let peer: std::net::SocketAddr = "10.0.0.5:2280".parse().unwrap();
    let far = |attempted, former| {
        let mut census = Census::new();
        census.add(&HeldSocket {
            attempted,
            peer: former,
            ..socket(1, process(7), SocketClass::Unbound)
        });
        let told = (0..=u16::MAX).find_map(|index| census.origin_at(index).far);
        let origin = Origin {
            far: told,
            ..Origin::default()
        };
        (
            told,
            provenance::after(LeakClass::Unbound, origin, Pasts::default()),
        )
    };
    let (told, after) = far(Some(peer.ip()), None);
    assert_eq!(told, Some(Far::Attempt(peer.ip())));
    assert_eq!(
        after,
        (After::ConnectFailed, None, Some("10.0.0.5".to_owned()))
    );
    let (told, after) = far(None, Some(peer));
    assert_eq!(told, Some(Far::Former(peer)));
    assert_eq!(
        after,
        (After::ConnectionFailed, None, Some(peer.to_string()))
    );
    let (told, after) = far(None, None);
    assert_eq!((told, after.0), (None, After::Unknown));
}
