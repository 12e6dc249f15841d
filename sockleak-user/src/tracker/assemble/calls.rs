//! Reports about connect(), bind() and listen().

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
};

use crate::model::Arrange as _;
use crate::model::{Counters, FailureId, Op, PortOptions, ProcessId, ProcessInfo, SearchId};
use crate::report::words::count;
use crate::report::{
    Caller, Cause, CauseCount, FailureReport, Holder, HotLoop, OpCounts, ParityLatency,
    PortBreakdown, SearchReport, errno_name,
};
use crate::tracker::ProcessInfos;
use crate::tracker::calls::{PortCalls, VisibleCalls};
use crate::tracker::failures::Failure;
use crate::tracker::hot::{self, Cost, HotRules};
use crate::tracker::latencies::Latencies;
use crate::tracker::pressure::Route;
use crate::tracker::remedy::{self, PortFeatures, Trouble};
use crate::tracker::searches::SearchActivity;

/// Whether a call is to be shown.
pub type KeepCall<'a> = dyn Fn(&SearchId, &ProcessInfo) -> bool + 'a;

/// Who occupies a range towards a destination, as looked up for a failure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeUse {
    /// Held by connections.
    pub connected: u64,
    /// Held by TIME_WAIT.
    pub time_wait: u64,
    /// Held by sockets that called bind().
    pub bound: u64,
    /// Reserved.
    pub reserved: u64,
    /// The rest.
    pub other: u64,
    /// `net.ipv4.tcp_tw_reuse`; `None` when not known.
    pub tw_reuse: Option<u8>,
    /// `net.ipv4.tcp_timestamps`; `None` when not known.
    pub timestamps: Option<u8>,
    /// Who holds most, and how many.
    pub holders: Vec<(ProcessId, u64)>,
    /// `CLOCK_MONOTONIC` time of the look, ns.
    pub at_ns: u64,
}

/// Who has a port, of those that a failure of [`Cause::PortConflict`] asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortOwners {
    /// The port.
    pub port: u16,
    /// Processes.
    pub processes: Vec<ProcessId>,
}

/// What the tracker does not have.
#[derive(Clone, Copy)]
pub struct CallsInput<'a> {
    /// What is known about the processes.
    pub infos: &'a ProcessInfos,
    /// What to show.
    pub keep: &'a KeepCall<'a>,
    /// What the kernel can do.
    pub features: &'a PortFeatures,
    /// Who occupies the ranges that failures have found exhausted.
    pub ranges: &'a HashMap<FailureId, RangeUse>,
    /// Who has the port that was refused.
    pub owners: &'a HashMap<FailureId, PortOwners>,
}

impl CallsInput<'_> {
    fn info(&self, process: ProcessId) -> ProcessInfo {
        self.infos.get(&process).cloned().unwrap_or_default()
    }

    fn keeps(&self, id: &SearchId) -> bool {
        let nobody = ProcessInfo::default();
        (self.keep)(id, self.infos.get(&id.process).unwrap_or(&nobody))
    }

    /// Name of a process; empty when it has none.
    pub fn comm(&self, process: ProcessId) -> String {
        self.infos
            .get(&process)
            .map_or_else(String::new, |info| info.comm.clone())
    }
}

/// The searches of the newest interval, dearest first; `None` when none is visible.
pub fn searches(calls: &PortCalls, input: &CallsInput<'_>) -> Option<Vec<SearchReport>> {
    calls.visible().any().then(|| {
        calls
            .searches()
            .iter()
            .filter(|activity| input.keeps(&activity.id))
            .map(|activity| {
                let cost = hot::cost(activity, calls.interval_ns());
                search(activity, cost, calls.interval_ns(), input)
            })
            .collect()
    })
}

/// The hot loops of the newest interval, dearest first.
pub fn hot_loops(calls: &PortCalls, input: &CallsInput<'_>) -> Vec<HotLoop> {
    let over = Over {
        calls,
        interval_ns: calls.interval_ns(),
        failures: calls.failures(),
    };
    over.hot_loops(calls.searches(), false, input)
}

/// The hot loops since attach, dearest first: those of any interval too.
pub fn hot_loops_since_attach(calls: &PortCalls, input: &CallsInput<'_>) -> Vec<HotLoop> {
    let over = Over {
        calls,
        interval_ns: calls.lasting_ns(),
        failures: &calls.failures_since_attach(),
    };
    over.hot_loops(&calls.searches_since_attach(), true, input)
}

/// A span of time and what failed in it.
struct Over<'a> {
    calls: &'a PortCalls,
    interval_ns: u64,
    failures: &'a [Failure],
}

impl Over<'_> {
    fn hot_loops(
        &self,
        activities: &[SearchActivity],
        or_ever: bool,
        input: &CallsInput<'_>,
    ) -> Vec<HotLoop> {
        let rules = HotRules::default();
        let ranges: HashMap<SearchId, (u16, u16)> = self
            .failures
            .iter()
            .filter_map(|failure| Some((failure.id.search, failure.id.range?)))
            .collect();
        activities
            .iter()
            .filter(|activity| input.keeps(&activity.id))
            .filter_map(|activity| {
                let cost = hot::cost(activity, self.interval_ns);
                let hot_ns = self.calls.hot_ns(&activity.id);
                let is_hot = hot::is_hot(activity, cost, self.interval_ns, &rules);
                (is_hot || or_ever && hot_ns > 0).then(|| HotLoop {
                    search: search(activity, cost, self.interval_ns, input),
                    container: input.info(activity.id.process).container,
                    hot_for_s: hot_ns as f64 / 1e9,
                    meaning: meaning(activity),
                    remedy: remedy::of_search(
                        &Trouble {
                            loopback: is_loopback(&activity.id),
                            range: ranges.get(&activity.id).copied(),
                            ..Trouble::new(activity.id.op, Cause::Other)
                        },
                        input.features,
                    ),
                })
            })
            .collect()
    }
}

fn meaning(activity: &SearchActivity) -> String {
    let walks = activity.long_walks() * 100.0;
    let what = match activity.id.op {
        Op::Connect => "towards this destination",
        Op::Bind | Op::Listen => "for bind()",
    };
    let who = if activity.counted == activity.calls {
        "each call looks"
    } else {
        "the calls that can be counted look"
    };
    let examined = match activity.candidates_avg() {
        Some(average) if average >= 2.0 => {
            format!(
                "{who} at {} ports before finding one or giving up",
                count(average.round() as u64)
            )
        }
        _ => "calls walk through ports that are taken".to_owned(),
    };
    if activity.failed >= activity.calls {
        format!("{examined}; all of them fail: no port {what} is left")
    } else if walks >= 1.0 {
        format!(
            "{examined}; {walks:.0} % of the calls walked at least half of the range: the ports \
             of the first parity {what} are used up"
        )
    } else {
        format!("{examined}: few ports {what} are left")
    }
}

fn search(
    activity: &SearchActivity,
    cost: Option<Cost>,
    interval_ns: u64,
    input: &CallsInput<'_>,
) -> SearchReport {
    let id = &activity.id;
    let [first, second] = &activity.by_parity;
    SearchReport {
        pid: id.process.pid,
        comm: input.comm(id.process),
        netns: id.netns,
        op: id.op,
        dst: id.dst.map(|dst| dst.to_string()),
        calls: activity.calls,
        failed: activity.failed,
        total_ns: (activity.timed > 0).then_some(activity.total_ns),
        p50_ns: activity.percentile_ns(0.5),
        p99_ns: activity.percentile_ns(0.99),
        max_ns: activity.max_ns,
        max_is_upper_bound: activity.max_is_bound,
        latency_is_upper_bound: activity.upper_bounds > 0,
        candidates_avg: activity.candidates_avg(),
        candidates_max: activity.candidates_max,
        second_parity: activity.second_parity_share(),
        first_parity_latency: parity(first, activity.max_ns),
        second_parity_latency: parity(second, activity.max_ns),
        cpu_share: cost.map(|cost| cost.share),
        cpu_share_at_most: hot::most(activity, interval_ns),
        cpu_share_is_lower_bound: cost.is_some_and(|cost| cost.is_lower_bound),
        time_waits: activity.time_waits,
    }
}

fn parity(latencies: &Latencies, longest_ns: Option<u64>) -> Option<ParityLatency> {
    let longest_ns = longest_ns?;
    Some(ParityLatency {
        calls: latencies.count(),
        p50_ns: latencies.percentile_ns(0.5, longest_ns)?,
        p99_ns: latencies.percentile_ns(0.99, longest_ns)?,
        histogram: latencies.octaves(),
    })
}

/// The failures of the newest interval, most frequent first.
pub fn failures(calls: &PortCalls, input: &CallsInput<'_>) -> Vec<FailureReport> {
    listed(calls.failures(), calls, input)
}

/// The failures since attach, most frequent first.
pub fn failures_since_attach(calls: &PortCalls, input: &CallsInput<'_>) -> Vec<FailureReport> {
    listed(&calls.failures_since_attach(), calls, input)
}

fn listed(failures: &[Failure], calls: &PortCalls, input: &CallsInput<'_>) -> Vec<FailureReport> {
    let wanted = failures.iter().filter(|failure| is_exhausted(failure));
    let mut connections = calls.connections(wanted.map(|failure| &failure.id.search));
    for users in connections.values_mut() {
        users.arrange_by_key(|user| (std::cmp::Reverse(user.connections), user.process));
        users.truncate(CALLERS);
    }
    failures
        .iter()
        .filter(|failure| input.keeps(&failure.id.search))
        .map(|failure| {
            let route = failure.id.search.dst.map(|dst| Route {
                netns: failure.id.search.netns,
                dst,
            });
            let users = route
                .filter(|_| is_exhausted(failure))
                .and_then(|route| connections.get(&route));
            let callers = users.into_iter().flatten().map(|user| Caller {
                pid: user.process.pid,
                comm: input.comm(user.process),
                connections: user.connections,
                time_waits: (!calls.visible().bounded_connects).then_some(user.time_waits),
            });
            FailureReport {
                callers: callers.collect(),
                ..report(failure, calls.at_ns(), input)
            }
        })
        .collect()
}

/// Most processes named as callers.
const CALLERS: usize = 5;

/// connect() found no port: whoever has connected there has used them up.
fn is_exhausted(failure: &Failure) -> bool {
    failure.id.search.op == Op::Connect && failure.id.cause == Cause::EphemeralExhausted
}

fn report(failure: &Failure, at_ns: u64, input: &CallsInput<'_>) -> FailureReport {
    let id = &failure.id;
    let who = id.search.process;
    let range = input.ranges.get(id);
    let owners = input
        .owners
        .get(id)
        .filter(|owners| failure.port == Some(owners.port));
    let held: Vec<(ProcessId, u64)> = match (range, owners) {
        (Some(range), _) => range.holders.clone(),
        (None, Some(owners)) => owners.processes.iter().map(|owner| (*owner, 1)).collect(),
        (None, None) => Vec::new(),
    };
    FailureReport {
        op: id.search.op,
        errno: errno_name(id.errno),
        cause: id.cause,
        pid: who.pid,
        tid: failure.tid,
        comm: input.comm(who),
        netns: id.search.netns,
        cgroup: input.info(who).cgroup,
        container: input.info(who).container,
        src: source(failure),
        dst: id.search.dst.map(|dst| dst.to_string()),
        port: failure.port,
        options: options(id.options),
        range: id.range.map(|(low, high)| [low, high]),
        search_ns: failure.search_ns(),
        candidates: failure.candidates(),
        count: failure.count,
        breakdown: range.map(|range| PortBreakdown {
            connected: range.connected,
            time_wait: range.time_wait,
            bound: range.bound,
            reserved: range.reserved,
            other: range.other,
            age_s: at_ns.saturating_sub(range.at_ns) as f64 / 1e9,
        }),
        holders: held.iter().map(|(process, _)| process.pid).collect(),
        held_by: held
            .iter()
            .map(|(process, count)| Holder {
                pid: process.pid,
                comm: input.comm(*process),
                count: *count,
            })
            .collect(),
        callers: Vec::new(),
        remedy: remedy::of_failure(&trouble(failure, range)),
    }
}

fn trouble(failure: &Failure, range: Option<&RangeUse>) -> Trouble {
    let id = &failure.id;
    let quarter = |part: fn(&RangeUse) -> u64| {
        range.map(|range| {
            let size =
                range.connected + range.time_wait + range.bound + range.reserved + range.other;
            part(range).saturating_mul(4) >= size.max(1)
        })
    };
    Trouble {
        options: id.options,
        range: id.range,
        loopback: is_loopback(&id.search),
        time_wait: quarter(|range| range.time_wait),
        bound: quarter(|range| range.bound),
        connected: quarter(|range| range.connected),
        tw_reuse: range.and_then(|range| range.tw_reuse),
        timestamps: range.and_then(|range| range.timestamps),
        ..Trouble::new(id.search.op, id.cause)
    }
}

fn is_loopback(id: &SearchId) -> bool {
    id.dst.is_some_and(|dst| dst.ip().is_loopback())
}

/// As in `ip:port`; an address that bind() did not name is the unspecified one.
fn source(failure: &Failure) -> Option<String> {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

    let id = &failure.id;
    let any = match (id.search.op, id.search.family) {
        (Op::Connect, _) => None,
        (_, crate::model::Family::V4) => Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        (_, crate::model::Family::V6) => Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
    };
    let ip = id.src.or(any)?;
    Some(SocketAddr::new(ip, failure.port.unwrap_or(0)).to_string())
}

fn options(options: PortOptions) -> Vec<Cow<'static, str>> {
    [
        (options.reuse_addr, "SO_REUSEADDR"),
        (options.reuse_port, "SO_REUSEPORT"),
        (options.no_port, "IP_BIND_ADDRESS_NO_PORT"),
    ]
    .into_iter()
    .filter_map(|(is_set, name)| is_set.then_some(name.into()))
    .collect()
}

/// Failures by call and cause.
pub fn by_cause(failures: &[FailureReport]) -> Vec<CauseCount> {
    let mut counts: BTreeMap<(Op, Cause), u64> = BTreeMap::new();
    for failure in failures {
        let count = counts.entry((failure.op, failure.cause)).or_default();
        *count = count.saturating_add(failure.count);
    }
    counts
        .into_iter()
        .map(|((op, cause), count)| CauseCount { op, cause, count })
        .collect()
}

/// Calls since `then`, where all of them are visible.
pub fn searched(visible: VisibleCalls, now: &Counters, then: &Counters) -> OpCounts {
    op_counts(|op| visible.counts(op), now.searches, then.searches)
}

/// Failed calls since `then`, where they are visible.
pub fn failed(visible: VisibleCalls, now: &Counters, then: &Counters) -> OpCounts {
    op_counts(|op| visible.sees(op), now.failures, then.failures)
}

fn op_counts(is_visible: impl Fn(Op) -> bool, now: [u64; 3], then: [u64; 3]) -> OpCounts {
    let since = |op: Op| {
        let at = |counts: [u64; 3]| counts.get(op as usize).copied().unwrap_or(0);
        is_visible(op).then(|| at(now).saturating_sub(at(then)))
    };
    OpCounts {
        connect: since(Op::Connect),
        bind: since(Op::Bind),
        listen: since(Op::Listen),
    }
}
