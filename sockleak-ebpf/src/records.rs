//! Map keys, map values, ring buffer records and iterator records.

/// [`SocketEntry::flags`]: `sk_kern_sock` was set, the kernel made it for itself.
pub const SOCKET_KERNEL: u32 = 1;
/// [`SocketEntry::flags`]: the process has accepted the connection, it did not create the socket.
pub const SOCKET_ACCEPTED: u32 = 2;
/// [`InventoryRecord::flags`]: the descriptor is an MPTCP socket and this is its first subflow.
pub const SOCKET_MPTCP: u32 = 4;
/// [`SocketEntry::flags`]: the socket is older than sockleak or was not seen when it was made;
/// the entry only serves a port search. Its creator is unknown.
pub const SOCKET_ADOPTED: u32 = 8;
/// [`SocketEntry::flags`]: a search for a port is going on.
pub const SEARCH_OPEN: u32 = 16;
/// [`SocketEntry::flags`]: connect() of a socket that had a port is going on.
pub const SEARCH_BOUND: u32 = 32;
/// [`SocketEntry::flags`]: the last search or check failed and the failure is recorded.
pub const SEARCH_FAILED: u32 = 64;
/// [`SocketEntry::flags`]: the end of the last search has been seen: `search_ns` is its duration
/// and `errno` its result.
pub const SEARCH_TOLD: u32 = 128;
/// [`SocketEntry::flags`]: `perturb` is the place of the last search in the search map.
pub const SEARCH_KNOWN: u32 = 2048;
/// [`InventoryRecord::flags`]: the bind bucket of the socket's port could be read.
pub const SOCKET_PORT_KNOWN: u32 = 256;
/// [`InventoryRecord::flags`]: that bucket belongs to bind(): connect() passes the port over.
pub const SOCKET_PORT_BOUND: u32 = 512;

/// [`SocketEntry::flags`]: connect() has got as far as its port search.
pub const SOCKET_TRIED: u32 = 1024;

/// No stacks; value of the global `STACK_MODE`.
pub const STACKS_NEVER: u32 = 0;
/// Stacks of suspects, and of one socket in many of others.
pub const STACKS_AUTO: u32 = 1;
/// Every stack.
pub const STACKS_ALWAYS: u32 = 2;
/// [`SocketEntry::stack`]: wanted, but the kernel could not give it; counted by reason.
pub const STACK_FAILED: u32 = u32::MAX;

/// Identity of a process; key of the process map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(
        zerocopy::FromBytes,
        zerocopy::IntoBytes,
        zerocopy::Immutable,
        zerocopy::KnownLayout
    )
)]
#[repr(C)]
pub struct ProcessKey {
    /// `task->group_leader->start_boottime`, ns.
    pub start_boottime_ns: u64,
    /// `task->tgid`.
    pub tgid: u32,
    /// Zero.
    pub pad: u32,
}

/// Counters and first-sight facts of a process; value of the process map.
///
/// Inserted by the first hook that meets the process, removed by user space once the process
/// is gone and its sockets are too. Counters are added to atomically.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
#[repr(C)]
pub struct ProcessStats {
    /// Sockets it created.
    pub allocated: u64,
    /// Of the sockets it created or accepted, those destroyed.
    pub destroyed: u64,
    /// Connections it accepted.
    pub accepted: u64,
    /// `bpf_get_current_cgroup_id()` at first sight; 0 unknown.
    pub cgroup_id: u64,
    /// Inode number of its network namespace at first sight; 0 unknown.
    pub netns: u32,
    /// Zero.
    pub pad: u32,
    /// `group_leader->comm` at first sight, 16 bytes in memory order.
    pub comm: [u64; 2],
}

/// One socket that a process (or the kernel) created or accepted; value of the socket map, whose
/// key is the address of the `struct sock`.
///
/// Inserted at creation or in accept(), removed at destruction. sock memory is recycled at once, so an
/// entry found at creation means that a destruction was missed.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct SocketEntry {
    /// `bpf_ktime_get_ns()` at creation, or in accept().
    pub birth_ns: u64,
    /// `bpf_ktime_get_ns()` at the begin of the port search that is going on, or how long the
    /// last one took, ns ([`SEARCH_TOLD`]).
    pub search_ns: u64,
    /// `task->se.sum_exec_runtime` of the searching thread at its begin, ns, the lower half.
    pub ran_ns: u32,
    /// `table_perturb[port_offset & 0xffff]` at its begin, 0 unknown; afterwards the place of the search in
    /// the search map ([`SEARCH_KNOWN`]).
    pub perturb: u32,
    /// Place of the process in the process map, [`crate::NO_SLOT`] unknown.
    pub slot: u32,
    /// Its [`ProcessKey::mark`].
    pub mark: u32,
    /// [`SOCKET_KERNEL`], [`SOCKET_ACCEPTED`], [`SOCKET_ADOPTED`] and the `SEARCH_` flags.
    pub flags: u32,
    /// What it ended with: 0 or an errno, positive. While it goes on, what `inet_sport` still
    /// holds of an earlier connection, network order.
    pub errno: u16,
    /// Context switches of the searching thread at its begin, the lowest bits.
    pub switches: u16,
    /// [`crate::Site::id`] of where it was created; 0 no stack was taken, [`STACK_FAILED`].
    pub stack: u32,
    /// [`crate::Ending::id`] of how its last connection ended; 0 it did not, or without an error.
    pub ending: u32,
}

/// Kind of an [`EventRecord`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum EventKind {
    /// A socket was created.
    Alloc = 0,
    /// A connection was accepted.
    Accept = 1,
    /// A socket was destroyed.
    Destroy = 2,
    /// The last holder let a socket go.
    Release = 3,
    /// A search for connect() is over, or a check of the port the socket has.
    Connect = 4,
    /// A search or check for bind() or listen() is over.
    Bind = 5,
}

/// One event in the ring buffer, with `--events`.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
#[repr(C)]
pub struct EventRecord {
    /// `bpf_ktime_get_ns()`.
    pub time_ns: u64,
    /// Address of the `struct sock`.
    pub sk: u64,
    /// `bpf_ktime_get_ns()` at creation; 0 unknown.
    pub birth_ns: u64,
    /// [`EventKind`] as an integer.
    pub kind: u32,
    /// tgid of the current task, related to the socket or not.
    pub tgid: u32,
    /// Thread id of the current task.
    pub tid: u32,
    /// Inode number of the socket's network namespace; 0 unknown.
    pub netns: u32,
    /// `skc_family`.
    pub family: u16,
    /// `skc_num`: local port, host order.
    pub local_port: u16,
    /// `skc_dport`: peer port, network order.
    pub peer_port_be: u16,
    /// `skc_state`.
    pub state: u16,
    /// Local address: 4 or 16 bytes in memory order (network order), the rest zero.
    pub local: [u64; 2],
    /// Peer address, likewise.
    pub peer: [u64; 2],
    /// `group_leader->comm`, 16 bytes in memory order.
    pub comm: [u64; 2],
    /// Connect, Bind: time in the search, ns; [`UNKNOWN`] when not measured. Others: zero, as
    /// all below.
    pub search_ns: u64,
    /// Connect, Bind: ports examined; `u32::MAX` unknown.
    pub candidates: u32,
    /// Connect: where in the range the walk began (`offset` in `__inet_hash_connect`, before
    /// its lowest bit is cleared); `u32::MAX` unknown.
    pub start: u32,
    /// Connect, Bind: the range searched, `low | high << 16`; 0 none.
    pub range: u32,
    /// Connect, Bind: what the kernel function returned, 0 or -errno.
    pub result: i32,
}

/// A 64-bit figure of an [`EventRecord`] that is not known.
pub const UNKNOWN: u64 = u64::MAX;

/// One descriptor of the inventory, written to the iterator's seq file.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
#[repr(C)]
pub struct InventoryRecord {
    /// Address of the `struct sock`.
    pub sk: u64,
    /// `file->f_inode->i_ino`.
    pub inode: u64,
    /// `start_boottime` of the holder's thread group leader.
    pub holder_start_ns: u64,
    /// [`SocketEntry::birth_ns`]; 0 without an entry.
    pub birth_ns: u64,
    /// [`SocketEntry::creator_start_ns`]; 0 without an entry.
    pub creator_start_ns: u64,
    /// tgid of the creator; 0 unknown.
    pub creator_tgid: u32,
    /// tgid of the holder.
    pub holder_tgid: u32,
    /// Descriptor.
    pub fd: u32,
    /// Inode number of the socket's network namespace.
    pub netns: u32,
    /// `sk_ack_backlog`.
    pub ack_backlog: u32,
    /// [`SOCKET_MPTCP`], and the entry's flags.
    pub flags: u32,
    /// `skc_family`.
    pub family: u16,
    /// `skc_num`: local port, host order.
    pub local_port: u16,
    /// `skc_dport`: peer port, network order.
    pub peer_port_be: u16,
    /// `skc_state`.
    pub state: u16,
    /// `skc_rcv_saddr` or `skc_v6_rcv_saddr` in memory order (network order), the rest zero.
    pub local: [u64; 2],
    /// `skc_daddr` or `skc_v6_daddr`, likewise.
    pub peer: [u64; 2],
    /// [`SocketEntry::stack`].
    pub stack: u32,
    /// [`SocketEntry::ending`].
    pub ending: u32,
}

const _: () = {
    assert!(size_of::<ProcessKey>() == 16);
    assert!(size_of::<ProcessStats>() == 56);
    assert!(size_of::<SocketEntry>() == 48);
    assert!(size_of::<EventRecord>() == 120);
    assert!(size_of::<InventoryRecord>() == 112);
    assert!(core::mem::offset_of!(InventoryRecord, local) == 72);
    assert!(core::mem::offset_of!(EventRecord, local) == 48);
};
