//! Does a report agree with what the actors know about themselves?

use serde::Serialize;

use super::{GroundTruth, Held, ProcessTruth};
use crate::report::{Leak, LeakClass, PortsReport, ProcessReport};

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
}

impl Check {
    /// The report is right.
    pub fn agrees(&self) -> bool {
        self.wrong.is_empty()
    }
}

/// Compares a report made while the actors were at rest with their account.
///
/// `leaks` is `None` for a report that accuses nobody by nature (a snapshot). Leaks of
/// processes that do not take part are not looked at: the host may have real ones.
pub fn compare(
    truth: &GroundTruth,
    processes: &[ProcessReport],
    leaks: Option<&[Leak]>,
    ports: &[PortsReport],
) -> Check {
    let mut wrong = Vec::new();
    let rows = (truth.processes.iter())
        .map(|own| {
            let report = processes.iter().find(|report| report.pid == own.pid);
            compare_process(own, report, leaks, &mut wrong)
        })
        .collect();
    compare_ports(truth, ports, &mut wrong);
    Check {
        processes: rows,
        wrong,
    }
}

fn compare_process(
    own: &ProcessTruth,
    report: Option<&ProcessReport>,
    leaks: Option<&[Leak]>,
    wrong: &mut Vec<String>,
) -> ProcessCheck {
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
    ProcessCheck {
        pid: own.pid,
        comm: own.comm.clone(),
        own: own.held,
        report: reported,
        accused_of,
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
