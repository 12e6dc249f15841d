//! What decides about local ports, and the sockets that hold them.

use std::net::SocketAddr;

use super::TcpState;

/// Settings of one network namespace that bear on the search for a local port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSettings {
    /// Inode number of the namespace.
    pub netns: u32,
    /// `net.ipv4.ip_local_port_range`, both ends included.
    pub range: (u16, u16),
    /// `net.ipv4.ip_local_reserved_ports`, sorted, no duplicates.
    pub reserved: Vec<u16>,
    /// `net.ipv4.tcp_tw_reuse`: 0 never, 1 always, 2 on loopback; `None` when unreadable.
    pub tw_reuse: Option<u8>,
    /// `net.ipv4.tcp_tw_reuse_delay` (6.14+), ms; `None` where the kernel has none: 1 s there.
    pub tw_reuse_delay_ms: Option<u32>,
    /// `net.ipv4.tcp_timestamps`: 0 forbids to reuse any TIME_WAIT; `None` when unreadable.
    pub timestamps: Option<u8>,
}

/// A socket that holds a local port, as the kernel lists it, whoever owns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedSocket {
    /// Local address and port.
    pub local: SocketAddr,
    /// Peer; `None` without one.
    pub peer: Option<SocketAddr>,
    /// State; of a TIME_WAIT mini-socket that still waits for a FIN it is FIN_WAIT2.
    pub state: TcpState,
    /// A TIME_WAIT mini-socket, in either state.
    pub is_time_wait: bool,
    /// Inode number; 0 for what no descriptor refers to.
    pub inode: u32,
    /// TIME_WAIT: time left, ms.
    pub expires_ms: Option<u32>,
    /// IPV6_V6ONLY, where it is known (listeners and CLOSED sockets).
    pub v6only: Option<bool>,
}
