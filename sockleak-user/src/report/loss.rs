//! What was lost, and what sockleak itself costs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Every way in which an observation can be lost, counted since attach. All zero in a good run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
// What a recording of an earlier version did not count.
#[serde(default)]
pub struct Loss {
    /// Sockets not recorded: map full.
    pub sockets_full: u64,
    /// Sockets not recorded: other failure of the map update.
    pub sockets_failed: u64,
    /// Destructions missed, seen when the address was used again.
    pub sockets_stale: u64,
    /// Records that could not be removed.
    pub sockets_undeleted: u64,
    /// Processes not recorded: map full.
    pub processes_full: u64,
    /// Processes not recorded: other failure.
    pub processes_failed: u64,
    /// Port searches missing in the figures of their process: map full.
    pub searches_full: u64,
    /// Failures that are in no line: map full.
    pub failures_full: u64,
    /// Port searches of which only the beginning or the end was seen.
    pub searches_unmatched: u64,
    /// Connections whose end is not known: map full.
    pub endings_full: u64,
    /// Stacks that were wanted and could not be had, by reason. No count is wrong for it.
    pub stacks_missed: BTreeMap<String, u64>,
    /// Events dropped by a full ring buffer, by kind.
    pub events_dropped: BTreeMap<String, u64>,
    /// Runs of a program that the kernel skipped because it, or another kprobe, was already
    /// running on that CPU (`bpf_prog_info.recursion_misses`, `bpf_link_info` of kprobes), by
    /// program. What the kernel does not count is not in here; `coverage` says so.
    pub programs_missed: BTreeMap<String, u64>,
    /// Records from the kernel that could not be decoded.
    pub undecodable: u64,
}

impl Loss {
    /// Sum of all counters but `stacks_missed`: a leak says how many of its sockets have a stack.
    pub fn total(&self) -> u64 {
        self.of_sockets()
            + self.searches_full
            + self.failures_full
            + self.searches_unmatched
            + self.endings_full
            + self.events_dropped.values().sum::<u64>()
    }

    /// Those on which counts of sockets rest, so that they are wrong until the next inventory:
    /// not what only says why a connection ended, what a search cost, or one event of many.
    pub fn of_sockets(&self) -> u64 {
        self.sockets_full
            + self.sockets_failed
            + self.sockets_stale
            + self.sockets_undeleted
            + self.processes_full
            + self.processes_failed
            + self.programs_missed.values().sum::<u64>()
            + self.undecodable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_of_sockets_rest_on() {
        let event = || BTreeMap::from([("alloc".to_owned(), 1)]);
        let beside = Loss {
            searches_full: 1,
            failures_full: 1,
            searches_unmatched: 1,
            endings_full: 1,
            stacks_missed: event(),
            events_dropped: event(),
            ..Loss::default()
        };
        assert_eq!((beside.of_sockets(), beside.total()), (0, 5));
        let skipped = Loss {
            programs_missed: event(),
            sockets_full: 2,
            ..Loss::default()
        };
        assert_eq!(skipped.of_sockets(), 3);
    }
}

/// What sockleak itself has cost so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct SelfCost {
    /// User and system CPU time of this process since start, ns.
    pub cpu_ns: u64,
    /// Resident set size, bytes.
    pub rss_bytes: u64,
    /// Time spent in the programs, ns; `None` unless kernel.bpf_stats_enabled.
    pub bpf_ns: Option<u64>,
}
