//! What a workload says at the end of a phase.

use serde::{Deserialize, Serialize};

use super::{Ledger, Walks};

/// What one process of the workload holds, and what it has done since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truth {
    /// Process id.
    pub pid: u32,
    /// Name, as raw bytes of the kernel's `comm`.
    pub comm: Vec<u8>,
    /// It has exited; it holds nothing.
    pub exited: bool,
    /// CLOSED without a port.
    pub unbound: u64,
    /// CLOSED with a port.
    pub bound: u64,
    /// Listening.
    pub listen: u64,
    /// ESTABLISHED.
    pub established: u64,
    /// CLOSE_WAIT.
    pub close_wait: u64,
    /// FIN_WAIT1, FIN_WAIT2, LAST_ACK, CLOSING.
    pub closing: u64,
    /// Of those it holds, the ones that other processes hold too.
    pub shared: u64,
    /// TCP sockets it has created with socket().
    pub allocated: u64,
    /// Connections it has accepted.
    pub accepted: u64,
}

impl Truth {
    /// This process, which has done nothing yet.
    pub fn of_self() -> Self {
        let comm = std::fs::read("/proc/self/comm").unwrap_or_default();
        Self {
            pid: std::process::id(),
            comm: comm.strip_suffix(b"\n").unwrap_or(&comm).to_vec(),
            ..Self::default()
        }
    }

    /// Distinct sockets held.
    pub fn total(&self) -> u64 {
        self.unbound + self.bound + self.listen + self.established + self.close_wait + self.closing
    }
}

/// The state of everything at the end of a phase. Totals count since the workload began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phase {
    /// Name of the workload.
    pub workload: String,
    /// Name of the phase.
    pub phase: String,
    /// Inode number of its network namespace.
    pub netns: u32,
    /// All its processes, also those that have exited.
    pub processes: Vec<Truth>,
    /// Sockets created with socket(), by all processes; `None` where kernels differ (MPTCP).
    pub allocated: Option<u64>,
    /// Connections born from listeners; `None` as above.
    pub children: Option<u64>,
    /// Sockets destroyed; `None` as above.
    pub destroyed: Option<u64>,
    /// Established connections in accept queues.
    pub accept_queue: u64,
    /// Sockets that no descriptor refers to but that TCP has not finished.
    pub orphans: u64,
    /// Sockets that are under way over SCM_RIGHTS.
    pub in_flight: u64,
    /// Calls that failed for a reason which sockleak is to name, since the workload began.
    #[serde(flatten)]
    pub ledger: Ledger,
    /// Who had which port, for connections whose port search can be replayed.
    pub walks: Option<Walks>,
    /// Why the kernel cannot run this workload; the only phase then.
    pub skipped: Option<String>,
}

impl Phase {
    /// Sockets that this workload adds to `alloc` of /proc/net/sockstat.
    pub fn live(&self) -> Option<i64> {
        let born = self.allocated?.checked_add(self.children?)?;
        i64::try_from(born)
            .ok()?
            .checked_sub_unsigned(self.destroyed?)
    }
}
