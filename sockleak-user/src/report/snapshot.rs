//! One look: every process's TCP sockets, and the ports of every namespace.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{Family, SocketClass};

/// `snapshot`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SnapshotReport {
    /// `bpf` (iter/task_file) or `proc` (/proc, xattr, sock_diag).
    pub method: &'static str,
    /// Every process could be read.
    pub complete: bool,
    /// Why not, when not complete.
    pub incomplete: Vec<String>,
    /// The kernel's own count.
    pub sockstat: SockstatReport,
    /// Distinct sockets that descriptors refer to.
    pub seen: u64,
    /// `sockstat.alloc - seen`; negative when sockets came and went during the look.
    pub unattributed: i64,
    /// What the unattributed ones are, as far as known.
    pub unattributed_kinds: Unattributed,
    /// Processes that hold TCP sockets, most first.
    pub processes: Vec<ProcessReport>,
    /// Port use per network namespace.
    pub ports: Vec<PortsReport>,
    /// Every socket, with `--sockets`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sockets: Option<Vec<SocketReport>>,
    /// How long the look took, seconds.
    pub took_s: f64,
}

/// The TCP line of /proc/net/sockstat. `alloc`, `orphan` and `mem_pages` are host-wide.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct SockstatReport {
    /// Allocated TCP sockets, host-wide.
    pub alloc: u64,
    /// Hashed IPv4 sockets in sockleak's network namespace.
    pub inuse: u64,
    /// Orphans, host-wide.
    pub orphan: u64,
    /// TIME_WAIT in sockleak's network namespace.
    pub tw: u64,
    /// Pages charged to TCP, host-wide.
    pub mem_pages: u64,
}

/// Allocated sockets that no descriptor refers to, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Unattributed {
    /// Established connections that wait in a listener's accept queue.
    pub accept_queue: u64,
    /// Closed by their process, kept by TCP until the peer has everything.
    pub orphan: u64,
    /// Sockets that the kernel uses itself; `None` when the source cannot tell.
    pub kernel: Option<u64>,
    /// Sockets that sock_diag lists although no visible descriptor refers to them: held by a
    /// process that is hidden or could not be read, in flight over SCM_RIGHTS, or an io_uring
    /// file; `None` when it was not asked.
    pub hidden: Option<u64>,
    /// The first of the hidden ones: state, addresses, network namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hidden_examples: Vec<String>,
    /// The rest: CLOSED sockets of the kinds that `hidden` has when they are not CLOSED, or
    /// change during the look. Negative when sockets came and went.
    pub unknown: i64,
}

/// One process's TCP sockets. Class counts are of distinct sockets it has descriptors for.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct ProcessReport {
    /// Process id.
    pub pid: u32,
    /// Name.
    pub comm: String,
    /// When it started, RFC 3339 in UTC.
    pub start_time: Option<String>,
    /// Inode number of its network namespace.
    pub netns: Option<u32>,
    /// cgroup path.
    pub cgroup: Option<String>,
    /// Container id.
    pub container: Option<String>,
    /// Uid of its Kubernetes pod.
    pub pod: Option<String>,
    /// Its pid in its own pid namespace; `None` when that is the one of `pid`.
    pub ns_pid: Option<u32>,
    /// Distinct sockets held.
    pub total: u64,
    /// CLOSED without a port.
    pub unbound: u64,
    /// CLOSED with a port.
    pub bound: u64,
    /// Listening.
    pub listen: u64,
    /// SYN_SENT, SYN_RECV.
    pub connecting: u64,
    /// ESTABLISHED.
    pub established: u64,
    /// CLOSE_WAIT.
    pub close_wait: u64,
    /// FIN_WAIT1/2, LAST_ACK, CLOSING.
    pub closing: u64,
    /// Of `total`, those that other processes hold too.
    pub shared: u64,
    /// Open descriptors of any kind.
    pub fd_used: Option<u64>,
    /// Soft RLIMIT_NOFILE.
    pub fd_limit: Option<u64>,
    /// Of the sockets held here, how many each other process created, by pid; empty when it
    /// created all of them or the creation was not seen.
    #[serde(
        default,
        deserialize_with = "super::read::by_pid",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub created_by: BTreeMap<u32, u64>,
}

/// Port use of one network namespace. Port counts are of distinct ports inside the range.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct PortsReport {
    /// Inode number of the namespace.
    pub netns: u32,
    /// ip_local_port_range, both ends included; `None` when it could not be read.
    pub range: Option<[u16; 2]>,
    /// Ports in the range.
    pub size: u64,
    /// Of those, reserved by ip_local_reserved_ports.
    pub reserved: u64,
    /// Held by CLOSED sockets.
    pub bound: u64,
    /// Held by connections.
    pub connected: u64,
    /// Held by listeners.
    pub listening: u64,
    /// Held by TIME_WAIT.
    pub time_wait: u64,
    /// Held by nobody and not reserved. Connections to other destinations may still share
    /// ports that are not free.
    pub free: u64,
    /// Neither free nor reserved, at an even distance from the range's first port: connect()
    /// tries this half first. `None` when the range or the TIME_WAIT ports could not be read.
    pub first_parity_used: Option<u64>,
    /// The same at an odd distance: connect() tries this half last, bind(0) first.
    pub second_parity_used: Option<u64>,
    /// Distinct ports held outside the range (listeners, explicit binds, inherited by accept).
    pub outside: u64,
}

/// One descriptor's socket (`--sockets`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SocketReport {
    /// Holding process.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// Descriptor.
    pub fd: u32,
    /// Socket inode.
    pub inode: u64,
    /// Class.
    pub class: SocketClass,
    /// Address family.
    pub family: Family,
    /// Network namespace.
    pub netns: Option<u32>,
    /// Local address and port.
    pub src: String,
    /// Peer.
    pub dst: Option<String>,
    /// First subflow of an MPTCP socket.
    pub mptcp: bool,
}
