//! Percentiles from the kernel side's histogram of latencies.
//!
//! A bucket is a quarter of a power of two wide, at most 25 % of its lower end. A percentile is
//! interpolated within its bucket, as if the calls in it were evenly spread, so it is less than
//! 25 % away from the true one.

use sockleak_ebpf::{LATENCY_BUCKETS, latency_bucket_start};

/// Buckets that a power of two has.
const PER_OCTAVE: usize = 4;

/// Calls by latency, of an interval or of a whole run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latencies {
    buckets: [u64; LATENCY_BUCKETS],
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            buckets: [0; LATENCY_BUCKETS],
        }
    }
}

impl Latencies {
    /// What came between two readings of one element. A bucket is 32 bits wide and wraps.
    pub fn between(then: Option<&[u32; LATENCY_BUCKETS]>, now: &[u32; LATENCY_BUCKETS]) -> Self {
        let mut buckets = [0; LATENCY_BUCKETS];
        for (at, bucket) in buckets.iter_mut().enumerate() {
            let value = |reading: &[u32; LATENCY_BUCKETS]| reading.get(at).copied().unwrap_or(0);
            *bucket = value(now).wrapping_sub(then.map_or(0, value)).into();
        }
        Self { buckets }
    }

    /// Adds those of another interval or key.
    pub fn add(&mut self, other: &Self) {
        for (bucket, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *bucket = bucket.saturating_add(*more);
        }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.buckets
            .iter()
            .fold(0, |sum: u64, n| sum.saturating_add(*n))
    }

    /// Both together.
    pub fn with(&self, other: &Self) -> Self {
        let mut both = self.clone();
        both.add(other);
        both
    }

    /// Calls by power of two, without empty ones: from how many ns on, and how many calls. The
    /// first begins at 0 and ends at 512 ns; the last has no end.
    pub fn octaves(&self) -> Vec<(u64, u64)> {
        let octaves = self.buckets.chunks(PER_OCTAVE).enumerate();
        octaves
            .map(|(at, parts)| {
                let start = latency_bucket_start(at * PER_OCTAVE);
                (
                    start,
                    parts.iter().fold(0, |sum: u64, n| sum.saturating_add(*n)),
                )
            })
            .filter(|(_, calls)| *calls > 0)
            .collect()
    }

    /// An upper bound of the longest, ns; `None` when there is none, or when it is in the last
    /// bucket, which has no end.
    pub fn bound_ns(&self) -> Option<u64> {
        let highest = self.buckets.iter().rposition(|count| *count > 0)?;
        (highest + 1 < LATENCY_BUCKETS).then(|| latency_bucket_start(highest + 1) - 1)
    }

    /// How much of the sum of all latencies is beyond `cap` in those that are longer, ns: an
    /// estimate, as if each were in the middle of its bucket.
    pub fn beyond_ns(&self, cap: u64, longest: u64) -> u64 {
        let buckets = self.buckets.iter().enumerate();
        buckets.fold(0, |sum: u64, (at, count)| {
            let start = latency_bucket_start(at);
            let end = match at + 1 {
                LATENCY_BUCKETS => longest,
                next => latency_bucket_start(next).min(longest),
            };
            let middle = start.midpoint(end.max(start));
            sum.saturating_add(middle.saturating_sub(cap).saturating_mul(*count))
        })
    }

    /// The latency that a `share` (0 to 1) of the calls did not exceed, ns, not above `longest`;
    /// `None` without calls.
    pub fn percentile_ns(&self, share: f64, longest: u64) -> Option<u64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        // The call of rank `rank`, counted from 1.
        let rank = ((count as f64 * share).ceil() as u64).clamp(1, count);
        let mut before = 0_u64;
        for (at, in_bucket) in self.buckets.iter().enumerate() {
            if before.saturating_add(*in_bucket) < rank {
                before = before.saturating_add(*in_bucket);
                continue;
            }
            let start = latency_bucket_start(at);
            let end = match at + 1 {
                LATENCY_BUCKETS => longest.max(start),
                next => latency_bucket_start(next),
            };
            let place = (rank.saturating_sub(before) as f64 - 0.5) / *in_bucket as f64;
            let within = (end - start) as f64 * place;
            return Some(start.saturating_add(within as u64).min(longest));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sockleak_ebpf::latency_bucket;

    use super::*;

    fn of(latencies: &[u64]) -> (Latencies, u64) {
        let mut buckets = [0_u32; LATENCY_BUCKETS];
        for ns in latencies {
            buckets[latency_bucket(*ns)] += 1;
        }
        let longest = latencies.iter().copied().max().unwrap_or(0);
        (Latencies::between(None, &buckets), longest)
    }

    #[test]
    fn nothing_has_no_percentile() {
        let (none, _) = of(&[]);
        assert_eq!(none.percentile_ns(0.5, 100), None);
        assert_eq!(none.bound_ns(), None);
        assert_eq!(none.count(), 0);
    }

    #[test]
    fn fast_and_slow_calls_are_told_apart() {
        let mut latencies = vec![1_000; 98];
        latencies.extend([3_000_000; 2]);
        let (found, longest) = of(&latencies);
        let p50 = found.percentile_ns(0.5, longest).unwrap();
        assert!((896..1024).contains(&p50), "{p50}");
        assert!(found.percentile_ns(0.98, longest).unwrap() < 1_024);
        let p99 = found.percentile_ns(0.99, longest).unwrap();
        assert!((2_621_440..=3_000_000).contains(&p99), "{p99}");
        assert_eq!(found.bound_ns(), Some(3_145_727));
    }

    #[test]
    fn the_last_bucket_ends_at_the_longest() {
        let (found, longest) = of(&[20_000_000_000]);
        assert_eq!(found.bound_ns(), None);
        let p50 = found.percentile_ns(0.5, longest).unwrap();
        assert!(p50 <= longest && p50 >= 3_758_096_384, "{p50}");
    }

    #[test]
    fn octaves_have_every_call_once() {
        let (found, _) = of(&[0, 255, 300, 511, 512, 1_023, 1_024, 1 << 31, 1 << 40]);
        let expected = [(0, 4), (512, 2), (1_024, 1), (1 << 31, 2)];
        assert_eq!(found.octaves(), expected);
        assert_eq!(found.with(&found).octaves().last(), Some(&(1 << 31, 4)));
        assert_eq!(of(&[]).0.octaves(), []);
    }

    #[test]
    fn a_bucket_that_wraps_has_still_a_difference() {
        let mut then = [0; LATENCY_BUCKETS];
        then[7] = u32::MAX;
        let mut now = then;
        now[7] = 4;
        assert_eq!(Latencies::between(Some(&then), &now).count(), 5);
    }

    proptest! {
        /// Against the definition on the sorted values themselves.
        #[test]
        fn a_percentile_is_within_a_quarter(
            mut latencies in proptest::collection::vec(
                prop_oneof![0_u64..2_000, 0_u64..1 << 22, 0_u64..1 << 32], 1..200),
            share in 0.0_f64..=1.0,
        ) {
            let (found, longest) = of(&latencies);
            latencies.sort_unstable();
            let rank = ((latencies.len() as f64 * share).ceil() as usize).clamp(1, latencies.len());
            let truth = latencies[rank - 1];
            let estimate = found.percentile_ns(share, longest).unwrap();
            prop_assert_eq!(
                latency_bucket(estimate.min(longest)).abs_diff(latency_bucket(truth)), 0,
                "{} is in another bucket than {}", estimate, truth);
            if truth >= 320 {
                let error = estimate.abs_diff(truth) as f64 / truth as f64;
                prop_assert!(error < 0.2501, "{estimate} for {truth}");
            }
            prop_assert!(estimate <= longest);
            prop_assert!(found.bound_ns().is_none_or(|bound| bound >= longest));
        }

        #[test]
        fn percentiles_rise(
            latencies in proptest::collection::vec(0_u64..1 << 34, 1..100),
            a in 0.0_f64..=1.0, b in 0.0_f64..=1.0,
        ) {
            let (found, longest) = of(&latencies);
            let (low, high) = if a <= b { (a, b) } else { (b, a) };
            prop_assert!(found.percentile_ns(low, longest) <= found.percentile_ns(high, longest));
        }
    }
}
