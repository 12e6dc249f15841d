//! The lines of `watch`.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Serialize};

use super::{
    CauseCount, FailureReport, HotLoop, Leak, Loss, OpCounts, OrphansReport, PortsReport,
    PressureReport, ProcessReport, SearchReport, SelfCost, SockstatReport, Unattributed,
};

/// First line: what is attached.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct StartReport {
    /// Kernel release.
    pub kernel: String,
    /// State of every logical hook.
    pub hooks: BTreeMap<String, HookState>,
    /// Allocated sockets when the hooks were on (`alloc` of sockstat).
    pub baseline: u64,
    /// Distinct sockets that the inventory found behind descriptors; `None` without one.
    pub seen: Option<u64>,
    /// Time from start to the last hook attached, ns.
    pub attach_ns: u64,
}

/// A logical hook and who serves it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct HookState {
    /// `fentry`, `kprobe`, `tracepoint`, or `None`.
    pub backend: Option<String>,
    /// Why there is none, or why a better one was not taken.
    pub reason: Option<String>,
    /// What the backend cannot see.
    pub limits: Option<String>,
}

/// One interval.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct IntervalReport {
    /// Length of the interval, seconds.
    pub interval_s: f64,
    /// The kernel's own count now.
    pub sockstat: SockstatReport,
    /// Sockets created with socket() in this interval, host-wide.
    pub allocated: u64,
    /// Connections born from listeners in this interval, host-wide.
    pub children: u64,
    /// Sockets destroyed in this interval, host-wide.
    pub destroyed: u64,
    /// Live sockets by our own accounting.
    pub live: u64,
    /// Age of the inventory behind the class counts, seconds; `None` when there is none yet.
    pub inventory_age_s: Option<f64>,
    /// Processes, the most interesting first.
    pub processes: Vec<IntervalProcess>,
    /// Processes left out by `--top`.
    pub processes_omitted: u64,
    /// Port searches in this interval, the dearest first; `None` when they are not visible.
    pub searches: Option<Vec<SearchReport>>,
    /// Searches left out by `--top`.
    pub searches_omitted: u64,
    /// Calls that failed in this interval, host-wide.
    pub failed: OpCounts,
    /// Of those, in no `failure` line: there was no room for their kind.
    pub failed_unlisted: u64,
    /// Orphans of the host; `None` when there are few.
    pub orphans: Option<Box<OrphansReport>>,
    /// Port use per namespace, as of the inventory: those with the smallest share left first.
    #[serde(default)]
    pub ports: Vec<PortsReport>,
    /// Namespaces left out by `--top`.
    #[serde(default)]
    pub ports_omitted: u64,
    /// Losses since attach.
    pub loss: Loss,
    /// Own cost since start.
    #[serde(rename = "self")]
    pub self_cost: SelfCost,
}

/// A process in an interval.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct IntervalProcess {
    /// Holdings as in `snapshot`.
    #[serde(flatten)]
    pub held: ProcessReport,
    /// Sockets it created in this interval.
    pub allocated: u64,
    /// Connections it accepted in this interval.
    pub accepted: u64,
    /// Of its sockets, those destroyed or let go in this interval.
    pub destroyed: u64,
    /// Age of its oldest CLOSED socket, seconds.
    pub oldest_closed_s: Option<f64>,
    /// Growth of its CLOSED sockets per minute; `None` before two inventories.
    pub closed_per_min: Option<f64>,
}

/// One event, with `--events`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct EventReport {
    /// `alloc`, `accept`, `destroy`, `release`, `connect` or `bind`.
    pub event: Cow<'static, str>,
    /// Process it happened in; for `destroy` whoever ran, often unrelated.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// Name of the process.
    pub comm: String,
    /// Address of the socket, as an opaque identity.
    pub sk: String,
    /// Network namespace.
    pub netns: Option<u32>,
    /// Local address, when it has one.
    pub src: Option<String>,
    /// Peer, when it has one.
    pub dst: Option<String>,
    /// For `destroy`: seconds since its creation, when that was seen.
    pub age_s: Option<f64>,
    /// For `connect` and `bind`: what the port search came to.
    pub search: Option<SearchOutcome>,
}

/// What a port search came to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct SearchOutcome {
    /// Why it failed, by name; `None` when it did not.
    pub errno: Option<String>,
    /// Time in it, ns; `None` when not measured.
    pub search_ns: Option<u64>,
    /// `search_ns` contains more than the search.
    pub search_is_upper_bound: bool,
    /// Ports examined; `None` when not counted.
    pub candidates: Option<u32>,
    /// Range that was searched, both ends included; `None` for a check of one port.
    pub range: Option<[u16; 2]>,
    /// Where in the range the walk began; `None` when not known.
    pub start: Option<u32>,
}

/// Last line.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct EndReport {
    /// Seconds watched.
    pub duration_s: f64,
    /// Allocated sockets when the hooks were on.
    pub baseline: u64,
    /// Created with socket() since attach.
    pub allocated: u64,
    /// Born from listeners since attach.
    pub children: u64,
    /// Of those, handed to processes by accept(); `None` when not visible.
    pub accepted: Option<u64>,
    /// Destroyed since attach.
    pub destroyed: u64,
    /// `baseline + allocated + children - destroyed`.
    pub live: i64,
    /// `alloc` of sockstat at the end.
    pub sockstat_alloc: u64,
    /// `sockstat_alloc - live`: 0 when nothing was missed.
    pub difference: i64,
    /// Sockets may have come or gone while the two were read: births and deaths in that time.
    pub difference_uncertainty: u64,
    /// Distinct sockets behind descriptors at the end.
    pub seen: Option<u64>,
    /// Allocated sockets without a descriptor, by kind.
    pub unattributed_kinds: Option<Unattributed>,
    /// All processes at the end.
    pub processes: Vec<IntervalProcess>,
    /// Port use per namespace.
    pub ports: Vec<PortsReport>,
    /// Leaks found, worst first.
    pub leaks: Vec<Leak>,
    /// Calls that searched or checked a port since attach, host-wide.
    pub searched: OpCounts,
    /// Of those and of the others, failed since attach, host-wide.
    pub failed: OpCounts,
    /// Of those, in none of `failures`: there was no room for their kind, or their process is
    /// over and was among the least.
    pub failed_unlisted: u64,
    /// Failures by call and cause, of what is shown.
    pub failures_by_cause: Vec<CauseCount>,
    /// All failures since attach, folded, most frequent first.
    pub failures: Vec<FailureReport>,
    /// Who has spent CPU time in the port search since attach, over the whole time or in any
    /// interval, dearest first.
    pub hot_loops: Vec<HotLoop>,
    /// Destinations towards which ports were getting scarce in the last interval.
    pub pressures: Vec<PressureReport>,
    /// Orphans of the host at the end; `None` when there are few.
    pub orphans: Option<Box<OrphansReport>>,
    /// What was not visible.
    pub coverage: Vec<String>,
    /// Losses since attach.
    pub loss: Loss,
    /// Own cost since start.
    #[serde(rename = "self")]
    pub self_cost: SelfCost,
}
