//! What a run has missed, in words and in numbers.

use std::collections::BTreeMap;

use crate::model::{Counters, RunTotals, total};
use crate::report::words;

/// Everything that can be missed in a run.
#[derive(Clone, Copy, Debug)]
pub struct Gaps<'a> {
    /// Totals of the kernel side.
    pub totals: &'a RunTotals,
    /// Its counters.
    pub counters: &'a Counters,
    /// Runs that the kernel skipped, by program.
    pub missed: &'a BTreeMap<String, u64>,
    /// Sockets that found no room in the report.
    pub unplaced: u64,
    /// Records that made no sense.
    pub undecodable: u64,
}

impl Gaps<'_> {
    /// What of it makes the answer incomplete, a sentence each.
    pub fn sentences(&self) -> Vec<String> {
        let missed = |ends: &[&str]| -> u64 {
            let is_one = |name: &str| ends.iter().any(|end| name.ends_with(end));
            let runs = self.missed.iter().filter(|(name, _)| is_one(name));
            runs.fold(0, |sum, (_, runs)| total(&[sum, *runs]))
        };
        let unrecorded = total(&[
            self.counters.sockets_full,
            self.counters.sockets_failed,
            missed(&["_init", "_init_v4", "_init_v6", "_create"]),
        ]);
        let all = [
            (
                total(&[self.totals.followed_full, missed(&["_fork"])]),
                "processes were not followed: what they left open is not known",
            ),
            (
                total(&[self.totals.left_full, self.unplaced]),
                "sockets left open are in no line: there was no room for them",
            ),
            (
                missed(&["_release"]),
                "sockets were let go without being seen: the kernel skipped a program",
            ),
            (
                unrecorded,
                "sockets were not seen when they were created: they count as accepted",
            ),
            (
                self.totals.elsewhere,
                "sockets were let go by a thread of the kernel (io_uring, in flight over a Unix \
                 socket): whether they were leaked is not known",
            ),
            (
                self.undecodable,
                "records of the kernel could not be decoded",
            ),
        ];
        all.iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{} {what}", words::count(*count)))
            .collect()
    }

    /// All of it that is not zero, by name.
    pub fn loss(&self) -> BTreeMap<String, u64> {
        let totals = self.totals;
        let all = [
            ("followed_full", totals.followed_full),
            ("left_full", totals.left_full),
            ("left_unplaced", self.unplaced),
            ("released_elsewhere", totals.elsewhere),
            ("stacks_full", totals.stacks_full),
            ("stacks_collided", totals.stacks_collided),
            ("stacks_failed", totals.stacks_failed),
            ("executables_full", totals.executables_full),
            ("events_dropped", totals.events_dropped),
            ("sockets_full", self.counters.sockets_full),
            ("sockets_failed", self.counters.sockets_failed),
            ("endings_full", self.counters.endings_full),
            ("undecodable", self.undecodable),
        ];
        let missed = self
            .missed
            .iter()
            .map(|(name, runs)| (format!("skipped_{name}"), *runs));
        all.iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .chain(missed)
            .filter(|(_, count)| *count > 0)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_missed_is_nothing_said() {
        let gaps = Gaps {
            totals: &RunTotals::default(),
            counters: &Counters::default(),
            missed: &BTreeMap::new(),
            unplaced: 0,
            undecodable: 0,
        };
        assert!(gaps.sentences().is_empty() && gaps.loss().is_empty());
    }

    #[test]
    fn what_was_missed_is_said_with_its_number() {
        let totals = RunTotals {
            followed_full: 3,
            stacks_failed: 2,
            ..RunTotals::default()
        };
        let missed = [("tp_fork", 1), ("fentry_release", 7), ("tp_search", 9)];
        let missed = missed.map(|(name, runs)| (name.to_owned(), runs)).into();
        let gaps = Gaps {
            totals: &totals,
            counters: &Counters::default(),
            missed: &missed,
            unplaced: 0,
            undecodable: 0,
        };
        let sentences = gaps.sentences();
        assert_eq!(sentences.len(), 2, "{sentences:?}");
        assert!(sentences[0].starts_with("4 processes were not followed"));
        assert!(sentences[1].starts_with("7 sockets were let go without"));
        assert_eq!(gaps.loss()["stacks_failed"], 2);
        assert_eq!(gaps.loss()["skipped_tp_search"], 9);
    }
}
