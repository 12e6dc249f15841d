//! Does a report agree with the actors about the calls that failed and what the others cost?

use std::collections::BTreeMap;

use serde::Serialize;

use super::curve::{self, Point};
use super::{GroundTruth, ProcessTruth};
use crate::report::{FailureReport, Op, SearchReport};

/// Compares what a process says of its failed calls with a report; returns how many the report
/// has.
pub(super) fn compare(
    own: &ProcessTruth,
    failures: &[FailureReport],
    wrong: &mut Vec<String>,
) -> u64 {
    let who = format!("pid {} ({})", own.pid, own.comm);
    let ours: Vec<&FailureReport> = failures.iter().filter(|one| one.pid == own.pid).collect();
    for (op, truth) in [
        (Op::Connect, own.failed_connects),
        (Op::Bind, own.failed_binds),
        (Op::Listen, 0),
    ] {
        let of_op = ours.iter().filter(|one| one.op == op);
        let reported: u64 = of_op.map(|one| one.count).sum();
        if reported != truth {
            let op = op.name();
            wrong.push(format!(
                "{truth} {op}() calls of {who} have failed, reported {reported}"
            ));
        }
    }
    for one in &ours {
        if let Some(cause) = &own.cause
            && one.cause.name() != cause
        {
            let reported = one.cause.name();
            wrong.push(format!("{who} failed for {cause}, reported {reported}"));
        }
        let dst = own.dst.map(|dst| dst.to_string());
        if one.op == Op::Connect && dst.is_some() && one.dst != dst {
            wrong.push(format!("{who} connects to {dst:?}, reported {:?}", one.dst));
        }
    }
    ours.iter().map(|one| one.count).sum()
}

/// What connect() cost one process as its connections grew in number.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Curve {
    /// Process.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// Where it connected to.
    pub dst: String,
    /// Its sockets had a range of their own (IP_LOCAL_PORT_RANGE).
    pub own_range: bool,
    /// The times contain more than the search.
    pub upper_bound: bool,
    /// Step by step.
    pub points: Vec<Point>,
}

/// The curves of an incident that goes on step by step.
#[derive(Debug, Default)]
pub struct Curves(BTreeMap<u32, Curve>);

impl Curves {
    /// Takes in what a report says of one step.
    pub fn take(&mut self, truth: &GroundTruth, searches: &[SearchReport]) {
        for own in &truth.processes {
            let Some(dst) = own.dst.map(|dst| dst.to_string()) else {
                continue;
            };
            let of_own = |one: &&SearchReport| {
                one.pid == own.pid
                    && one.op == Op::Connect
                    && one.dst.as_deref() == Some(dst.as_str())
            };
            let Some(one) = searches.iter().find(of_own) else {
                continue;
            };
            let curve = self.0.entry(own.pid).or_insert_with(|| Curve {
                pid: own.pid,
                comm: own.comm.clone(),
                dst: dst.clone(),
                own_range: own.own_range,
                upper_bound: false,
                points: Vec::new(),
            });
            curve.upper_bound |= one.latency_is_upper_bound;
            curve.points.push(Point {
                calls: one.calls,
                p50_ns: one.p50_ns,
                second_parity: (one.second_parity * one.calls as f64).round() as u64,
            });
        }
    }

    /// All of them, by process.
    pub fn all(&self) -> Vec<Curve> {
        self.0.values().cloned().collect()
    }
}

/// Compares the curves with what the processes have done: all their calls are there, and the
/// first one that came to the second parity is where half of the range was taken.
pub fn check_curves(truth: &GroundTruth, curves: &[Curve]) -> Vec<String> {
    let [low, high] = truth.range;
    let half = u64::from(high.saturating_sub(low) + 1) / 2;
    let mut wrong = Vec::new();
    for own in truth.processes.iter().filter(|own| own.dst.is_some()) {
        let who = format!("pid {} ({})", own.pid, own.comm);
        let points = curves.iter().find(|curve| curve.pid == own.pid);
        let points = points.map_or(&[][..], |curve| &curve.points);
        let calls: u64 = points.iter().map(|point| point.calls).sum();
        if calls != own.connects {
            let made = own.connects;
            wrong.push(format!("{who} connected {made} times, reported {calls}"));
        }
        let knee = curve::knee(points);
        let expected = (own.connects > half).then_some(half);
        // In a range of its own a socket's search may have one pass only (Linux 6.8).
        if knee != expected && !(own.own_range && knee.is_none()) {
            wrong.push(format!(
                "{who} came to the second parity after {expected:?} connections, reported {knee:?}"
            ));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn truth() -> GroundTruth {
        let gateway = ProcessTruth {
            pid: 7,
            comm: "gateway".to_owned(),
            connects: 7,
            dst: "127.0.0.1:9".parse().ok(),
            ..ProcessTruth::default()
        };
        GroundTruth {
            range: [10, 19],
            processes: vec![gateway],
            ..GroundTruth::default()
        }
    }

    fn curve(points: &[(u64, u64)]) -> Curve {
        let points = points.iter().map(|(calls, second_parity)| Point {
            calls: *calls,
            p50_ns: Some(1),
            second_parity: *second_parity,
        });
        Curve {
            pid: 7,
            comm: "gateway".to_owned(),
            dst: "127.0.0.1:9".to_owned(),
            own_range: false,
            upper_bound: false,
            points: points.collect(),
        }
    }

    #[test]
    fn the_knee_must_be_at_half_of_the_range() {
        let right = curve(&[(4, 0), (3, 2)]);
        assert_eq!(check_curves(&truth(), &[right]), Vec::<String>::new());
        for points in [
            &[(4, 0), (3, 1)][..],
            &[(4, 0), (3, 0)],
            &[(4, 0), (4, 3)],
            &[],
        ] {
            let wrong = check_curves(&truth(), &[curve(points)]);
            assert!(!wrong.is_empty(), "{points:?}");
        }
    }

    #[test]
    fn a_range_of_its_own_may_have_no_knee() {
        let mut truth = truth();
        truth.processes[0].own_range = true;
        assert!(check_curves(&truth, &[curve(&[(7, 0)])]).is_empty());
        assert!(check_curves(&truth, &[curve(&[(7, 2)])]).is_empty());
        assert!(!check_curves(&truth, &[curve(&[(7, 3)])]).is_empty());
    }
}
