//! A short history of a count, and whether it is rising.

use std::collections::VecDeque;

/// Most points kept: when there are more, the older ones are thinned out.
const POINTS: usize = 64;
/// A rise of a few sockets is no trend: below this the rate is that of the whole window.
const MIN_TREND: u64 = 8;
const NS_PER_MINUTE: f64 = 60e9;

/// A count at one census.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// Time of the census, ns.
    pub at_ns: u64,
    /// All sockets of the group.
    pub total: u64,
    /// Of them, those that have idled for longer than `--older`.
    pub aged: u64,
}

/// How a count rose until now: from the last moment it was flat or fell.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rise {
    /// By how much.
    pub growth: u64,
    /// In how many censuses it was higher than before.
    pub steps: u64,
    /// For how long, ns.
    pub lasting_ns: u64,
}

/// Points of the last `span_ns`, at most a few dozen.
#[derive(Clone, Debug)]
pub struct Window {
    span_ns: u64,
    points: VecDeque<Point>,
}

impl Window {
    /// Empty.
    pub fn new(span_ns: u64) -> Self {
        Self {
            span_ns,
            points: VecDeque::new(),
        }
    }

    /// Adds the newest point. A point that is not newer than the last one replaces it.
    pub fn push(&mut self, point: Point) {
        if self.last().is_some_and(|last| point.at_ns <= last.at_ns) {
            self.points.pop_back();
        }
        self.points.push_back(point);
        // One point older than the span stays: it is where the span begins.
        while self
            .points
            .get(1)
            .is_some_and(|second| point.at_ns.saturating_sub(second.at_ns) >= self.span_ns)
        {
            self.points.pop_front();
        }
        if self.points.len() > POINTS {
            self.thin();
        }
    }

    /// Spaces the older points evenly and leaves the newest as they are.
    fn thin(&mut self) {
        let spacing = self.span_ns / (POINTS as u64 / 2);
        let newest = self.points.len() - POINTS / 4;
        let mut index = 0;
        let mut kept: Option<u64> = None;
        self.points.retain(|point| {
            index += 1;
            let keep = index > newest
                || kept.is_none_or(|at_ns| point.at_ns.saturating_sub(at_ns) >= spacing);
            if keep {
                kept = Some(point.at_ns);
            }
            keep
        });
    }

    /// The newest point.
    pub fn last(&self) -> Option<Point> {
        self.points.back().copied()
    }

    /// Number of points kept.
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// No point yet.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// Nothing but zeroes.
    pub fn is_idle(&self) -> bool {
        self.points.iter().all(|point| point.total == 0)
    }

    /// Net growth per minute of `total`; `None` before two points. Counted from where it last
    /// began to rise if that is a clear rise (10 %, 8 sockets, two steps), as the median slope
    /// between its points; else over the whole window.
    pub fn rate_per_min(&self) -> Option<f64> {
        let (first, last) = (self.points.front()?, self.points.back()?);
        if self.points.len() < 2 {
            return None;
        }
        let rise = self.rise(|point| point.total);
        if rise.growth >= MIN_TREND.max(last.total / 10) && rise.steps >= 2 {
            return Some(self.slope_per_min(&rise));
        }
        Some(per_minute(
            last.total as f64 - first.total as f64,
            last.at_ns.saturating_sub(first.at_ns),
        ))
    }

    /// The slope of a rise: the median of those between any two of its points (Theil and Sen), so
    /// that a burst at its beginning, or a look at a bad moment, does not count for more than the
    /// moment that it was.
    fn slope_per_min(&self, rise: &Rise) -> f64 {
        let Some(last) = self.points.back() else {
            return 0.0;
        };
        let begin = last.at_ns.saturating_sub(rise.lasting_ns);
        let points: Vec<&Point> = (self.points.iter())
            .filter(|point| point.at_ns >= begin)
            .collect();
        let mut slopes = Vec::with_capacity(points.len() * points.len() / 2);
        for (index, first) in points.iter().enumerate() {
            for second in points.iter().skip(index + 1) {
                let growth = second.total as f64 - first.total as f64;
                slopes.push(per_minute(growth, second.at_ns.saturating_sub(first.at_ns)));
            }
        }
        let middle = slopes.len() / 2;
        if slopes.is_empty() {
            return 0.0;
        }
        *slopes.select_nth_unstable_by(middle, f64::total_cmp).1
    }

    /// The rise of a count that ends at the newest point. Dips of up to 5 % (or 2) are noise:
    /// a leak among healthy traffic does not grow in every single step.
    pub fn rise(&self, count: impl Fn(&Point) -> u64) -> Rise {
        let Some(last) = self.points.back() else {
            return Rise::default();
        };
        let top = count(last);
        let tolerance = (top / 20).max(2);
        let mut newer = top;
        let mut start = last;
        let mut steps = 0;
        for point in self.points.iter().rev().skip(1) {
            let value = count(point);
            if value > newer.saturating_add(tolerance) || value > top {
                break;
            }
            if value < newer {
                steps += 1;
            }
            // A flat beginning is not part of the rise.
            if value < count(start) || start.at_ns == last.at_ns {
                start = point;
            }
            newer = value;
        }
        let growth = top.saturating_sub(count(start));
        if growth == 0 {
            return Rise::default();
        }
        Rise {
            growth,
            steps,
            lasting_ns: last.at_ns.saturating_sub(start.at_ns),
        }
    }

    /// Growth of a count in the last `ns`, at least since the point before.
    pub fn growth_within(&self, ns: u64, count: impl Fn(&Point) -> u64) -> i128 {
        let (Some(first), Some(last)) = (self.points.front(), self.points.back()) else {
            return 0;
        };
        let begin = last.at_ns.saturating_sub(ns);
        let reference = self
            .points
            .iter()
            .rev()
            .skip(1)
            .find(|point| point.at_ns <= begin)
            .unwrap_or(first);
        i128::from(count(last)) - i128::from(count(reference))
    }
}

pub(super) fn per_minute(growth: f64, ns: u64) -> f64 {
    if ns == 0 {
        0.0
    } else {
        growth * NS_PER_MINUTE / ns as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn a_burst_is_no_rate() {
        let mut totals = vec![0, 12_000];
        totals.extend((1..8).map(|step| 12_000 + step * 200));
        let rate = window(&totals).rate_per_min().unwrap();
        assert!((rate - 1_200.0).abs() < 1.0, "200 in 10 s, reported {rate}");
        let slow: Vec<u64> = (0..30).map(|step| step / 5 * 3).collect();
        let rate = window(&slow).rate_per_min().unwrap();
        assert!((rate - 3.6).abs() < 0.4, "3 in 50 s, reported {rate}");
    }

    fn window(totals: &[u64]) -> Window {
        let mut window = Window::new(300 * S);
        for (i, total) in totals.iter().enumerate() {
            window.push(Point {
                at_ns: (i as u64 + 1) * 10 * S,
                total: *total,
                aged: *total,
            });
        }
        window
    }

    #[test]
    fn a_steady_rise_has_its_rate() {
        let window = window(&[0, 10, 20, 30, 40]);
        let rise = window.rise(|p| p.total);
        assert_eq!((rise.growth, rise.steps, rise.lasting_ns), (40, 4, 40 * S));
        assert_eq!(window.rate_per_min(), Some(60.0));
    }

    #[test]
    fn the_rate_counts_from_where_the_rise_began() {
        let window = window(&[0, 0, 0, 0, 10, 20]);
        assert_eq!(window.rate_per_min(), Some(60.0));
        assert_eq!(window.rise(|p| p.total).lasting_ns, 20 * S);
    }

    #[test]
    fn small_dips_do_not_end_a_rise_but_falls_do() {
        assert_eq!(window(&[0, 100, 98, 200]).rise(|p| p.total).growth, 200);
        assert_eq!(window(&[0, 500, 0, 100]).rise(|p| p.total).growth, 100);
        assert_eq!(window(&[500, 200, 0]).rise(|p| p.total), Rise::default());
        assert_eq!(window(&[7, 7, 7]).rise(|p| p.total), Rise::default());
    }

    #[test]
    fn a_falling_count_has_a_negative_rate() {
        assert_eq!(window(&[100, 50, 0]).rate_per_min(), Some(-300.0));
        assert_eq!(window(&[5, 5]).rate_per_min(), Some(0.0));
        assert_eq!(window(&[5]).rate_per_min(), None);
    }

    #[test]
    fn noise_has_no_trend() {
        assert_eq!(window(&[1, 0, 3, 1, 4, 1]).rate_per_min(), Some(0.0));
        assert_eq!(
            window(&[1000, 1010, 990, 1005, 1000, 1030, 1000]).rate_per_min(),
            Some(0.0)
        );
    }

    #[test]
    fn thinning_keeps_the_newest_and_the_span() {
        let mut window = Window::new(300 * S);
        for at in 1..=1000 {
            window.push(Point {
                at_ns: at * S,
                total: at,
                aged: 0,
            });
            assert_eq!(window.last().map(|p| p.total), Some(at));
        }
        let first = window.points.front().map_or(0, |p| p.at_ns / S);
        assert!((690..=700).contains(&first), "{first}");
        assert_eq!(window.rate_per_min(), Some(60.0));
    }

    #[test]
    fn a_filled_pool_has_stopped_growing() {
        let filled = window(&[0, 100, 200, 300, 300, 300]);
        assert_eq!(filled.growth_within(0, |p| p.total), 0);
        assert_eq!(filled.growth_within(20 * S, |p| p.total), 0);
        assert_eq!(filled.growth_within(25 * S, |p| p.total), 100);
        assert_eq!(filled.growth_within(u64::MAX, |p| p.total), 300);
        assert_eq!(
            window(&[0, 100, 200, 300]).growth_within(15 * S, |p| p.total),
            200
        );
        assert_eq!(window(&[7, 3]).growth_within(S, |p| p.total), -4);
        assert_eq!(window(&[7]).growth_within(S, |p| p.total), 0);
    }

    proptest! {
        #[test]
        fn bounded_and_ordered(steps in proptest::collection::vec((0u64..20 * S, 0u64..1000), 1..400)) {
            let span = 100 * S;
            let mut window = Window::new(span);
            let mut now = 0;
            for (dt, total) in steps {
                now += dt;
                window.push(Point { at_ns: now, total, aged: total / 2 });
                prop_assert!(window.len() <= POINTS);
                prop_assert_eq!(window.last().map(|p| (p.at_ns, p.total)), Some((now, total)));
                let points: Vec<_> = window.points.iter().map(|p| p.at_ns).collect();
                prop_assert!(points.is_sorted());
                // Never more than one point from before the span.
                prop_assert!(points.iter().filter(|at| now - **at >= span).count() <= 1);
                prop_assert!(window.rise(|p| p.total).growth <= total);
                if let Some(rate) = window.rate_per_min() { prop_assert!(rate.is_finite()); }
            }
        }
    }
}
