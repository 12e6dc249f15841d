//! What the local ports of one network namespace are used for.

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

/// `ports`. Counts are of distinct ports; those of classes are of ports inside the range, where
/// `reserved`, `bound`, `connected`, `time_wait` and `free` add up to `size`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OccupancyReport {
    /// Inode number of the namespace.
    pub netns: u32,
    /// Where holders come from: `bpf` (iter/task_file) or `proc` (/proc, xattr, sock_diag).
    pub method: &'static str,
    /// Every process and every socket could be seen.
    pub complete: bool,
    /// Why not, when not complete.
    pub incomplete: Vec<String>,
    /// ip_local_port_range, both ends included.
    pub range: [u16; 2],
    /// Ports in the range.
    pub size: u64,
    /// Of those, in ip_local_reserved_ports, used or not.
    pub reserved: u64,
    /// Their bind bucket counts as bound: no connect() without a port takes them, whatever the
    /// destination.
    pub bound: u64,
    /// Not bound, and a connection has them.
    pub connected: u64,
    /// Only TIME_WAIT has them.
    pub time_wait: u64,
    /// Nobody has them.
    pub free: u64,
    /// Of `bound`, those that a listener has.
    pub bound_listening: u64,
    /// Of the rest of `bound`, those that a CLOSED socket has.
    pub bound_closed: u64,
    /// The rest of `bound`: connections whose socket was bound first, or whose port somebody
    /// else bound, too; `None` when the kernel could not be asked.
    pub bound_connected: Option<u64>,
    /// Ports at an even distance from the range's first that are not reserved: connect() tries
    /// them first, bind(0) last.
    pub first_parity_size: u64,
    /// Of those, not free.
    pub first_parity_used: u64,
    /// Ports at an odd distance that are not reserved: connect() tries them last, bind(0) first.
    pub second_parity_size: u64,
    /// Of those, not free.
    pub second_parity_used: u64,
    /// Ports in use in this namespace, inside and outside of the range.
    pub in_use: u64,
    /// Of `reserved`, those in use.
    pub reserved_used: u64,
    /// Who holds ports, most first. A port counts for everybody who holds it.
    pub holders: Vec<PortHolderReport>,
    /// Holders that are not listed.
    pub holders_omitted: u64,
    /// Ports of the range that sockets have which belong to nobody who could be seen: closed by
    /// their process, not yet accepted, or of a hidden process. Not TIME_WAIT.
    pub unowned: u64,
    /// Ports in use outside of the range.
    pub outside: OutsideReport,
    /// Ports in use in other network namespaces, most first: `ss -s` adds them up.
    pub elsewhere: Vec<ElsewhereReport>,
    /// TIME_WAIT sockets of the namespace, whatever their port; `None` when unknown.
    pub time_wait_sockets: Option<u64>,
    /// When they end; `None` when the kernel did not say.
    pub drain: Option<DrainReport>,
    /// net.ipv4.tcp_tw_reuse: 0 never, 1 always, 2 on loopback.
    pub tw_reuse: Option<u8>,
    /// Connections per second to one destination that the range sustains when this side closes
    /// first: ports that are neither reserved nor bound over the 60 s of TIME_WAIT.
    pub sustained_per_s: f64,
    /// Ports that bind() of any address to port 0 can take; `None` when unknown.
    pub bind_free: Option<u64>,
    /// Local addresses that use the range, most first.
    pub addresses: Vec<AddressReport>,
    /// Local addresses that are not listed.
    pub addresses_omitted: u64,
    /// Busiest destinations.
    pub destinations: Vec<DestinationReport>,
    /// Destinations that are not listed.
    pub destinations_omitted: u64,
    /// Room towards the destination that was asked for.
    pub to: Option<TowardsReport>,
    /// The range in pieces of equal size: what is where.
    pub map: PortMap,
    /// What the figures leave open.
    pub limits: Vec<String>,
    /// What it comes to.
    pub conclusion: String,
    /// How long the look took, seconds.
    pub took_s: f64,
}

/// The range in pieces of equal size, from its first port on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PortMap {
    /// Ports of a piece; the last one may have fewer.
    pub step: u16,
    /// Pieces that are not entirely free, in order.
    pub pieces: Vec<PortPiece>,
}

/// A piece of the range. What is missing to its size is free.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PortPiece {
    /// Its first port.
    pub first: u16,
    /// Ports that are reserved.
    pub reserved: u16,
    /// Ports that count as bound.
    pub bound: u16,
    /// Ports that only connections have.
    pub connected: u16,
    /// Ports that only TIME_WAIT has.
    pub time_wait: u16,
    /// The process that holds most of them; `None` when none is known to hold any.
    pub pid: Option<u32>,
}

/// Ports of the range that one process holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PortHolderReport {
    /// Who.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// Through CLOSED sockets.
    pub bound: u64,
    /// Through connections.
    pub connected: u64,
    /// Of `connected`, ports that count as bound although neither a listener nor a CLOSED socket
    /// has them; `None` when the kernel could not be asked.
    pub connected_bound: Option<u64>,
    /// Through listeners.
    pub listening: u64,
    /// Ports outside of the range, of any kind.
    pub outside: u64,
}

/// Ports in use outside of the range.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OutsideReport {
    /// How many.
    pub count: u64,
    /// Of those, only TIME_WAIT has them.
    pub time_wait: u64,
    /// Of those, held by nobody who could be seen.
    pub unowned: u64,
    /// Who holds the others, most first.
    pub holders: Vec<OutsideHolderReport>,
    /// Holders that are not listed.
    pub holders_omitted: u64,
}

/// Ports outside of the range that one process holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutsideHolderReport {
    /// Who.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// Through CLOSED sockets.
    pub bound: u64,
    /// Through connections, also those that were accepted on a listener's port.
    pub connected: u64,
    /// Through listeners.
    pub listening: u64,
    /// Which: first and last of each run.
    pub ports: Vec<[u16; 2]>,
    /// Runs that are not listed.
    pub ports_omitted: u64,
}

/// Ports in use in another network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ElsewhereReport {
    /// Inode number of the namespace.
    pub netns: u32,
    /// Ports that descriptors hold there.
    pub in_use: u64,
}

/// When TIME_WAIT sockets end; each figure includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct DrainReport {
    /// Within 1 s.
    pub within_1_s: u64,
    /// Within 10 s.
    pub within_10_s: u64,
    /// Within 30 s.
    pub within_30_s: u64,
    /// Within 60 s.
    pub within_60_s: u64,
    /// When the last one ends, seconds from now.
    pub last_s: f64,
}

/// A local address that uses ports of the range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AddressReport {
    /// The address; unspecified for sockets that are bound to all.
    pub address: IpAddr,
    /// Ports of the range in use there.
    pub in_use: u64,
    /// Ports that bind() of this address to port 0 can take, without SO_REUSEADDR.
    pub bind_free: u64,
}

/// Use of the range by one source and destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DestinationReport {
    /// Source address.
    pub src: IpAddr,
    /// Destination.
    pub dst: SocketAddr,
    /// Connections.
    pub connected: u64,
    /// Of those, on ports that count as bound.
    pub connected_bound: u64,
    /// TIME_WAIT.
    pub time_wait: u64,
    /// Ports that a further connect() can take.
    pub free: u64,
}

/// Room towards one destination. `used` and `free` add up to `size - reserved`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TowardsReport {
    /// Destination.
    pub dst: SocketAddr,
    /// Source address; `None` where the kernel has no route: then all sources are taken together.
    pub src: Option<IpAddr>,
    /// Ports that connect() cannot take: `bound + connected + time_wait`.
    pub used: u64,
    /// Their bind bucket counts as bound.
    pub bound: u64,
    /// A connection to this destination has them.
    pub connected: u64,
    /// A TIME_WAIT towards this destination has them.
    pub time_wait: u64,
    /// Of those, that connect() may take over now, as tcp_tw_reuse says and if both sides use
    /// timestamps; `None` when unknown.
    pub time_wait_reusable: Option<u64>,
    /// Ports that connect() can take: `other + unused`.
    pub free: u64,
    /// Of those, in use towards other destinations.
    pub other: u64,
    /// Of those, not in use at all.
    pub unused: u64,
    /// Ports of the half that connect() tries first, without reserved ones.
    pub first_parity_size: u64,
    /// Of those, that it cannot take.
    pub first_parity_used: u64,
    /// Ports of the half that connect() tries last, without reserved ones.
    pub second_parity_size: u64,
    /// Of those, that it cannot take.
    pub second_parity_used: u64,
    /// Who keeps ports from this connect(), most first.
    pub holders: Vec<BlockerReport>,
    /// Holders that are not listed.
    pub holders_omitted: u64,
    /// Use by each source address.
    pub sources: Vec<DestinationReport>,
}

/// Ports that one process keeps from a connect().
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BlockerReport {
    /// Who.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// Ports.
    pub ports: u64,
    /// Of those, that count as bound.
    pub bound: u64,
}
