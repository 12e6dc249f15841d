//! Failed calls: from counters that only rise to what happened in an interval.

use super::readings::{Element, Readings};
use crate::model::Arrange as _;
use crate::model::{Cause, FailureCounters, FailureId, ProcessId};

/// Equal failures of an interval, or since attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What.
    pub id: FailureId,
    /// How many, exactly.
    pub count: u64,
    /// Of those, with a known time in the search.
    pub timed: u64,
    /// Sum of those times, ns.
    pub total_ns: u64,
    /// Failures whose number of examined ports is known.
    pub counted: u64,
    /// Sum of those.
    pub candidates: u64,
    /// Thread of the last one.
    pub tid: u32,
    /// Local port of the last one: asked for, or bound before connect(); `None` any.
    pub port: Option<u16>,
    /// `CLOCK_MONOTONIC` at the last one, ns.
    pub last_ns: u64,
}

impl Failure {
    /// What came between two readings of one element; `then` is `None` for a new element.
    fn between(then: Option<&FailureCounters>, now: &FailureCounters) -> Self {
        let since = |of: fn(&FailureCounters) -> u64| of(now).saturating_sub(then.map_or(0, of));
        Self {
            id: now.id,
            count: since(|c| c.count),
            timed: since(|c| c.timed),
            total_ns: since(|c| c.total_ns),
            counted: since(|c| c.counted),
            candidates: since(|c| c.candidates),
            tid: now.tid,
            port: now.port,
            last_ns: now.last_ns,
        }
    }

    fn add(&mut self, other: &Self) {
        let both = |ours: &mut u64, theirs: u64| *ours = ours.saturating_add(theirs);
        both(&mut self.count, other.count);
        both(&mut self.timed, other.timed);
        both(&mut self.total_ns, other.total_ns);
        both(&mut self.counted, other.counted);
        both(&mut self.candidates, other.candidates);
        if other.last_ns > self.last_ns {
            (self.tid, self.port, self.last_ns) = (other.tid, other.port, other.last_ns);
        }
    }

    /// The first `count` and the rest, either of which may be none. Sums are divided in
    /// proportion.
    pub fn split(self, count: u64) -> (Option<Self>, Option<Self>) {
        let count = count.min(self.count);
        let part = |of: u64| {
            let product = u128::from(of) * u128::from(count) / u128::from(self.count.max(1));
            u64::try_from(product).unwrap_or(of)
        };
        let first = Self {
            count,
            timed: part(self.timed),
            total_ns: part(self.total_ns),
            counted: part(self.counted),
            candidates: part(self.candidates),
            ..self.clone()
        };
        let rest = Self {
            count: self.count - first.count,
            timed: self.timed - first.timed,
            total_ns: self.total_ns - first.total_ns,
            counted: self.counted - first.counted,
            candidates: self.candidates - first.candidates,
            ..self
        };
        let some = |failure: Self| (failure.count > 0).then_some(failure);
        (some(first), some(rest))
    }

    /// The same with another cause.
    pub fn with_cause(mut self, cause: Cause) -> Self {
        self.id.cause = cause;
        self
    }

    /// Mean time in the search, ns, over those where it is known.
    pub fn search_ns(&self) -> Option<u64> {
        self.total_ns.checked_div(self.timed)
    }

    /// Mean number of ports examined, over those where it is known.
    pub fn candidates(&self) -> Option<u64> {
        self.candidates.checked_div(self.counted)
    }
}

impl Element for FailureCounters {
    type Id = FailureId;

    fn id(&self) -> FailureId {
        self.id
    }

    fn process(&self) -> ProcessId {
        self.id.search.process
    }

    fn count(&self) -> u64 {
        self.count
    }

    fn continues(&self, then: &Self) -> bool {
        // Only what the kernel side adds to atomically: a thread that was preempted before it
        // wrote `last_ns` sets it back.
        let all = |c: &Self| [c.count, c.timed, c.total_ns, c.counted, c.candidates];
        all(self)
            .iter()
            .zip(all(then))
            .all(|(now, then)| *now >= then)
    }
}

/// The failures of all processes, from sample to sample.
#[derive(Debug)]
pub struct Failures {
    readings: Readings<FailureCounters>,
    interval: Vec<Failure>,
    ended: Vec<Failure>,
    ended_omitted: [u64; 3],
}

/// Most failures of processes that are over which the last report still names.
const ENDED: usize = 1024;

impl Failures {
    /// Nothing yet; remembers at most `limit` elements.
    pub fn new(limit: usize) -> Self {
        Self {
            readings: Readings::new(limit),
            interval: Vec::new(),
            ended: Vec::new(),
            ended_omitted: [0; 3],
        }
    }

    /// Takes in a reading of the kernel side's map.
    pub fn advance(&mut self, reading: Vec<FailureCounters>) {
        let mut interval = Vec::new();
        let (ended, omitted) = (&mut self.ended, &mut self.ended_omitted);
        self.readings.advance(
            reading,
            |then, now| {
                let failure = Failure::between(then, now);
                if failure.count > 0 {
                    interval.push(failure);
                }
            },
            |gone| retire(ended, omitted, &gone),
        );
        sort(&mut interval);
        self.interval = interval;
    }

    /// Gives up the elements of processes that leave the kernel's map, too.
    pub fn forget(&mut self, is_over: impl FnMut(ProcessId) -> bool) {
        let (ended, omitted) = (&mut self.ended, &mut self.ended_omitted);
        self.readings
            .forget(is_over, |gone| retire(ended, omitted, &gone));
    }

    /// What happened in the newest interval, one per kind of failure, the most frequent first.
    pub fn interval(&self) -> &[Failure] {
        &self.interval
    }

    /// Gives failures of the newest interval another cause, where `cause` has one for them.
    pub fn recast(&mut self, cause: impl Fn(&FailureId) -> Option<Cause>) {
        for failure in &mut self.interval {
            if let Some(cause) = cause(&failure.id) {
                failure.id.cause = cause;
            }
        }
    }

    /// What has happened since attach, the most frequent first.
    pub fn since_attach(&self) -> Vec<Failure> {
        let mut all: Vec<_> = self
            .readings
            .iter()
            .map(|now| Failure::between(None, now))
            .chain(self.ended.iter().cloned())
            .filter(|failure| failure.count > 0)
            .collect();
        all.arrange_by_key(|failure| failure.id);
        all.dedup_by(|next, first| {
            let is_same = next.id == first.id;
            if is_same {
                first.add(next);
            }
            is_same
        });
        sort(&mut all);
        all
    }

    /// How many failures since attach have their kind, by op as in the counters. What
    /// `Counters::failures` has more did not fit into the kernel side's map.
    pub fn known(&self) -> [u64; 3] {
        let mut known = self.ended_omitted;
        let elements = self.readings.iter().map(|e| (e.id.search.op, e.count));
        let ended = self.ended.iter().map(|f| (f.id.search.op, f.count));
        for (op, count) in elements.chain(ended) {
            if let Some(sum) = known.get_mut(op as usize) {
                *sum = sum.saturating_add(count);
            }
        }
        known
    }

    /// Failures since attach of processes that are over and for which there was no room: they
    /// are missing in [`Failures::since_attach`], by op as in the counters.
    pub fn ended_omitted(&self) -> [u64; 3] {
        self.ended_omitted
    }

    /// Processes with elements, when each was last heard of, and how many elements there are.
    pub fn processes(&self) -> (impl Iterator<Item = (ProcessId, u64)>, usize) {
        let processes = self
            .readings
            .iter()
            .map(|element| (element.id.search.process, element.last_ns));
        (processes, self.readings.len())
    }
}

/// Keeps the most frequent of those that are over.
fn retire(ended: &mut Vec<Failure>, omitted: &mut [u64; 3], gone: &FailureCounters) {
    ended.push(Failure::between(None, gone));
    if ended.len() > ENDED * 2 {
        sort(ended);
        for failure in ended.drain(ENDED..) {
            if let Some(sum) = omitted.get_mut(failure.id.search.op as usize) {
                *sum = sum.saturating_add(failure.count);
            }
        }
    }
}

fn sort(failures: &mut [Failure]) {
    failures.arrange_by_key(|failure| (std::cmp::Reverse(failure.count), failure.id));
}
