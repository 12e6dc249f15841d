use std::net::{IpAddr, SocketAddr};

use super::testing::{NETNS, process, socket};
use super::{
    Census, NetnsSockets, Occupancy, OccupancyInput, PortHolders, ProcessInfos, Selection, port_use,
};
use crate::model::{
    HeldSocket, ListedSocket, PortSettings, ProcessId, ProcessInfo, SocketClass, TcpState,
};
use crate::report::{OccupancyReport, OutsideHolderReport};

use SocketClass::{Bound, Established, Listen};

const TO: &str = "10.0.0.5:6379";
const OWN: &str = "10.0.0.9";

/// A namespace that is put together socket by socket.
struct Space {
    sockets: NetnsSockets,
    holders: PortHolders,
    census: Census,
    infos: ProcessInfos,
    inode: u32,
}

impl Space {
    fn new(range: (u16, u16)) -> Self {
        let settings = PortSettings {
            netns: NETNS,
            range,
            tw_reuse: Some(0),
            timestamps: Some(1),
            ..PortSettings::default()
        };
        Self {
            sockets: NetnsSockets::new(settings, None),
            holders: PortHolders::default(),
            census: Census::new(),
            infos: ProcessInfos::new(),
            inode: 0,
        }
    }

    fn named(mut self, pid: u32, comm: &str) -> Self {
        let info = ProcessInfo {
            comm: comm.to_owned(),
            ..ProcessInfo::default()
        };
        self.infos.insert(process(pid), info);
        self
    }

    /// A socket of a process (0: of nobody) on a port; connections go to [`TO`].
    fn hold(&mut self, pid: u32, class: SocketClass, port: u16, port_bound: Option<bool>) {
        self.inode += 1;
        let address = if class == Established { OWN } else { "0.0.0.0" };
        let local = SocketAddr::new(address.parse().unwrap(), port);
        let peer = (class == Established).then(|| TO.parse().unwrap());
        let held = HeldSocket {
            inode: self.inode.into(),
            local,
            peer,
            port_bound,
            ..socket(self.inode.into(), process(pid), class)
        };
        if pid != 0 {
            self.holders.add(&held);
            self.census.add(&held);
        }
        self.list(
            local,
            peer,
            held.state,
            if pid == 0 { 0 } else { self.inode },
        );
    }

    fn wait(&mut self, port: u16, left_ms: u32) {
        let local = SocketAddr::new(OWN.parse().unwrap(), port);
        self.sockets.add(&ListedSocket {
            local,
            peer: Some(TO.parse().unwrap()),
            state: TcpState::TimeWait,
            is_time_wait: true,
            inode: 0,
            expires_ms: Some(left_ms),
            v6only: None,
        });
    }

    fn list(&mut self, local: SocketAddr, peer: Option<SocketAddr>, state: TcpState, inode: u32) {
        self.sockets.add(&ListedSocket {
            local,
            peer,
            state,
            is_time_wait: false,
            inode,
            expires_ms: None,
            v6only: None,
        });
    }

    fn report(&mut self, asked: bool) -> OccupancyReport {
        self.selected(asked, Selection::default())
    }

    fn selected(&mut self, asked: bool, selection: Selection<'_>) -> OccupancyReport {
        self.sockets.listed(true);
        let occupancy = Occupancy::new(&self.sockets, &self.holders);
        let own: IpAddr = OWN.parse().unwrap();
        port_use(&OccupancyInput {
            occupancy: &occupancy,
            method: "bpf",
            incomplete: &[],
            census: &self.census,
            time_wait_count: Some(7),
            infos: &self.infos,
            selection,
            to: asked.then(|| (Some(own), TO.parse().unwrap())),
            took_ns: 1_500_000_000,
        })
    }
}

/// INCIDENTS A, with its own figures.
#[test]
fn the_12_036_ports_of_a_range_of_12_001() {
    let mut space = Space::new((50_000, 62_000))
        .named(4684, "java")
        .named(815, "inetd");
    for port in 50_000..=62_000 {
        space.hold(4684, Bound, port, Some(true));
    }
    for port in 2_100..2_135 {
        space.hold(815, Listen, port, Some(true));
    }
    let report = space.report(false);
    assert_eq!(
        (report.size, report.bound, report.free),
        (12_001, 12_001, 0)
    );
    assert_eq!(report.in_use, 12_036);
    let expected = OutsideHolderReport {
        pid: 815,
        comm: "inetd".to_owned(),
        bound: 0,
        connected: 0,
        listening: 35,
        ports: vec![[2_100, 2_134]],
        ports_omitted: 0,
    };
    assert_eq!(
        (report.outside.count, report.outside.holders),
        (35, vec![expected])
    );
    assert_eq!(
        report.conclusion,
        "All 12,001 ports of 50000-62000 are bound: every connect() without a port fails with \
         EADDRNOTAVAIL, wherever it goes, and every bind() to port 0 with EADDRINUSE. 12,036 \
         ports are in use although the range holds 12,001: 35 lie outside of it (inetd[815]: 35 \
         listening). java[4684] has 12,001 of the range."
    );
    assert_eq!(
        (report.bound_closed, report.bound_connected),
        (12_001, Some(0))
    );
    assert_eq!((report.sustained_per_s, report.took_s), (0.0, 1.5));
    let report = space.report(true);
    let start = "connect() from 10.0.0.9 to 10.0.0.5:6379 fails with EADDRNOTAVAIL: none of the \
                 12,001 ports of the range is left (12,001 bound). ";
    assert!(
        report.conclusion.starts_with(start),
        "{}",
        report.conclusion
    );
}

#[test]
fn a_flip_to_the_second_half_is_said_with_its_price() {
    let mut space = Space::new((1_000, 1_099)).named(1, "nginx");
    for port in (1_000..1_100).step_by(2) {
        space.hold(1, Established, port, Some(false));
    }
    space.hold(1, Established, 1_001, Some(false));
    let report = space.report(true);
    assert_eq!(
        report.conclusion,
        "connect() from 10.0.0.9 to 10.0.0.5:6379 can still take 49 of 100 ports, all in the half \
         that it tries last (51 connected to it): each call first walks 50 ports in vain. \
         nginx[1] has 51 of the range."
    );
    let to = report.to.unwrap();
    assert_eq!((to.first_parity_used, to.second_parity_used), (50, 1));
    let row = &report.destinations[0];
    assert_eq!((row.connected, row.free), (51, 49));
}

#[test]
fn time_wait_is_said_with_the_rate_and_when_it_ends() {
    let mut space = Space::new((1_000, 1_599));
    for (n, port) in (1_000..1_400).enumerate() {
        space.wait(port, 100 * n as u32);
    }
    let report = space.report(false);
    assert_eq!(
        report.conclusion,
        "200 of the 600 ports of 1000-1599 are free. TIME_WAIT lasts 60 s: towards one \
         destination the range sustains 10 new connections per second while this side closes \
         first."
    );
    let drain = report.drain.unwrap();
    assert_eq!(
        (drain.within_1_s, drain.within_10_s, drain.within_30_s),
        (11, 101, 301)
    );
    assert_eq!((drain.within_60_s, drain.last_s), (400, 39.9));
    assert_eq!(report.time_wait_sockets, Some(7), "as sockstat says");
    assert!(
        report
            .limits
            .iter()
            .any(|limit| limit.starts_with("TIME_WAIT does not show"))
    );
}

#[test]
fn ports_that_were_bound_first_are_named_with_their_owner() {
    let mut space = Space::new((1_000, 1_099)).named(5, "envoy");
    for port in 1_000..1_010 {
        space.hold(5, Established, port, Some(true));
    }
    let report = space.report(true);
    assert_eq!((report.bound, report.connected), (10, 0));
    assert_eq!(
        (report.bound_connected, report.holders[0].connected_bound),
        (Some(10), Some(10))
    );
    let to = report.to.as_ref().unwrap();
    assert_eq!((to.bound, to.connected, to.free), (10, 0, 90));
    let part = "10 ports have connections on ports that somebody called bind() for, 10 of them of \
                envoy[5]: no other connect() can share these";
    assert!(report.conclusion.contains(part), "{}", report.conclusion);
    assert_eq!(report.destinations[0].connected_bound, 10);
}

#[test]
fn what_the_kernel_was_not_asked_is_unknown_and_said() {
    let mut space = Space::new((1_000, 1_099));
    space.hold(5, Established, 1_000, None);
    space.hold(0, Established, 1_001, None);
    let report = space.report(false);
    assert_eq!((report.bound_connected, report.connected), (None, 2));
    assert_eq!(report.holders[0].connected_bound, None);
    assert_eq!(report.unowned, 1);
    let limit = "2 ports have connections of which it is not known";
    assert!(
        report.limits.iter().any(|text| text.starts_with(limit)),
        "{:?}",
        report.limits
    );
    // Somebody else's socket on the same port settles it.
    space.hold(6, Bound, 1_000, None);
    space.hold(6, Bound, 1_001, None);
    let report = space.report(false);
    assert_eq!(
        (report.bound_connected, report.bound, report.limits.len()),
        (Some(0), 2, 0)
    );
}

#[test]
fn rows_are_selected_cut_and_counted() {
    let mut space = Space::new((1_000, 1_099)).named(1, "one").named(2, "two");
    for (pid, port) in [
        (1, 1_000),
        (1, 1_001),
        (2, 1_002),
        (3, 1_003),
        (3, 7),
        (2, 9),
    ] {
        space.hold(pid, Listen, port, None);
    }
    let top = Selection {
        top: Some(1),
        keep: None,
    };
    let report = space.selected(true, top);
    let rows = (report.holders.len(), report.holders_omitted);
    assert_eq!((rows, report.holders[0].pid), ((1, 2), 1));
    assert_eq!(
        (report.outside.holders.len(), report.outside.holders_omitted),
        (1, 1)
    );
    let to = report.to.unwrap();
    assert_eq!((to.holders.len(), to.holders_omitted), (1, 2));
    let only_two = |_: ProcessId, info: &ProcessInfo| info.comm == "two";
    let two = Selection {
        top: None,
        keep: Some(&only_two),
    };
    let report = space.selected(true, two);
    let pids: Vec<u32> = report.holders.iter().map(|row| row.pid).collect();
    assert_eq!((pids, report.bound), (vec![2], 4), "the figures are of all");
}

#[test]
fn other_namespaces_are_counted_and_not_mixed_in() {
    let mut space = Space::new((1_000, 1_099));
    space.hold(1, Listen, 1_000, None);
    for (netns, port) in [(7, 1_000), (7, 1_001), (8, 1_000), (8, 1_000)] {
        let mut other = socket(900 + u64::from(port), process(1), Bound);
        other.netns = Some(netns);
        other.inode += u64::from(netns);
        other.sk += u64::from(netns);
        other.local.set_port(port);
        space.holders.add(&other);
        space.census.add(&other);
    }
    let report = space.report(false);
    assert_eq!(
        (report.in_use, report.bound, report.holders[0].bound),
        (1, 1, 0)
    );
    let rows: Vec<_> = (report.elsewhere.iter())
        .map(|row| (row.netns, row.in_use))
        .collect();
    assert_eq!(rows, [(7, 2), (8, 1)]);
}

/// Of 2,048 ports, pieces of 4: what is in each, and whose most of it is.
#[test]
fn the_map_has_every_port_in_its_piece() {
    let mut space = Space::new((40_000, 42_047));
    space.hold(7, Bound, 40_000, Some(true));
    space.hold(7, Bound, 40_001, Some(true));
    space.hold(8, Established, 40_002, Some(false));
    space.wait(40_003, 1_000);
    space.hold(8, Established, 40_004, Some(false));
    space.hold(0, Established, 42_047, None);
    // Outside of the range.
    space.hold(9, Listen, 80, Some(true));
    let report = space.report(false);
    assert_eq!(report.map.step, 4);
    let pieces: Vec<_> = (report.map.pieces.iter())
        .map(|piece| {
            let counts = [
                piece.reserved,
                piece.bound,
                piece.connected,
                piece.time_wait,
            ];
            (piece.first, counts, piece.pid)
        })
        .collect();
    assert_eq!(
        pieces,
        [
            (40_000, [0, 2, 1, 1], Some(7)),
            (40_004, [0, 0, 1, 0], Some(8)),
            (42_044, [0, 0, 1, 0], None),
        ]
    );
}

#[test]
fn the_map_adds_up_for_any_range() {
    for (low, high) in [
        (0, u16::MAX),
        (1, 1),
        (65_535, 65_535),
        (32_768, 60_999),
        (9, 3),
    ] {
        let mut space = Space::new((low, high));
        let ports = (low..=high).step_by(3);
        for port in ports.filter(|port| *port != 0) {
            space.hold(7, Bound, port, Some(true));
        }
        let report = space.report(false);
        let bound: u64 = (report.map.pieces.iter())
            .map(|piece| u64::from(piece.bound))
            .sum();
        assert_eq!(bound, report.bound, "{low}-{high}");
        assert!(report.map.pieces.len() <= 512);
        let is_on_a_step = |first: u16| (first - low).is_multiple_of(report.map.step);
        assert!(
            report
                .map
                .pieces
                .iter()
                .all(|piece| is_on_a_step(piece.first))
        );
    }
}
