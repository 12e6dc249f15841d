//! Connections on ports that somebody called bind() for: each is lost to every other connect().

use super::{About, DiagnosisFacts, Space, blame};
use crate::model::Arrange as _;
use crate::model::{Cause, Op, ProcessId};
use crate::report::words::{count, counted};
use crate::report::{FailureReport, FindingId, FindingReport, Severity};
use crate::tracker::{Binder, remedy};

pub(super) fn find(facts: &DiagnosisFacts<'_>, _: &[FindingReport]) -> Vec<FindingReport> {
    facts
        .spaces
        .iter()
        .flat_map(|space| in_space(facts, space))
        .collect()
}

fn in_space(facts: &DiagnosisFacts<'_>, space: &Space) -> Vec<FindingReport> {
    let rules = facts.rules;
    let is_contested = space.contested >= rules.contested
        || space.contested >= rules.least_bound
            && space.contested as f64 >= rules.contested_share * space.usable() as f64;
    let theft = is_contested.then(|| thief(space)).flatten();
    let mut findings: Vec<_> = theft
        .map(|(thief, binder)| stolen(facts, space, thief, binder))
        .into_iter()
        .collect();
    for (process, binder) in &space.binders {
        // Both sides of a theft have been named.
        let is_party = theft.is_some() && binder.contested * 2 >= binder.ports;
        let failed = failed_binds(facts, space, *process);
        let share = binder.ports as f64 / space.usable().max(1) as f64;
        let hurts = (failed > 0 || space.is_exhausted()) && binder.ports >= rules.least_bound;
        let large = share >= rules.bound_share && binder.ports >= rules.least_bound;
        // Of an exhausted range, those who have a real part of it.
        if !is_party && (large || hurts && share >= rules.contested_share) {
            findings.push(early(facts, space, *process, binder, failed));
        }
    }
    findings
}

/// Who has bound the contested ports: who has most of them beyond those that others have, too. A
/// victim has hardly any bound port that is not contested: its own came from connect().
fn thief(space: &Space) -> Option<(ProcessId, &Binder)> {
    let parties = space.binders.iter().filter(|(_, one)| one.contested > 0);
    parties
        .max_by_key(|(process, one)| {
            let alone = one.ports.saturating_sub(one.contested);
            (alone, one.ports, std::cmp::Reverse(*process))
        })
        .map(|(process, binder)| (*process, binder))
}

fn failed_binds(facts: &DiagnosisFacts<'_>, space: &Space, process: ProcessId) -> u64 {
    let own = failures(facts, space, Op::Bind).filter(|one| one.pid == process.pid);
    own.map(|one| one.count).sum()
}

fn failures<'a>(
    facts: &DiagnosisFacts<'a>,
    space: &Space,
    op: Op,
) -> impl Iterator<Item = &'a FailureReport> {
    let netns = space.netns;
    facts.failures.iter().filter(move |one| {
        one.netns == netns && one.op == op && one.cause == Cause::EphemeralExhausted
    })
}

fn early(
    facts: &DiagnosisFacts<'_>,
    space: &Space,
    process: ProcessId,
    binder: &Binder,
    failed: u64,
) -> FindingReport {
    let (low, high) = space.range;
    let who = facts.named(process);
    let ports = counted(binder.ports, "connection");
    let is_critical = failed > 0 || space.is_exhausted();
    let all = if binder.ports >= space.usable() {
        format!("all {} ports", count(space.usable()))
    } else {
        format!("{} of {} ports", count(binder.ports), count(space.usable()))
    };
    let mut finding = About {
        id: FindingId::BindBeforeConnect,
        severity: if is_critical {
            Severity::Critical
        } else {
            Severity::Warning
        },
        // That it has called bind() is the kernel's own mark; that it needs no port of its own
        // is likely only.
        confidence: if failed > 0 { 0.95 } else { 0.85 },
        count: binder.ports,
        title: format!(
            "{who} calls bind() before connect(): its connections take {all} of {low}-{high}, each \
             for all destinations"
        ),
    }
    .finding();
    blame(&mut finding, facts, process);
    finding.netns = Some(space.netns);
    finding.evidence.push(format!(
        "{ports} are on ports whose bind bucket the kernel counts as bound, so that no other \
         connect() shares them"
    ));
    if let Some(free) = space.bind_free {
        finding.evidence.push(format!(
            "{} left for the next bind() to port 0 in network namespace {}",
            match free {
                0 => "no port is".to_owned(),
                1 => "1 port is".to_owned(),
                free => format!("{} ports are", count(free)),
            },
            space.netns
        ));
    }
    let to = space
        .routes
        .iter()
        .filter(|route| route.connected_bound > 0);
    let most = to.clone().map(|route| route.connected_bound).max();
    if let Some(most) = most.filter(|_| to.clone().count() > 1) {
        finding.evidence.push(format!(
            "they go to {} or more destinations, {} to the busiest, where connect() alone could have \
             {} to each",
            to.count(),
            count(most),
            count(space.usable().saturating_sub(space.bound_closed + space.bound_listening)),
        ));
    }
    if failed > 0 {
        finding.evidence.push(format!(
            "{} of {who} failed with EADDRINUSE meanwhile: no port was left",
            counted(failed, "bind() call")
        ));
    }
    finding.remedy.push(remedy::NO_PORT.to_owned());
    finding.remedy.extend(remedy::wider(Some(space.range)));
    finding
}

fn stolen(
    facts: &DiagnosisFacts<'_>,
    space: &Space,
    thief: ProcessId,
    binder: &Binder,
) -> FindingReport {
    let (low, high) = space.range;
    let who = facts.named(thief);
    let mut others: Vec<_> = binder.with.iter().collect();
    others.arrange_by_key(|(process, ports)| (std::cmp::Reverse(**ports), **process));
    let victims: Vec<String> = (others.iter().take(3))
        .map(|(process, ports)| format!("{} ({})", facts.named(**process), count(**ports)))
        .collect();
    let failed = failures(facts, space, Op::Connect);
    let failed: Vec<_> = failed.filter(|one| one.pid != thief.pid).collect();
    let alone = binder.ports.saturating_sub(binder.contested);
    let is_clear = others.iter().all(|(process, _)| {
        let theirs = space.binders.iter().find(|(known, _)| known == *process);
        theirs.is_none_or(|(_, other)| other.ports.saturating_sub(other.contested) < alone)
    });
    let is_critical = space.is_exhausted() || !failed.is_empty();
    let mut finding = About {
        id: FindingId::ReuseBoundPorts,
        severity: if is_critical {
            Severity::Critical
        } else {
            Severity::Warning
        },
        confidence: if is_clear { 0.9 } else { 0.6 },
        count: binder.contested,
        title: format!(
            "{who} binds ports that connections of others have (SO_REUSEADDR): {} of {low}-{high} are \
             lost to every connect()",
            count(binder.ports)
        ),
    }
    .finding();
    blame(&mut finding, facts, thief);
    finding.netns = Some(space.netns);
    finding.evidence.push(format!(
        "{} of its {} also have a connection of {}: their bind buckets count as bound since, and \
         connect() passes them over until the last of these sockets is closed",
        count(binder.contested),
        counted(binder.ports, "bound port"),
        victims.join(", ")
    ));
    if let Some(free) = space.bind_free {
        finding.evidence.push(format!(
            "connect() to a new destination can take {} of {} ports; bind() to port 0 can take {}",
            count(space.usable().saturating_sub(space.bound)),
            count(space.usable()),
            count(free)
        ));
    }
    for one in failed.iter().take(3) {
        finding.evidence.push(super::ports::failure_line(one));
    }
    finding.remedy = vec![
        format!(
            "{who}: do not bind() to a port before connect(); to fix the source address only, bind() \
             to port 0 with IP_BIND_ADDRESS_NO_PORT (Linux 4.2 or later)"
        ),
        format!(
            "if it needs ports of its own: take them outside of {low}-{high}, or put them into \
             net.ipv4.ip_local_reserved_ports"
        ),
        "clients: leave out SO_REUSEADDR on sockets that only connect(); without it on both sides \
         bind() to a port in use fails"
            .to_owned(),
    ];
    if !is_clear {
        finding.coverage.push(format!(
            "{who} and {} share these ports; which of them has called bind() is a guess",
            victims.join(", ")
        ));
    }
    finding
}
