//! How a run went, interval by interval, in a bounded number of points.

use super::super::{Body, IntervalReport, Report, unix_ms};

/// Most points; when there are more, every two become one.
const MOST: usize = 2_048;
/// Processes and destinations that are followed.
const FOLLOWED: usize = 64;

/// The end of an interval, or of several.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Point {
    /// When, RFC 3339 in UTC.
    pub ts: String,
    /// The same in seconds since the first point.
    pub at_s: f64,
    /// TCP sockets of the host.
    pub alloc: u64,
    /// TIME_WAIT in sockleak's network namespace.
    pub time_wait: u64,
    /// Orphans of the host.
    pub orphans: u64,
    /// Calls that failed since the last point.
    pub failed: u64,
    /// By index of [`Timeline::processes`].
    pub held: Vec<(usize, Held)>,
    /// Ports that are not usable, by index of [`Timeline::destinations`].
    pub used: Vec<(usize, u64)>,
}

/// What a process held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// CLOSED with or without a port, or CLOSE_WAIT.
    pub idle: u64,
    /// CLOSED with a port.
    pub bound: u64,
}

/// Points in the order of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timeline {
    /// The points.
    pub points: Vec<Point>,
    /// Processes, by pid and name, in the order in which they came up.
    pub processes: Vec<(u32, String)>,
    /// Destinations towards which ports got scarce, with the ports there are.
    pub destinations: Vec<(String, Option<u64>)>,
    /// At some time there were many orphans.
    pub had_many_orphans: bool,
    /// Intervals that one new point stands for, and those it has so far.
    stride: u64,
    taken: u64,
    began_ms: Option<u64>,
}

impl Timeline {
    /// Takes the lines of a complete interval.
    pub fn add(&mut self, lines: &[Report]) {
        let mut point = Point::default();
        let mut any = false;
        for line in lines {
            match &line.body {
                Body::Interval(interval) => {
                    any = true;
                    line.ts.clone_into(&mut point.ts);
                    point.at_s = self.seconds(&line.ts, interval.interval_s);
                    self.look(interval, &mut point);
                }
                Body::Pressure(pressure) => {
                    let known = |(dst, _): &(String, _)| *dst == pressure.dst;
                    let new = || (pressure.dst.clone(), pressure.size);
                    if let Some(at) = place(&mut self.destinations, known, new)
                        && let Some(used) = pressure.used
                    {
                        point.used.push((at, used));
                    }
                }
                _ => {}
            }
        }
        if any {
            self.push(point);
        }
    }

    fn look(&mut self, interval: &IntervalReport, point: &mut Point) {
        point.alloc = interval.sockstat.alloc;
        point.time_wait = interval.sockstat.tw;
        point.orphans = interval.sockstat.orphan;
        point.failed = interval.failed.total();
        self.had_many_orphans |= interval.orphans.is_some();
        for process in &interval.processes {
            let held = &process.held;
            let idle = held
                .unbound
                .saturating_add(held.bound)
                .saturating_add(held.close_wait);
            let known = |(pid, comm): &(u32, String)| *pid == held.pid && *comm == held.comm;
            let new = || (held.pid, held.comm.clone());
            if let Some(at) = place(&mut self.processes, known, new) {
                let bound = held.bound;
                point.held.push((at, Held { idle, bound }));
            }
        }
    }

    /// By the clock where that can be read, else by what the intervals took.
    fn seconds(&mut self, ts: &str, interval_s: f64) -> f64 {
        let before = self.points.last().map_or(0.0, |point| point.at_s);
        let now = unix_ms(ts);
        if self.began_ms.is_none() {
            self.began_ms = now;
            return before;
        }
        match (now, self.began_ms) {
            (Some(now), Some(began)) if now >= began => {
                ((now - began) as f64 / 1_000.0).max(before)
            }
            _ => before + interval_s.clamp(0.0, 86_400.0),
        }
    }

    fn push(&mut self, point: Point) {
        let stride = self.stride.max(1);
        if self.taken > 0
            && self.taken < stride
            && let Some(last) = self.points.last_mut()
        {
            join(last, point);
            self.taken += 1;
        } else {
            self.points.push(point);
            self.taken = 1;
        }
        if self.points.len() >= MOST && self.taken >= stride {
            let points = std::mem::take(&mut self.points);
            for (n, point) in points.into_iter().enumerate() {
                match self.points.last_mut() {
                    Some(last) if n % 2 == 1 => join(last, point),
                    _ => self.points.push(point),
                }
            }
            self.stride = stride * 2;
            self.taken = self.stride;
        }
    }
}

/// Levels are those of the later, counts the sum.
fn join(earlier: &mut Point, later: Point) {
    let failed = earlier.failed.saturating_add(later.failed);
    *earlier = Point { failed, ..later };
}

/// Index of what is known, or was added; `None` when there is no room.
fn place<T>(list: &mut Vec<T>, known: impl Fn(&T) -> bool, new: impl Fn() -> T) -> Option<usize> {
    if let Some(at) = list.iter().position(known) {
        return Some(at);
    }
    if list.len() >= FOLLOWED {
        return None;
    }
    list.push(new());
    Some(list.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::histories;

    fn lines(n: u64) -> Vec<Report> {
        let all = histories::lines(n + 1);
        let marks: Vec<_> = all.split(Option::is_none).map(<[_]>::to_vec).collect();
        marks[n as usize]
            .iter()
            .flatten()
            .filter(|line| !matches!(line.body, Body::Recording(_) | Body::Start(_)))
            .cloned()
            .collect()
    }

    #[test]
    fn levels_and_counts_of_every_interval() {
        let mut timeline = Timeline::default();
        timeline.add(&lines(0));
        timeline.add(&lines(16));
        assert_eq!(timeline.processes.len(), 2);
        let [first, last] = timeline.points.as_slice() else {
            panic!("{timeline:?}");
        };
        assert_eq!((first.at_s, first.failed), (0.0, 0));
        assert_eq!(last.at_s, 80.0);
        assert_eq!(last.failed, 120);
        assert_eq!(last.alloc, 240 + 12_001 + 16 * 350);
        let held = Held {
            idle: 12_001 + 16 * 350,
            bound: 12_001,
        };
        assert_eq!(last.held.first(), Some(&(0, held)));
        assert_eq!(last.used, [(0, 23_200)]);
    }

    #[test]
    fn long_runs_are_joined_and_lose_no_count() {
        let mut timeline = Timeline::default();
        let lines = lines(16);
        let intervals = 10_001;
        for _ in 0..intervals {
            timeline.add(&lines);
        }
        assert!(timeline.points.len() < MOST && timeline.points.len() > MOST / 4);
        let failed: u64 = timeline.points.iter().map(|point| point.failed).sum();
        assert_eq!(failed, intervals * 120);
    }
}
