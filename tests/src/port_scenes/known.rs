//! A scene whose every port is known, computed from the addresses of its own sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use rustix::net::AddressFamily;

use super::place::{Addresses, local_port};
use super::set;

/// What the scene has made, by port.
#[derive(Default)]
pub(super) struct Truth {
    pub(super) range: (u16, u16),
    pub(super) reserved: BTreeSet<u16>,
    pub(super) closed: BTreeSet<u16>,
    pub(super) listening: BTreeSet<u16>,
    /// Of clients and servers alike.
    pub(super) connected: BTreeSet<u16>,
    /// Connections whose socket was bound first.
    pub(super) bound_first: BTreeSet<u16>,
    /// Clients' ports by destination.
    pub(super) towards: BTreeMap<SocketAddr, BTreeSet<u16>>,
    pub(super) waiting: BTreeMap<SocketAddr, BTreeSet<u16>>,
}

/// Sockets whose ports are known.
pub(super) struct Scene {
    pub(super) at: Addresses,
    pub(super) truth: Truth,
    /// Everything that is to stay open.
    pub(super) kept: Vec<OwnedFd>,
    pub(super) a: TcpListener,
    pub(super) b: TcpListener,
}

const LIVE_TO_A: usize = 40;
const LIVE_TO_B: usize = 30;
pub(super) const WAITING_FOR_A: usize = 12;
pub(super) const WAITING_FOR_B: usize = 7;

impl Scene {
    pub(super) fn new(family: AddressFamily, range: (u16, u16), bound_first: usize) -> Self {
        let at = Addresses::new(family);
        let (low, high) = range;
        set("ip_local_port_range", &format!("{low} {high}"));
        let reserved = format!("{}-{},{}", low + 10, low + 19, low + 50);
        set("ip_local_reserved_ports", &reserved);
        set("tcp_tw_reuse", "0");
        let mut scene = Self {
            at,
            truth: Truth {
                range,
                reserved: (low + 10..=low + 19).chain([low + 50]).collect(),
                ..Truth::default()
            },
            kept: Vec::new(),
            a: at.listener(at.a.port()).into(),
            b: at.listener(at.b.port()).into(),
        };
        scene.truth.listening.extend([at.a.port(), at.b.port()]);
        // Held by CLOSED sockets: in the range, reserved ones, outside.
        for port in (low + 20..low + 28).chain([low + 10, 1000, 1001, 1003]) {
            scene.kept.push(at.bound(at.any, port));
            scene.truth.closed.insert(port);
        }
        for port in [low + 30, low + 31, 100, 101, 102] {
            scene.kept.push(at.listener(port));
            scene.truth.listening.insert(port);
        }
        for _ in 0..bound_first {
            let socket = at.bound(at.own, 0);
            let port = local_port(&socket);
            rustix::net::connect(&socket, &at.b).expect("connect");
            scene.kept.push(socket);
            scene.accept(at.b);
            scene.truth.bound_first.insert(port);
            scene.went(at.b, port);
        }
        for (dst, live, waiting) in [
            (at.a, LIVE_TO_A, WAITING_FOR_A),
            (at.b, LIVE_TO_B, WAITING_FOR_B),
        ] {
            for _ in 0..live {
                let client = TcpStream::connect(dst).expect("connect");
                scene.accept(dst);
                let port = client.local_addr().expect("getsockname").port();
                scene.went(dst, port);
                scene.kept.push(client.into());
            }
            for _ in 0..waiting {
                scene.leave_waiting(dst);
            }
        }
        scene
    }

    fn went(&mut self, dst: SocketAddr, port: u16) {
        self.truth.connected.insert(port);
        assert!(self.truth.towards.entry(dst).or_default().insert(port));
    }

    fn listener_of(&self, dst: SocketAddr) -> &TcpListener {
        if dst == self.at.a { &self.a } else { &self.b }
    }

    fn accept(&mut self, dst: SocketAddr) {
        let (child, _) = self.listener_of(dst).accept().expect("accept");
        self.truth.connected.insert(dst.port());
        self.kept.push(child.into());
    }

    /// A connection that the client closes first.
    pub(super) fn leave_waiting(&mut self, dst: SocketAddr) {
        let client = TcpStream::connect(dst).expect("connect");
        let (mut child, _) = self.listener_of(dst).accept().expect("accept");
        let port = client.local_addr().expect("getsockname").port();
        drop(client);
        // Its FIN is here when this returns.
        std::io::copy(&mut child, &mut std::io::sink()).expect("read");
        drop(child);
        assert!(self.truth.waiting.entry(dst).or_default().insert(port));
    }
}

impl Truth {
    pub(super) fn all(sets: &BTreeMap<SocketAddr, BTreeSet<u16>>) -> BTreeSet<u16> {
        sets.values().flatten().copied().collect()
    }

    pub(super) fn in_use(&self) -> BTreeSet<u16> {
        let sets = [&self.closed, &self.listening, &self.connected];
        let waiting = Self::all(&self.waiting);
        sets.into_iter().flatten().copied().chain(waiting).collect()
    }

    pub(super) fn count(&self, keep: impl Fn(u16) -> bool) -> u64 {
        let (low, high) = self.range;
        (low..=high).filter(|port| keep(*port)).count() as u64
    }

    pub(super) fn is_bound(&self, port: u16) -> bool {
        let sets = [&self.closed, &self.listening, &self.bound_first];
        !self.reserved.contains(&port) && sets.iter().any(|set| set.contains(&port))
    }

    /// (bound, connected, time_wait, other, unused) towards a destination.
    pub(super) fn classes(&self, dst: SocketAddr) -> [u64; 5] {
        let none = BTreeSet::new();
        let towards = self.towards.get(&dst).unwrap_or(&none);
        let waiting = self.waiting.get(&dst).unwrap_or(&none);
        let in_use = self.in_use();
        let mut classes = [0; 5];
        let (low, high) = self.range;
        for port in (low..=high).filter(|port| !self.reserved.contains(port)) {
            let class = match port {
                port if self.is_bound(port) => 0,
                port if towards.contains(&port) => 1,
                port if waiting.contains(&port) => 2,
                port if in_use.contains(&port) => 3,
                _ => 4,
            };
            classes[class] += 1;
        }
        classes
    }

    pub(super) fn half_used(&self, first: bool, used: impl Fn(u16) -> bool) -> u64 {
        let low = self.range.0;
        self.count(|port| {
            (port - low).is_multiple_of(2) == first && !self.reserved.contains(&port) && used(port)
        })
    }
}
