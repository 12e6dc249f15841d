//! The sum of the intervals, for a run whose last report is missing.

use crate::model::Arrange as _;
use std::collections::HashMap;

use super::super::{
    Body, Cause, CauseCount, FailureReport, HotLoop, IntervalReport, Leak, Op, OpCounts,
    PressureReport, Report,
};

/// Kinds of failure and hot loops that are kept.
const MOST: usize = 1 << 14;

/// What is known after a number of complete intervals. Nothing here was read at the end of the
/// run: it is as of `until`.
#[derive(Clone, Debug, Default)]
pub struct SoFar {
    /// Complete intervals.
    pub intervals: u64,
    /// When the last of them was over, RFC 3339 in UTC.
    pub until: Option<String>,
    /// Their length, seconds.
    pub duration_s: f64,
    /// Sockets created in them with socket(), host-wide.
    pub allocated: u64,
    /// Connections born from listeners, host-wide.
    pub children: u64,
    /// Sockets destroyed, host-wide.
    pub destroyed: u64,
    /// Calls that failed, host-wide.
    pub failed: OpCounts,
    /// Of those, in no line.
    pub failed_unlisted: u64,
    /// The last interval.
    pub last: Option<IntervalReport>,
    /// Leaks that were known in it, worst first.
    pub leaks: Vec<Leak>,
    /// Destinations towards which ports were getting scarce in it.
    pub pressures: Vec<PressureReport>,
    failures: HashMap<FailureKey, FailureReport>,
    hot_loops: HashMap<HotKey, HotLoop>,
}

/// Failures that are one line in the last report. Of the source only the address: its port is
/// that of one call.
type FailureKey = (
    u32,
    String,
    Op,
    String,
    Cause,
    u32,
    Option<String>,
    Option<String>,
    Option<[u16; 2]>,
);
type HotKey = (u32, String, Op, Option<String>, u32);

impl SoFar {
    /// Takes the lines of a complete interval.
    pub fn add(&mut self, lines: Vec<Report>) {
        self.leaks.clear();
        self.pressures.clear();
        for Report { ts, body, .. } in lines {
            match body {
                Body::Interval(interval) => self.add_interval(ts, interval),
                Body::Failure(failure) => self.add_failure(failure),
                Body::HotLoop(hot) => self.add_hot_loop(hot),
                Body::Pressure(pressure) => self.pressures.push(pressure),
                Body::Leak(leak) => self.leaks.push(leak),
                _ => {}
            }
        }
    }

    /// Failures, most frequent first; the figures of single calls are those of the last line.
    pub fn failures(&self) -> Vec<FailureReport> {
        let mut all: Vec<_> = self.failures.iter().collect();
        all.arrange_by(|(a_key, a), (b_key, b)| b.count.cmp(&a.count).then(a_key.cmp(b_key)));
        all.into_iter()
            .map(|(_, failure)| failure.clone())
            .collect()
    }

    /// Failures by call and cause, most frequent first.
    pub fn failures_by_cause(&self) -> Vec<CauseCount> {
        let mut sums: HashMap<(Op, Cause), u64> = HashMap::new();
        for failure in self.failures.values() {
            let sum = sums.entry((failure.op, failure.cause)).or_default();
            *sum = sum.saturating_add(failure.count);
        }
        let mut all: Vec<_> = sums
            .into_iter()
            .map(|((op, cause), count)| CauseCount { op, cause, count })
            .collect();
        all.arrange_by_key(|one| (std::cmp::Reverse(one.count), one.op, one.cause));
        all
    }

    /// Who has spent CPU time in the port search in any interval, longest first; each with the
    /// figures of the last interval in which it did.
    pub fn hot_loops(&self) -> Vec<HotLoop> {
        let mut all: Vec<_> = self.hot_loops.iter().collect();
        all.arrange_by(|(a_key, a), (b_key, b)| {
            b.hot_for_s.total_cmp(&a.hot_for_s).then(a_key.cmp(b_key))
        });
        all.into_iter().map(|(_, hot)| hot.clone()).collect()
    }

    fn add_interval(&mut self, ts: String, interval: IntervalReport) {
        self.intervals += 1;
        self.until = Some(ts);
        self.duration_s += interval.interval_s;
        self.allocated = self.allocated.saturating_add(interval.allocated);
        self.children = self.children.saturating_add(interval.children);
        self.destroyed = self.destroyed.saturating_add(interval.destroyed);
        self.failed = plus(self.failed, interval.failed);
        self.failed_unlisted = self
            .failed_unlisted
            .saturating_add(interval.failed_unlisted);
        self.last = Some(interval);
    }

    fn add_failure(&mut self, failure: FailureReport) {
        let source = failure.src.as_deref();
        let address = source.map(|src| src.rsplit_once(':').map_or(src, |(ip, _)| ip).to_owned());
        let key = (
            failure.pid,
            failure.comm.clone(),
            failure.op,
            failure.errno.clone(),
            failure.cause,
            failure.netns,
            failure.dst.clone(),
            address,
            failure.range,
        );
        let full = self.failures.len() >= MOST;
        match self.failures.get_mut(&key) {
            Some(known) => {
                let count = known.count.saturating_add(failure.count);
                *known = FailureReport { count, ..failure };
            }
            None if full => {
                self.failed_unlisted = self.failed_unlisted.saturating_add(failure.count);
            }
            None => {
                self.failures.insert(key, failure);
            }
        }
    }

    fn add_hot_loop(&mut self, hot: HotLoop) {
        let search = &hot.search;
        let key = (
            search.pid,
            search.comm.clone(),
            search.op,
            search.dst.clone(),
            search.netns,
        );
        if self.hot_loops.len() < MOST || self.hot_loops.contains_key(&key) {
            self.hot_loops.insert(key, hot);
        }
    }
}

/// Unknown stays unknown only when it was so in every interval.
fn plus(a: OpCounts, b: OpCounts) -> OpCounts {
    let add = |a: Option<u64>, b: Option<u64>| match (a, b) {
        (Some(a), Some(b)) => Some(a.saturating_add(b)),
        (a, b) => a.or(b),
    };
    OpCounts {
        connect: add(a.connect, b.connect),
        bind: add(a.bind, b.bind),
        listen: add(a.listen, b.listen),
    }
}
