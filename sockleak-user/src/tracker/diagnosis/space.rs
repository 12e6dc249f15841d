//! The ports of one network namespace, as findings need them.

use std::net::{IpAddr, SocketAddr};

use crate::model::Arrange as _;
use crate::model::ProcessId;
use crate::tracker::remedy::wider_range;
use crate::tracker::{
    Binder, BoundBy, NetnsSockets, Occupancy, PortClass, PortHolders, Range, Room,
};

/// Destinations of a namespace that are looked at, busiest first.
const ROUTES: usize = 8;

/// What the ports of a namespace are used for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Space {
    /// Inode number of the namespace.
    pub netns: u32,
    /// ip_local_port_range, both ends included.
    pub range: (u16, u16),
    /// Ports in it.
    pub size: u64,
    /// Of those, reserved.
    pub reserved: u64,
    /// Ports that count as bound: no connect() takes them.
    pub bound: u64,
    /// Of those, of CLOSED sockets.
    pub bound_closed: u64,
    /// Of those, of listeners.
    pub bound_listening: u64,
    /// Ports that bind() to port 0 of any address can take; `None` without the kernel's list.
    pub bind_free: Option<u64>,
    /// Whether it is known which connections were bound first.
    pub buckets_known: bool,
    /// net.ipv4.tcp_tw_reuse.
    pub tw_reuse: Option<u8>,
    /// net.ipv4.tcp_timestamps.
    pub timestamps: Option<u8>,
    /// Processes whose CLOSED sockets hold ports of the range, most first.
    pub closed: Vec<(ProcessId, u64)>,
    /// Processes with connections on bound ports, most first.
    pub binders: Vec<(ProcessId, Binder)>,
    /// Ports on which two processes have connections after bind().
    pub contested: u64,
    /// Busiest destinations.
    pub routes: Vec<RouteUse>,
    /// A wider range, and its ports that are neither reserved nor bound.
    pub wider: Option<((u16, u16), u64)>,
}

/// Use of the range towards one destination.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteUse {
    /// Source and destination; `None` for a default value only.
    pub pair: Option<(IpAddr, SocketAddr)>,
    /// The room for another connect().
    pub room: Room,
    /// Connections to it.
    pub connected: u64,
    /// Of those, on bound ports.
    pub connected_bound: u64,
    /// Ports that connect() could take with tcp_tw_reuse=1 and timestamps.
    pub free_with_reuse: Option<u64>,
    /// The same in the wider range.
    pub free_in_wider: Option<u64>,
}

impl RouteUse {
    /// Ports that connect() could use at all.
    pub fn size(&self) -> u64 {
        crate::tracker::pressure::size(&self.room)
    }

    /// Of those, that it cannot take now.
    pub fn used(&self) -> u64 {
        crate::tracker::pressure::used(&self.room)
    }

    /// Of those, because of TIME_WAIT.
    pub fn waiting(&self) -> u64 {
        let reusable = self.room.time_wait_reusable.unwrap_or(0);
        self.room.time_wait.saturating_sub(reusable)
    }

    /// Share of the ports that is used.
    pub fn share(&self) -> f64 {
        self.used() as f64 / self.size().max(1) as f64
    }

    /// No port is left.
    pub fn is_exhausted(&self) -> bool {
        self.size() > 0 && self.used() >= self.size()
    }
}

impl Space {
    /// From the kernel's list and an inventory. To answer what a wider range would come to, the list
    /// has to know that range ([`NetnsSockets::new`]).
    pub fn new(sockets: &NetnsSockets, holders: &PortHolders) -> Self {
        let all = Occupancy::new(sockets, holders);
        let (range, settings) = (all.range(), all.settings());
        let count = |keep: &dyn Fn(u16) -> bool| {
            let ports = range.ports().filter(|port| keep(*port));
            ports.count() as u64
        };
        let bound_by = |by| {
            count(&|port| all.class(port) == PortClass::Bound && all.bound_by(port) == Some(by))
        };
        let both = (range.low, range.high);
        let mut closed: Vec<_> = (all.held())
            .map(|(process, held)| (process, held.bound.count_in(both)))
            .filter(|(_, ports)| *ports > 0)
            .collect();
        closed.arrange_by_key(|(process, ports)| (std::cmp::Reverse(*ports), *process));
        let mut binders: Vec<_> = all.binders().into_iter().collect();
        binders.arrange_by_key(|(process, binder)| (std::cmp::Reverse(binder.ports), *process));
        let wider = wider_range(Some(both)).map(Range::from);
        let changed = sockets.with_tw_reuse();
        let reusing = Occupancy::new(&changed, holders);
        let routes = all.destinations(ROUTES).into_iter().filter_map(|row| {
            let free = |all: &Occupancy<'_>, range| {
                let room = all.towards_in(range, Some(row.src), row.dst)?;
                Some(room.usable() + room.time_wait_reusable.unwrap_or(0))
            };
            Some(RouteUse {
                pair: Some((row.src, row.dst)),
                room: all.towards(Some(row.src), row.dst)?,
                connected: row.connected,
                connected_bound: row.connected_bound,
                free_with_reuse: free(&reusing, range),
                free_in_wider: wider.and_then(|wider| free(&all, wider)),
            })
        });
        Self {
            netns: settings.netns,
            range: both,
            size: range.size(),
            reserved: count(&|port| all.class(port) == PortClass::Reserved),
            bound: count(&|port| all.class(port) == PortClass::Bound),
            bound_closed: bound_by(BoundBy::Closed),
            bound_listening: bound_by(BoundBy::Listener),
            bind_free: all.for_bind(None).map(|room| room.usable()),
            buckets_known: all.buckets_are_known(),
            tw_reuse: settings.tw_reuse,
            timestamps: settings.timestamps,
            closed,
            contested: binders
                .iter()
                .map(|(_, one)| one.contested)
                .max()
                .unwrap_or(0),
            binders,
            routes: routes.collect(),
            wider: wider.map(|wider| ((wider.low, wider.high), all.open_in(wider))),
        }
    }

    /// Ports that connect() could use at all.
    pub fn usable(&self) -> u64 {
        self.size.saturating_sub(self.reserved)
    }

    /// Ports of connections that were bound first.
    pub fn bound_connected(&self) -> u64 {
        self.bound
            .saturating_sub(self.bound_closed + self.bound_listening)
    }

    /// No connect() finds a port, wherever it goes.
    pub fn is_exhausted(&self) -> bool {
        self.usable() > 0 && self.bound >= self.usable()
    }
}
