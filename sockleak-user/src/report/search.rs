//! What the search for ports costs, by whom and for what.

use serde::{Deserialize, Serialize};

use super::Holder;
use crate::model::Op;

/// Port searches of one process towards one destination, or for bind() or listen().
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct SearchReport {
    /// Who.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// Network namespace of the sockets.
    pub netns: u32,
    /// What was called.
    pub op: Op,
    /// connect: destination.
    pub dst: Option<String>,
    /// Calls.
    pub calls: u64,
    /// Of those, failed for want of a port.
    pub failed: u64,
    /// Time in the search, ns; `None` when it was not measured.
    pub total_ns: Option<u64>,
    /// Half of the calls took no longer, ns. Estimated from a histogram: less than 25 % off.
    pub p50_ns: Option<u64>,
    /// 99 of 100 calls took no longer, ns; likewise.
    pub p99_ns: Option<u64>,
    /// Longest, ns.
    pub max_ns: Option<u64>,
    /// No call took longer than `max_ns`, but possibly none that long: the longest since attach
    /// was earlier, and the histogram bounds those since.
    pub max_is_upper_bound: bool,
    /// The times contain more than the search for some calls: they are upper bounds.
    pub latency_is_upper_bound: bool,
    /// Ports examined per call, over the calls where they can be counted; `None` without any.
    pub candidates_avg: Option<f64>,
    /// Most ports examined in one call; `None` when not known for this interval.
    pub candidates_max: Option<u64>,
    /// Share of the calls, 0 to 1, that came to the second parity of the range.
    pub second_parity: f64,
    /// Times of the calls that did not come to the second parity: those that found a port among
    /// those tried first, those that named their port, and those that failed. `None` when none
    /// was measured, and in recordings of earlier versions.
    #[serde(default)]
    pub first_parity_latency: Option<ParityLatency>,
    /// Times of the calls that came to the second parity; `None` likewise.
    #[serde(default)]
    pub second_parity_latency: Option<ParityLatency>,
    /// Share of one CPU core that the search took, without what few calls waited for a CPU;
    /// `None` when it was not measured.
    pub cpu_share: Option<f64>,
    /// The same as an upper bound: times that contain more than the search are in it. `None`
    /// when calls without a time are among them.
    pub cpu_share_at_most: Option<f64>,
    /// `cpu_share` has only the calls whose time is exact.
    pub cpu_share_is_lower_bound: bool,
    /// Connections that entered TIME_WAIT.
    pub time_waits: u64,
}

/// Times of searches that ended in one parity of the range. Where those of [`SearchReport`] are
/// upper bounds, these are, too.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct ParityLatency {
    /// Calls whose time is known.
    pub calls: u64,
    /// Half of them took no longer, ns; less than 25 % off.
    pub p50_ns: u64,
    /// 99 of 100 took no longer, ns; likewise.
    pub p99_ns: u64,
    /// The calls by powers of two, fastest first, without empty ones: `[from_ns, calls]`. The first
    /// possible one is from 0 to 511 ns, the last from 2.1 s on.
    pub histogram: Vec<(u64, u64)>,
}

/// A process that spends real CPU time in the port search.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct HotLoop {
    /// The figures.
    #[serde(flatten)]
    pub search: SearchReport,
    /// Container the process runs in.
    pub container: Option<String>,
    /// How long it has been one, over all intervals in which it was, seconds.
    pub hot_for_s: f64,
    /// What they mean.
    pub meaning: String,
    /// What to change.
    pub remedy: Vec<String>,
}

/// A warning before the first error: ports towards a destination get scarce.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct PressureReport {
    /// Network namespace.
    pub netns: u32,
    /// Source address; `None` when it is not known or there are several.
    pub src: Option<String>,
    /// Destination.
    pub dst: String,
    /// ip_local_port_range, both ends included; `None` when not known.
    pub range: Option<[u16; 2]>,
    /// Ports in it that are not reserved.
    pub size: Option<u64>,
    /// Of those, not usable towards the destination.
    pub used: Option<u64>,
    /// Of those, in TIME_WAIT.
    pub time_wait: Option<u64>,
    /// The rest.
    pub free: Option<u64>,
    /// How long before the report the room was looked at, seconds; `None` without a look.
    pub age_s: Option<f64>,
    /// How `used` grows, ports per second; `None` before it was seen to grow.
    pub rate_per_s: Option<f64>,
    /// Seconds until none is free at that rate.
    pub eta_s: Option<f64>,
    /// connect() calls in the interval.
    pub calls: u64,
    /// Share of them, 0 to 1, that came to the second parity of the range.
    pub second_parity: f64,
    /// Median time of the searches that stayed in the first parity, ns; less than 25 % off.
    /// `None` when not measured exactly.
    pub first_p50_ns: Option<u64>,
    /// The same for those that came to the second parity.
    pub second_p50_ns: Option<u64>,
    /// Who connects there, most calls first.
    pub who: Vec<Holder>,
    /// What it means.
    pub meaning: String,
    /// What to change.
    pub remedy: Vec<String>,
}
