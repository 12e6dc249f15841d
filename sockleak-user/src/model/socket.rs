//! A TCP socket as an inventory finds it.

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use super::{Past, ProcessId};

/// `sk->__sk_common.skc_state` (`enum` in include/net/tcp_states.h, stable since 2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum TcpState {
    /// TCP_ESTABLISHED
    Established = 1,
    /// TCP_SYN_SENT
    SynSent = 2,
    /// TCP_SYN_RECV
    SynRecv = 3,
    /// TCP_FIN_WAIT1
    FinWait1 = 4,
    /// TCP_FIN_WAIT2
    FinWait2 = 5,
    /// TCP_TIME_WAIT
    TimeWait = 6,
    /// TCP_CLOSE
    Close = 7,
    /// TCP_CLOSE_WAIT
    CloseWait = 8,
    /// TCP_LAST_ACK
    LastAck = 9,
    /// TCP_LISTEN
    Listen = 10,
    /// TCP_CLOSING
    Closing = 11,
    /// TCP_NEW_SYN_RECV (request sockets; never behind a descriptor)
    NewSynRecv = 12,
    /// TCP_BOUND_INACTIVE (6.8+, only in sock_diag answers: a CLOSED socket with a port)
    BoundInactive = 13,
}

impl TcpState {
    /// Name as in ss(8) and RFC 9293.
    pub fn name(self) -> &'static str {
        match self {
            Self::Established => "ESTABLISHED",
            Self::SynSent => "SYN-SENT",
            Self::SynRecv => "SYN-RECV",
            Self::FinWait1 => "FIN-WAIT-1",
            Self::FinWait2 => "FIN-WAIT-2",
            Self::TimeWait => "TIME-WAIT",
            Self::Close => "CLOSED",
            Self::CloseWait => "CLOSE-WAIT",
            Self::LastAck => "LAST-ACK",
            Self::Listen => "LISTEN",
            Self::Closing => "CLOSING",
            Self::NewSynRecv => "NEW-SYN-RECV",
            Self::BoundInactive => "BOUND-INACTIVE",
        }
    }
}

impl TryFrom<u8> for TcpState {
    type Error = u8;

    fn try_from(raw: u8) -> Result<Self, u8> {
        Ok(match raw {
            1 => Self::Established,
            2 => Self::SynSent,
            3 => Self::SynRecv,
            4 => Self::FinWait1,
            5 => Self::FinWait2,
            6 => Self::TimeWait,
            7 => Self::Close,
            8 => Self::CloseWait,
            9 => Self::LastAck,
            10 => Self::Listen,
            11 => Self::Closing,
            12 => Self::NewSynRecv,
            13 => Self::BoundInactive,
            other => return Err(other),
        })
    }
}

/// What a held socket is good for, as the reports group them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SocketClass {
    /// CLOSED and without a local port: `socket()` and nothing since, or everything is over.
    Unbound,
    /// CLOSED but holding a local port.
    Bound,
    /// Listening.
    Listen,
    /// SYN_SENT or SYN_RECV.
    Connecting,
    /// ESTABLISHED.
    Established,
    /// The peer has closed, the process has not.
    CloseWait,
    /// FIN_WAIT1, FIN_WAIT2, LAST_ACK or CLOSING.
    Closing,
}

impl SocketClass {
    /// All classes, in the order in which reports list them.
    pub const ALL: [Self; 7] = [
        Self::Unbound,
        Self::Bound,
        Self::Listen,
        Self::Connecting,
        Self::Established,
        Self::CloseWait,
        Self::Closing,
    ];

    /// Class of a socket in `state` with local port `port` (`skc_num`, 0 = none).
    ///
    /// A CLOSED TCP socket has `skc_num != 0` exactly while it owns a bind bucket:
    /// `inet_bind_hash` sets both, `__inet_put_port` clears both (5.10 to 7.2).
    pub fn of(state: TcpState, port: u16) -> Self {
        match state {
            TcpState::Close if port == 0 => Self::Unbound,
            TcpState::Close | TcpState::BoundInactive => Self::Bound,
            TcpState::Listen => Self::Listen,
            TcpState::SynSent | TcpState::SynRecv | TcpState::NewSynRecv => Self::Connecting,
            TcpState::Established => Self::Established,
            TcpState::CloseWait => Self::CloseWait,
            TcpState::FinWait1
            | TcpState::FinWait2
            | TcpState::TimeWait
            | TcpState::LastAck
            | TcpState::Closing => Self::Closing,
        }
    }
}

/// Address family of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// AF_INET
    V4,
    /// AF_INET6 (also when it carries IPv4-mapped addresses)
    V6,
}

/// When and by whom a socket was created or accepted; known only where that happened while hooks were on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Birth {
    /// `CLOCK_MONOTONIC` time of that in ns (`bpf_ktime_get_ns`).
    pub at_ns: u64,
    /// The process that called `socket()` or `accept()`.
    pub creator: ProcessId,
    /// It was `accept()`.
    pub accepted: bool,
}

/// One descriptor that refers to a TCP socket.
///
/// A socket that several descriptors or processes share appears once per descriptor, each time
/// with the same `sk` (or the same `inode` when the source cannot see `sk`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldSocket {
    /// Address of the `struct sock`; 0 when the source cannot see it (`--no-bpf`).
    pub sk: u64,
    /// Inode number of the socket, as in `/proc/PID/fd` and sock_diag.
    pub inode: u64,
    /// Process that has the descriptor.
    pub holder: ProcessId,
    /// Descriptor number in that process.
    pub fd: u32,
    /// Inode number of the network namespace the socket lives in; `None` when unknown.
    pub netns: Option<u32>,
    /// Address family.
    pub family: Family,
    /// TCP state.
    pub state: TcpState,
    /// Class derived from state and port.
    pub class: SocketClass,
    /// Local address and port; port 0 and an unspecified address when it has none.
    pub local: SocketAddr,
    /// Peer address, when there is one.
    pub peer: Option<SocketAddr>,
    /// CLOSED, without a peer's port and with a peer's address: connect() has failed (or was
    /// undone by AF_UNSPEC). `tcp_v4_connect` sets the address before the port search, and what
    /// undoes it (its end, `tcp_disconnect`) clears the port only (net/ipv4/tcp_ipv4.c, tcp.c;
    /// 5.10 to 7.2, IPv6 likewise). `None` where the source cannot see it.
    pub attempted: Option<IpAddr>,
    /// Listeners only: connections established but not yet accepted (`sk_ack_backlog`); each
    /// is an allocated socket that no descriptor refers to.
    pub accept_queue: u32,
    /// The descriptor's socket is MPTCP and this is its first subflow.
    pub mptcp: bool,
    /// The bind bucket of its port belongs to bind(), so that connect() passes the port over
    /// whatever the destination (`fastreuse` or `fastreuseport` not negative); `None` without a
    /// port, and where the source cannot see it.
    pub port_bound: Option<bool>,
    /// Creation, when the hooks saw it.
    pub birth: Option<Birth>,
    /// What else they saw.
    pub past: Past,
}

impl HeldSocket {
    /// Key under which descriptors of the same socket meet within one inventory.
    pub fn identity(&self) -> u64 {
        if self.sk != 0 { self.sk } else { self.inode }
    }
}
