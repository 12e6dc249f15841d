//! What the kernel side has counted since attach.

use super::ProcessId;

/// Host-wide counters, summed over all CPUs. All count since attach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Sockets initialised by `tcp_v4_init_sock` / `tcp_v6_init_sock` (or `cgroup/sock_create`).
    pub allocated: u64,
    /// Of those, sockets the kernel made for itself (`sk_kern_sock`; MPTCP subflows, NFS, ...).
    pub allocated_kernel: u64,
    /// Children that `tcp_create_openreq_child` cloned from a listener.
    pub children: u64,
    /// Children handed to a process by accept().
    pub accepted: u64,
    /// Sockets destroyed whose creation was recorded.
    pub destroyed_known: u64,
    /// Of those, sockets that the kernel had made for itself.
    pub destroyed_kernel: u64,
    /// Sockets destroyed without a record: children, sockets older than the hooks, or losses.
    pub destroyed_unknown: u64,
    /// Creations that could not be recorded because the socket map was full.
    pub sockets_full: u64,
    /// Creations that could not be recorded for another reason (no memory, bucket busy).
    pub sockets_failed: u64,
    /// Creations at an address that still had a record: the destruction was missed.
    pub sockets_stale: u64,
    /// Records that could not be removed at destruction.
    pub sockets_undeleted: u64,
    /// Processes that could not be recorded because the process map was full.
    pub processes_full: u64,
    /// Processes that could not be recorded for another reason.
    pub processes_failed: u64,
    /// Calls that searched or checked a port: connect, bind, listen.
    pub searches: [u64; 3],
    /// Calls that failed in one of the ways of [`super::Cause`]: connect, bind, listen.
    pub failures: [u64; 3],
    /// Searches that are missing in their process's figures: the map was full.
    pub searches_full: u64,
    /// Failures that are only in `failures`: the map was full.
    pub failures_full: u64,
    /// Searches of which only the beginning or the end was seen.
    pub searches_unmatched: u64,
    /// Ends of connections that could not be noted because the map was full.
    pub endings_full: u64,
    /// Stacks not taken: another one with the same hash was in their place.
    pub stacks_collided: u64,
    /// Stacks not taken: there is none, or it cannot be read.
    pub stacks_faulted: u64,
    /// Stacks not taken for another reason.
    pub stacks_failed: u64,
    /// Events lost because the ring buffer was full: allocations.
    pub dropped_alloc: u64,
    /// Events lost: accepts.
    pub dropped_accept: u64,
    /// Events lost: destructions.
    pub dropped_destroy: u64,
    /// Events lost: releases.
    pub dropped_release: u64,
    /// Events lost: connects.
    pub dropped_connect: u64,
    /// Events lost: binds and listens.
    pub dropped_bind: u64,
}

/// The sum of what the kernel side has counted; at most the greatest number there is.
pub fn total(counts: &[u64]) -> u64 {
    (counts.iter()).fold(0, |sum, count| sum.saturating_add(*count))
}

impl Counters {
    /// Sockets born since attach, by any path that raises `alloc` in /proc/net/sockstat.
    pub fn born(&self) -> u64 {
        total(&[self.allocated, self.children])
    }

    /// Sockets destroyed since attach.
    pub fn destroyed(&self) -> u64 {
        total(&[self.destroyed_known, self.destroyed_unknown])
    }
}

/// What the kernel side counted for one process. All count since attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessCounters {
    /// The process.
    pub process: ProcessId,
    /// Its name at its first socket, printable.
    pub comm: String,
    /// Its network namespace at its first socket; `None` when unknown.
    pub netns: Option<u32>,
    /// cgroup v2 id at its first socket; `None` when unknown.
    pub cgroup_id: Option<u64>,
    /// Sockets it created with socket().
    pub allocated: u64,
    /// Of the sockets it created or accepted, those destroyed since, whoever closed them.
    pub destroyed: u64,
    /// Connections it accepted.
    pub accepted: u64,
}

impl ProcessCounters {
    /// Adds what another record of the same process has counted.
    pub fn add(&mut self, other: &Self) {
        for (sum, part) in [
            (&mut self.allocated, other.allocated),
            (&mut self.destroyed, other.destroyed),
            (&mut self.accepted, other.accepted),
        ] {
            *sum = sum.saturating_add(part);
        }
    }
}
