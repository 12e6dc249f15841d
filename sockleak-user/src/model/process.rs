//! Who a process is, and what is known about it.

use serde::Serialize;

/// Identity of a process: a pid alone is reused, a pid with its start time is not.
///
/// `start_ticks` is field 22 of `/proc/PID/stat`: the start time since boot in units of
/// 1/100 s (`USER_HZ`), which is `task->start_boottime / 10^7` as the hooks read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct ProcessId {
    /// Process id (thread group id) in the initial pid namespace, or in ours with `--no-bpf`.
    pub pid: u32,
    /// Start time since boot, in 1/100 s; 0 when it could not be read.
    pub start_ticks: u64,
}

/// Nanoseconds in one `USER_HZ` tick; the kernel's `nsec_to_clock_t` divides by this.
pub const NS_PER_TICK: u64 = 10_000_000;

impl ProcessId {
    /// Identity from what the hooks record: tgid and `group_leader->start_boottime`.
    pub fn from_kernel(tgid: u32, start_boottime_ns: u64) -> Self {
        Self {
            pid: tgid,
            start_ticks: start_boottime_ns / NS_PER_TICK,
        }
    }
}

/// What is known about a process, gathered while it lived. Strings are already printable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessInfo {
    /// Command name of the thread group leader (`/proc/PID/comm`, or as the kernel side saw it
    /// at the process's first socket).
    pub comm: String,
    /// Path in the cgroup v2 hierarchy (the v1 `name=systemd` one where there is no v2 path).
    pub cgroup: Option<String>,
    /// Container id (64 hex digits) taken from the cgroup path.
    pub container: Option<String>,
    /// Uid of its Kubernetes pod, taken from the cgroup path.
    pub pod: Option<String>,
    /// Its pid in its own pid namespace, when that is not ours.
    pub ns_pid: Option<u32>,
    /// Inode number of its network namespace.
    pub netns: Option<u32>,
    /// Open file descriptors.
    pub fd_used: Option<u64>,
    /// When that was counted, ns of `CLOCK_MONOTONIC`.
    pub fd_at_ns: Option<u64>,
    /// Soft `RLIMIT_NOFILE`.
    pub fd_limit: Option<u64>,
    /// The process was gone when it was looked up; only what the kernel side kept is here.
    pub exited: bool,
}
