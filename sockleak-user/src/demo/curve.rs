//! What a port costs as a range fills up, drawn as text.

use serde::Serialize;

use crate::render::units;

/// One step of an incident that grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Point {
    /// connect() calls in this step.
    pub calls: u64,
    /// Median time of their port searches, ns; `None` unknown.
    pub p50_ns: Option<u64>,
    /// Of the calls, those that came to the second parity of the range.
    pub second_parity: u64,
}

/// Length of the longest bar.
const WIDTH: u64 = 40;

/// The longest median, ns: what the longest bar stands for.
pub fn longest_ns<'a>(points: impl IntoIterator<Item = &'a Point>) -> u64 {
    let all = points.into_iter().filter_map(|point| point.p50_ns);
    all.max().unwrap_or(0).max(1)
}

/// A line per step: connections so far, the median of the searches in the step, a bar that is
/// longest for `longest` ns.
pub fn draw(points: &[Point], longest: u64) -> Vec<String> {
    let mut connections = 0;
    let mut lines = vec!["connections   p50 of the search".to_owned()];
    for point in points {
        connections += point.calls;
        let count = units::count(connections);
        lines.push(match point.p50_ns {
            Some(ns) => {
                // At least one character: nothing takes no time.
                let length = (ns.saturating_mul(WIDTH) / longest.max(1)).clamp(1, WIDTH);
                let bar = "#".repeat(usize::try_from(length).unwrap_or(0));
                format!("{count:>11} {:>10} {bar}", microseconds(ns))
            }
            None => format!("{count:>11} {:>10}", "-"),
        });
    }
    lines
}

fn microseconds(ns: u64) -> String {
    format!("{:.1} us", ns as f64 / 1000.0)
}

/// How many connections came before the first that had to go to the second parity; `None` when
/// none had to.
///
/// Right when no later one got a port of the first parity, which is so while none is given back.
pub fn knee(points: &[Point]) -> Option<u64> {
    let calls: u64 = points.iter().map(|point| point.calls).sum();
    let second: u64 = points.iter().map(|point| point.second_parity).sum();
    (second > 0).then(|| calls.saturating_sub(second))
}

/// How many times dearer a search was after the knee than before it; `None` when that is not
/// known.
pub fn step(points: &[Point]) -> Option<f64> {
    let median = |second: bool| {
        let of_kind = |point: &&Point| match second {
            true => point.second_parity == point.calls,
            false => point.second_parity == 0,
        };
        let mut all: Vec<u64> = (points.iter())
            .filter(|point| point.calls > 0)
            .filter(of_kind)
            .filter_map(|point| point.p50_ns)
            .collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied()
    };
    let (first, second) = (median(false)?, median(true)?);
    (first > 0).then(|| second as f64 / first as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points() -> Vec<Point> {
        let point = |calls, p50_ns, second_parity| Point {
            calls,
            p50_ns,
            second_parity,
        };
        vec![
            point(1000, Some(2_000), 0),
            point(116, Some(3_000), 0),
            point(1000, Some(800_000), 1000),
            point(1000, None, 1000),
        ]
    }

    #[test]
    fn the_knee_and_the_step_are_found() {
        assert_eq!(knee(&points()), Some(1116));
        assert_eq!(knee(&points()[..2]), None);
        let step = step(&points()).unwrap();
        assert!((step - 800.0 / 3.0).abs() < 1e-9, "{step}");
        assert_eq!(super::step(&points()[..2]), None);
        assert_eq!(super::step(&[]), None);
    }

    #[test]
    fn the_curve_is_drawn() {
        let expected = [
            "connections   p50 of the search".to_owned(),
            "      1,000     2.0 us #".to_owned(),
            "      1,116     3.0 us #".to_owned(),
            format!("      2,116   800.0 us {}", "#".repeat(40)),
            "      3,116          -".to_owned(),
        ];
        assert_eq!(draw(&points(), longest_ns(&points())), expected);
    }
}
