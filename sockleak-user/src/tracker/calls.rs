//! connect(), bind() and listen(): what they search and why they fail, from sample to sample.

use std::collections::HashMap;

use super::failures::{Failure, Failures};
use super::hot::{self, HotRules};
use super::pressure::Route;
use super::searches::{SearchActivity, Searches};
use crate::model::Arrange as _;
use crate::model::{
    Cause, Counters, FailureCounters, FailureId, Op, ProcessId, SearchCounters, SearchId, total,
};

/// Which calls are visible: there is a hook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VisibleCalls {
    /// connect().
    pub connect: bool,
    /// bind() and listen().
    pub bind: bool,
    /// Of bind() and listen() only those that fail are seen: the number of all is not known.
    pub only_failed_binds: bool,
    /// The time of a connect() that finds a port is an upper bound.
    pub bounded_connects: bool,
}

impl VisibleCalls {
    /// Whether this call is visible.
    pub fn sees(self, op: Op) -> bool {
        match op {
            Op::Connect => self.connect,
            Op::Bind | Op::Listen => self.bind,
        }
    }

    /// Whether every call of this kind is counted, not only those that fail.
    pub fn counts(self, op: Op) -> bool {
        self.sees(op) && (op == Op::Connect || !self.only_failed_binds)
    }

    /// Some call is visible.
    pub fn any(self) -> bool {
        self.connect || self.bind
    }
}

/// A reading of the kernel side's maps.
#[derive(Debug)]
pub struct CallsReading {
    /// `CLOCK_MONOTONIC` time, ns.
    pub at_ns: u64,
    /// Host-wide counters, read before the maps: what they count is in the maps, or there was
    /// no room for it.
    pub before: Counters,
    /// The search map.
    pub searches: Vec<SearchCounters>,
    /// The failure map.
    pub failures: Vec<FailureCounters>,
}

/// Follows the calls of all processes.
#[derive(Debug)]
pub struct PortCalls {
    visible: VisibleCalls,
    searches: Searches,
    failures: Failures,
    began_ns: u64,
    at_ns: u64,
    interval_ns: u64,
    counters: Counters,
    previous: Counters,
    unlisted: [u64; 3],
    newly_unlisted: u64,
    /// Of the failures that look like [`Cause::DuplicateTuple`], those that were TIME_WAIT.
    time_waits: HashMap<FailureId, u64>,
    /// How long each search was a hot loop, ns.
    hot: HashMap<SearchId, u64>,
}

/// Connections that a process has made to a destination since attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// Who.
    pub process: ProcessId,
    /// How many.
    pub connections: u64,
    /// Of those, have entered TIME_WAIT; 0 where that is not seen.
    pub time_waits: u64,
}

/// What a lookup of the address pair of a [`Cause::DuplicateTuple`] failure has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TupleOwner {
    /// A TIME_WAIT socket.
    TimeWait,
    /// Any other, or none any more.
    Other,
}

/// Address pairs that were TIME_WAIT which are remembered for the last report.
const TIME_WAITS: usize = 4096;
/// Hot loops that are remembered for the last report.
const HOT: usize = 1024;

impl PortCalls {
    /// Starts at `at_ns`; remembers at most `limit` elements of each map.
    pub fn new(at_ns: u64, limit: usize) -> Self {
        Self {
            visible: VisibleCalls::default(),
            searches: Searches::new(limit),
            failures: Failures::new(limit),
            began_ns: at_ns,
            at_ns,
            interval_ns: 0,
            counters: Counters::default(),
            previous: Counters::default(),
            unlisted: [0; 3],
            newly_unlisted: 0,
            time_waits: HashMap::new(),
            hot: HashMap::new(),
        }
    }

    /// Says which calls are visible; none before.
    pub fn see(&mut self, visible: VisibleCalls) {
        self.visible = visible;
    }

    /// Takes in a reading; what the last one began is an interval now.
    pub fn advance(&mut self, reading: CallsReading) {
        self.interval_ns = reading.at_ns.saturating_sub(self.at_ns);
        self.at_ns = reading.at_ns;
        self.previous = std::mem::replace(&mut self.counters, reading.before);
        self.searches.advance(reading.searches);
        self.failures.advance(reading.failures);
        let known = self.failures.known();
        let unlisted = [0, 1, 2].map(|op: usize| {
            let of = |counts: &[u64; 3]| counts.get(op).copied().unwrap_or(0);
            of(&self.counters.failures).saturating_sub(of(&known))
        });
        self.newly_unlisted = total(&unlisted).saturating_sub(total(&self.unlisted));
        self.unlisted = unlisted;
        self.heat();
    }

    fn heat(&mut self) {
        for activity in self.searches.interval() {
            let cost = hot::cost(activity, self.interval_ns);
            let is_hot = hot::is_hot(activity, cost, self.interval_ns, &HotRules::default());
            let has_room = self.hot.len() < HOT || self.hot.contains_key(&activity.id);
            if is_hot && has_room {
                *self.hot.entry(activity.id).or_default() += self.interval_ns;
            }
        }
    }

    /// How long a search has been a hot loop, over the intervals in which it was one, ns; 0 if
    /// never.
    pub fn hot_ns(&self, id: &SearchId) -> u64 {
        self.hot.get(id).copied().unwrap_or(0)
    }

    /// Address pairs about which it is asked whether they are in TIME_WAIT: failures of the
    /// newest interval that the kernel side cannot tell apart.
    pub fn doubtful(&self) -> impl Iterator<Item = &Failure> {
        self.failures
            .interval()
            .iter()
            .filter(|failure| failure.id.cause == Cause::DuplicateTuple)
    }

    /// Takes the answers. A line of folded failures follows the answer about its last one.
    pub fn resolve(&mut self, answers: &HashMap<FailureId, TupleOwner>) {
        for failure in self.failures.interval() {
            let is_time_wait = answers.get(&failure.id) == Some(&TupleOwner::TimeWait);
            let has_room = self.time_waits.len() < TIME_WAITS;
            if is_time_wait && (has_room || self.time_waits.contains_key(&failure.id)) {
                *self.time_waits.entry(failure.id).or_default() += failure.count;
            }
        }
        self.failures.recast(|id| {
            (answers.get(id) == Some(&TupleOwner::TimeWait)).then_some(Cause::TimeWait)
        });
    }

    /// Gives up processes that leave the kernel's maps, too.
    pub fn forget(&mut self, mut is_over: impl FnMut(ProcessId) -> bool) {
        self.searches.forget(&mut is_over);
        self.failures.forget(&mut is_over);
    }

    /// Processes that may leave the kernel's maps if they are over: silent since `silent_ns`,
    /// or all of them when one of the maps has more than `crowded` elements.
    pub fn may_leave(&self, silent_ns: u64, crowded: usize) -> Vec<ProcessId> {
        let (searches, in_searches) = self.searches.processes();
        let (failures, in_failures) = self.failures.processes();
        let is_crowded = in_searches.max(in_failures) > crowded;
        let mut last: HashMap<ProcessId, u64> = HashMap::new();
        for (process, last_ns) in searches.chain(failures) {
            let latest = last.entry(process).or_default();
            *latest = last_ns.max(*latest);
        }
        let silent = |last_ns: u64| self.at_ns.saturating_sub(last_ns) >= silent_ns;
        let mut processes: Vec<_> = last
            .into_iter()
            .filter(|(_, last_ns)| is_crowded || silent(*last_ns))
            .map(|(process, _)| process)
            .collect();
        processes.sort_unstable();
        processes
    }

    /// Which calls are visible.
    pub fn visible(&self) -> VisibleCalls {
        self.visible
    }

    /// Searches of the newest interval.
    pub fn searches(&self) -> &[SearchActivity] {
        self.searches.interval()
    }

    /// Searches since attach.
    pub fn searches_since_attach(&self) -> Vec<SearchActivity> {
        self.searches.since_attach()
    }

    /// Failures of the newest interval.
    pub fn failures(&self) -> &[Failure] {
        self.failures.interval()
    }

    /// Failures since attach. Those of one kind are two lines when some of them were
    /// [`Cause::TimeWait`].
    pub fn failures_since_attach(&self) -> Vec<Failure> {
        let mut all = Vec::new();
        for failure in self.failures.since_attach() {
            let in_time_wait = self.time_waits.get(&failure.id).copied().unwrap_or(0);
            let (waiting, rest) = failure.split(in_time_wait);
            all.extend(waiting.map(|waiting| waiting.with_cause(Cause::TimeWait)));
            all.extend(rest);
        }
        all.arrange_by_key(|failure| (std::cmp::Reverse(failure.count), failure.id));
        all
    }

    /// Who has connected to the destinations of `wanted` since attach, in any order.
    pub fn connections<'a>(
        &self,
        wanted: impl Iterator<Item = &'a SearchId>,
    ) -> HashMap<Route, Vec<Connections>> {
        let route = |id: &SearchId| {
            Some(Route {
                netns: id.netns,
                dst: id.dst?,
            })
        };
        let mut found: HashMap<Route, Vec<Connections>> = wanted
            .filter_map(route)
            .map(|route| (route, Vec::new()))
            .collect();
        if found.is_empty() {
            return found;
        }
        for (id, connections, time_waits) in self.searches.connections() {
            let users = route(id).and_then(|route| found.get_mut(&route));
            if let (Some(users), 1..) = (users, connections) {
                users.push(Connections {
                    process: id.process,
                    connections,
                    time_waits,
                });
            }
        }
        found
    }

    /// Length of the newest interval, ns.
    pub fn interval_ns(&self) -> u64 {
        self.interval_ns
    }

    /// Time since attach at the newest sample, ns.
    pub fn lasting_ns(&self) -> u64 {
        self.at_ns.saturating_sub(self.began_ns)
    }

    /// `CLOCK_MONOTONIC` time of the newest sample, ns.
    pub fn at_ns(&self) -> u64 {
        self.at_ns
    }

    /// Host-wide counters of the newest sample and of the one before.
    pub fn counters(&self) -> (&Counters, &Counters) {
        (&self.counters, &self.previous)
    }

    /// Failures of the newest interval for which the kernel side had no room.
    pub fn newly_unlisted(&self) -> u64 {
        self.newly_unlisted
    }

    /// Failures since attach that are in no line: the kernel side had no room, or their process
    /// is over and they were among the least frequent.
    pub fn unlisted(&self) -> u64 {
        total(&[total(&self.unlisted), total(&self.failures.ended_omitted())])
    }
}

#[cfg(test)]
mod tests {
    use super::super::searches_tests::failure_id;
    use super::*;

    fn failed(id: FailureId, count: u64) -> FailureCounters {
        FailureCounters {
            id,
            count,
            timed: count,
            total_ns: count * 10,
            counted: 0,
            candidates: 0,
            tid: 1,
            port: Some(4000),
            last_ns: count,
        }
    }

    fn reading(at_s: u64, connects: u64, failures: Vec<FailureCounters>) -> CallsReading {
        let mut before = Counters::default();
        before.failures[0] = connects;
        CallsReading {
            at_ns: at_s * 1_000_000_000,
            before,
            searches: Vec::new(),
            failures,
        }
    }

    #[test]
    fn what_had_no_room_is_counted_once() {
        let mut calls = PortCalls::new(0, 16);
        calls.advance(reading(1, 10, vec![failed(failure_id(1), 8)]));
        assert_eq!((calls.newly_unlisted(), calls.unlisted()), (2, 2));
        // The maps are read after the counters: they may have more.
        calls.advance(reading(2, 12, vec![failed(failure_id(1), 11)]));
        assert_eq!((calls.newly_unlisted(), calls.unlisted()), (0, 1));
        calls.forget(|_| true);
        calls.advance(reading(3, 20, vec![]));
        assert_eq!((calls.newly_unlisted(), calls.unlisted()), (8, 9));
    }

    #[test]
    fn a_pair_in_time_wait_is_its_own_cause_now_and_in_the_end() {
        let id = FailureId {
            cause: Cause::DuplicateTuple,
            ..failure_id(1)
        };
        let answer = |owner| HashMap::from([(id, owner)]);
        let mut calls = PortCalls::new(0, 16);
        calls.advance(reading(1, 3, vec![failed(id, 3)]));
        assert_eq!(calls.doubtful().count(), 1);
        calls.resolve(&answer(TupleOwner::TimeWait));
        assert_eq!(calls.failures()[0].id.cause, Cause::TimeWait);
        calls.advance(reading(2, 5, vec![failed(id, 5)]));
        calls.resolve(&answer(TupleOwner::Other));
        assert_eq!(calls.failures()[0].id.cause, Cause::DuplicateTuple);
        assert_eq!(calls.failures()[0].count, 2);
        let all: Vec<_> = calls
            .failures_since_attach()
            .into_iter()
            .map(|failure| (failure.id.cause, failure.count, failure.search_ns()))
            .collect();
        assert_eq!(
            all,
            [
                (Cause::TimeWait, 3, Some(10)),
                (Cause::DuplicateTuple, 2, Some(10))
            ]
        );
    }

    #[test]
    fn the_silent_may_leave_and_in_a_crowd_everybody() {
        let mut calls = PortCalls::new(0, 16);
        let mut old = failed(failure_id(1), 1);
        old.last_ns = 1_000_000_000;
        let mut young = failed(failure_id(2), 1);
        young.last_ns = 190_000_000_000;
        calls.advance(reading(200, 2, vec![old, young]));
        let pids = |processes: Vec<ProcessId>| -> Vec<u32> {
            processes.iter().map(|process| process.pid).collect()
        };
        assert_eq!(pids(calls.may_leave(120_000_000_000, 2)), [1]);
        assert_eq!(pids(calls.may_leave(120_000_000_000, 1)), [1, 2]);
    }
}
