//! Does a report agree with what the actors know about themselves?

use std::collections::BTreeMap;

use serde::Serialize;

use super::{GroundTruth, Held, ProcessTruth, calls};
use crate::report::{FailureReport, Leak, LeakClass, PortsReport, ProcessReport};

/// Outcome of a comparison.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// One line per process: the actor's figures and the report's.
    pub processes: Vec<ProcessCheck>,
    /// Every disagreement, in words; empty when the report is right.
    pub wrong: Vec<String>,
}

/// One process, both ways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProcessCheck {
    /// Process id.
    pub pid: u32,
    /// Name.
    pub comm: String,
    /// The actor's own count.
    pub own: Held,
    /// The report's count; `None` when the report does not have the process.
    pub report: Option<Held>,
    /// Leaked sockets that the report accuses it of.
    pub accused_of: u64,
    /// Its calls that failed for want of a port, by its own count.
    pub failed: u64,
    /// The same by the report; `None` for a report of something else.
    pub reported_failed: Option<u64>,
}

impl Check {
    /// The report is right.
    pub fn agrees(&self) -> bool {
        self.wrong.is_empty()
    }
}

/// What a report that was made while the actors were at rest says.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// What each process holds.
    pub processes: &'a [ProcessReport],
    /// How many sockets each process (by pid) has created since it started; `None` when the
    /// report cannot know because the hooks came later, or there were none.
    pub created: Option<&'a BTreeMap<u32, u64>>,
    /// Who leaks; `None` for a report that accuses nobody by nature (a snapshot).
    pub leaks: Option<&'a [Leak]>,
    /// Port use.
    pub ports: &'a [PortsReport],
    /// Calls that failed since before the incident; `None` for a report of something else.
    pub failures: Option<&'a [FailureReport]>,
}

/// Compares a report with the actors' account of themselves.
///
/// Processes that do not take part are not looked at: the host may have leaks of its own.
pub fn compare(truth: &GroundTruth, observed: Observed<'_>) -> Check {
    let mut wrong = Vec::new();
    let rows = (truth.processes.iter())
        .map(|own| compare_process(own, observed, &mut wrong))
        .collect();
    compare_ports(truth, observed.ports, &mut wrong);
    Check {
        processes: rows,
        wrong,
    }
}

fn compare_process(
    own: &ProcessTruth,
    observed: Observed<'_>,
    wrong: &mut Vec<String>,
) -> ProcessCheck {
    let report = (observed.processes.iter()).find(|report| report.pid == own.pid);
    let leaks = observed.leaks;
    let who = format!("pid {} ({})", own.pid, own.comm);
    let reported = report.map(|report| Held {
        unbound: report.unbound,
        bound: report.bound,
        listen: report.listen,
        established: report.established,
        shared: report.shared,
    });
    match report {
        None if own.held.total() == 0 => {}
        None => wrong.push(format!("{who} is not in the report")),
        Some(report) => {
            if reported != Some(own.held) {
                let report = reported.unwrap_or_default();
                wrong.push(format!(
                    "{who} counts {:?}, the report {report:?}",
                    own.held
                ));
            } else if report.total != own.held.total() {
                let others = report.total.saturating_sub(own.held.total());
                wrong.push(format!(
                    "{who} is reported with {others} sockets in other classes"
                ));
            }
            if report.comm != own.comm {
                wrong.push(format!("{who} is called {} in the report", report.comm));
            }
        }
    }
    if let Some(created) = observed.created {
        let reported = created.get(&own.pid).copied().unwrap_or(0);
        if reported != own.created {
            wrong.push(format!(
                "{who} has created {} sockets, reported {reported}",
                own.created
            ));
        }
    }
    let accused = |class| -> u64 {
        let of_class = |leak: &&Leak| leak.pid == own.pid && leak.class == class;
        leaks
            .unwrap_or_default()
            .iter()
            .filter(of_class)
            .map(|leak| leak.count)
            .sum()
    };
    let (unbound, bound) = (accused(LeakClass::Unbound), accused(LeakClass::Bound));
    let accused_of = unbound + bound + accused(LeakClass::CloseWait);
    if leaks.is_some() {
        let leaked = if own.guilty {
            (own.held.unbound, own.held.bound)
        } else {
            (0, 0)
        };
        if (unbound, bound) != leaked || accused_of != unbound + bound {
            wrong.push(format!(
                "{who} leaks {} unbound and {} bound, and is accused of {unbound} and {bound} \
                 and {} in CLOSE_WAIT",
                leaked.0,
                leaked.1,
                accused_of - unbound - bound
            ));
        }
    }
    if let (Some(after), Some(leaks)) = (own.after, leaks) {
        let of_class = |leak: &&Leak| leak.pid == own.pid && leak.class == LeakClass::Unbound;
        for leak in leaks.iter().filter(of_class) {
            if leak.after != after {
                wrong.push(format!(
                    "{who} leaks sockets after {after:?}, reported {:?}",
                    leak.after
                ));
            }
        }
    }
    let failures = observed.failures;
    ProcessCheck {
        pid: own.pid,
        comm: own.comm.clone(),
        own: own.held,
        report: reported,
        accused_of,
        failed: own.failed_binds + own.failed_connects,
        reported_failed: failures.map(|all| calls::compare(own, all, wrong)),
    }
}

fn compare_ports(truth: &GroundTruth, ports: &[PortsReport], wrong: &mut Vec<String>) {
    let bound: u64 = truth.processes.iter().map(|own| own.held.bound).sum();
    let Some(report) = ports.iter().find(|report| report.netns == truth.netns) else {
        wrong.push(format!(
            "the ports of namespace {} are not reported",
            truth.netns
        ));
        return;
    };
    if report.range != Some(truth.range) {
        wrong.push(format!(
            "the range is {:?}, reported {:?}",
            truth.range, report.range
        ));
    }
    if report.bound != bound {
        wrong.push(format!(
            "{bound} ports are bound, reported {}",
            report.bound
        ));
    }
    let [low, high] = truth.range;
    if bound == u64::from(high - low) + 1 && report.free != 0 {
        wrong.push(format!(
            "the range is used up, reported {} free",
            report.free
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{After, Cause, Op};

    fn truth() -> GroundTruth {
        let leaker = ProcessTruth {
            pid: 7,
            comm: "app".to_owned(),
            guilty: true,
            created: 33,
            held: Held {
                unbound: 30,
                bound: 3,
                ..Held::default()
            },
            ..ProcessTruth::default()
        };
        let innocent = ProcessTruth {
            pid: 8,
            comm: "web".to_owned(),
            failed_connects: 4,
            dst: "127.0.0.1:9".parse().ok(),
            cause: Some("ephemeral_exhausted".to_owned()),
            held: Held {
                listen: 1,
                shared: 1,
                ..Held::default()
            },
            ..ProcessTruth::default()
        };
        GroundTruth {
            netns: 99,
            range: [50000, 50002],
            processes: vec![leaker, innocent],
            ..GroundTruth::default()
        }
    }

    fn processes() -> Vec<ProcessReport> {
        let leaker = ProcessReport {
            pid: 7,
            comm: "app".to_owned(),
            total: 33,
            unbound: 30,
            bound: 3,
            ..ProcessReport::default()
        };
        let innocent = ProcessReport {
            pid: 8,
            comm: "web".to_owned(),
            total: 1,
            listen: 1,
            shared: 1,
            ..ProcessReport::default()
        };
        vec![leaker, innocent]
    }

    fn ports() -> Vec<PortsReport> {
        vec![PortsReport {
            netns: 99,
            range: Some([50000, 50002]),
            size: 3,
            bound: 3,
            ..PortsReport::default()
        }]
    }

    fn leak(pid: u32, class: LeakClass, count: u64) -> Leak {
        Leak {
            pid,
            comm: String::new(),
            container: None,
            class,
            after: After::Unknown,
            count,
            oldest_age_s: None,
            age_is_lower_bound: false,
            rate_per_min: None,
            errno: None,
            peer: None,
            median_age_s: None,
            origins: Vec::new(),
            other_origins: 0,
            stack: None,
            stacked: 0,
            limit: None,
            holders: Vec::new(),
            held_by: Vec::new(),
            confidence: 1.0,
            evidence: Vec::new(),
            remedy: Vec::new(),
            coverage: Vec::new(),
        }
    }

    fn failure(pid: u32, count: u64) -> FailureReport {
        FailureReport {
            op: Op::Connect,
            errno: "EADDRNOTAVAIL".to_owned(),
            cause: Cause::EphemeralExhausted,
            pid,
            tid: pid,
            comm: String::new(),
            netns: 99,
            cgroup: None,
            container: None,
            src: None,
            dst: Some("127.0.0.1:9".to_owned()),
            port: None,
            options: Vec::new(),
            range: None,
            search_ns: None,
            candidates: None,
            count,
            breakdown: None,
            holders: Vec::new(),
            held_by: Vec::new(),
            callers: vec![],
            remedy: Vec::new(),
        }
    }

    fn leaks() -> Vec<Leak> {
        vec![
            leak(7, LeakClass::Unbound, 30),
            leak(7, LeakClass::Bound, 3),
            // Somebody else's business.
            leak(1000, LeakClass::Unbound, 5),
        ]
    }

    /// A report that can be spoilt.
    struct Story {
        processes: Vec<ProcessReport>,
        created: BTreeMap<u32, u64>,
        leaks: Vec<Leak>,
        ports: Vec<PortsReport>,
        failures: Vec<FailureReport>,
    }

    impl Story {
        fn right() -> Self {
            Self {
                processes: processes(),
                created: BTreeMap::from([(7, 33), (1000, 5)]),
                leaks: leaks(),
                ports: ports(),
                failures: vec![failure(8, 4), failure(1000, 5)],
            }
        }

        fn check(&self) -> Check {
            let observed = Observed {
                processes: &self.processes,
                created: Some(&self.created),
                leaks: Some(&self.leaks),
                ports: &self.ports,
                failures: Some(&self.failures),
            };
            compare(&truth(), observed)
        }
    }

    #[test]
    fn a_right_report_agrees() {
        let story = Story::right();
        assert_eq!(story.check().wrong, Vec::<String>::new());
        let snapshot = Observed {
            processes: &story.processes,
            created: None,
            leaks: None,
            ports: &story.ports,
            failures: None,
        };
        assert!(compare(&truth(), snapshot).agrees());
    }

    #[test]
    fn every_deviation_is_found() {
        type Change = fn(&mut Story);
        let changes: [(&str, Change); 18] = [
            ("missing", |story| drop(story.processes.remove(0))),
            ("unbound", |story| story.processes[0].unbound += 1),
            ("bound", |story| story.processes[0].bound -= 1),
            ("shared", |story| story.processes[1].shared = 0),
            ("another class", |story| story.processes[0].total += 1),
            ("name", |story| story.processes[0].comm.push('!')),
            ("created", |story| {
                story.created.remove(&7);
            }),
            ("too few", |story| story.leaks[0].count -= 1),
            ("acquitted", |story| drop(story.leaks.remove(1))),
            ("innocent", |story| {
                story.leaks.push(leak(8, LeakClass::CloseWait, 1));
            }),
            ("range", |story| story.ports[0].range = None),
            ("free", |story| story.ports[0].free = 1),
            ("ports", |story| story.ports.clear()),
            ("missed", |story| story.failures[0].count -= 1),
            ("invented", |story| story.failures.push(failure(7, 1))),
            ("op", |story| story.failures[0].op = Op::Bind),
            ("cause", |story| story.failures[0].cause = Cause::TimeWait),
            ("dst", |story| story.failures[0].dst = None),
        ];
        for (what, change) in changes {
            let mut story = Story::right();
            change(&mut story);
            assert!(!story.check().agrees(), "{what} went unnoticed");
        }
    }
}
