//! The diagnosis: what is wrong, the cause first, and what to change.

use super::super::page::{Page, Style};
use super::super::units::{count, counted, duration};
use super::{process, put_container};
use crate::report::{DiagnosisReport, FindingReport, Severity, WhatIfReport};

const INDENT: usize = 6;
const TEXT: usize = 14;
/// Column of the changes, behind three figures.
const CHANGE: usize = 31;
/// Frames of a stack that are shown.
const FRAMES: usize = 8;

pub fn put(page: &mut Page, report: &DiagnosisReport) {
    if report.healthy {
        page.labelled(0, "healthy", TEXT, Style::Strong, &report.conclusion);
    } else {
        let lasted = duration(report.duration_s);
        let found = counted(report.findings.len() as u64, "finding");
        let text = format!("{found} in {lasted}, the cause first");
        page.labelled(0, "diagnosis", TEXT, Style::Strong, &text);
    }
    for finding in &report.findings {
        page.gap();
        put_finding(page, finding, &report.coverage);
    }
    if let Some(changes) = &report.what_if {
        put_changes(page, changes);
    }
    page.gap();
    put_checks(page, report);
    page.labelled_list(0, "unseen", TEXT, &report.coverage);
}

/// What was not visible for any finding is said once, at the end: `everywhere`.
fn put_finding(page: &mut Page, finding: &FindingReport, everywhere: &[String]) {
    let (style, severity) = match finding.severity {
        Severity::Critical => (Style::Bad, "CRITICAL"),
        Severity::Warning => (Style::Warn, "WARNING"),
        Severity::Info => (Style::Normal, "INFO"),
    };
    page.put(style, severity)
        .put(Style::Normal, "  ")
        .put(Style::Strong, finding.id.name());
    if let Some(pid) = finding.pid {
        page.put(Style::Normal, "  ")
            .put(Style::Strong, &process(&finding.comm, pid));
    }
    page.put(
        Style::Faint,
        &format!("  confidence {:.2}", finding.confidence),
    )
    .end_line();
    put_container(page, INDENT, TEXT, finding.container.as_deref());
    page.labelled(INDENT, "what", TEXT, Style::Strong, &finding.title);
    if let Some(cause) = &finding.caused_by {
        let who = (cause.pid).map_or(String::new(), |pid| format!(" of pid {pid}"));
        let text = format!("{}{who}: remedy that", cause.id.name());
        page.labelled(INDENT, "because", TEXT, Style::Normal, &text);
    }
    page.labelled_list(INDENT, "why", TEXT, &finding.evidence);
    if let Some(frames) = &finding.stack {
        let shown = frames.get(..FRAMES).unwrap_or(frames);
        page.labelled_list(INDENT, "stack", TEXT, shown);
    }
    // It is said with the cause.
    if finding.caused_by.is_none() {
        page.labelled_list(INDENT, "fix", TEXT, &finding.remedy);
        let own = finding.coverage.iter();
        let own: Vec<String> = own
            .filter(|line| !everywhere.contains(line))
            .cloned()
            .collect();
        page.labelled_list(INDENT, "unseen", TEXT, &own);
    }
}

fn put_changes(page: &mut Page, changes: &[WhatIfReport]) {
    let mut last = None;
    for of in changes {
        if last == Some(of.netns) {
            continue;
        }
        last = Some(of.netns);
        page.gap();
        let to = of
            .dst
            .map_or(String::new(), |dst| format!(", towards {dst}"));
        let title = format!("what if, in network namespace {}{to}", of.netns);
        page.line(Style::Strong, &title);
        let row = |ports: &str, free: &str, rate: &str| format!("{ports:>9} {free:>9} {rate:>9} ");
        let header = row("PORTS", "FREE-NOW", "CONN/S");
        page.labelled(0, &header, CHANGE, Style::Strong, "CHANGE");
        for change in changes.iter().filter(|change| change.netns == of.netns) {
            let figures = row(
                &count(change.ports_per_destination),
                &change.free.map_or("-".to_owned(), count),
                &format!("{:.1}", change.sustained_per_s),
            );
            page.labelled(0, &figures, CHANGE, Style::Normal, &change.change);
        }
    }
}

fn put_checks(page: &mut Page, report: &DiagnosisReport) {
    let checks = &report.checks;
    if let Some(one) = report.busiest.as_ref().filter(|_| !report.healthy) {
        let text = format!(
            "{} of {} ports towards {} ({:.0}\u{a0}%), netns {}",
            count(one.used),
            count(one.size),
            one.dst,
            one.share * 100.0,
            one.netns
        );
        page.labelled(0, "busiest", TEXT, Style::Normal, &text);
    }
    let mut parts = Vec::new();
    if let Some(sockets) = checks.seen {
        parts.push(counted(sockets, "socket"));
    }
    parts.push(counted(checks.namespaces, "network namespace"));
    if let Some(orphans) = checks.orphans {
        parts.push(counted(orphans, "orphan"));
    }
    if let Some([used, max]) = checks.tcp_mem {
        parts.push(format!("tcp_mem {} of {} pages", count(used), count(max)));
    }
    if let Some([used, max]) = checks.conntrack {
        parts.push(format!("conntrack {} of {}", count(used), count(max)));
    }
    if let Some(drops) = checks.listen_overflows {
        parts.push(counted(drops, "listen overflow"));
    }
    if let Some(drops @ 1..) = checks.time_wait_overflows {
        parts.push(counted(drops, "TIME_WAIT overflow"));
    }
    page.labelled(0, "looked at", TEXT, Style::Normal, &parts.join(", "));
}
