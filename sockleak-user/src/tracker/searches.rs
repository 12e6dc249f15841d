//! Port searches: from counters that only rise to what happened in an interval.

use super::latencies::Latencies;
use super::readings::{Element, Readings};
use crate::model::Arrange as _;
use crate::model::{ProcessId, SearchCounters, SearchId};

/// What one process did in the port search for one purpose, in an interval or since attach.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchActivity {
    /// Who and what.
    pub id: SearchId,
    /// Calls.
    pub calls: u64,
    /// Of those, failed for want of a port.
    pub failed: u64,
    /// Calls with a known latency.
    pub timed: u64,
    /// Of those, with an upper bound of it only.
    pub upper_bounds: u64,
    /// Sum of latencies, ns.
    pub total_ns: u64,
    /// Longest, ns; `None` without a latency.
    pub max_ns: Option<u64>,
    /// `max_ns` was not exceeded, but possibly not reached.
    pub max_is_bound: bool,
    /// Calls with a known CPU time.
    pub measured: u64,
    /// Sum of those, ns.
    pub cpu_ns: u64,
    /// Calls whose number of examined ports is known.
    pub counted: u64,
    /// Ports examined in those.
    pub candidates: u64,
    /// Most in one call; `None` when it is not known for this interval.
    pub candidates_max: Option<u64>,
    /// Calls that came to the second parity of the range.
    pub second_parity: u64,
    /// Connections that entered TIME_WAIT.
    pub time_waits: u64,
    /// Calls by latency: those that did not come to the second parity, and those that did.
    pub by_parity: [Latencies; 2],
}

impl SearchActivity {
    /// What came between two readings of one element; `then` is `None` for a new element.
    pub fn between(then: Option<&SearchCounters>, now: &SearchCounters) -> Self {
        let since = |of: fn(&SearchCounters) -> u64| of(now).saturating_sub(then.map_or(0, of));
        let by_parity = by_parity(then, now);
        let (timed, counted) = (since(|c| c.timed), since(|c| c.counted));
        // The kernel side keeps maxima since attach. One that has risen did so now.
        let has_risen = then.is_none_or(|then| now.max_ns > then.max_ns);
        let [first, second] = &by_parity;
        let bound = first.with(second).bound_ns().unwrap_or(u64::MAX);
        let more_candidates = then.is_none_or(|then| now.candidates_max > then.candidates_max);
        Self {
            id: now.id,
            calls: since(|c| c.calls),
            failed: since(|c| c.failed),
            timed,
            upper_bounds: since(|c| c.upper_bounds),
            total_ns: since(|c| c.total_ns),
            max_ns: (timed > 0).then_some(if has_risen {
                now.max_ns
            } else {
                now.max_ns.min(bound)
            }),
            max_is_bound: !has_risen,
            measured: since(|c| c.measured),
            cpu_ns: since(|c| c.cpu_ns),
            counted,
            candidates: since(|c| c.candidates),
            candidates_max: (counted > 0 && more_candidates).then_some(now.candidates_max),
            second_parity: since(|c| c.second_parity),
            time_waits: since(|c| c.time_waits),
            by_parity,
        }
    }

    /// Adds what happened under the same key at another time.
    fn add(&mut self, other: &Self) {
        let both = |ours: &mut u64, theirs: u64| *ours = ours.saturating_add(theirs);
        both(&mut self.calls, other.calls);
        both(&mut self.failed, other.failed);
        both(&mut self.timed, other.timed);
        both(&mut self.upper_bounds, other.upper_bounds);
        both(&mut self.total_ns, other.total_ns);
        both(&mut self.measured, other.measured);
        both(&mut self.cpu_ns, other.cpu_ns);
        both(&mut self.counted, other.counted);
        both(&mut self.candidates, other.candidates);
        both(&mut self.second_parity, other.second_parity);
        both(&mut self.time_waits, other.time_waits);
        if other.max_ns > self.max_ns {
            self.max_is_bound = other.max_is_bound;
        }
        self.max_ns = self.max_ns.max(other.max_ns);
        self.candidates_max = self.candidates_max.max(other.candidates_max);
        for (ours, theirs) in self.by_parity.iter_mut().zip(&other.by_parity) {
            ours.add(theirs);
        }
    }

    /// All calls by latency.
    pub(super) fn latencies(&self) -> Latencies {
        let [first, second] = &self.by_parity;
        first.with(second)
    }

    /// Percentile of the latency, ns; `None` when none was measured.
    pub fn percentile_ns(&self, share: f64) -> Option<u64> {
        self.latencies().percentile_ns(share, self.max_ns?)
    }

    /// Time spent searching, ns: that of all calls without what a few have waited for a CPU.
    ///
    /// A search can be preempted, and then takes milliseconds where others take microseconds.
    /// Those that are more than twice as long as 95 of 100 count as twice that long.
    pub fn busy_ns(&self) -> u64 {
        let Some((p95, longest)) = self.percentile_ns(0.95).zip(self.max_ns) else {
            return self.total_ns;
        };
        let waited = self.latencies().beyond_ns(p95.saturating_mul(2), longest);
        self.total_ns.saturating_sub(waited)
    }

    /// Ports examined per call; `None` when none was counted.
    pub fn candidates_avg(&self) -> Option<f64> {
        (self.counted > 0).then(|| self.candidates as f64 / self.counted as f64)
    }

    /// Share (0 to 1) of the calls that came to the second parity.
    pub fn second_parity_share(&self) -> f64 {
        share(self.second_parity, self.calls)
    }

    /// Share (0 to 1) of the calls that walked at least half of the range: those that came to
    /// the second parity and those that found nothing.
    pub fn long_walks(&self) -> f64 {
        share(self.second_parity.saturating_add(self.failed), self.calls).min(1.0)
    }
}

fn by_parity(then: Option<&SearchCounters>, now: &SearchCounters) -> [Latencies; 2] {
    let [first, second] = &*now.latency;
    let then = then.map(|then| &*then.latency);
    [
        Latencies::between(then.map(|[first, _]| first), first),
        Latencies::between(then.map(|[_, second]| second), second),
    ]
}

fn share(part: u64, of: u64) -> f64 {
    if of == 0 {
        return 0.0;
    }
    // The two are not read at once.
    (part as f64 / of as f64).min(1.0)
}

impl Element for SearchCounters {
    type Id = SearchId;

    fn id(&self) -> SearchId {
        self.id
    }

    fn process(&self) -> ProcessId {
        self.id.process
    }

    fn count(&self) -> u64 {
        self.calls
    }

    fn continues(&self, then: &Self) -> bool {
        let all = |c: &Self| {
            [
                c.calls,
                c.failed,
                c.timed,
                c.upper_bounds,
                c.total_ns,
                c.measured,
                c.cpu_ns,
                c.counted,
                c.candidates,
                c.second_parity,
                c.time_waits,
            ]
        };
        // Not the histogram: its buckets wrap. Nor `last_ns` and the maxima: they are stored, not
        // added to, and a thread that was preempted before it stores sets them back.
        all(self)
            .iter()
            .zip(all(then))
            .all(|(now, then)| *now >= then)
    }
}

/// The searches of all processes, from sample to sample.
#[derive(Debug)]
pub struct Searches {
    readings: Readings<SearchCounters>,
    interval: Vec<SearchActivity>,
    ended: Vec<SearchActivity>,
    ended_omitted: u64,
}

/// Most searches of processes that are over which the last report still names.
const ENDED: usize = 256;

impl Searches {
    /// Nothing yet; remembers at most `limit` elements.
    pub fn new(limit: usize) -> Self {
        Self {
            readings: Readings::new(limit),
            interval: Vec::new(),
            ended: Vec::new(),
            ended_omitted: 0,
        }
    }

    /// Takes in a reading of the kernel side's map.
    pub fn advance(&mut self, reading: Vec<SearchCounters>) {
        let mut interval = Vec::new();
        let (ended, omitted) = (&mut self.ended, &mut self.ended_omitted);
        self.readings.advance(
            reading,
            |then, now| {
                let activity = SearchActivity::between(then, now);
                if activity.calls > 0 {
                    interval.push(activity);
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

    /// What happened in the newest interval, one per key with at least one call, the dearest
    /// first.
    pub fn interval(&self) -> &[SearchActivity] {
        &self.interval
    }

    /// What has happened since attach, the dearest first.
    pub fn since_attach(&self) -> Vec<SearchActivity> {
        let mut all: Vec<_> = self
            .readings
            .iter()
            .map(|now| SearchActivity::between(None, now))
            .chain(self.ended.iter().cloned())
            .filter(|activity| activity.calls > 0)
            .collect();
        all.arrange_by_key(|activity| activity.id);
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

    /// Calls that found a port, and connections that entered TIME_WAIT, since attach, by key; a
    /// key may come twice.
    pub fn connections(&self) -> impl Iterator<Item = (&SearchId, u64, u64)> {
        let known = self
            .readings
            .iter()
            .map(|c| (&c.id, c.calls, c.failed, c.time_waits));
        let ended = self
            .ended
            .iter()
            .map(|a| (&a.id, a.calls, a.failed, a.time_waits));
        known
            .chain(ended)
            .map(|(id, calls, failed, waits)| (id, calls.saturating_sub(failed), waits))
    }

    /// Keys of processes that are over for which there was no room: they are missing in
    /// [`Searches::since_attach`].
    pub fn ended_omitted(&self) -> u64 {
        self.ended_omitted
    }

    /// Processes with elements, when each was last heard of, and how many elements there are.
    pub fn processes(&self) -> (impl Iterator<Item = (ProcessId, u64)>, usize) {
        let processes = self
            .readings
            .iter()
            .map(|element| (element.id.process, element.last_ns));
        (processes, self.readings.len())
    }
}

/// Keeps the dearest of those that are over.
fn retire(ended: &mut Vec<SearchActivity>, omitted: &mut u64, gone: &SearchCounters) {
    ended.push(SearchActivity::between(None, gone));
    if ended.len() > ENDED * 2 {
        sort(ended);
        *omitted += (ended.len() - ENDED) as u64;
        ended.truncate(ENDED);
    }
}

fn sort(activities: &mut [SearchActivity]) {
    activities.arrange_by_key(|activity| {
        (
            std::cmp::Reverse((activity.total_ns, activity.calls)),
            activity.id,
        )
    });
}
