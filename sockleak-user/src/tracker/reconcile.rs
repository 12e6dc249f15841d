//! Our own accounting held against the kernel's: what is live, what differs, what has no owner.

use super::census::Totals;
use crate::model::{Counters, Sockstat};
use crate::report::Unattributed;

/// Where the accounting starts: the kernel's count and ours at the same moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Baseline {
    /// `CLOCK_MONOTONIC` time of the sample, ns.
    pub at_ns: u64,
    /// `alloc` of sockstat when the hooks were on.
    pub alloc: u64,
    /// What the hooks had counted by then.
    pub counters: Counters,
    /// Births and deaths while the two were read: `alloc` may be off by as many.
    pub uncertainty: u64,
}

impl Baseline {
    /// Baseline from a sample taken once all hooks were on: counters, sockstat, counters again.
    ///
    /// The caller repeats the sample while [`Baseline::uncertainty`] is not 0 and patience lasts.
    pub fn new(at_ns: u64, before: Counters, sockstat: &Sockstat, after: Counters) -> Self {
        Self {
            at_ns,
            alloc: sockstat.alloc,
            counters: after,
            uncertainty: moved(&before, &after),
        }
    }

    /// Sockets that are live by our accounting when the counters are `now`.
    pub fn live(&self, now: &Counters) -> i64 {
        let born = now.born().wrapping_sub(self.counters.born());
        let destroyed = now.destroyed().wrapping_sub(self.counters.destroyed());
        // Wrapping, because a difference is right as long as the true result fits.
        (self.alloc.wrapping_add(born).wrapping_sub(destroyed)).cast_signed()
    }
}

/// Our accounting against one reading of sockstat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Live sockets by our accounting, after sockstat was read.
    pub live: i64,
    /// `alloc` of sockstat.
    pub alloc: u64,
    /// `alloc - live`: positive when we missed births, negative when we missed deaths.
    pub difference: i64,
    /// Births and deaths while this sample and the baseline were taken. The two figures belong
    /// to slightly different moments, so up to this much of `difference` may be no error.
    pub uncertainty: u64,
}

impl Balance {
    /// Compares a sample: counters, then sockstat, then the counters again.
    pub fn new(
        baseline: &Baseline,
        before: &Counters,
        sockstat: &Sockstat,
        after: &Counters,
    ) -> Self {
        let live = baseline.live(after);
        Self {
            live,
            alloc: sockstat.alloc,
            difference: sockstat.alloc.cast_signed().wrapping_sub(live),
            uncertainty: moved(before, after).saturating_add(baseline.uncertainty),
        }
    }

    /// Nothing moved during the sample: taking it again cannot make it better.
    pub fn is_settled(&self, baseline: &Baseline) -> bool {
        self.uncertainty == baseline.uncertainty
    }

    /// The difference is larger than movement can explain: something was really missed.
    pub fn is_wrong(&self) -> bool {
        self.difference.unsigned_abs() > self.uncertainty
    }

    /// The more certain of two samples; the later one when they are equally certain.
    pub fn better(self, later: Self) -> Self {
        if self.uncertainty < later.uncertainty {
            self
        } else {
            later
        }
    }
}

/// Births and deaths between two readings of the counters.
pub fn moved(before: &Counters, after: &Counters) -> u64 {
    let births = after.born().saturating_sub(before.born());
    let deaths = after.destroyed().saturating_sub(before.destroyed());
    births.saturating_add(deaths)
}

/// Allocated sockets that no descriptor refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Residue {
    /// `alloc - seen`.
    pub unattributed: i64,
    /// The same by kind.
    pub kinds: Unattributed,
}

/// Sockets that sock_diag lists although no descriptor that was seen refers to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hidden {
    /// How many.
    pub count: u64,
    /// The first of them, in words, printable.
    pub examples: Vec<String>,
}

/// Splits `sockstat.alloc - seen` by kind.
///
/// `accept_queue` is the sum of the listeners' queues, `kernel` the number of live sockets that
/// the kernel made for itself and that no descriptor shows, when known. A socket is in one kind
/// only: a child in an accept queue has not been closed, so it is no orphan. What is left may be
/// negative, because sockets come and go while an inventory walks the processes.
pub fn residue(
    sockstat: &Sockstat,
    found: Totals,
    kernel: Option<u64>,
    hidden: Option<&Hidden>,
) -> Residue {
    let unattributed = signed_difference(sockstat.alloc, found.seen);
    let known = found
        .accept_queue
        .saturating_add(sockstat.orphan)
        .saturating_add(kernel.unwrap_or(0));
    let unexplained = unattributed.saturating_sub(i64::try_from(known).unwrap_or(i64::MAX));
    // sock_diag also lists what other kinds explain already, such as MPTCP subflows.
    let hides = hidden.map(|hidden| hidden.count.min(u64::try_from(unexplained).unwrap_or(0)));
    let examples = hidden.filter(|_| hides.is_some_and(|count| count > 0));
    Residue {
        unattributed,
        kinds: Unattributed {
            accept_queue: found.accept_queue,
            orphan: sockstat.orphan,
            kernel,
            hidden: hides,
            hidden_examples: examples.map_or_else(Vec::new, |hidden| hidden.examples.clone()),
            unknown: unexplained - hides.unwrap_or(0).cast_signed(),
        },
    }
}

fn signed_difference(a: u64, b: u64) -> i64 {
    if a >= b {
        i64::try_from(a - b).unwrap_or(i64::MAX)
    } else {
        i64::try_from(b - a).map_or(i64::MIN, |n| -n)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn totals(seen: u64, accept_queue: u64) -> Totals {
        Totals {
            seen,
            accept_queue,
            mptcp: 0,
        }
    }

    #[test]
    fn what_sock_diag_lists_explains_no_more_than_is_unexplained() {
        let hidden = Hidden {
            count: 9,
            examples: vec!["LISTEN 0.0.0.0:2024".to_owned()],
        };
        let some = residue(&sockstat(100, 4), totals(80, 6), Some(3), Some(&hidden)).kinds;
        assert_eq!((some.hidden, some.unknown), (Some(7), 0));
        assert_eq!(some.hidden_examples, hidden.examples);
        let none = residue(&sockstat(10, 0), totals(12, 0), None, Some(&hidden)).kinds;
        assert_eq!((none.hidden, none.unknown), (Some(0), -2));
        assert!(none.hidden_examples.is_empty());
    }

    fn sockstat(alloc: u64, orphan: u64) -> Sockstat {
        Sockstat {
            alloc,
            orphan,
            ..Sockstat::default()
        }
    }

    fn counters(allocated: u64, children: u64, known: u64, unknown: u64) -> Counters {
        Counters {
            allocated,
            children,
            destroyed_known: known,
            destroyed_unknown: unknown,
            ..Counters::default()
        }
    }

    #[test]
    fn counts_from_before_the_baseline_do_not_count_twice() {
        let at_attach = counters(3, 2, 1, 1);
        let baseline = Baseline::new(7, at_attach, &sockstat(100, 0), at_attach);
        assert_eq!(baseline.live(&at_attach), 100);
        assert_eq!(baseline.live(&counters(13, 7, 2, 4)), 100 + 15 - 4);
    }

    #[test]
    fn a_missed_birth_is_a_positive_difference() {
        let baseline = Baseline::new(
            0,
            counters(0, 0, 0, 0),
            &sockstat(10, 0),
            counters(0, 0, 0, 0),
        );
        let now = counters(5, 0, 0, 0);
        let balance = Balance::new(&baseline, &now, &sockstat(16, 0), &now);
        assert_eq!((balance.live, balance.difference), (15, 1));
        assert!(balance.is_wrong() && balance.is_settled(&baseline));
    }

    #[test]
    fn movement_during_the_sample_is_uncertainty_not_error() {
        let baseline = Baseline::default();
        let before = counters(10, 0, 0, 0);
        let after = counters(12, 1, 4, 0);
        let balance = Balance::new(&baseline, &before, &sockstat(11, 0), &after);
        assert_eq!((balance.live, balance.difference), (9, 2));
        assert_eq!(balance.uncertainty, 7);
        assert!(!balance.is_wrong() && !balance.is_settled(&baseline));
        let settled = Balance::new(&baseline, &after, &sockstat(9, 0), &after);
        assert_eq!(balance.better(settled), settled);
        assert_eq!(settled.better(balance), settled);
    }

    #[test]
    fn residue_is_named_by_kind() {
        let all = residue(&sockstat(100, 4), totals(80, 6), Some(3), None);
        assert_eq!(all.unattributed, 20);
        assert_eq!(
            all.kinds,
            Unattributed {
                accept_queue: 6,
                orphan: 4,
                kernel: Some(3),
                hidden: None,
                hidden_examples: Vec::new(),
                unknown: 7
            }
        );
        let raced = residue(&sockstat(10, 0), totals(12, 1), None, None);
        assert_eq!((raced.unattributed, raced.kinds.unknown), (-2, -3));
        assert_eq!(raced.kinds.kernel, None);
    }

    proptest! {
        #[test]
        fn a_true_reading_is_never_wrong(base in 0u64..1000, steps in proptest::collection::vec(any::<bool>(), 0..60),
                                         cut in 0usize..60, read in 0usize..60, done in 0usize..60) {
            // A stream of births and deaths, read at three moments in order.
            let mut at = [cut, read, done].map(|i| i.min(steps.len()));
            at.sort_unstable();
            let baseline = Baseline { alloc: base + 100, ..Baseline::default() };
            let upto = |n: usize| {
                let born = steps.iter().take(n).filter(|b| **b).count() as u64;
                (counters(born, 0, n as u64 - born, 0), base + 100 + born - (n as u64 - born))
            };
            let balance = Balance::new(&baseline, &upto(at[0]).0, &sockstat(upto(at[1]).1, 0), &upto(at[2]).0);
            prop_assert!(!balance.is_wrong());
            prop_assert_eq!(balance.live, upto(at[2]).1 as i64);
        }

        #[test]
        fn no_input_overflows(a: [u64; 4], b: [u64; 4], alloc: u64, orphan: u64, seen: u64, queue: u64) {
            let [a, b] = [a, b].map(|c| counters(c[0] >> 1, c[1] >> 1, c[2] >> 1, c[3] >> 1));
            let baseline = Baseline::new(0, a, &sockstat(alloc, orphan), b);
            let balance = Balance::new(&baseline, &a, &sockstat(alloc, orphan), &b);
            prop_assert_eq!(balance.alloc, alloc);
            let all = residue(&sockstat(alloc, orphan), totals(seen, queue), Some(queue), None);
            prop_assert!(all.kinds.unknown <= all.unattributed);
        }
    }
}
