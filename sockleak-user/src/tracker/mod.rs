//! Accounting: from samples and inventories to what each process holds, does and leaks.
//!
//! Pure: no I/O and no clock. Time is a parameter, nanoseconds of `CLOCK_MONOTONIC`. Memory is
//! bounded by [`Config`]; what does not fit is counted.

mod accounts;
mod assemble;
mod calls;
mod census;
mod confidence;
pub mod diagnosis;
mod failures;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod gaps;
mod groups;
mod hash;
mod hot;
mod idle;
mod latencies;
mod leftover;
mod occupancy;
mod origins;
mod orphans;
mod ports;
mod pressure;
mod provenance;
mod readings;
mod reconcile;
mod remedy;
mod searches;
mod suspects;
mod verdict;
mod window;
mod wording;

#[cfg(test)]
mod accounts_tests;
#[cfg(test)]
mod assemble_tests;
#[cfg(test)]
mod calls_tests;
#[cfg(test)]
mod census_tests;
#[cfg(test)]
mod orphans_tests;
#[cfg(test)]
mod port_use_tests;
#[cfg(test)]
mod pressure_tests;
#[cfg(test)]
mod provenance_tests;
#[cfg(test)]
mod searches_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod verdict_tests;
#[cfg(test)]
mod world;
#[cfg(test)]
mod world_tests;

use std::collections::HashMap;

pub use crate::model::PortSet;
pub use accounts::{Account, Accounts, Activity};
pub use assemble::{
    CallsInput, EndInput, IntervalInput, Keep, KeepCall, OccupancyInput, PortOwners, RangeUse,
    Selection, SnapshotInput, by_cause, end, failures, hot_loops, interval, port_reports, port_use,
    pressures, process_reports, snapshot, sockstat_report,
};
pub use calls::{CallsReading, PortCalls, TupleOwner, VisibleCalls};
pub use census::{Census, CensusLimits, Holding, Totals};
pub use failures::{Failure, Failures};
pub use gaps::Gaps;
pub use groups::{Course, Group, Groups};
pub use idle::{GroupKey, IdleTable, OriginTally, Tally, leak_class};
pub use latencies::Latencies;
pub use leftover::Leftover;
pub use occupancy::{
    Binder, Blocker, BoundBy, Destination, Half, HeldPorts, NetnsSockets, Occupancy, PortClass,
    PortHolders, Range, Room,
};
pub use origins::{Far, Origin};
pub use orphans::{Orphan, OrphanLook, OrphanRules, OrphanTally, orphans};
pub use ports::NamespaceUse;
pub use pressure::{Pressures, RoomLook, Route, Warning};
pub use provenance::{NamedStack, NamedStacks, Pasts};
pub use reconcile::{Balance, Baseline, Hidden, Residue, moved, residue};
pub use remedy::{PortFeatures, Trouble, wider_range};
pub use searches::{SearchActivity, Searches};
pub use suspects::suspects;
pub use verdict::{Rules, Surroundings};
pub use window::{Point, Rise, Window};

use crate::model::{Counters, ProcessCounters, ProcessId, ProcessInfo, Sockstat};
use crate::report::Leak;

/// What the edges have found out about processes.
pub type ProcessInfos = HashMap<ProcessId, ProcessInfo>;

/// Bounds and thresholds of a [`Tracker`].
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `--older`: how long a CLOSED socket may idle before it counts as leaked, ns.
    pub older_ns: u64,
    /// Over how long growth is observed, ns.
    pub window_ns: u64,
    /// Most processes remembered.
    pub processes: usize,
    /// Most idle sockets remembered from one census to the next.
    pub idle_sockets: usize,
    /// Most groups of idle sockets followed.
    pub groups: usize,
    /// Most port searches, and most kinds of failure, remembered.
    pub calls: usize,
    /// Thresholds of the verdicts.
    pub rules: Rules,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            older_ns: 30_000_000_000,
            window_ns: 300_000_000_000,
            processes: 1 << 14,
            // 7/8 of a power of two fills a hash table exactly: 4.5 MB.
            idle_sockets: 7 << 15,
            groups: 1 << 10,
            calls: 1 << 12,
            rules: Rules::default(),
        }
    }
}

/// One inventory, finished.
#[derive(Clone, Debug)]
pub struct Inventory {
    /// `CLOCK_MONOTONIC` time at which it began, ns.
    pub at_ns: u64,
    /// What it found, of what was asked for.
    pub census: Census,
    /// Figures of the whole host, whatever was asked for.
    pub totals: Totals,
    /// Every process could be read.
    pub complete: bool,
}

/// What was found out at one moment.
#[derive(Debug)]
pub struct Sample<'a> {
    /// `CLOCK_MONOTONIC` time, ns.
    pub at_ns: u64,
    /// Host-wide counters, read before sockstat.
    pub before: Counters,
    /// The kernel's own counts.
    pub sockstat: Sockstat,
    /// Host-wide counters, read after sockstat.
    pub counters: Counters,
    /// Counters of every process that the kernel side knows.
    pub processes: &'a [ProcessCounters],
    /// An inventory, when there is a new one.
    pub inventory: Option<Inventory>,
    /// What is known about processes; those that are gone may be missing.
    pub infos: &'a ProcessInfos,
}

/// Follows the accounts of all processes from sample to sample.
#[derive(Debug)]
pub struct Tracker {
    config: Config,
    baseline: Baseline,
    accounts: Accounts,
    idle: IdleTable,
    groups: Groups,
    /// Pages of memory that TCP takes.
    memory: Window,
    calls: PortCalls,
    inventory: Option<Inventory>,
    now: Now,
    previous: Counters,
    interval_ns: u64,
}

/// The newest sample.
#[derive(Clone, Copy, Debug, Default)]
struct Now {
    at_ns: u64,
    sockstat: Sockstat,
    counters: Counters,
    balance: Balance,
}

impl Tracker {
    /// Starts at `baseline`.
    pub fn new(config: Config, baseline: Baseline) -> Self {
        Self {
            accounts: Accounts::new(config.processes, config.window_ns),
            idle: IdleTable::new(config.idle_sockets),
            groups: Groups::new(config.groups, config.window_ns),
            memory: Window::new(config.window_ns),
            calls: PortCalls::new(baseline.at_ns, config.calls),
            inventory: None,
            now: Now {
                at_ns: baseline.at_ns,
                sockstat: Sockstat {
                    alloc: baseline.alloc,
                    ..Sockstat::default()
                },
                counters: baseline.counters,
                balance: Balance::new(
                    &baseline,
                    &baseline.counters,
                    &Sockstat {
                        alloc: baseline.alloc,
                        ..Sockstat::default()
                    },
                    &baseline.counters,
                ),
            },
            previous: baseline.counters,
            interval_ns: 0,
            config,
            baseline,
        }
    }

    /// Takes in a sample; what the last one began is an interval now.
    pub fn observe(&mut self, sample: Sample<'_>) {
        self.interval_ns = sample.at_ns.saturating_sub(self.now.at_ns);
        self.previous = self.now.counters;
        self.now = Now {
            at_ns: sample.at_ns,
            sockstat: sample.sockstat,
            counters: sample.counters,
            balance: Balance::new(
                &self.baseline,
                &sample.before,
                &sample.sockstat,
                &sample.counters,
            ),
        };
        self.memory.push(Point {
            at_ns: sample.at_ns,
            total: sample.sockstat.mem_pages,
            aged: sample.sockstat.mem_pages,
        });
        self.accounts.advance(sample.processes);
        if let Some(inventory) = sample.inventory {
            self.take_inventory(inventory);
        }
        self.accounts.learn(sample.infos.iter());
    }

    /// Takes in an inventory without a sample: the one made right after attach.
    pub fn take_inventory(&mut self, mut inventory: Inventory) {
        let at_ns = inventory.at_ns;
        self.accounts.census(at_ns, inventory.census.holdings());
        let tallies = self
            .idle
            .advance(at_ns, self.config.older_ns, &mut inventory.census);
        self.groups.advance(at_ns, tallies);
        self.groups.forget(|process| self.accounts.is_gone(process));
        inventory.census.seal();
        self.inventory = Some(inventory);
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where the accounting started.
    pub fn baseline(&self) -> &Baseline {
        &self.baseline
    }

    /// Host-wide counters of the newest sample.
    pub fn counters(&self) -> &Counters {
        &self.now.counters
    }

    /// Our accounting against sockstat, in the newest sample.
    pub fn balance(&self) -> Balance {
        self.now.balance
    }

    /// The newest inventory.
    pub fn inventory(&self) -> Option<&Inventory> {
        self.inventory.as_ref()
    }

    /// Processes.
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// Groups of idle sockets.
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// connect(), bind() and listen().
    pub fn calls(&self) -> &PortCalls {
        &self.calls
    }

    /// The same, to take in readings.
    pub fn calls_mut(&mut self) -> &mut PortCalls {
        &mut self.calls
    }

    /// The best name known for a process; empty when there is none.
    pub fn comm(&self, process: ProcessId) -> &str {
        self.accounts
            .get(process)
            .map_or("", |account| account.info.comm.as_str())
    }

    /// Groups of sockets that are leaked, worst first.
    pub fn leaks(&self, surroundings: &Surroundings<'_>) -> Vec<Leak> {
        verdict::leaks(self, surroundings)
    }
}
