//! Sockets that are never closed.

use super::{About, DiagnosisFacts, follow};
use crate::report::words::{count, counted, named};
use crate::report::{After, FindingId, FindingReport, Leak, LeakClass, Severity};

pub(super) fn find(facts: &DiagnosisFacts<'_>) -> Vec<FindingReport> {
    let mut findings: Vec<_> = facts
        .leaks
        .iter()
        .map(|leak| finding(facts, leak))
        .collect();
    // A process that has taken all ports fails to bind the rest of its sockets.
    let takers: Vec<FindingReport> = (findings.iter())
        .filter(|one| one.id == FindingId::BoundLeak && one.netns.is_some())
        .cloned()
        .collect();
    for (finding, leak) in findings.iter_mut().zip(facts.leaks) {
        let taker = takers.iter().find(|taker| taker.pid == finding.pid);
        let may_follow = matches!(
            mostly(leak),
            After::BindFailed | After::Unknown | After::NeverUsed
        );
        if let Some(taker) = taker.filter(|_| finding.id == FindingId::ClosedLeak && may_follow) {
            follow(finding, taker);
            finding.evidence.push(format!(
                "{} has taken all ports of its range: its further bind() calls fail, and it forgets \
                 those sockets, too",
                named(&leak.comm, leak.pid)
            ));
        }
    }
    findings
}

fn finding(facts: &DiagnosisFacts<'_>, leak: &Leak) -> FindingReport {
    let rules = facts.rules;
    let fate = mostly(leak);
    let id = match (leak.class, fate) {
        (LeakClass::Bound, _) => FindingId::BoundLeak,
        (LeakClass::CloseWait, _) => FindingId::CloseWaitLeak,
        (
            LeakClass::Unbound,
            After::ConnectRefused | After::ConnectTimedOut | After::ConnectFailed,
        ) => FindingId::RefusedLeak,
        (LeakClass::Unbound, _) => FindingId::ClosedLeak,
    };
    // The namespace that these sockets have exhausted, if they have.
    let taken = facts.spaces.iter().find(|space| {
        let ports = space
            .closed
            .iter()
            .find(|(process, _)| process.pid == leak.pid || leak.holders.contains(&process.pid));
        let most = ports.is_some_and(|(_, ports)| ports * 2 > space.usable());
        leak.class == LeakClass::Bound && space.is_exhausted() && most
    });
    let is_near = leak.limit.as_ref().is_some_and(|limit| {
        let used = limit.used.unwrap_or(0) as f64 >= rules.near * limit.value as f64;
        used || limit.eta_s.is_some_and(|eta| eta <= rules.soon_s)
    });
    let severity = if taken.is_some() || is_near {
        Severity::Critical
    } else {
        Severity::Warning
    };
    let mut finding = About {
        id,
        severity,
        confidence: leak.confidence,
        count: leak.count,
        title: title(leak, fate, taken.map(|space| space.range)),
    }
    .finding();
    finding.pid = Some(leak.pid);
    finding.comm.clone_from(&leak.comm);
    finding.container.clone_from(&leak.container);
    finding.netns = taken.map(|space| space.netns);
    finding.evidence.clone_from(&leak.evidence);
    if leak.origins.len() == 1 && id == FindingId::RefusedLeak {
        finding.evidence.push(fate_line(leak));
    }
    if let Some(limit) = &leak.limit {
        let used = limit.used.map_or("?".to_owned(), count);
        let when = match limit.eta_s {
            Some(eta) if eta <= 0.0 => "it is reached".to_owned(),
            Some(eta) => format!("it is reached in {:.0} min", (eta / 60.0).ceil()),
            None => "at present it does not come closer".to_owned(),
        };
        finding.evidence.push(format!(
            "{used} of {} {} are used: {when}",
            count(limit.value),
            limit_name(limit.name)
        ));
    }
    finding.remedy.clone_from(&leak.remedy);
    finding.coverage.clone_from(&leak.coverage);
    let unexplained = (leak.origins.iter())
        .filter(|one| one.after == After::ConnectFailed && one.errno.is_none());
    let unexplained: u64 = unexplained.map(|one| one.count).sum();
    if unexplained > 0 {
        finding.coverage.push(format!(
            "that connect() has failed is read from what {} still hold of it; with \
             which error, they do not say",
            counted(unexplained, "socket")
        ));
    }
    finding.stack.clone_from(&leak.stack);
    finding
}

/// What had happened to most of those of which it is known.
fn mostly(leak: &Leak) -> After {
    let known = leak
        .origins
        .iter()
        .filter(|one| one.after != After::Unknown);
    let mut sums: Vec<(After, u64)> = Vec::new();
    for origin in known {
        // Why connect() failed is known only of those that were seen: they are one kind.
        let kind = match origin.after {
            After::ConnectTimedOut | After::ConnectRefused | After::ConnectFailed => {
                After::ConnectFailed
            }
            other => other,
        };
        match sums.iter_mut().find(|(after, _)| *after == kind) {
            Some((_, sum)) => *sum += origin.count,
            None => sums.push((kind, origin.count)),
        }
    }
    let (after, _) = (sums.into_iter())
        .max_by_key(|(after, sum)| (*sum, std::cmp::Reverse(*after)))
        .unwrap_or((leak.after, 0));
    if after != After::ConnectFailed {
        return after;
    }
    let of = |after| leak.origins.iter().filter(move |one| one.after == after);
    let sum = |after| of(after).map(|one| one.count).sum::<u64>();
    let timed_out = sum(After::ConnectTimedOut);
    match sum(After::ConnectRefused) {
        refused if refused > 0 && refused >= timed_out => After::ConnectRefused,
        _ if timed_out > 0 => After::ConnectTimedOut,
        _ => After::ConnectFailed,
    }
}

/// The peer of most of those of this fate.
fn peer(leak: &Leak, fate: After) -> Option<&str> {
    let same = leak.origins.iter().filter(|one| one.after == fate);
    let most = same.max_by_key(|one| one.count);
    most.map_or(leak.peer.as_deref(), |one| one.peer.as_deref())
}

fn title(leak: &Leak, fate: After, taken: Option<(u16, u16)>) -> String {
    let who = named(&leak.comm, leak.pid);
    let sockets = counted(leak.count, "socket");
    let to = peer(leak, fate).map_or(String::new(), |peer| format!(" to {peer}"));
    match (leak.class, fate) {
        (LeakClass::Bound, _) => match taken {
            Some((low, high)) => format!(
                "{who} has bound {sockets} and forgotten them: they hold all ports of {low}-{high}, \
                 and nobody else gets one"
            ),
            None => format!("{who} has bound {sockets} and forgotten them: each holds a port"),
        },
        (LeakClass::CloseWait, _) => format!(
            "{who} does not close {sockets} whose peers have closed{}",
            peer(leak, fate).map_or(String::new(), |peer| format!(", towards {peer}"))
        ),
        (_, After::ConnectRefused) => {
            format!("{who} never closes sockets whose connect(){to} is refused: {sockets}")
        }
        (_, After::ConnectTimedOut) => {
            format!("{who} never closes sockets whose connect(){to} gets no answer: {sockets}")
        }
        (_, After::ConnectFailed) => {
            format!("{who} never closes sockets whose connect(){to} has failed: {sockets}")
        }
        (_, After::NeverUsed) => format!("{who} creates sockets and forgets them: {sockets}"),
        (_, After::BindFailed) => {
            format!("{who} never closes sockets whose bind() has failed: {sockets}")
        }
        (_, After::PeerReset | After::ConnectionFailed | After::ConnectionEnded) => {
            format!("{who} never closes sockets whose connection{to} is over: {sockets}")
        }
        _ => format!("{who} has {sockets} without a connection or a port, and never closes them"),
    }
}

fn fate_line(leak: &Leak) -> String {
    let errno = (leak.errno.as_ref()).map_or(String::new(), |errno| format!(" = {errno}"));
    let to = (leak.peer.as_ref()).map_or(String::new(), |peer| format!(" to {peer}"));
    format!("all of them: connect(){to}{errno}, and no close()")
}

fn limit_name(name: crate::report::LimitName) -> &'static str {
    use crate::report::LimitName;
    match name {
        LimitName::FdLimit => "descriptors of the process",
        LimitName::PortRange => "ports of the range",
        LimitName::FileMax => "open files of the host (fs.file-max)",
        LimitName::TcpMem => "pages of TCP memory of the host (tcp_mem)",
    }
}
