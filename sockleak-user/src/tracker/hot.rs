//! Who spends real CPU time in the port search.
//!
//! A busy client that finds a port at once is no hot loop, however many connections it makes: a
//! call costs about a microsecond then, and 20,000 a second already come to some per cent of a
//! core. So it takes both: CPU time, and searches that walk.

use super::searches::SearchActivity;

/// Thresholds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HotRules {
    /// Share of one core from which on the search counts as real CPU time.
    pub cpu_share: f64,
    /// Ports examined per call from which on a search walks.
    pub candidates: f64,
    /// The same where ports are not counted: share of calls that walked half of the range.
    pub long_walks: f64,
    /// Where the time of calls is not exact: share of calls that walked half of the range,
    pub unmeasured_long_walks: f64,
    /// and so many of them in an interval.
    pub unmeasured_calls: u64,
}

impl Default for HotRules {
    fn default() -> Self {
        Self {
            cpu_share: 0.01,
            candidates: 64.0,
            long_walks: 0.1,
            unmeasured_long_walks: 0.5,
            unmeasured_calls: 100,
        }
    }
}

/// CPU time of a search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Share of one core; above 1 when several threads search.
    pub share: f64,
    /// Only calls with an exact time are in it.
    pub is_lower_bound: bool,
}

/// Share of a core that a search took in `interval_ns`; `None` when no call was measured.
pub fn cost(activity: &SearchActivity, interval_ns: u64) -> Option<Cost> {
    if interval_ns == 0 || activity.measured == 0 {
        return None;
    }
    Some(Cost {
        share: activity.cpu_ns as f64 / interval_ns as f64,
        is_lower_bound: activity.measured < activity.calls,
    })
}

/// Share of one core that a search took at most in `interval_ns`; `None` when calls without a
/// time are among them.
pub fn most(activity: &SearchActivity, interval_ns: u64) -> Option<f64> {
    if interval_ns == 0 || activity.timed < activity.calls {
        return None;
    }
    let ns = if activity.measured >= activity.calls {
        activity.cpu_ns
    } else {
        activity.busy_ns().max(activity.cpu_ns)
    };
    Some(ns as f64 / interval_ns as f64)
}

/// Whether a search is a hot loop.
pub fn is_hot(
    activity: &SearchActivity,
    cost: Option<Cost>,
    interval_ns: u64,
    rules: &HotRules,
) -> bool {
    // Some backends count the ports of failed calls only, which examine all.
    let are_counted = activity.counted.saturating_mul(2) >= activity.calls;
    let average = activity.candidates_avg().filter(|_| are_counted);
    let walks = average.is_some_and(|average| average >= rules.candidates)
        || activity.long_walks() >= rules.long_walks;
    let burns = cost.is_some_and(|cost| cost.share >= rules.cpu_share);
    let may_burn = most(activity, interval_ns).is_none_or(|most| most >= rules.cpu_share);
    let unmeasured = (activity.timed == 0 || activity.upper_bounds > 0) && may_burn;
    (walks && burns)
        || (unmeasured
            && activity.calls >= rules.unmeasured_calls
            && activity.long_walks() >= rules.unmeasured_long_walks)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::searches_tests::{counters, search, search_id};
    use super::*;

    const S: u64 = 1_000_000_000;

    fn activity(calls: u64, ns: u64, candidates: u64, second: u64) -> SearchActivity {
        let mut now = counters(search_id(1));
        for n in 0..calls {
            search(&mut now, ns, candidates, n < second);
        }
        SearchActivity::between(None, &now)
    }

    fn hot(activity: &SearchActivity) -> bool {
        let cost = cost(activity, S);
        is_hot(activity, cost, S, &HotRules::default())
    }

    #[test]
    fn a_busy_client_that_finds_ports_at_once_is_not_hot() {
        let busy = activity(50_000, 1_200, 1, 0);
        assert!(cost(&busy, S).unwrap().share > 0.05);
        assert!(!hot(&busy));
    }

    #[test]
    fn the_second_parity_is_hot_as_soon_as_it_costs() {
        let parity = activity(100, 300_000, 14_200, 100);
        let cost = cost(&parity, S).unwrap();
        assert!((cost.share - 0.03).abs() < 1e-9 && !cost.is_lower_bound);
        assert!(hot(&parity));
        assert!(!hot(&activity(2, 300_000, 14_200, 2)), "0.06 % of a core");
    }

    #[test]
    fn an_upper_bound_is_no_cpu_time() {
        // Blocking connect() over 50 ms: nearly all of it is waiting.
        let waiting = SearchActivity {
            upper_bounds: 100,
            measured: 0,
            cpu_ns: 0,
            counted: 0,
            ..activity(100, 50_000_000, 1, 0)
        };
        assert_eq!(cost(&waiting, S), None, "5 cores at most, but of what?");
        assert!(!hot(&waiting));
        // What failed is measured exactly, and walked everything.
        let failing = SearchActivity {
            failed: 50,
            measured: 50,
            cpu_ns: 50 * 500_000,
            ..waiting.clone()
        };
        let known = cost(&failing, S).unwrap();
        assert!(known.is_lower_bound && (known.share - 0.025).abs() < 1e-9);
        assert!(hot(&failing));
        // Parity is known without the time.
        let parity = SearchActivity {
            second_parity: 90,
            ..waiting
        };
        assert!(hot(&parity));
        // A small range: even the upper bounds come to nothing.
        let small = SearchActivity {
            total_ns: 1_112_172,
            ..parity
        };
        assert!(!hot(&small));
    }

    proptest! {
        /// Whoever examines few ports per call and stays in the first parity is never accused.
        #[test]
        fn short_searches_are_never_hot(
            calls in 1_u64..2_000, ns in 1_u64..1 << 30, candidates in 1_u64..63,
            upper in any::<bool>(),
        ) {
            let mut found = activity(calls, ns, candidates, 0);
            if upper {
                found.upper_bounds = calls;
            }
            prop_assert!(!hot(&found));
        }
    }
}
