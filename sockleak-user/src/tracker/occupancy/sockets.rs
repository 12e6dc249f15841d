//! The sockets that hold ports in one network namespace, as the kernel lists them.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use super::range::Range;
use crate::model::{ListedSocket, PortSettings, TcpState};

/// Most pairs of source and destination remembered; about 120 bytes each.
const MOST_PAIRS: usize = 1 << 17;
/// Most sockets remembered; 20 bytes each. The kernel has at most 65,535 ports to give away, but
/// any number of connections on one of them.
const MOST_SOCKETS: usize = 1 << 21;
/// "No pair" in a [`Record`].
pub(super) const NO_PAIR: u32 = u32::MAX;

/// What a socket does with its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// CLOSED, with a port.
    Closed,
    Listening,
    Connected,
    /// A connection request: on its listener's port, without a claim of its own.
    Request,
    TimeWait,
    /// A TIME_WAIT mini-socket that still waits for a FIN.
    TimeWaitFin,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub(super) inode: u32,
    pub(super) pair: u32,
    pub(super) address: u32,
    /// `u32::MAX` when unknown.
    expires_ms: u32,
    pub(super) port: u16,
    pub(super) kind: Kind,
    pub(super) v6only: bool,
}

impl Record {
    pub(super) fn expires_ms(&self) -> Option<u32> {
        (self.expires_ms != u32::MAX).then_some(self.expires_ms)
    }

    pub(super) fn is_time_wait(&self) -> bool {
        matches!(self.kind, Kind::TimeWait | Kind::TimeWaitFin)
    }
}

/// Settings of a namespace and every socket that holds a port in it.
///
/// Filled from a sock_diag dump of all states: [`NetnsSockets::add`] each socket.
#[derive(Clone, Debug)]
pub struct NetnsSockets {
    pub(super) settings: PortSettings,
    /// Ranges whose connections keep their destination.
    ranges: [Option<Range>; 2],
    pub(super) records: Vec<Record>,
    pub(super) pairs: Vec<(IpAddr, SocketAddr)>,
    /// Addresses come from the network, so not with our own hasher.
    pair_index: HashMap<(IpAddr, SocketAddr), u32>,
    pub(super) addresses: Vec<IpAddr>,
    address_index: HashMap<IpAddr, u32>,
    /// The dump lists CLOSED sockets with a port (6.8+).
    pub(super) lists_closed: bool,
    /// There was a dump at all.
    pub(super) is_listed: bool,
    dropped: u64,
}

impl NetnsSockets {
    /// None yet. `own_range` is an IP_LOCAL_PORT_RANGE that questions will be asked about.
    pub fn new(settings: PortSettings, own_range: Option<(u16, u16)>) -> Self {
        let ranges = [Some(settings.range), own_range];
        Self {
            settings,
            ranges: ranges.map(|range| range.map(Range::from)),
            records: Vec::new(),
            pairs: Vec::new(),
            pair_index: HashMap::new(),
            addresses: Vec::new(),
            address_index: HashMap::new(),
            lists_closed: false,
            is_listed: false,
            dropped: 0,
        }
    }

    /// Forgets all sockets, for a dump that starts again.
    pub fn clear(&mut self) {
        *self = Self {
            ranges: self.ranges,
            ..Self::new(std::mem::take(&mut self.settings), None)
        };
    }

    /// The dump is complete; `lists_closed`: CLOSED sockets with a port were in it.
    pub fn listed(&mut self, lists_closed: bool) {
        self.is_listed = true;
        self.lists_closed |= lists_closed;
    }

    /// Adds a socket.
    pub fn add(&mut self, socket: &ListedSocket) {
        let port = socket.local.port();
        if port == 0 {
            return;
        }
        if self.records.len() >= MOST_SOCKETS {
            self.dropped += 1;
            return;
        }
        let kind = match (socket.is_time_wait, socket.state) {
            (true, TcpState::FinWait2) => Kind::TimeWaitFin,
            (true, _) | (false, TcpState::TimeWait) => Kind::TimeWait,
            (false, TcpState::Close | TcpState::BoundInactive) => Kind::Closed,
            (false, TcpState::Listen) => Kind::Listening,
            // sock_diag shows requests in the state that they had before 4.4, without an inode;
            // a socket in SYN_RECV proper (simultaneous open) has one.
            (false, TcpState::NewSynRecv) => Kind::Request,
            (false, TcpState::SynRecv) if socket.inode == 0 => Kind::Request,
            (false, _) => Kind::Connected,
        };
        self.lists_closed |= kind == Kind::Closed;
        let source = socket.local.ip().to_canonical();
        // The pairs of a server's connections are as many as its clients, and nobody asks.
        let asked = self
            .ranges
            .iter()
            .flatten()
            .any(|range| range.contains(port));
        let pair = match socket.peer.filter(|_| asked && kind != Kind::Request) {
            Some(peer) => self.pair(source, canonical(peer)),
            None => NO_PAIR,
        };
        let record = Record {
            inode: socket.inode,
            pair,
            address: self.address(source),
            expires_ms: socket.expires_ms.unwrap_or(u32::MAX),
            port,
            kind,
            v6only: socket.v6only == Some(true),
        };
        self.records.push(record);
    }

    /// The same sockets under `net.ipv4.tcp_tw_reuse=1` and with timestamps: what a change comes to.
    pub fn with_tw_reuse(&self) -> Self {
        let mut changed = self.clone();
        changed.settings.tw_reuse = Some(1);
        changed.settings.timestamps = Some(1);
        changed
    }

    /// Settings of the namespace.
    pub fn settings(&self) -> &PortSettings {
        &self.settings
    }

    /// Sockets, or their destinations, that did not fit.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Whether there was a dump at all.
    pub fn is_listed(&self) -> bool {
        self.is_listed
    }

    pub(super) fn address_of(&self, record: &Record) -> Option<IpAddr> {
        self.addresses.get(record.address as usize).copied()
    }

    pub(super) fn pair_of(&self, record: &Record) -> Option<(IpAddr, SocketAddr)> {
        self.pairs.get(record.pair as usize).copied()
    }

    fn pair(&mut self, source: IpAddr, peer: SocketAddr) -> u32 {
        if let Some(index) = self.pair_index.get(&(source, peer)) {
            return *index;
        }
        if self.pairs.len() >= MOST_PAIRS {
            self.dropped += 1;
            return NO_PAIR;
        }
        let index = self.pairs.len() as u32;
        self.pairs.push((source, peer));
        self.pair_index.insert((source, peer), index);
        index
    }

    fn address(&mut self, address: IpAddr) -> u32 {
        let next = self.addresses.len() as u32;
        let index = *self.address_index.entry(address).or_insert(next);
        if index == next {
            self.addresses.push(address);
        }
        index
    }
}

/// As the kernel compares addresses: IPv4 also where it is written as IPv6, without the scope.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
