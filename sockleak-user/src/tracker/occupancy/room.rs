//! How much room a search for a port has, and what takes the rest.

use std::net::{IpAddr, SocketAddr};

use crate::model::ProcessId;

/// Why a port of the range is, or is not, there for a search; every port is in exactly one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PortClass {
    /// In `ip_local_reserved_ports`: never chosen, used or not.
    Reserved,
    /// connect(): its bucket counts as bound, which makes every connect() skip it, whatever the
    /// destination: a CLOSED socket, a listener, or a connection whose socket was bound first.
    /// bind(0): a CLOSED socket or a listener has it on a conflicting address.
    Bound,
    /// connect(): a connection with this source and destination has it. bind(0): a connection
    /// has it on a conflicting address.
    Connected,
    /// The same for a TIME_WAIT, and nothing else.
    TimeWait,
    /// In use, but not in the way of this search.
    Other,
    /// Nobody has it.
    Free,
}

/// One half of a range: the ports at an even (first) or odd (second) distance from its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Half {
    /// Ports that are not reserved.
    pub size: u64,
    /// Of those, not there for the search.
    pub used: u64,
}

/// What a process has in the way of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocker {
    /// Who.
    pub process: ProcessId,
    /// Distinct ports of the range that it keeps from the search.
    pub ports: u64,
    /// Of those, in class [`PortClass::Bound`].
    pub bound: u64,
}

/// The room of one search: connect() from a source to a destination, or bind() to any port of an
/// address. The six classes add up to `size`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Range searched, both ends included.
    pub range: (u16, u16),
    /// Ports in it.
    pub size: u64,
    /// [`PortClass::Reserved`].
    pub reserved: u64,
    /// [`PortClass::Bound`].
    pub bound: u64,
    /// [`PortClass::Connected`].
    pub connected: u64,
    /// [`PortClass::TimeWait`].
    pub time_wait: u64,
    /// [`PortClass::Other`]: in use, and still there for this search.
    pub other: u64,
    /// [`PortClass::Free`].
    pub free: u64,
    /// The half that connect() tries first, bind(0) last.
    pub first: Half,
    /// The half that connect() tries last, bind(0) first.
    pub second: Half,
    /// connect(): of `time_wait`, those that `tcp_tw_reuse` lets it take over now, if both sides
    /// use timestamps; `None` when that cannot be told. bind(0): always 0.
    pub time_wait_reusable: Option<u64>,
    /// Processes that keep ports from the search, most first. Reserved ports count for nobody.
    pub blockers: Vec<Blocker>,
}

impl Room {
    /// Ports that the search can still take.
    pub fn usable(&self) -> u64 {
        self.free + self.other
    }

    /// Ports that it cannot take and that are not reserved.
    pub fn used(&self) -> u64 {
        self.bound + self.connected + self.time_wait
    }

    pub(super) fn count(&mut self, class: PortClass, is_first: bool) {
        self.size += 1;
        *match class {
            PortClass::Reserved => &mut self.reserved,
            PortClass::Bound => &mut self.bound,
            PortClass::Connected => &mut self.connected,
            PortClass::TimeWait => &mut self.time_wait,
            PortClass::Other => &mut self.other,
            PortClass::Free => &mut self.free,
        } += 1;
        let half = if is_first {
            &mut self.first
        } else {
            &mut self.second
        };
        half.size += u64::from(class != PortClass::Reserved);
        half.used += u64::from(matches!(
            class,
            PortClass::Bound | PortClass::Connected | PortClass::TimeWait
        ));
    }
}

/// Use of the range towards one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Source address.
    pub src: IpAddr,
    /// Destination.
    pub dst: SocketAddr,
    /// Connections on ports of the range, also on bound ones.
    pub connected: u64,
    /// Of those, on ports that count as bound.
    pub connected_bound: u64,
    /// TIME_WAIT on ports of the range that are not bound.
    pub time_wait: u64,
    /// Ports that connect() can still take from this source to this destination.
    pub usable: u64,
}
