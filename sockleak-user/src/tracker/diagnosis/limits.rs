//! Limits of processes and of the host that are nearly reached, and orphans on the way there.

use super::{About, DiagnosisFacts, blame, follow};
use crate::report::words::count;
use crate::report::{FindingId, FindingReport, OrphansReport, Severity};
use crate::tracker::OrphanRules;

pub(super) fn find(facts: &DiagnosisFacts<'_>, before: &[FindingReport]) -> Vec<FindingReport> {
    let mut findings = descriptors(facts, before);
    findings.extend(files(facts, before));
    let orphans = facts.orphans.and_then(|orphans| orphaned(facts, orphans));
    findings.extend(memory(facts, before, orphans.as_ref()));
    findings.extend(orphans);
    findings
}

fn is_leak(id: FindingId) -> bool {
    matches!(
        id,
        FindingId::ClosedLeak
            | FindingId::BoundLeak
            | FindingId::RefusedLeak
            | FindingId::CloseWaitLeak
    )
}

fn percent(part: u64, of: u64) -> String {
    format!("{:.0} %", (part as f64 * 100.0 / of.max(1) as f64).floor())
}

/// The largest leak of a process, or of anybody.
fn leak_of(before: &[FindingReport], pid: Option<u32>) -> Option<&FindingReport> {
    let leaks = before.iter().filter(|one| is_leak(one.id));
    leaks
        .filter(|one| pid.is_none() || one.pid == pid)
        .filter(|one| one.caused_by.is_none())
        .max_by_key(|one| one.count)
}

fn severity(facts: &DiagnosisFacts<'_>, used: u64, max: u64) -> Option<Severity> {
    let share = used as f64 / max.max(1) as f64;
    if share >= facts.rules.reached {
        Some(Severity::Critical)
    } else if share >= facts.rules.near {
        Some(Severity::Warning)
    } else {
        None
    }
}

fn descriptors(facts: &DiagnosisFacts<'_>, before: &[FindingReport]) -> Vec<FindingReport> {
    let mut findings = Vec::new();
    for process in facts.processes {
        let Some(info) = facts.infos.get(process).filter(|info| !info.exited) else {
            continue;
        };
        let (Some(used), Some(limit)) = (info.fd_used, info.fd_limit) else {
            continue;
        };
        let Some(severity) = severity(facts, used, limit) else {
            continue;
        };
        if limit < facts.rules.least_descriptors {
            continue;
        }
        let who = facts.named(*process);
        let mut finding = About {
            id: FindingId::FdLimitNear,
            severity,
            confidence: 0.95,
            count: used,
            title: format!(
                "{who} has {} of the {} descriptors open that it may have ({})",
                count(used),
                count(limit),
                percent(used, limit)
            ),
        }
        .finding();
        blame(&mut finding, facts, *process);
        finding.evidence.push(format!(
            "soft RLIMIT_NOFILE is {}: at that number socket(), accept() and open() fail with EMFILE",
            count(limit)
        ));
        match leak_of(before, Some(process.pid)) {
            Some(leak) => {
                finding.remedy.push(
                    "stop the leak: a higher limit only delays the end".to_owned(),
                );
                follow(&mut finding, leak);
            }
            None => finding.remedy.push(format!(
                "raise it if the process is meant to have so many: LimitNOFILE={} in its systemd unit, \
                 or at once `prlimit --pid {} --nofile={}:`; else look for what it does not close \
                 (ls -l /proc/{}/fd)",
                limit.saturating_mul(2),
                process.pid,
                limit.saturating_mul(2),
                process.pid
            )),
        }
        findings.push(finding);
    }
    findings
}

fn files(facts: &DiagnosisFacts<'_>, before: &[FindingReport]) -> Option<FindingReport> {
    let files = facts.files?;
    let severity = severity(facts, files.used, files.max)?;
    let mut finding = About {
        id: FindingId::FileMaxNear,
        severity,
        confidence: 0.95,
        count: files.used,
        title: format!(
            "{} of the {} files are open that the host may have ({})",
            count(files.used),
            count(files.max),
            percent(files.used, files.max)
        ),
    }
    .finding();
    finding.evidence.push(
        "fs.file-max: at that number open() and socket() of every process without CAP_SYS_ADMIN fail \
         with ENFILE"
            .to_owned(),
    );
    if let Some(leak) = leak_of(before, None)
        && leak.count * 4 >= files.used
    {
        follow(&mut finding, leak);
    }
    finding.remedy.push(format!(
        "raise fs.file-max to {} to gain time; a file costs about 0.5 KiB besides what it stands for",
        count(files.max.saturating_mul(2))
    ));
    Some(finding)
}

fn memory(
    facts: &DiagnosisFacts<'_>,
    before: &[FindingReport],
    orphans: Option<&FindingReport>,
) -> Option<FindingReport> {
    let [_, pressure, high] = facts.tcp_mem?;
    let pages = facts.mem_pages;
    if pages < pressure || high == 0 {
        return None;
    }
    let critical = pages as f64 >= facts.rules.near * high as f64;
    let mut finding = About {
        id: FindingId::TcpMemPressure,
        severity: if critical {
            Severity::Critical
        } else {
            Severity::Warning
        },
        confidence: 0.95,
        count: pages,
        title: format!(
            "TCP uses {} of {} pages of memory ({}): it shrinks windows{}",
            count(pages),
            count(high),
            percent(pages, high),
            if critical {
                ", and soon drops data and resets orphans"
            } else {
                ""
            }
        ),
    }
    .finding();
    finding.evidence.push(format!(
        "`mem` of /proc/net/sockstat against net.ipv4.tcp_mem: pressure from {} pages on, the limit is \
         {}; a page is 4 KiB on most machines",
        count(pressure),
        count(high)
    ));
    // What nobody reads, or what nobody takes.
    let unread = (before.iter()).find(|one| one.id == FindingId::CloseWaitLeak);
    if let Some(cause) = orphans.or(unread) {
        follow(&mut finding, cause);
    }
    finding.remedy = vec![
        "find out whose data is not read: `ss -tm` (skmem r), Recv-Q and Send-Q of `ss -tn`; a \
         process that reads slowly holds up to net.ipv4.tcp_rmem of memory per connection"
            .to_owned(),
        format!(
            "to gain time, if the host has the memory: net.ipv4.tcp_mem=\"{} {} {}\" (initial network \
             namespace only)",
            pressure.saturating_mul(2) / 4 * 3,
            pressure.saturating_mul(2),
            high.saturating_mul(2)
        ),
    ];
    finding.coverage.push(
        "whose memory it is the kernel does not say, and it counts all namespaces together"
            .to_owned(),
    );
    Some(finding)
}

fn orphaned(facts: &DiagnosisFacts<'_>, orphans: &OrphansReport) -> Option<FindingReport> {
    let near = OrphanRules::default().near;
    let share = |max: u64| orphans.count as f64 / max.max(1) as f64;
    let of_max = orphans.effective_max.map(share);
    let aborted = orphans.aborted_on_memory.is_some_and(|aborted| aborted > 0);
    let is_near = of_max.is_some_and(|share| share >= near);
    let is_stuck = orphans.window_closed >= facts.rules.orphans_stuck;
    if !aborted && !is_near && !is_stuck {
        return None;
    }
    let critical = aborted || of_max.is_some_and(|share| share >= facts.rules.near);
    let to = orphans
        .peers
        .first()
        .filter(|one| one.count * 2 > orphans.count);
    let to_most = to.map_or(String::new(), |one| {
        format!(", {} of them to {}", count(one.count), one.peer)
    });
    let mut finding = About {
        id: FindingId::OrphanPressure,
        severity: if critical {
            Severity::Critical
        } else {
            Severity::Warning
        },
        confidence: if aborted || is_near { 0.95 } else { 0.85 },
        count: orphans.count,
        title: format!(
            "{} connections were closed that TCP cannot finish{to_most}{}",
            count(orphans.count),
            if is_stuck {
                ": the peers do not read"
            } else {
                ""
            }
        ),
    }
    .finding();
    // Those whose creator is known, if they are of one process, and enough to stand for all.
    let known: u64 = orphans.processes.iter().map(|one| one.count).sum();
    if let Some(most) = orphans.processes.first()
        && most.count >= 8
        && most.count * 2 > known
    {
        finding.pid = Some(most.pid);
        finding.comm.clone_from(&most.comm);
        finding.container = facts.container(most.pid);
        finding.evidence.push(format!(
            "{} of the {} whose creator was seen were created by {}",
            count(most.count),
            count(known),
            crate::report::words::named(&most.comm, most.pid)
        ));
    }
    finding.netns = to.map(|one| one.netns);
    finding.dst = to.map(|one| one.peer.clone());
    finding.evidence.extend(orphans.evidence.iter().cloned());
    finding.remedy.clone_from(&orphans.remedy);
    finding.coverage.clone_from(&orphans.coverage);
    Some(finding)
}
