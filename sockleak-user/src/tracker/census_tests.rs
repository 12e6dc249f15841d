use super::testing::{NETNS, S, Watched, born, process, socket};
use super::{Census, CensusLimits, Config, Far, GroupKey};
use crate::model::{Birth, HeldSocket, SocketClass};
use crate::report::LeakClass;

fn census(limits: CensusLimits, sockets: impl IntoIterator<Item = HeldSocket>) -> Census {
    let mut census = Census::with_limits(limits);
    for socket in sockets {
        census.add(&socket);
    }
    census
}

fn unbound(n: u64, pid: u32) -> HeldSocket {
    socket(n, process(pid), SocketClass::Unbound)
}

#[test]
fn an_address_used_again_during_the_walk_is_another_socket() {
    let first = unbound(1, 1);
    let mut second = unbound(1, 2);
    second.inode += 1;
    let census = census(CensusLimits::default(), [first, second]);
    assert_eq!(census.seen(), 2);
    assert!(census.holdings().all(|holding| holding.shared == 0));
}

#[test]
fn the_table_of_idle_sockets_does_not_outgrow_them() {
    let mut watched = Watched::new();
    for round in 1..200 {
        // Most stay, and some come and go.
        let stay = (0..10_000).map(|n| unbound(n, 1));
        let come = (0..600).map(|n| unbound(round * 10_000 + n, 2));
        watched.inventory(round * 5, stay.chain(come));
        // What the least table for so many can take.
        let room = watched.tracker.idle.room();
        assert!(room <= 14_336, "{room} after {round}");
    }
}

#[test]
fn without_addresses_the_inode_decides() {
    let no_sk = |n, pid| HeldSocket {
        sk: 0,
        ..unbound(n, pid)
    };
    let census = census(
        CensusLimits::default(),
        [no_sk(1, 1), no_sk(1, 1), no_sk(1, 2), no_sk(2, 2)],
    );
    assert_eq!(census.seen(), 2);
    assert_eq!(
        census.holding(process(1)).map(|h| (h.total(), h.shared)),
        Some((1, 1))
    );
    assert_eq!(
        census.holding(process(2)).map(|h| (h.total(), h.shared)),
        Some((2, 1))
    );
}

#[test]
fn sockets_without_identity_are_counted_and_said() {
    let nameless = || HeldSocket {
        sk: 0,
        inode: 0,
        ..unbound(1, 1)
    };
    let census = census(CensusLimits::default(), [nameless(), nameless()]);
    assert_eq!((census.seen(), census.unidentified()), (2, 2));
}

#[test]
fn queues_and_subflows_count_once_per_socket() {
    let listener = |pid| HeldSocket {
        accept_queue: 7,
        mptcp: true,
        ..socket(1, process(pid), SocketClass::Listen)
    };
    let census = census(
        CensusLimits::default(),
        [listener(1), listener(2), listener(2)],
    );
    assert_eq!((census.accept_queue(), census.mptcp()), (7, 1));
}

#[test]
fn bounds_hold_and_what_does_not_fit_is_counted() {
    let limits = CensusLimits {
        sockets: 10,
        processes: 3,
        namespaces: 1,
    };
    // Four processes hold the same 12 sockets, each in its own namespace.
    let all = (1..=4).flat_map(|pid| {
        (0..12).map(move |n| HeldSocket {
            netns: Some(n as u32),
            ..unbound(n, pid)
        })
    });
    let census = census(limits, all);
    assert_eq!(census.seen(), 10);
    // The third has nothing that was counted, the fourth did not fit at all.
    assert_eq!(census.holdings().count(), 2);
    assert_eq!(census.namespaces().len(), 1);
    // 2 of process 1; then 10 further holders fit: 2 again of process 2; all of 3 and 4.
    assert_eq!(census.uncounted(), 2 + 2 + 12 + 12);
    let held: u64 = census.holdings().map(|holding| holding.total()).sum();
    assert_eq!(held + census.uncounted(), 48);
}

#[test]
fn read_outs_survive_the_tracker() {
    let mut watched = Watched::new();
    watched.inventory(1, [unbound(1, 1), unbound(1, 2), unbound(2, 2)]);
    let census = &watched.tracker.inventory().expect("it was given").census;
    assert_eq!(census.seen(), 2);
    assert_eq!(
        census.holding(process(2)).map(|h| (h.total(), h.shared)),
        Some((2, 1))
    );
    assert_eq!(
        census.namespaces().first().and_then(|space| space.netns),
        Some(NETNS)
    );
}

#[test]
fn idle_memory_forgets_what_is_gone_and_knows_what_came_back() {
    let mut watched = Watched::with(Config {
        older_ns: 10 * S,
        ..Config::default()
    });
    let key = GroupKey {
        process: process(1),
        class: LeakClass::Unbound,
    };
    let aged = |watched: &Watched| watched.tracker.groups().get(key).map(|g| g.tally.aged);
    watched.inventory(100, (0..4).map(|n| unbound(n, 1)));
    watched.inventory(105, (0..2).map(|n| unbound(n, 1)));
    // 2 and 3 were away in between, 1 has become another socket at the same address.
    watched.inventory(
        110,
        (0..4).map(|n| {
            let mut socket = unbound(n, 1);
            socket.inode += u64::from(n == 1) * 1000;
            socket
        }),
    );
    assert_eq!(aged(&watched), Some(1));
    watched.inventory(120, (0..4).map(|n| unbound(n, 1)));
    assert_eq!(aged(&watched), Some(3));
}

#[test]
fn a_birth_in_the_future_is_no_age() {
    // The hook's clock is read before the socket is found, but a record may be torn.
    let mut watched = Watched::new();
    watched.inventory(
        1,
        (0..2000).map(|n| born(unbound(n, 1), process(1), u64::MAX)),
    );
    assert_eq!(watched.leaks(), []);
    let process = watched
        .tracker
        .groups()
        .iter()
        .next()
        .map(|g| g.tally.since_ns);
    assert_eq!(process, Some(Some(S & !7)));
}

#[test]
fn accepted_connections_are_told_by_their_birth() {
    let mut accepted = HeldSocket {
        birth: Some(Birth {
            at_ns: 5,
            creator: process(1),
            accepted: true,
        }),
        ..socket(1, process(1), SocketClass::CloseWait)
    };
    accepted.local.set_port(8080);
    accepted.peer = Some(([10, 0, 0, 9], 40_000).into());
    let connected = HeldSocket {
        sk: 2,
        birth: accepted.birth.map(|birth| Birth {
            accepted: false,
            ..birth
        }),
        ..accepted.clone()
    };
    let fars = |socket| {
        let census = census(CensusLimits::default(), [socket]);
        (census.sockets.values())
            .map(|entry| census.origins.at(entry.origin).far)
            .collect::<Vec<_>>()
    };
    let server = accepted.peer.map(Far::Server);
    assert_eq!(fars(accepted), [Some(Far::ClientOf(8080))]);
    assert_eq!(fars(connected), [server]);
}
