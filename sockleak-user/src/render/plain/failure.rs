//! Failed calls: who, what it returned, why, who has the ports, and what to change.

use super::super::columns::{Align, Columns, number, text};
use super::super::page::{Page, Style};
use super::super::units::{count, counted, duration, latency};
use super::{TEXT as LABEL, process, put_container};
use crate::report::{
    Caller, Cause, CauseCount, EndReport, FailureReport, Holder, Op, OpCounts, PortBreakdown,
};

/// Most kinds of failure that are shown; JSON has all.
const SHOWN: usize = 10;
const INDENT: usize = 6;
const TEXT: usize = 14;

#[inline(never)]
pub fn put(page: &mut Page, failure: &FailureReport) {
    page.put(Style::Bad, "FAIL")
        .put(Style::Normal, "  ")
        .put(Style::Strong, &process(&failure.comm, failure.pid))
        .put(Style::Normal, "  ")
        .put(
            Style::Strong,
            &format!("{}() = {}", failure.op.name(), failure.errno),
        )
        .put(Style::Normal, "  ")
        .put(Style::Strong, &counted(failure.count, "time"))
        .end_line();
    put_container(page, INDENT, TEXT, failure.container.as_deref());

    page.labelled(INDENT, "why", TEXT, Style::Normal, &why(failure));
    if let Some(text) = whereto(failure) {
        page.labelled(INDENT, "socket", TEXT, Style::Normal, &text);
    }
    if let Some(text) = searched(failure) {
        page.labelled(INDENT, "search", TEXT, Style::Normal, &text);
    }
    if let Some(breakdown) = &failure.breakdown {
        page.labelled(INDENT, "ports", TEXT, Style::Normal, &ports(breakdown));
    }
    if !failure.held_by.is_empty() {
        let text = holders(&failure.held_by);
        page.labelled(INDENT, "held by", TEXT, Style::Normal, &text);
    }
    if !failure.callers.is_empty() {
        let text = callers(&failure.callers);
        page.labelled(INDENT, "used by", TEXT, Style::Normal, &text);
    }
    page.labelled_list(INDENT, "fix", TEXT, &failure.remedy);
}

/// One line: how many calls failed, when any did; and what no line shows.
pub fn put_counts(page: &mut Page, failed: &OpCounts, unlisted: u64) {
    if failed.total() > 0 {
        let each = by_call(failed, |count| count.filter(|count| *count > 0));
        let each: Vec<_> = each
            .into_iter()
            .map(|(name, failed)| format!("{name} {}", count(failed)))
            .collect();
        let text = format!("{}, on the whole host", each.join(", "));
        page.labelled(0, "failed", LABEL, Style::Bad, &text);
    }
    if unlisted > 0 {
        let text = format!("{} shown in no line: no room", counted(unlisted, "failure"));
        page.labelled(0, "", LABEL, Style::Warn, &text);
    }
}

/// The failure report of the last words.
pub fn put_all(page: &mut Page, end: &EndReport) {
    put_found(
        page,
        &Failed {
            counts: &end.failed,
            unlisted: end.failed_unlisted,
            failures: &end.failures,
            causes: &end.failures_by_cause,
        },
    );
}

/// Failures of a whole run.
pub struct Failed<'a> {
    /// How many, host-wide.
    pub counts: &'a OpCounts,
    /// Of those, in no line.
    pub unlisted: u64,
    /// Each kind, most frequent first.
    pub failures: &'a [FailureReport],
    /// Their sums.
    pub causes: &'a [CauseCount],
}

/// The failure report.
pub fn put_found(page: &mut Page, end: &Failed<'_>) {
    page.end_line();
    if *end.counts == OpCounts::default() {
        let text = "not visible: no hook";
        page.labelled(0, "failed", LABEL, Style::Warn, text);
        return;
    }
    let unseen = by_call(end.counts, |count| count.is_none().then_some(()));
    let unseen: Vec<_> = unseen.into_iter().map(|(name, ())| name).collect();
    if end.counts.total() == 0 {
        page.labelled(0, "failed", LABEL, Style::Strong, "no call");
    }
    put_counts(page, end.counts, end.unlisted);
    if !unseen.is_empty() {
        let text = format!("{} not visible: no hook", unseen.join(", "));
        page.labelled(0, "", LABEL, Style::Warn, &text);
    }
    if end.counts.total() > 0 && end.failures.is_empty() {
        let text = "none of what is to be shown";
        page.labelled(0, "", LABEL, Style::Normal, text);
    }
    let mut told: Vec<&[String]> = Vec::new();
    for failure in end.failures.iter().take(SHOWN) {
        page.end_line();
        if !failure.remedy.is_empty() && told.contains(&failure.remedy.as_slice()) {
            let brief = FailureReport {
                remedy: vec!["as above".to_owned()],
                ..failure.clone()
            };
            put(page, &brief);
        } else {
            told.push(&failure.remedy);
            put(page, failure);
        }
    }
    if end.failures.len() > SHOWN {
        let more = (end.failures.len() - SHOWN) as u64;
        page.end_line();
        let text = format!("and {} of failure", counted(more, "more kind"));
        page.line(Style::Faint, &text);
    }
    if !end.failures.is_empty() {
        page.end_line();
        put_causes(page, end.causes);
    }
}

/// What `show` has to say about each call.
fn by_call<T>(
    counts: &OpCounts,
    show: impl Fn(Option<u64>) -> Option<T>,
) -> Vec<(&'static str, T)> {
    let all = [
        ("connect()", counts.connect),
        ("bind()", counts.bind),
        ("listen()", counts.listen),
    ];
    all.into_iter()
        .filter_map(|(name, count)| Some((name, show(count)?)))
        .collect()
}

fn put_causes(page: &mut Page, causes: &[CauseCount]) {
    let mut table = Columns::new(&[
        ("CALL", Align::Left),
        ("CAUSE", Align::Left),
        ("FAILED", Align::Right),
    ]);
    for cause in causes {
        table.row(vec![
            text(cause.op.name()),
            text(cause.cause.name()),
            number(cause.count),
        ]);
    }
    table.put(page);
}

/// The cause in a sentence.
pub fn why(failure: &FailureReport) -> String {
    let name = failure.cause.name();
    let range = match failure.range {
        Some([low, high]) => format!("{low}-{high}"),
        None => "the range".to_owned(),
    };
    let text = match (failure.cause, failure.op) {
        (Cause::EphemeralExhausted, Op::Connect) => format!(
            "no port of {range} is usable towards {}",
            failure.dst.as_deref().unwrap_or("the destination")
        ),
        (Cause::EphemeralExhausted, Op::Bind) => {
            format!("bind() without a port found none free in {range}")
        }
        (Cause::EphemeralExhausted, Op::Listen) => {
            format!("listen() without bind() found no port free in {range}")
        }
        (Cause::LocalRangeExhausted, _) => {
            format!("no port of the socket's own IP_LOCAL_PORT_RANGE {range} is usable")
        }
        (Cause::DuplicateTuple, _) => {
            "a connection has the same addresses and ports already".to_owned()
        }
        (Cause::TimeWait, _) => {
            "a connection with the same addresses and ports is in TIME_WAIT".to_owned()
        }
        (Cause::NoSourceAddress, _) => {
            "no source address fits the destination; no port was searched".to_owned()
        }
        (Cause::Denied, _) => {
            "a cgroup program, a security module or a missing capability said no".to_owned()
        }
        (Cause::OutOfMemory, _) => "the kernel had no memory".to_owned(),
        (Cause::PortConflict, _) => match failure.port {
            Some(port) => format!("port {port} is taken"),
            None => "the port is taken".to_owned(),
        },
        (Cause::AddressNotLocal, _) => {
            "the address belongs to no interface of the network namespace".to_owned()
        }
        (Cause::Other, _) => "none of the causes that are told apart".to_owned(),
    };
    format!("{name}: {text}")
}

/// Addresses, namespace, cgroup, options.
pub fn whereto(failure: &FailureReport) -> Option<String> {
    let mut parts = Vec::new();
    if let Some(src) = &failure.src {
        parts.push(format!("from {src}"));
    }
    if let Some(dst) = &failure.dst {
        parts.push(format!("to {dst}"));
    }
    parts.push(format!("netns {}", failure.netns));
    if let Some(cgroup) = &failure.cgroup {
        parts.push(format!("cgroup {cgroup}"));
    }
    if !failure.options.is_empty() {
        parts.push(failure.options.join(" "));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// What a call cost.
pub fn searched(failure: &FailureReport) -> Option<String> {
    let mut parts = Vec::new();
    if let Some(ns) = failure.search_ns {
        parts.push(latency(ns));
    }
    if let Some(candidates) = failure.candidates {
        parts.push(format!("{} examined", counted(candidates, "port")));
    }
    (!parts.is_empty()).then(|| format!("{} per call", parts.join(", ")))
}

/// What the range is used for.
pub fn ports(breakdown: &PortBreakdown) -> String {
    let age = if breakdown.age_s >= 1.0 {
        format!(", as of {} ago", duration(breakdown.age_s))
    } else {
        String::new()
    };
    format!(
        "{} by connections, {} by TIME_WAIT, {} by bind(), {} reserved, {} otherwise or free{age}",
        count(breakdown.connected),
        count(breakdown.time_wait),
        count(breakdown.bound),
        count(breakdown.reserved),
        count(breakdown.other),
    )
}

/// Who has connected there, and what became of it.
pub fn callers(callers: &[Caller]) -> String {
    let each: Vec<_> = callers
        .iter()
        .map(|caller| {
            let name = process(&caller.comm, caller.pid);
            let waits = caller.time_waits.map_or(String::new(), |waits| {
                format!(" ({}\u{a0}to\u{a0}TIME_WAIT)", count(waits))
            });
            format!("{name} {}{waits}", count(caller.connections))
        })
        .collect();
    format!("{} connections since the start", each.join(", "))
}

/// Processes and how many ports each.
pub fn holders(holders: &[Holder]) -> String {
    let each: Vec<_> = holders
        .iter()
        .map(|holder| {
            let name = process(&holder.comm, holder.pid);
            format!("{name} {}", count(holder.count))
        })
        .collect();
    each.join(", ")
}
