//! What the reports have said so far, within bounds.

use std::{collections::VecDeque, sync::Arc};

use crate::report::{
    Body, Cause, EventReport, FailureReport, HotLoop, IntervalReport, Leak, OccupancyReport, Op,
    PressureReport, Report, SearchReport, StartReport, unix_ms,
};

/// Kinds of failure that are kept; what comes after is counted.
pub const FAILURES: usize = 1_000;
/// Events that are kept, the newest.
pub const EVENTS: usize = 2_000;
/// Intervals of which the curves are drawn.
pub const HISTORY: usize = 240;

/// What arrives at a time: the lines of one interval, or events.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The reports, in order.
    pub reports: Vec<Report>,
    /// Intervals that were thrown away before this one, because the screen did not keep up.
    pub missed_intervals: u64,
    /// Events that were thrown away likewise.
    pub missed_events: u64,
}

/// Failures are the same kind when these are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureKey {
    /// Who.
    pub pid: u32,
    /// What was called.
    pub op: Op,
    /// Why it failed.
    pub cause: Cause,
    /// Towards whom, or what was asked for.
    pub to: Option<String>,
}

impl FailureKey {
    /// That of a failure.
    pub fn of(failure: &FailureReport) -> Self {
        let to = failure.dst.as_ref().or(failure.src.as_ref());
        Self {
            pid: failure.pid,
            op: failure.op,
            cause: failure.cause,
            to: to.cloned(),
        }
    }
}

/// One kind of failure over all intervals that were shown.
#[derive(Clone, Debug)]
pub struct Failed {
    /// The newest report of it.
    pub line: Arc<Report>,
    /// How often, over all intervals.
    pub total: u64,
    /// How often in the newest interval.
    pub now: u64,
}

/// One point of the curves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// Allocated sockets of the host.
    pub alloc: u64,
    /// Created or accepted per second.
    pub born_per_s: f64,
    /// Failed calls.
    pub failed: u64,
}

/// Everything that can be shown. Reports are kept as they came, so that whoever keeps this as it
/// was at some moment shares them.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// When the newest interval was made, RFC 3339; empty before.
    pub ts: String,
    /// What is attached.
    pub start_line: Option<Arc<Report>>,
    /// The newest interval.
    pub interval_line: Option<Arc<Report>>,
    /// What belongs to the newest interval: leaks, hot loops, scarce ports, each in the order of
    /// the report. Failures are kept longer.
    pub lines: Vec<Arc<Report>>,
    /// Failures since the start, those of the newest interval first.
    pub failures: Vec<Failed>,
    /// Failed calls of kinds that are not kept.
    pub failures_not_kept: u64,
    /// Single events are reported.
    pub has_events: bool,
    /// Events with their numbers, newest first.
    pub events: VecDeque<(u64, Arc<Report>)>,
    /// Events that have come, also those that are not kept.
    pub events_seen: u64,
    /// The newest look at a namespace's ports.
    pub look_line: Option<Arc<Report>>,
    /// The curves, newest last.
    pub history: VecDeque<Moment>,
    /// Intervals that were never shown.
    pub missed_intervals: u64,
    /// Events that were never shown.
    pub missed_events: u64,
}

/// What a line says, when it is of the kind that is asked for.
macro_rules! part {
    ($line:expr, $kind:ident) => {
        match &$line.body {
            Body::$kind(body) => Some(body),
            _ => None,
        }
    };
}

impl Failed {
    /// The newest report of it.
    pub fn report(&self) -> Option<&FailureReport> {
        part!(self.line, Failure)
    }
}

impl Known {
    /// What is attached.
    pub fn start(&self) -> Option<&StartReport> {
        part!(self.start_line.as_deref()?, Start)
    }

    /// The newest interval.
    pub fn interval(&self) -> Option<&IntervalReport> {
        part!(self.interval_line.as_deref()?, Interval)
    }

    /// Leaks of the newest interval, worst first.
    pub fn leaks(&self) -> impl Iterator<Item = &Leak> {
        self.lines.iter().filter_map(|line| part!(line, Leak))
    }

    /// Hot loops of the newest interval.
    pub fn hot_loops(&self) -> impl Iterator<Item = &HotLoop> {
        self.lines.iter().filter_map(|line| part!(line, HotLoop))
    }

    /// Scarce ports of the newest interval.
    pub fn pressures(&self) -> impl Iterator<Item = &PressureReport> {
        self.lines.iter().filter_map(|line| part!(line, Pressure))
    }

    /// Port searches of the newest interval.
    pub fn searches(&self) -> impl Iterator<Item = &SearchReport> {
        let searches = self
            .interval()
            .and_then(|interval| interval.searches.as_ref());
        searches.into_iter().flatten()
    }

    /// Events: number, time, event; newest first.
    pub fn events(&self) -> impl Iterator<Item = (u64, &str, &EventReport)> {
        self.events
            .iter()
            .filter_map(|(number, line)| Some((*number, line.ts.as_str(), part!(line, Event)?)))
    }

    /// The newest look at a namespace's ports, and when it was.
    pub fn look(&self) -> Option<(&str, &OccupancyReport)> {
        let line = self.look_line.as_deref()?;
        Some((&line.ts, part!(line, Ports)?))
    }

    /// Takes what has arrived.
    pub fn take(&mut self, batch: Batch) {
        self.missed_intervals += batch.missed_intervals;
        self.missed_events += batch.missed_events;
        for report in batch.reports {
            self.take_report(report);
        }
    }

    /// When the newest interval was made, ms since 1970.
    pub fn at_ms(&self) -> Option<u64> {
        unix_ms(&self.ts)
    }

    fn take_report(&mut self, report: Report) {
        let line = Arc::new(report);
        match &line.body {
            Body::Start(_) => {
                self.ts.clone_from(&line.ts);
                self.start_line = Some(line);
            }
            Body::Interval(interval) => {
                self.begin(interval);
                self.ts.clone_from(&line.ts);
                self.interval_line = Some(line);
            }
            Body::Leak(_) | Body::HotLoop(_) | Body::Pressure(_) => self.lines.push(line),
            Body::Failure(failure) => {
                let (key, count) = (FailureKey::of(failure), failure.count);
                self.fail(line, &key, count);
            }
            Body::Event(_) => {
                self.events_seen += 1;
                self.events.truncate(EVENTS - 1);
                self.events.push_front((self.events_seen, line));
            }
            Body::Ports(_) => self.look_line = Some(line),
            // Not of a watch that goes on.
            _ => {}
        }
    }

    /// An interval comes before the lines that belong to it.
    fn begin(&mut self, interval: &IntervalReport) {
        self.lines.clear();
        for failed in &mut self.failures {
            failed.now = 0;
        }
        let born = interval.allocated.saturating_add(interval.children);
        let born_per_s = born as f64 / interval.interval_s;
        self.history.push_back(Moment {
            alloc: interval.sockstat.alloc,
            born_per_s: if born_per_s.is_finite() {
                born_per_s
            } else {
                0.0
            },
            failed: interval.failed.total(),
        });
        while self.history.len() > HISTORY {
            self.history.pop_front();
        }
    }

    fn fail(&mut self, line: Arc<Report>, key: &FailureKey, count: u64) {
        let is_it = |failed: &Failed| {
            failed
                .report()
                .is_some_and(|report| FailureKey::of(report) == *key)
        };
        let before = self.failures.iter().position(is_it);
        let before = before.map(|at| self.failures.remove(at));
        let (total, now) = before.map_or((0, 0), |failed| (failed.total, failed.now));
        let failed = Failed {
            line,
            total: total.saturating_add(count),
            now: now.saturating_add(count),
        };
        // Those of this interval come first, in the order in which they came.
        let mut known = self.failures.iter();
        let at = known
            .position(|failed| failed.now == 0)
            .unwrap_or(self.failures.len());
        self.failures.insert(at, failed);
        for dropped in self.failures.drain(FAILURES.min(self.failures.len())..) {
            self.failures_not_kept = self.failures_not_kept.saturating_add(dropped.total);
        }
    }
}
