//! A whole run of `watch` as its lines tell it: what was said at the end, or what is known when
//! there is no end.

mod so_far;
mod timeline;

use super::{
    Body, CutReport, EndReport, FailureReport, HotLoop, IntervalProcess, Leak, OrphansReport,
    PressureReport, RecordingReport, Report, StartReport,
};

pub use so_far::SoFar;
pub use timeline::{Held, Point, Timeline};

/// Gaps that are kept; of further ones only the number.
const MOST_GAPS: usize = 64;
/// Lines of one interval that are kept until it is complete. There is room for as many kinds of
/// failure in the kernel side's maps, and for the rest.
const MOST_PENDING: usize = 1 << 17;

/// A report and when it was made, RFC 3339 in UTC.
#[derive(Clone, Debug, PartialEq)]
pub struct At<T> {
    /// When.
    pub ts: String,
    /// What.
    pub body: T,
}

/// What a recording comes to.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Who recorded it where; the time is when it began.
    pub recording: Option<At<RecordingReport>>,
    /// What was attached.
    pub start: Option<At<StartReport>>,
    /// The last report, when the run came to one.
    pub end: Option<At<Box<EndReport>>>,
    /// What the intervals tell, up to the last that is complete.
    pub so_far: SoFar,
    /// How it went.
    pub timeline: Timeline,
    /// Lines that are missing.
    pub gaps: Vec<Report>,
    /// Gaps that are not among them.
    pub gaps_omitted: u64,
    /// Where the recording ends without an end.
    pub cut: Option<At<CutReport>>,
    /// Lines that are no report which this version understands.
    pub unreadable: u64,
    /// Events, which are counted only.
    pub events: u64,
    pending: Vec<Report>,
}

impl History {
    /// Takes the next line.
    pub fn add(&mut self, report: Report) {
        let Report { ts, body, .. } = report;
        match body {
            Body::Recording(body) => self.recording = Some(At { ts, body }),
            Body::Start(body) => self.start = Some(At { ts, body }),
            Body::End(body) => self.end = Some(At { ts, body }),
            Body::Event(_) => self.events += 1,
            Body::Gap(_) if self.gaps.len() >= MOST_GAPS => self.gaps_omitted += 1,
            Body::Gap(_) => self.gaps.push(Report::new(ts, body)),
            _ if self.pending.len() < MOST_PENDING => self.pending.push(Report::new(ts, body)),
            _ => self.unreadable += 1,
        }
    }

    /// All lines of an interval have come.
    pub fn interval_is_complete(&mut self) {
        let lines = std::mem::take(&mut self.pending);
        self.timeline.add(&lines);
        self.so_far.add(lines);
    }

    /// Leaks at the end, or as of the last complete interval.
    pub fn leaks(&self) -> &[Leak] {
        match &self.end {
            Some(at) => &at.body.leaks,
            None => &self.so_far.leaks,
        }
    }

    /// Failures, most frequent first; likewise.
    pub fn failures(&self) -> Vec<FailureReport> {
        match &self.end {
            Some(at) => at.body.failures.clone(),
            None => self.so_far.failures(),
        }
    }

    /// Who has spent CPU time in the port search, dearest first; likewise.
    pub fn hot_loops(&self) -> Vec<HotLoop> {
        match &self.end {
            Some(at) => at.body.hot_loops.clone(),
            None => self.so_far.hot_loops(),
        }
    }

    /// Destinations towards which ports were getting scarce; likewise.
    pub fn pressures(&self) -> &[PressureReport] {
        match &self.end {
            Some(at) => &at.body.pressures,
            None => &self.so_far.pressures,
        }
    }

    /// Orphans of the host, when there were many; likewise.
    pub fn orphans(&self) -> Option<&OrphansReport> {
        let of_end = self.end.as_ref().map(|at| at.body.orphans.as_deref());
        let so_far = || self.so_far.last.as_ref()?.orphans.as_deref();
        of_end.unwrap_or_else(so_far)
    }

    /// What processes held; likewise.
    pub fn processes(&self) -> &[IntervalProcess] {
        match (&self.end, &self.so_far.last) {
            (Some(at), _) => &at.body.processes,
            (None, Some(last)) => &last.processes,
            (None, None) => &[],
        }
    }

    /// A line could not be read.
    pub fn add_unreadable(&mut self) {
        self.unreadable += 1;
    }
}
