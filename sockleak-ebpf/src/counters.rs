//! Host-wide counters, one copy per CPU.

/// Copies in [`crate::names::maps::COUNTERS`], a power of two; on larger machines some CPUs share one.
pub const CPUS: usize = 128;

/// One of the copies in [`crate::names::maps::COUNTERS`], an array of one element that has [`CPUS`] of them. All
/// count since load.
///
/// Hooks add to them atomically although they are per CPU: a softirq can interrupt a hook that
/// runs in process context on the same CPU.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
#[repr(C)]
pub struct Counters {
    /// Sockets initialised by socket() or by the kernel for itself.
    pub allocated: u64,
    /// Of those, made by the kernel for itself.
    pub allocated_kernel: u64,
    /// Children cloned from listeners.
    pub children: u64,
    /// Children handed to a process.
    pub accepted: u64,
    /// Destroyed, with a record of their creation.
    pub destroyed_known: u64,
    /// Of those, made by the kernel for itself.
    pub destroyed_kernel: u64,
    /// Destroyed without a record.
    pub destroyed_unknown: u64,
    /// Insert into the socket map failed: full (-E2BIG).
    pub sockets_full: u64,
    /// Insert into the socket map failed otherwise.
    pub sockets_failed: u64,
    /// The address already had an entry.
    pub sockets_stale: u64,
    /// Delete from the socket map failed.
    pub sockets_undeleted: u64,
    /// Insert into the process map failed: full (-E2BIG).
    pub processes_full: u64,
    /// Insert into the process map failed otherwise.
    pub processes_failed: u64,
    /// Calls that searched or checked a port, by [`crate::Op`]: connect, bind, listen.
    pub searches: [u64; 3],
    /// Calls that failed, by [`crate::Op`], whether or not the failure map took them.
    pub failures: [u64; 3],
    /// Insert into the search map failed: the call is missing in its process's figures.
    pub searches_full: u64,
    /// Insert into the failure map failed: the failure is only in `failures`.
    pub failures_full: u64,
    /// A search ended whose beginning was not seen, or the other way round.
    pub searches_unmatched: u64,
    /// Insert into the endings map failed: how the connection ended is not known.
    pub endings_full: u64,
    /// A stack was not taken: another one with the same hash is in its place (-EEXIST).
    pub stacks_collided: u64,
    /// A stack was not taken: the thread has none, or it cannot be read (-EFAULT).
    pub stacks_faulted: u64,
    /// A stack was not taken for another reason.
    pub stacks_failed: u64,
    /// Ring buffer full, by [`crate::EventKind`].
    pub dropped: [u64; 6],
}

const _: () = assert!(size_of::<Counters>() == 32 * 8);
