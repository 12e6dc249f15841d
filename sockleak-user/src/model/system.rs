//! What the system says about itself, outside the hooks.

use serde::Serialize;

use super::PortSet;

/// The TCP line of /proc/net/sockstat (net/ipv4/proc.c `sockstat_seq_show`).
///
/// `alloc`, `orphan` and `mem_pages` are host-wide and cover IPv4 and IPv6; `inuse` and `tw`
/// belong to the network namespace it was read in. They must not be subtracted from each other
/// inside a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sockstat {
    /// Allocated TCP sockets, host-wide.
    pub alloc: u64,
    /// Hashed sockets (IPv4 only) of the namespace it was read in.
    pub inuse: u64,
    /// Sockets without a descriptor that TCP still has to finish, host-wide.
    pub orphan: u64,
    /// TIME_WAIT mini-sockets of the namespace it was read in; not part of `alloc`.
    pub tw: u64,
    /// Pages of memory charged to TCP, host-wide.
    pub mem_pages: u64,
}

/// Settings of one network namespace that decide which ports a process can get, and what is
/// taken that no descriptor shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespacePorts {
    /// Inode number of the namespace.
    pub netns: u32,
    /// `net.ipv4.ip_local_port_range`, both ends included.
    pub range: (u16, u16),
    /// `net.ipv4.ip_local_reserved_ports`.
    pub reserved: PortSet,
    /// Local ports of TIME_WAIT sockets. There may be a quarter of a million of these.
    pub time_wait: PortSet,
    /// `tw` of this namespace's sockstat, also when `time_wait` could not be listed.
    pub time_wait_count: u64,
}

/// Host-wide limits on open files (`/proc/sys/fs/file-nr`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileLimits {
    /// Open file handles.
    pub used: u64,
    /// `fs.file-max`.
    pub max: u64,
}
