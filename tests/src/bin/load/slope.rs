//! Whether a figure grows.

/// Median of the slopes between all pairs of samples (Theil and Sen), per unit of the first members: a few
/// wild samples do not move it. `None` with fewer than two moments.
pub fn slope(samples: &[(f64, f64)]) -> Option<f64> {
    let mut slopes: Vec<f64> = samples
        .iter()
        .enumerate()
        .flat_map(|(at, first)| samples.iter().skip(at + 1).map(move |then| (first, then)))
        .filter(|(first, then)| then.0 > first.0)
        .map(|(first, then)| (then.1 - first.1) / (then.0 - first.0))
        .collect();
    slopes.sort_unstable_by(f64::total_cmp);
    slopes.get(slopes.len() / 2).copied()
}

/// How much it has grown over the time of the samples, by that slope.
pub fn growth(samples: &[(f64, f64)]) -> Option<f64> {
    let first = samples.first()?;
    let last = samples.last()?;
    Some(slope(samples)? * (last.0 - first.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(of: impl Fn(f64) -> f64) -> Vec<(f64, f64)> {
        (0..100).map(f64::from).map(|at| (at, of(at))).collect()
    }

    #[test]
    fn a_line_has_its_slope_and_noise_has_none() {
        assert_eq!(slope(&samples(|at| 3.0 * at + 7.0)), Some(3.0));
        assert_eq!(growth(&samples(|at| 3.0 * at + 7.0)), Some(297.0));
        let saw = samples(|at| 1000.0 + (at * 37.0) % 11.0);
        assert!(growth(&saw).is_some_and(|grown| grown.abs() < 2.0));
    }

    #[test]
    fn one_peak_is_no_growth_and_one_sample_says_nothing() {
        let mut peak = samples(|_| 5.0);
        peak[60].1 = 1e9;
        assert_eq!(growth(&peak), Some(0.0));
        assert_eq!(slope(&peak[..1]), None);
        assert_eq!(growth(&[]), None);
    }
}
