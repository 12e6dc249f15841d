//! Ports that are used up, or nearly, towards one destination or all.

use std::net::SocketAddr;

use super::{About, DiagnosisFacts, RouteUse, Space, blame, follow};
use crate::model::Arrange as _;
use crate::model::{Cause, Op, ProcessId};
use crate::report::words::{count, counted, named};
use crate::report::{FailureReport, FindingId, FindingReport, Severity};
use crate::tracker::remedy::{self, Trouble};

/// Failures that one finding quotes.
const QUOTED: usize = 4;

pub(super) fn find(facts: &DiagnosisFacts<'_>, before: &[FindingReport]) -> Vec<FindingReport> {
    let mut findings = Vec::new();
    for space in facts.spaces {
        if space.is_exhausted() {
            findings.push(nothing_left(facts, space, before));
            continue;
        }
        for route in &space.routes {
            findings.extend(towards(facts, space, route, before));
        }
    }
    findings.extend(unexplained(facts, before, &findings));
    findings
}

/// Failures of calls that found no port, in a namespace, towards a destination if one is given.
fn exhausted<'a>(
    facts: &DiagnosisFacts<'a>,
    netns: u32,
    dst: Option<SocketAddr>,
) -> Vec<&'a FailureReport> {
    let dst = dst.map(|dst| dst.to_string());
    let wanted = |one: &&FailureReport| {
        // A range of the socket's own is no matter of the namespace's.
        let no_port = one.cause == Cause::EphemeralExhausted;
        no_port && one.netns == netns && (dst.is_none() || one.op == Op::Connect && one.dst == dst)
    };
    facts.failures.iter().filter(wanted).collect()
}

/// `ftp[12]: 34 connect() calls to 127.0.0.1:21 failed with EADDRNOTAVAIL`
pub(super) fn failure_line(failure: &FailureReport) -> String {
    let to = (failure.dst.as_ref()).map_or(String::new(), |dst| format!(" to {dst}"));
    format!(
        "{}: {}{to} failed with {}",
        named(&failure.comm, failure.pid),
        counted(failure.count, &format!("{}() call", failure.op.name())),
        failure.errno
    )
}

fn quote(finding: &mut FindingReport, failures: &[&FailureReport]) {
    let lines = failures.iter().take(QUOTED).map(|one| failure_line(one));
    finding.evidence.extend(lines);
    if failures.len() > QUOTED {
        let more = counted((failures.len() - QUOTED) as u64, "more kind");
        finding.evidence.push(format!("{more} of failed calls"));
    }
}

/// All ports of a namespace are bound.
fn nothing_left(
    facts: &DiagnosisFacts<'_>,
    space: &Space,
    before: &[FindingReport],
) -> FindingReport {
    let (low, high) = space.range;
    let mut finding = About {
        id: FindingId::EphemeralExhausted,
        severity: Severity::Critical,
        confidence: 0.95,
        count: space.usable(),
        title: format!(
            "all {} of {low}-{high} are bound: every connect() without a port fails with \
             EADDRNOTAVAIL, every bind() to port 0 with EADDRINUSE",
            counted(space.usable(), "port")
        ),
    }
    .finding();
    finding.netns = Some(space.netns);
    finding.evidence.push(format!(
        "in network namespace {}: {} ports are held by CLOSED sockets, {} by connections that were \
         bound first, {} by listeners",
        space.netns,
        count(space.bound_closed),
        count(space.bound_connected()),
        count(space.bound_listening)
    ));
    quote(&mut finding, &exhausted(facts, space.netns, None));
    finding.remedy = remedy::of_failure(&Trouble {
        range: Some(space.range),
        bound: Some(true),
        connected: Some(false),
        time_wait: Some(false),
        ..Trouble::new(Op::Connect, Cause::EphemeralExhausted)
    });
    attribute(facts, space, &mut finding, before);
    finding
}

/// Who has the bound ports: the finding before that says so, or the process with most.
fn attribute(
    facts: &DiagnosisFacts<'_>,
    space: &Space,
    finding: &mut FindingReport,
    before: &[FindingReport],
) {
    let by_closed = space.bound_closed >= space.bound_connected();
    let holder = if by_closed {
        space.closed.first().map(|(process, _)| *process)
    } else {
        space.binders.first().map(|(process, _)| *process)
    };
    let mut causes = before.iter().filter(|cause| match cause.id {
        FindingId::BoundLeak => by_closed && cause.pid == holder.map(|holder| holder.pid),
        FindingId::BindBeforeConnect | FindingId::ReuseBoundPorts => {
            !by_closed && cause.netns == Some(space.netns)
        }
        _ => false,
    });
    match (causes.next(), holder) {
        (Some(cause), _) => {
            follow(finding, cause);
            finding.pid = cause.pid;
            finding.comm.clone_from(&cause.comm);
            finding.container.clone_from(&cause.container);
            finding.remedy.clone_from(&cause.remedy);
        }
        (None, Some(holder)) => blame(finding, facts, holder),
        (None, None) => {}
    }
}

/// What is wrong towards one destination.
fn towards(
    facts: &DiagnosisFacts<'_>,
    space: &Space,
    route: &RouteUse,
    before: &[FindingReport],
) -> Vec<FindingReport> {
    let Some((_, dst)) = route.pair else {
        return Vec::new();
    };
    let rules = facts.rules;
    let failures = exhausted(facts, space.netns, Some(dst));
    let mostly_waiting = route.waiting() * 2 > route.used();
    if mostly_waiting {
        // Where calls have failed some of it may have ended since.
        let enough = match failures.is_empty() {
            true => rules.time_wait_share,
            false => rules.time_wait_share_failed,
        };
        return if route.share() >= enough {
            time_wait(space, route, &failures)
        } else {
            Vec::new()
        };
    }
    let room = &route.room;
    if route.is_exhausted() || (!failures.is_empty() && route.share() >= rules.near) {
        return vec![used_up(facts, space, route, &failures, before)];
    }
    let first_half = room.first.used as f64 >= rules.first_half * room.first.size as f64
        && room.first.size >= rules.least_walk;
    let hot = hot(facts, space, dst);
    let warned = pressure(facts, space, dst);
    if first_half || hot.is_some() || warned.is_some_and(|one| one.second_parity > 0.0) {
        return vec![parity(facts, space, route, hot, before)];
    }
    Vec::new()
}

fn hot<'a>(
    facts: &DiagnosisFacts<'a>,
    space: &Space,
    dst: SocketAddr,
) -> Option<&'a crate::report::HotLoop> {
    let dst = dst.to_string();
    facts.hot_loops.iter().find(|one| {
        let search = &one.search;
        search.op == Op::Connect
            && search.netns == space.netns
            && search.failed < search.calls
            && search.dst.as_ref() == Some(&dst)
    })
}

fn pressure<'a>(
    facts: &DiagnosisFacts<'a>,
    space: &Space,
    dst: SocketAddr,
) -> Option<&'a crate::report::PressureReport> {
    let dst = dst.to_string();
    let mut all = facts.pressures.iter();
    all.find(|one| one.netns == space.netns && one.dst == dst)
}

fn trouble(space: &Space, dst: SocketAddr, route: &RouteUse, cause: Cause) -> Trouble {
    let quarter = |part: u64| Some(part * 4 >= route.size().max(1));
    Trouble {
        range: Some(space.range),
        loopback: dst.ip().is_loopback(),
        time_wait: quarter(route.room.time_wait),
        bound: quarter(route.room.bound),
        connected: quarter(route.room.connected),
        tw_reuse: space.tw_reuse,
        timestamps: space.timestamps,
        ..Trouble::new(Op::Connect, cause)
    }
}

fn time_wait(space: &Space, route: &RouteUse, failures: &[&FailureReport]) -> Vec<FindingReport> {
    let Some((src, dst)) = route.pair else {
        return Vec::new();
    };
    let full = route.is_exhausted();
    let (low, high) = space.range;
    let per_s = sustained(route);
    let mut finding = About {
        id: FindingId::TimeWaitPressure,
        severity: if full || !failures.is_empty() {
            Severity::Critical
        } else {
            Severity::Warning
        },
        confidence: if full || !failures.is_empty() {
            0.95
        } else {
            0.8
        },
        count: route.waiting(),
        title: format!(
            "{} of {} ports of {low}-{high} are in TIME_WAIT towards {dst}{}",
            count(route.waiting()),
            count(route.size()),
            if full {
                ": connect() fails until they end"
            } else {
                ""
            }
        ),
    }
    .finding();
    finding.netns = Some(space.netns);
    finding.dst = Some(dst.to_string());
    finding.evidence.push(format!(
        "from {src} in network namespace {}: {} in TIME_WAIT, {} connected, {} bound, {} left",
        space.netns,
        count(route.room.time_wait),
        count(route.room.connected),
        count(route.room.bound),
        count(route.size().saturating_sub(route.used()))
    ));
    finding.evidence.push(format!(
        "TIME_WAIT lasts 60 s: the range sustains {per_s:.0} new connections per second to one \
         destination while this side closes first"
    ));
    // Who closes first is seen only while it happens.
    let callers = failures.iter().flat_map(|one| &one.callers);
    let mut callers: Vec<_> = callers.filter(|one| one.connections > 0).collect();
    callers.arrange_by_key(|one| (std::cmp::Reverse(one.connections), one.pid));
    callers.dedup_by_key(|one| one.pid);
    let sum: u64 = callers.iter().map(|one| one.connections).sum();
    if let Some(most) = callers.first() {
        let who: Vec<String> = (callers.iter().take(QUOTED))
            .map(|one| format!("{} {}", named(&one.comm, one.pid), count(one.connections)))
            .collect();
        finding.evidence.push(format!(
            "new connections there while it was watched: {}",
            who.join(", ")
        ));
        if most.connections * 2 > sum {
            finding.pid = Some(most.pid);
            finding.comm.clone_from(&most.comm);
        }
    } else {
        finding.coverage.push(
            "a TIME_WAIT has no owner: who has closed these connections is seen only while it \
             happens"
                .to_owned(),
        );
    }
    let trouble = trouble(space, dst, route, Cause::EphemeralExhausted);
    finding.remedy = remedy::of_failure(&Trouble {
        time_wait: Some(true),
        ..trouble
    });
    if failures.is_empty() {
        return vec![finding];
    }
    let mut failing = About {
        id: FindingId::EphemeralExhausted,
        severity: Severity::Critical,
        confidence: 0.95,
        count: failures.iter().map(|one| one.count).sum(),
        title: format!("connect() to {dst} finds no port in {low}-{high}"),
    }
    .finding();
    failing.netns = finding.netns;
    failing.dst.clone_from(&finding.dst);
    failing.pid = finding.pid;
    failing.comm.clone_from(&finding.comm);
    quote(&mut failing, failures);
    failing.remedy.clone_from(&finding.remedy);
    follow(&mut failing, &finding);
    vec![finding, failing]
}

/// New connections per second that the range sustains towards one destination.
fn sustained(route: &RouteUse) -> f64 {
    route.size().saturating_sub(route.room.bound) as f64 / super::capacity::TIME_WAIT_S
}

fn used_up(
    facts: &DiagnosisFacts<'_>,
    space: &Space,
    route: &RouteUse,
    failures: &[&FailureReport],
    before: &[FindingReport],
) -> FindingReport {
    let (low, high) = space.range;
    let room = &route.room;
    let to = route.pair.map(|(_, dst)| dst.to_string());
    let mut finding = About {
        id: FindingId::EphemeralExhausted,
        severity: Severity::Critical,
        confidence: if failures.is_empty() { 0.85 } else { 0.95 },
        count: route.used(),
        title: format!(
            "connect() to {} finds no port: {} of {} of {low}-{high} are taken",
            to.as_deref().unwrap_or_default(),
            count(route.used()),
            count(route.size())
        ),
    }
    .finding();
    finding.netns = Some(space.netns);
    finding.dst = to;
    finding.evidence.push(format!(
        "in network namespace {}: {} are connected to it, {} in TIME_WAIT towards it, {} bound",
        space.netns,
        count(room.connected),
        count(room.time_wait),
        count(room.bound)
    ));
    let holders: Vec<String> = (room.blockers.iter().take(QUOTED))
        .map(|one| format!("{} {}", facts.named(one.process), count(one.ports)))
        .collect();
    if !holders.is_empty() {
        let text = format!("the ports are held by {}", holders.join(", "));
        finding.evidence.push(text);
    }
    quote(&mut finding, failures);
    if let Some((_, dst)) = route.pair {
        let trouble = trouble(space, dst, route, Cause::EphemeralExhausted);
        finding.remedy = remedy::of_failure(&trouble);
    }
    if room.bound > room.connected {
        attribute(facts, space, &mut finding, before);
    } else if let Some(most) = room.blockers.first() {
        blame(&mut finding, facts, most.process);
    }
    finding
}

fn parity(
    facts: &DiagnosisFacts<'_>,
    space: &Space,
    route: &RouteUse,
    hot: Option<&crate::report::HotLoop>,
    before: &[FindingReport],
) -> FindingReport {
    let room = &route.room;
    let dst = route.pair.map(|(_, dst)| dst);
    let to = dst.map_or(String::new(), |dst| dst.to_string());
    let warned = dst.and_then(|dst| pressure(facts, space, dst));
    let in_use = hot.is_some() || warned.is_some();
    let mut finding = About {
        id: FindingId::ParitySearch,
        severity: Severity::Warning,
        // That calls walk has been seen, or follows from who has which port.
        confidence: if in_use { 0.95 } else { 0.75 },
        count: room.first.used,
        title: format!(
            "{} of the {} ports that connect() tries first are used up towards {to}: every further \
             connect() walks them in vain",
            count(room.first.used),
            count(room.first.size)
        ),
    }
    .finding();
    finding.netns = Some(space.netns);
    finding.dst = Some(to);
    finding.evidence.push(format!(
        "{} of {} ports of {}-{} are used towards it; of the half that connect() tries last {} of {} \
         are left",
        count(route.used()),
        count(route.size()),
        space.range.0,
        space.range.1,
        count(room.second.size.saturating_sub(room.second.used)),
        count(room.second.size)
    ));
    if let Some(hot) = hot {
        let cpu = hot.search.cpu_share.map_or(String::new(), |share| {
            format!(", {:.0} % of a CPU", share * 100.0)
        });
        finding.evidence.push(format!(
            "{}: {} there{cpu}; {}",
            named(&hot.search.comm, hot.search.pid),
            counted(hot.search.calls, "search"),
            hot.meaning
        ));
    }
    if let Some(warned) = warned {
        finding.evidence.push(warned.meaning.clone());
    }
    if !in_use {
        let seen = if facts.traced {
            "no connect() went there while it was watched"
        } else {
            "calls were not traced"
        };
        finding.coverage.push(format!(
            "what a search costs was not measured: {seen}; sockets with IP_LOCAL_PORT_RANGE are not \
             concerned from Linux 6.8 on"
        ));
    }
    let holders: Vec<String> = (room.blockers.iter().take(QUOTED))
        .map(|one| format!("{} {}", facts.named(one.process), count(one.ports)))
        .collect();
    if !holders.is_empty() {
        let text = format!("the ports are held by {}", holders.join(", "));
        finding.evidence.push(text);
    }
    finding.remedy = match (hot, warned, dst) {
        (Some(hot), ..) => hot.remedy.clone(),
        (None, Some(warned), _) => warned.remedy.clone(),
        (None, None, Some(dst)) => {
            remedy::of_search(&trouble(space, dst, route, Cause::Other), facts.features)
        }
        (None, None, None) => Vec::new(),
    };
    let caller = hot
        .map(|hot| hot.search.pid)
        .or_else(|| Some(warned?.who.first()?.pid));
    let process = |pid: u32| {
        let mut known = facts.infos.keys().filter(|process| process.pid == pid);
        known.next().copied().unwrap_or(ProcessId {
            pid,
            start_ticks: 0,
        })
    };
    if room.bound > room.connected {
        attribute(facts, space, &mut finding, before);
    } else if let Some(pid) = caller {
        blame(&mut finding, facts, process(pid));
    } else if let Some(most) = room.blockers.first() {
        blame(&mut finding, facts, most.process);
    }
    finding
}

/// Calls that found no port, and nothing of it was left when the ports were looked at.
fn unexplained(
    facts: &DiagnosisFacts<'_>,
    before: &[FindingReport],
    now: &[FindingReport],
) -> Vec<FindingReport> {
    let mut open: Vec<&FailureReport> = (facts.failures.iter())
        .filter(|one| {
            matches!(
                one.cause,
                Cause::EphemeralExhausted | Cause::LocalRangeExhausted
            )
        })
        .filter(|one| {
            let explains = |finding: &&FindingReport| {
                let about_it = finding.netns == Some(one.netns)
                    && (finding.dst.is_none() || finding.dst == one.dst);
                about_it && finding.severity == Severity::Critical
            };
            !before.iter().chain(now).any(|finding| explains(&finding))
        })
        .collect();
    let mut findings = Vec::new();
    while let Some(first) = open.first().copied() {
        let same = |one: &&FailureReport| {
            (one.netns, one.op, &one.dst, one.cause)
                == (first.netns, first.op, &first.dst, first.cause)
        };
        let (these, rest): (Vec<_>, Vec<_>) = open.iter().copied().partition(same);
        open = rest;
        let to = (first.dst.as_ref()).map_or(String::new(), |dst| format!(" to {dst}"));
        let what = match first.cause {
            Cause::LocalRangeExhausted => "the socket's own range (IP_LOCAL_PORT_RANGE)".to_owned(),
            _ => first.range.map_or("the range".to_owned(), |[low, high]| {
                format!("{low}-{high}")
            }),
        };
        let parts = these.iter().find_map(|one| one.breakdown.as_ref());
        let waited = parts
            .is_some_and(|parts| parts.time_wait > parts.connected + parts.bound + parts.other);
        let mut finding = About {
            id: match waited {
                true => FindingId::TimeWaitPressure,
                false => FindingId::EphemeralExhausted,
            },
            severity: Severity::Critical,
            confidence: if first.breakdown.is_some() { 0.9 } else { 0.8 },
            count: these.iter().map(|one| one.count).sum(),
            title: format!("{}(){to} finds no port in {what}", first.op.name()),
        }
        .finding();
        finding.netns = Some(first.netns);
        finding.dst.clone_from(&first.dst);
        quote(&mut finding, &these);
        if let Some(parts) = parts {
            finding.evidence.push(format!(
                "when it was looked at: {} connected, {} in TIME_WAIT, {} bound, {} reserved, {} other",
                count(parts.connected),
                count(parts.time_wait),
                count(parts.bound),
                count(parts.reserved),
                count(parts.other)
            ));
        }
        if let Some(most) = first.held_by.first() {
            finding.pid = Some(most.pid);
            finding.comm.clone_from(&most.comm);
            finding.container = facts.container(most.pid);
            let held: Vec<String> = (first.held_by.iter().take(QUOTED))
                .map(|one| format!("{} {}", named(&one.comm, one.pid), count(one.count)))
                .collect();
            finding
                .evidence
                .push(format!("held by {}", held.join(", ")));
        }
        finding.remedy.clone_from(&first.remedy);
        findings.push(finding);
    }
    findings
}
