//! The room that an [`Occupancy`] leaves to a search.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use super::holders::Use;
use super::range::Range;
use super::room::{Blocker, Destination, PortClass, Room};
use super::sockets::{Kind, NO_PAIR, Record, canonical};
use super::{BOUND, BUCKET_BOUND, IN_USE, LISTENING, Occupancy, RESERVED};
use crate::model::Arrange as _;
use crate::model::PortSet;
use crate::model::{PortSettings, ProcessId};

/// TIME_WAIT lasts this long (`TCP_TIMEWAIT_LEN` of include/net/tcp.h), ms.
const TIME_WAIT_MS: u32 = 60_000;
/// Least age at which a TIME_WAIT can be taken over where there is no `tcp_tw_reuse_delay`, ms.
const REUSE_DELAY_MS: u32 = 1_000;

/// In the way of the search at hand.
const BY_BIND: u8 = 1;
const BY_CONNECTION: u8 = 2;
const BY_TIME_WAIT: u8 = 4;
const REUSABLE: u8 = 8;

/// Ports that are in the way, and whose they are.
struct Obstacles {
    by_port: Vec<u8>,
    owned: BTreeMap<ProcessId, PortSet>,
}

impl Obstacles {
    fn new() -> Self {
        Self {
            by_port: vec![0; 1 << 16],
            owned: BTreeMap::new(),
        }
    }

    fn add(&mut self, port: u16, what: u8, owners: impl Iterator<Item = ProcessId>) {
        if let Some(known) = self.by_port.get_mut(usize::from(port)) {
            *known |= what;
        }
        for owner in owners {
            self.owned.entry(owner).or_default().insert(port);
        }
    }

    fn at(&self, port: u16) -> u8 {
        self.by_port.get(usize::from(port)).copied().unwrap_or(0)
    }
}

impl Occupancy<'_> {
    /// Room for connect() from `src` to `dst` within the namespace's range.
    ///
    /// Without `src` a port counts as taken when any source address uses it towards `dst`.
    /// `None` when the kernel's list of sockets is missing.
    pub fn towards(&self, src: Option<IpAddr>, dst: SocketAddr) -> Option<Room> {
        self.towards_in(self.range, src, dst)
    }

    /// [`Occupancy::towards`] within another range: the socket's own IP_LOCAL_PORT_RANGE, which
    /// [`super::NetnsSockets::new`] has to know.
    pub fn towards_in(&self, range: Range, src: Option<IpAddr>, dst: SocketAddr) -> Option<Room> {
        if !self.sockets.is_listed {
            return None;
        }
        let (src, dst) = (src.map(|src| src.to_canonical()), canonical(dst));
        let is_asked: Vec<bool> = (self.sockets.pairs.iter())
            .map(|(from, to)| *to == dst && src.is_none_or(|src| src == *from))
            .collect();
        let mut obstacles = Obstacles::new();
        for record in &self.sockets.records {
            if !is_asked
                .get(record.pair as usize)
                .is_some_and(|asked| *asked)
            {
                continue;
            }
            match record.kind {
                Kind::Connected | Kind::Closed | Kind::Listening => {
                    obstacles.add(record.port, BY_CONNECTION, self.owners(record.inode));
                }
                Kind::TimeWait | Kind::TimeWaitFin => {
                    let reusable = is_old_enough(record, &self.sockets.settings);
                    let what = BY_TIME_WAIT | if reusable { REUSABLE } else { 0 };
                    obstacles.add(record.port, what, std::iter::empty());
                }
                Kind::Request => {}
            }
        }
        // Whoever has a socket on a bound port is in the way of every destination.
        for (process, held) in &self.held {
            let ports = held.bound.iter().chain(held.listening.iter());
            let bound = ports.chain(held.connected.iter().filter(|port| self.is_bound(*port)));
            obstacles.owned.entry(*process).or_default().extend(bound);
        }
        let class = |port| match self.flags(port) {
            flags if flags & RESERVED != 0 => PortClass::Reserved,
            flags if flags & BOUND != 0 => PortClass::Bound,
            flags => not_bound(obstacles.at(port), flags),
        };
        let mut room = self.room(range, &obstacles, class);
        room.time_wait_reusable = self.may_reuse(src, dst.ip()).map(|may| {
            let taken_over = |port: &u16| {
                may && class(*port) == PortClass::TimeWait && obstacles.at(*port) & REUSABLE != 0
            };
            range.ports().filter(taken_over).count() as u64
        });
        Some(room)
    }

    /// Room for bind() of `address` to any port, by a socket without SO_REUSEADDR and
    /// SO_REUSEPORT; an unspecified address, or none, conflicts with every other. Sockets with
    /// these options may find more room.
    ///
    /// `None` when the kernel's list of sockets is missing.
    pub fn for_bind(&self, address: Option<IpAddr>) -> Option<Room> {
        self.for_bind_in(self.range, address)
    }

    /// [`Occupancy::for_bind`] within another range, as [`Occupancy::towards_in`].
    pub fn for_bind_in(&self, range: Range, address: Option<IpAddr>) -> Option<Room> {
        if !self.sockets.is_listed {
            return None;
        }
        let address = address.map(|address| address.to_canonical());
        let mut obstacles = Obstacles::new();
        for record in &self.sockets.records {
            let other = self.sockets.address_of(record);
            let what = match record.kind {
                Kind::Request => continue,
                Kind::Closed | Kind::Listening => BY_BIND,
                Kind::Connected => BY_CONNECTION,
                Kind::TimeWait | Kind::TimeWaitFin => BY_TIME_WAIT,
            };
            if other.is_none_or(|other| conflicts(address, other, record.v6only)) {
                obstacles.add(record.port, what, self.owners(record.inode));
            }
        }
        for holder in self
            .holders
            .iter()
            .filter(|holder| self.is_unlisted(holder))
        {
            // Whether it is for IPv6 only is not known here.
            if conflicts(address, self.processes.address_of(holder), false) {
                let what = match holder.uses {
                    Use::Closed | Use::Listening => BY_BIND,
                    Use::Connected => BY_CONNECTION,
                };
                let owner = self.processes.process_at(holder.process);
                obstacles.add(holder.port, what, owner.into_iter());
            }
        }
        let class = |port| match self.flags(port) {
            flags if flags & RESERVED != 0 => PortClass::Reserved,
            _ if obstacles.at(port) & BY_BIND != 0 => PortClass::Bound,
            flags => not_bound(obstacles.at(port), flags),
        };
        let mut room = self.room(range, &obstacles, class);
        room.time_wait_reusable = Some(0);
        Some(room)
    }

    /// Use of the range by source and destination, busiest first, at most `most`. Connections
    /// that were accepted there are left out: their port is their listener's.
    pub fn destinations(&self, most: usize) -> Vec<Destination> {
        let mut found: HashMap<u32, (Destination, u64)> = HashMap::new();
        for record in &self.sockets.records {
            let flags = self.flags(record.port);
            let is_ours = record.pair != NO_PAIR
                && self.range.contains(record.port)
                && flags & (LISTENING | RESERVED) == 0;
            let Some((src, dst)) = self.sockets.pair_of(record).filter(|_| is_ours) else {
                continue;
            };
            let empty = Destination {
                src,
                dst,
                connected: 0,
                connected_bound: 0,
                time_wait: 0,
                usable: 0,
            };
            let (row, taken) = found.entry(record.pair).or_insert((empty, 0));
            let is_bound = flags & BOUND != 0;
            if record.is_time_wait() {
                row.time_wait += u64::from(!is_bound);
            } else {
                row.connected += 1;
                row.connected_bound += u64::from(is_bound);
            }
            // A tuple exists once, so each record is a port of its own.
            *taken += u64::from(!is_bound);
        }
        let open = self.range.ports().filter(|port| {
            let flags = self.flags(*port);
            flags & (RESERVED | BOUND) == 0
        });
        let open = open.count() as u64;
        let mut rows: Vec<Destination> = found
            .into_values()
            .map(|(row, taken)| Destination {
                usable: open.saturating_sub(taken),
                ..row
            })
            .collect();
        rows.arrange_by_key(|row| {
            let busy = row.connected + row.time_wait;
            (std::cmp::Reverse(busy), row.dst, row.src)
        });
        rows.truncate(most);
        rows
    }

    /// Local addresses that use ports of the range, by distinct ports, most first.
    pub fn addresses(&self) -> Vec<(IpAddr, u64)> {
        let mut ports: HashMap<u32, PortSet> = HashMap::new();
        for record in &self.sockets.records {
            if self.range.contains(record.port) && record.kind != Kind::Request {
                ports.entry(record.address).or_default().insert(record.port);
            }
        }
        let address = |index: u32| self.sockets.addresses.get(index as usize).copied();
        let mut rows: Vec<(IpAddr, u64)> = ports
            .into_iter()
            .filter_map(|(index, ports)| Some((address(index)?, ports.len() as u64)))
            .collect();
        rows.arrange_by_key(|(address, ports)| (std::cmp::Reverse(*ports), *address));
        rows
    }

    fn is_bound(&self, port: u16) -> bool {
        self.flags(port) & BOUND != 0
    }

    fn room(&self, range: Range, obstacles: &Obstacles, class: impl Fn(u16) -> PortClass) -> Room {
        let mut room = Room {
            range: (range.low, range.high),
            ..Room::default()
        };
        for port in range.ports() {
            room.count(class(port), range.is_first_parity(port));
        }
        room.blockers = (obstacles.owned.iter())
            .map(|(process, ports)| {
                let classes = ports
                    .iter()
                    .filter(|port| range.contains(*port))
                    .map(&class);
                let mut blocker = Blocker {
                    process: *process,
                    ports: 0,
                    bound: 0,
                };
                for class in classes {
                    let blocks = matches!(class, PortClass::Bound | PortClass::Connected);
                    blocker.ports += u64::from(blocks);
                    blocker.bound += u64::from(class == PortClass::Bound);
                }
                blocker
            })
            .filter(|blocker| blocker.ports > 0)
            .collect();
        room.blockers
            .arrange_by_key(|blocker| (std::cmp::Reverse(blocker.ports), blocker.process));
        room
    }

    /// Whether `tcp_tw_reuse` allows connect() between these addresses to take over TIME_WAIT
    /// (net/ipv4/tcp_ipv4.c `tcp_twsk_unique`); `None` when a setting is unknown.
    fn may_reuse(&self, src: Option<IpAddr>, dst: IpAddr) -> Option<bool> {
        let settings = &self.sockets.settings;
        if settings.timestamps? == 0 {
            return Some(false);
        }
        let is_loopback = dst.is_loopback() || src.is_some_and(|src| src.is_loopback());
        match settings.tw_reuse? {
            0 => Some(false),
            1 => Some(true),
            2 => Some(is_loopback),
            _ => None,
        }
    }
}

fn not_bound(obstacles: u8, flags: u8) -> PortClass {
    if obstacles & BY_CONNECTION != 0 {
        PortClass::Connected
    } else if obstacles & BY_TIME_WAIT != 0 {
        PortClass::TimeWait
    } else if flags & (IN_USE | BUCKET_BOUND) != 0 {
        PortClass::Other
    } else {
        PortClass::Free
    }
}

/// Old enough to be taken over. One in FIN_WAIT2 is not taken over by newer kernels.
fn is_old_enough(record: &Record, settings: &PortSettings) -> bool {
    let delay = settings.tw_reuse_delay_ms.unwrap_or(REUSE_DELAY_MS);
    record.kind == Kind::TimeWait
        && (record.expires_ms()).is_some_and(|left| TIME_WAIT_MS.saturating_sub(left) > delay)
}

/// Whether bind() to `address` (`None`: any) conflicts with a socket on `other`
/// (net/ipv4/inet_connection_sock.c `inet_rcv_saddr_equal` with both wildcards matched).
fn conflicts(address: Option<IpAddr>, other: IpAddr, other_is_v6only: bool) -> bool {
    let Some(address) = address.filter(|address| !address.is_unspecified()) else {
        return true;
    };
    match (address, other) {
        (IpAddr::V4(_), IpAddr::V6(other)) => other.is_unspecified() && !other_is_v6only,
        (IpAddr::V6(_), IpAddr::V4(_)) => false,
        (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => {
            address == other || other.is_unspecified()
        }
    }
}
