use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;

use super::super::testing::{NETNS, process, socket};
use super::*;
use crate::model::{HeldSocket, ListedSocket, SocketClass, TcpState};

use SocketClass::{Bound, Established, Listen};

const A: &str = "10.0.0.1:80";
const B: &str = "10.0.0.2:80";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn settings(range: (u16, u16), reserved: &[u16]) -> PortSettings {
    PortSettings {
        netns: NETNS,
        range,
        reserved: reserved.to_vec(),
        tw_reuse: Some(0),
        tw_reuse_delay_ms: None,
        timestamps: Some(1),
    }
}

fn listed(state: TcpState, local: &str, peer: Option<&str>, inode: u32) -> ListedSocket {
    ListedSocket {
        local: at(local),
        peer: peer.map(at),
        state,
        is_time_wait: state == TcpState::TimeWait,
        inode,
        expires_ms: (state == TcpState::TimeWait).then_some(40_000),
        v6only: None,
    }
}

fn sockets(settings: PortSettings, list: &[ListedSocket]) -> NetnsSockets {
    let mut sockets = NetnsSockets::new(settings, None);
    for socket in list {
        sockets.add(socket);
    }
    sockets.listed(true);
    sockets
}

fn holding(inode: u64, pid: u32, class: SocketClass, local: &str) -> HeldSocket {
    HeldSocket {
        sk: 0,
        inode,
        netns: Some(NETNS),
        local: at(local),
        ..socket(inode, process(pid), class)
    }
}

fn holders(list: &[HeldSocket]) -> PortHolders {
    let mut holders = PortHolders::default();
    for socket in list {
        holders.add(socket);
    }
    holders
}

/// (reserved, bound, connected, time_wait, other, free)
fn classes(room: &Room) -> [u64; 6] {
    [
        room.reserved,
        room.bound,
        room.connected,
        room.time_wait,
        room.other,
        room.free,
    ]
}

/// One port of every kind, in a range of ten.
fn scene() -> (NetnsSockets, PortHolders) {
    use TcpState::{BoundInactive, Established as Est, Listen as Lis, TimeWait};
    let list = [
        listed(BoundInactive, "0.0.0.0:101", None, 1),
        listed(Lis, "127.0.0.9:102", None, 2),
        listed(Est, "10.0.0.9:103", Some(A), 3),
        listed(Est, "10.0.0.9:104", Some(B), 4),
        listed(TimeWait, "10.0.0.9:105", Some(A), 0),
        listed(TimeWait, "10.0.0.9:106", Some(B), 0),
        // From another address of ours to the same destination.
        listed(Est, "10.0.0.8:107", Some(A), 7),
        // Outside: a listener and what it accepted.
        listed(Lis, "0.0.0.0:80", None, 8),
        listed(Est, "10.0.0.9:80", Some("10.9.9.9:40000"), 9),
        listed(TimeWait, "10.0.0.9:90", Some(A), 0),
    ];
    let held = [
        holding(1, 1, Bound, "0.0.0.0:101"),
        holding(2, 1, Listen, "127.0.0.9:102"),
        holding(3, 2, Established, "10.0.0.9:103"),
        holding(4, 2, Established, "10.0.0.9:104"),
        holding(8, 3, Listen, "0.0.0.0:80"),
        holding(9, 3, Established, "10.0.0.9:80"),
    ];
    (
        sockets(settings((100, 109), &[100, 200]), &list),
        holders(&held),
    )
}

#[test]
fn towards_one_destination_only_its_own_tuples_and_bound_ports_are_taken() {
    let (sockets, holders) = scene();
    let all = Occupancy::new(&sockets, &holders);
    let room = all.towards(Some(ip("10.0.0.9")), at(A)).unwrap();
    // Others: 104 and 106 to B, 107 from another address.
    assert_eq!(classes(&room), [1, 2, 1, 1, 3, 2]);
    assert_eq!((room.usable(), room.used(), room.size), (5, 4, 10));
    let half = |size, used| Half { size, used };
    // First parity 100 (reserved), 102, 104, 106, 108; second 101, 103, 105, 107, 109.
    assert_eq!((room.first, room.second), (half(4, 1), half(5, 3)));
    let blockers: Vec<_> = (room.blockers.iter())
        .map(|one| (one.process.pid, one.ports, one.bound))
        .collect();
    assert_eq!(blockers, [(1, 2, 2), (2, 1, 0)]);

    let any_source = all.towards(None, at(A)).unwrap();
    assert_eq!(classes(&any_source), [1, 2, 2, 1, 2, 2]);
    let from_8 = all.towards(Some(ip("10.0.0.8")), at(A)).unwrap();
    assert_eq!(classes(&from_8), [1, 2, 1, 0, 4, 2]);
    let elsewhere = all.towards(None, at("10.0.0.3:80")).unwrap();
    assert_eq!(classes(&elsewhere), [1, 2, 0, 0, 5, 2]);
}

#[test]
fn bind_looks_at_addresses_and_not_at_destinations() {
    let (sockets, holders) = scene();
    let all = Occupancy::new(&sockets, &holders);
    let any = all.for_bind(None).unwrap();
    assert_eq!(classes(&any), [1, 2, 3, 2, 0, 2]);
    assert_eq!(any, all.for_bind(Some(ip("0.0.0.0"))).unwrap());
    assert_eq!(any, all.for_bind(Some(ip("::"))).unwrap());
    // The listener is on another address, the CLOSED socket on all of them.
    let specific = all.for_bind(Some(ip("10.0.0.8"))).unwrap();
    assert_eq!(classes(&specific), [1, 1, 1, 0, 5, 2]);
    assert_eq!(specific.blockers.len(), 1);
    let v6 = all.for_bind(Some(ip("2001:db8::1"))).unwrap();
    assert_eq!(classes(&v6), [1, 0, 0, 0, 7, 2]);
}

#[test]
fn a_dual_stack_wildcard_is_in_the_way_of_ipv4() {
    let at_any = |v6only| ListedSocket {
        v6only: Some(v6only),
        ..listed(TcpState::Listen, "[::]:100", None, 1)
    };
    for (v6only, free) in [(false, 0), (true, 1)] {
        let sockets = sockets(settings((100, 100), &[]), &[at_any(v6only)]);
        let holders = PortHolders::default();
        let all = Occupancy::new(&sockets, &holders);
        let room = |address| all.for_bind(Some(ip(address))).unwrap().usable();
        assert_eq!((room("127.0.0.1"), room("::1")), (free, 0));
    }
}

#[test]
fn mapped_addresses_are_ipv4() {
    let connection = listed(
        TcpState::Established,
        "[::ffff:10.0.0.9]:100",
        Some("[::ffff:10.0.0.1]:80"),
        5,
    );
    let sockets = sockets(settings((100, 101), &[]), &[connection]);
    let holders = PortHolders::default();
    let all = Occupancy::new(&sockets, &holders);
    for (src, dst) in [("10.0.0.9", A), ("::ffff:10.0.0.9", "[::ffff:10.0.0.1]:80")] {
        let room = all.towards(Some(ip(src)), at(dst)).unwrap();
        assert_eq!(classes(&room), [0, 0, 1, 0, 0, 1]);
    }
}

#[test]
fn who_holds_what_inside_and_outside() {
    let (sockets, holders) = scene();
    let all = Occupancy::new(&sockets, &holders);
    let held: Vec<_> = all
        .held()
        .map(|(process, held)| {
            let list = |set: &PortSet| set.iter().collect::<Vec<u16>>();
            let listening = list(&held.listening);
            (
                process.pid,
                list(&held.bound),
                listening,
                list(&held.connected),
            )
        })
        .collect();
    assert_eq!(
        held,
        [
            (1, vec![101], vec![102], vec![]),
            (2, vec![], vec![], vec![103, 104]),
            (3, vec![], vec![80], vec![80]),
        ]
    );
    let unowned: Vec<u16> = (0..=u16::MAX)
        .filter(|port| all.is_unowned(*port))
        .collect();
    assert_eq!(unowned, [107]);
    let waiting: Vec<u16> = (0..=u16::MAX)
        .filter(|port| all.is_time_wait_only(*port))
        .collect();
    assert_eq!(waiting, [90, 105, 106]);
    let by = [101, 102, 103].map(|port| all.bound_by(port));
    assert_eq!(by, [Some(BoundBy::Closed), Some(BoundBy::Listener), None]);
}

#[test]
fn destinations_leave_out_what_was_accepted() {
    use TcpState::{Established as Est, Listen as Lis, TimeWait};
    let list = [
        listed(Lis, "0.0.0.0:100", None, 1),
        listed(Est, "10.0.0.9:100", Some("10.9.9.9:40000"), 2),
        listed(Est, "10.0.0.9:101", Some(A), 3),
        listed(TimeWait, "10.0.0.9:102", Some(A), 0),
        listed(Est, "10.0.0.9:103", Some(B), 5),
        listed(Est, "10.0.0.9:50", Some(A), 6),
    ];
    let sockets = sockets(settings((100, 109), &[109]), &list);
    let nobody = PortHolders::default();
    let all = Occupancy::new(&sockets, &nobody);
    let rows: Vec<_> = (all.destinations(9).into_iter())
        .map(|row| (row.dst, row.connected, row.time_wait, row.usable))
        .collect();
    assert_eq!(rows, [(at(A), 1, 1, 6), (at(B), 1, 0, 7)]);
    for row in all.destinations(9) {
        let room = all.towards(Some(row.src), row.dst).unwrap();
        assert_eq!(room.usable(), row.usable, "both ways to count agree");
    }
    assert_eq!(all.destinations(1).len(), 1);
    assert_eq!(all.addresses(), [(ip("10.0.0.9"), 4), (ip("0.0.0.0"), 1)]);
}

#[test]
fn time_wait_is_taken_over_as_the_settings_allow() {
    let waiting = |port: u16, left, state| ListedSocket {
        is_time_wait: true,
        expires_ms: left,
        ..listed(state, &format!("127.0.0.1:{port}"), Some("127.0.0.1:80"), 0)
    };
    let list = [
        waiting(100, Some(40_000), TcpState::TimeWait),
        waiting(101, Some(59_500), TcpState::TimeWait),
        waiting(102, None, TcpState::TimeWait),
        waiting(103, Some(20_000), TcpState::FinWait2),
    ];
    let reusable = |tw_reuse, timestamps, delay, src: &str| {
        let settings = PortSettings {
            tw_reuse,
            timestamps,
            tw_reuse_delay_ms: delay,
            ..settings((100, 109), &[])
        };
        let sockets = sockets(settings, &list);
        let nobody = PortHolders::default();
        let all = Occupancy::new(&sockets, &nobody);
        let room = all.towards(Some(ip(src)), at("127.0.0.1:80")).unwrap();
        (room.time_wait, room.time_wait_reusable)
    };
    assert_eq!(reusable(Some(2), Some(1), None, "127.0.0.1"), (4, Some(1)));
    assert_eq!(
        reusable(Some(2), Some(1), Some(100), "127.0.0.1"),
        (4, Some(2))
    );
    assert_eq!(reusable(Some(1), Some(1), None, "127.0.0.1"), (4, Some(1)));
    assert_eq!(reusable(Some(0), Some(1), None, "127.0.0.1"), (4, Some(0)));
    assert_eq!(reusable(Some(1), Some(0), None, "127.0.0.1"), (4, Some(0)));
    assert_eq!(reusable(None, Some(1), None, "127.0.0.1"), (4, None));
    assert_eq!(reusable(Some(1), None, None, "127.0.0.1"), (4, None));
    assert_eq!(reusable(Some(1), Some(1), None, "127.0.0.2"), (0, Some(0)));
    let far = Occupancy::new(
        &sockets(
            PortSettings {
                tw_reuse: Some(2),
                ..settings((100, 109), &[])
            },
            &[listed(TcpState::TimeWait, "10.0.0.9:100", Some(A), 0)],
        ),
        &PortHolders::default(),
    )
    .towards(None, at(A))
    .unwrap();
    assert_eq!(
        (far.time_wait, far.time_wait_reusable),
        (1, Some(0)),
        "not loopback"
    );
}

/// Kernels before 6.8 do not list CLOSED sockets; then the inventory says where they are.
#[test]
fn closed_sockets_come_from_the_inventory_where_the_kernel_lists_none() {
    let held = [
        holding(1, 1, Bound, "127.0.0.1:100"),
        // Is in the list by now, or is gone.
        holding(2, 1, Established, "127.0.0.1:101"),
    ];
    let holders = holders(&held);
    let mut sockets = NetnsSockets::new(settings((100, 109), &[]), None);
    sockets.listed(false);
    let old = Occupancy::new(&sockets, &holders);
    assert_eq!(
        classes(&old.towards(None, at(A)).unwrap()),
        [0, 1, 0, 0, 0, 9]
    );
    assert_eq!(old.for_bind(Some(ip("127.0.0.2"))).unwrap().other, 1);
    assert_eq!(old.for_bind(Some(ip("127.0.0.1"))).unwrap().bound, 1);
    sockets.listed(true);
    let new = Occupancy::new(&sockets, &holders);
    assert_eq!(
        classes(&new.towards(None, at(A)).unwrap()),
        [0, 0, 0, 0, 0, 10]
    );
}

#[test]
fn without_a_list_there_is_no_room_to_tell() {
    let held = [
        holding(1, 1, Listen, "127.0.0.1:100"),
        holding(2, 1, Established, "127.0.0.1:101"),
    ];
    let holders = holders(&held);
    let sockets = NetnsSockets::new(settings((100, 102), &[]), None);
    let all = Occupancy::new(&sockets, &holders);
    assert!(all.towards(None, at(A)).is_none() && all.for_bind(None).is_none());
    let classes = [100, 101, 102].map(|port| all.class(port));
    assert_eq!(
        classes,
        [PortClass::Bound, PortClass::Connected, PortClass::Free]
    );
}

#[test]
fn an_own_range_is_known_when_it_was_announced() {
    let list = [listed(TcpState::Established, "10.0.0.9:205", Some(A), 3)];
    let mut sockets = NetnsSockets::new(settings((100, 109), &[]), Some((200, 209)));
    sockets.add(&list[0]);
    sockets.clear();
    sockets.add(&list[0]);
    sockets.listed(true);
    let nobody = PortHolders::default();
    let all = Occupancy::new(&sockets, &nobody);
    let own = Range::from((200, 209));
    assert_eq!(all.towards_in(own, None, at(A)).unwrap().connected, 1);
    assert_eq!(all.towards_in(own, None, at(B)).unwrap().other, 1);
    assert_eq!(all.towards(None, at(A)).unwrap().free, 10);
}

#[test]
fn ranges() {
    let odd = Range::from((50_001, 62_001));
    assert_eq!((odd.size(), odd.one_is_left_out()), (12_001, true));
    assert!(odd.is_first_parity(50_001) && !odd.is_first_parity(50_002));
    assert!(odd.contains(62_001) && !odd.contains(62_002));
    let all = Range::from((0, u16::MAX));
    assert_eq!((all.size(), all.one_is_left_out()), (65_536, false));
    assert_eq!(all.ports().count(), 65_536);
    let one = Range::from((7, 7));
    assert_eq!((one.size(), one.one_is_left_out()), (1, false));
    let none = Range::from((8, 7));
    assert_eq!((none.size(), none.ports().count()), (0, 0));
}

/// Its holder, class, and what the kernel says of its bucket.
type Owner = Option<(u32, SocketClass, Option<bool>)>;

fn any_socket() -> impl Strategy<Value = (ListedSocket, Owner)> {
    let addresses = prop::sample::select(vec!["0.0.0.0", "10.0.0.9", "10.0.0.8", "::", "::1"]);
    let peers = prop::sample::select(vec![None, Some(A), Some(B), Some("[::1]:80")]);
    let states = prop::sample::select(vec![
        TcpState::Close,
        TcpState::BoundInactive,
        TcpState::Listen,
        TcpState::SynSent,
        TcpState::NewSynRecv,
        TcpState::Established,
        TcpState::CloseWait,
        TcpState::TimeWait,
    ]);
    let owner = proptest::option::of((1_u32..5, any::<Option<bool>>()));
    (addresses, 95_u16..125, peers, states, 0_u32..40, owner).prop_map(
        |(address, port, peer, state, inode, owner)| {
            let local = SocketAddr::new(ip(address), port);
            let is_time_wait = state == TcpState::TimeWait;
            let inode = if is_time_wait { 0 } else { inode };
            let socket = ListedSocket {
                local,
                is_time_wait,
                ..listed(state, "0.0.0.0:1", peer, inode)
            };
            let class = SocketClass::of(state, port);
            (
                socket,
                owner
                    .filter(|_| inode != 0)
                    .map(|(pid, bucket)| (pid, class, bucket)),
            )
        },
    )
}

proptest! {
    #[test]
    fn classes_partition_the_range_in_any_order(
        all in proptest::collection::vec(any_socket(), 0..60).prop_shuffle(),
        seed in any::<u64>(),
        low in 95_u16..120, more in 0_u16..25,
        reserved in proptest::collection::btree_set(95_u16..125, 0..8),
        lists_closed: bool,
    ) {
        let range = (low, low + more);
        let reserved: Vec<u16> = reserved.into_iter().collect();
        let mut shuffled = all.clone();
        let len = shuffled.len().max(1);
        for n in 0..shuffled.len() {
            shuffled.swap(n, (seed as usize).wrapping_mul(n + 7) % len);
        }
        let build = |list: &[(ListedSocket, Owner)]| {
            let mut sockets = NetnsSockets::new(settings(range, &reserved), None);
            let mut holders = PortHolders::default();
            for (socket, owner) in list {
                let is_closed = SocketClass::of(socket.state, 1) == Bound;
                if lists_closed || !is_closed {
                    sockets.add(socket);
                }
                if let Some((pid, class, port_bound)) = owner {
                    let inode = u64::from(socket.inode);
                    let local = socket.local.to_string();
                    let held = holding(inode, *pid, *class, &local);
                    holders.add(&HeldSocket { port_bound: *port_bound, ..held });
                }
            }
            sockets.listed(lists_closed);
            (sockets, holders)
        };
        let (sockets, holders) = build(&all);
        let (other_sockets, other_holders) = build(&shuffled);
        let one = Occupancy::new(&sockets, &holders);
        let other = Occupancy::new(&other_sockets, &other_holders);

        let in_use: BTreeSet<u16> = (0..=u16::MAX).filter(|port| one.is_in_use(*port)).collect();
        let size = u64::from(more) + 1;
        for src in [None, Some(ip("10.0.0.9")), Some(ip("::1"))] {
            for dst in [A, B, "[::1]:80"] {
                let room = one.towards(src, at(dst)).unwrap();
                prop_assert_eq!(classes(&room).iter().sum::<u64>(), size);
                prop_assert_eq!(room.size, size);
                prop_assert_eq!(room.first.used + room.second.used, room.used());
                prop_assert_eq!(room.first.size + room.second.size, size - room.reserved);
                prop_assert_eq!(room.usable() + room.used() + room.reserved, size);
                // What nobody uses is free for all.
                let free = (range.0..=range.1)
                    .filter(|port| !in_use.contains(port) && !reserved.contains(port));
                prop_assert_eq!(room.free, free.count() as u64);
                for blocker in &room.blockers {
                    prop_assert!(blocker.ports <= room.bound + room.connected);
                    prop_assert!(blocker.bound <= room.bound);
                }
                prop_assert_eq!(room, other.towards(src, at(dst)).unwrap());
            }
            let bind = one.for_bind(src).unwrap();
            prop_assert_eq!(classes(&bind).iter().sum::<u64>(), size);
            prop_assert_eq!(bind, other.for_bind(src).unwrap());
        }
        // A search for all sources has no more room than one for a single source.
        let any = one.towards(None, at(A)).unwrap();
        let single = one.towards(Some(ip("10.0.0.9")), at(A)).unwrap();
        prop_assert!(any.usable() <= single.usable());
        prop_assert_eq!(one.destinations(99), other.destinations(99));
        prop_assert_eq!(one.addresses(), other.addresses());
        let held = |all: &Occupancy<'_>| {
            let ports = |held: &HeldPorts| {
                [&held.bound, &held.connected, &held.listening].map(|set| set.iter().collect())
            };
            let held = all.held().map(|(process, held)| (process, ports(held)));
            held.collect::<Vec<(ProcessId, [Vec<u16>; 3])>>()
        };
        prop_assert_eq!(held(&one), held(&other));
    }
}
