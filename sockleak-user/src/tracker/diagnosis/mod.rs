//! From the facts of all sources to what is wrong: ranked findings, the cause first.
//!
//! Nothing is judged twice. Leaks come from [`super::verdict`], who burns CPU time from
//! [`super::hot`], warnings from [`super::pressure`], failed calls with their causes from
//! [`super::failures`], remedies from [`super::remedy`] or from whoever gave the verdict. What is
//! added here is what stands still: the occupancy of ranges, shares of limits, and what follows
//! from what.

mod binds;
mod capacity;
mod leaks;
mod limits;
mod ports;
mod range;
mod rules;
mod space;

#[cfg(test)]
mod ports_tests;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;

pub use capacity::{busiest, healthy, what_if};
pub use rules::DiagnosisRules;
pub use space::{RouteUse, Space};

use super::{PortFeatures, ProcessInfos};
use crate::model::{FileLimits, ProcessId};
use crate::report::words::named;
use crate::report::{
    CauseReport, FailureReport, FindingId, FindingReport, HotLoop, Leak, OrphansReport,
    PressureReport, Severity,
};

/// What all sources have found.
#[derive(Clone, Copy)]
pub struct DiagnosisFacts<'a> {
    /// Thresholds.
    pub rules: &'a DiagnosisRules,
    /// Leaks, by their verdicts.
    pub leaks: &'a [Leak],
    /// The ports of each namespace that was looked at.
    pub spaces: &'a [Space],
    /// Failed calls since attach.
    pub failures: &'a [FailureReport],
    /// Who has spent CPU time in the port search.
    pub hot_loops: &'a [HotLoop],
    /// Destinations towards which ports get scarce.
    pub pressures: &'a [PressureReport],
    /// Orphans, when there are many.
    pub orphans: Option<&'a OrphansReport>,
    /// What is known about processes.
    pub infos: &'a ProcessInfos,
    /// Processes whose descriptors are looked at.
    pub processes: &'a [ProcessId],
    /// Open files of the host; `None` when not known, or not asked for.
    pub files: Option<FileLimits>,
    /// net.ipv4.tcp_mem, pages: low, pressure, high; likewise.
    pub tcp_mem: Option<[u64; 3]>,
    /// Pages that TCP uses.
    pub mem_pages: u64,
    /// What the kernel can do about ports.
    pub features: &'a PortFeatures,
    /// Calls were traced.
    pub traced: bool,
}

impl DiagnosisFacts<'_> {
    fn comm(&self, process: ProcessId) -> &str {
        self.infos
            .get(&process)
            .map_or("", |info| info.comm.as_str())
    }

    fn named(&self, process: ProcessId) -> String {
        named(self.comm(process), process.pid)
    }

    fn container(&self, pid: u32) -> Option<String> {
        let mut infos = self.infos.iter().filter(|(process, _)| process.pid == pid);
        infos.find_map(|(_, info)| info.container.clone())
    }
}

/// A finding that is about this.
struct About {
    id: FindingId,
    severity: Severity,
    confidence: f64,
    count: u64,
    title: String,
}

impl About {
    fn finding(self) -> FindingReport {
        FindingReport {
            id: self.id,
            severity: self.severity,
            confidence: (self.confidence.clamp(0.0, 1.0) * 100.0).round() / 100.0,
            pid: None,
            comm: String::new(),
            container: None,
            netns: None,
            dst: None,
            count: self.count,
            title: self.title,
            evidence: Vec::new(),
            remedy: Vec::new(),
            coverage: Vec::new(),
            stack: None,
            caused_by: None,
        }
    }
}

/// Blames a process.
fn blame(finding: &mut FindingReport, facts: &DiagnosisFacts<'_>, process: ProcessId) {
    finding.pid = Some(process.pid);
    finding.comm = facts.comm(process).to_owned();
    finding.container = facts.container(process.pid);
}

/// Says what a finding follows from.
fn follow(finding: &mut FindingReport, cause: &FindingReport) {
    finding.caused_by = Some(CauseReport {
        id: cause.id,
        pid: cause.pid,
        netns: cause.netns,
    });
}

/// Everything that is wrong: by severity, causes before what they cause, then by confidence and
/// size.
pub fn diagnose(facts: &DiagnosisFacts<'_>) -> Vec<FindingReport> {
    let mut findings = leaks::find(facts);
    // Whoever looks for a cause finds it among those before.
    for family in [binds::find, ports::find, limits::find, range::find] {
        let more = family(facts, &findings);
        findings.extend(more);
    }
    rank(findings)
}

/// A cause is as severe as the worst of what it causes.
fn rank(mut findings: Vec<FindingReport>) -> Vec<FindingReport> {
    let consequences: Vec<(CauseReport, Severity)> = (findings.iter())
        .filter_map(|finding| Some((finding.caused_by.clone()?, finding.severity)))
        .collect();
    for finding in &mut findings {
        let own = CauseReport {
            id: finding.id,
            pid: finding.pid,
            netns: finding.netns,
        };
        let worst = (consequences.iter())
            .filter(|(cause, _)| *cause == own)
            .map(|(_, severity)| *severity)
            .max();
        finding.severity = finding.severity.max(worst.unwrap_or(Severity::Info));
    }
    findings.sort_by(|a, b| {
        let rank = |one: &FindingReport| (Reverse(one.severity), one.caused_by.is_some());
        (rank(a).cmp(&rank(b)))
            .then(b.confidence.total_cmp(&a.confidence))
            .then(b.count.cmp(&a.count))
            .then((a.id, a.pid, a.netns).cmp(&(b.id, b.pid, b.netns)))
    });
    findings
}
