//! Evidence, remedies and caveats of a leak, in words.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::groups::Group;
use super::origins::Far;
use super::provenance::{Fate, Provenance};
use super::verdict::Judge;
use super::window::{Rise, per_minute};
use crate::model::Arrange as _;
use crate::model::ProcessId;
use crate::report::words::{count as digits, counted, named as name_of};
use crate::report::{After, LeakClass};

/// Most pids and ports that a sentence lists.
const LISTED: usize = 5;

/// A rule that a group of idle sockets breaks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Reason {
    /// It grows, and goes on growing.
    Growing(Rise),
    /// It is large by itself.
    Large,
    /// It takes a large share of a holder's descriptors.
    FdShare {
        /// That holder.
        holder: ProcessId,
        /// Its sockets of the group.
        count: u64,
        /// Its RLIMIT_NOFILE.
        limit: u64,
    },
    /// It takes a large share of a namespace's port range.
    PortShare {
        /// That namespace.
        netns: Option<u32>,
    },
}

fn kind(class: LeakClass) -> &'static str {
    match class {
        LeakClass::Unbound => "CLOSED sockets without a local port",
        LeakClass::Bound => "CLOSED sockets that hold a local port",
        LeakClass::CloseWait => "sockets in CLOSE_WAIT, whose peers have closed",
    }
}

/// Why the group counts as a leak.
pub(super) fn evidence(
    judge: &Judge<'_>,
    group: &Group,
    reasons: &[Reason],
    provenance: &Provenance,
) -> Vec<String> {
    let tally = &group.tally;
    let older = seconds(judge.tracker.config().older_ns);
    let mut lines = vec![format!(
        "{} {}, idle for {older} or longer{}",
        digits(tally.aged),
        kind(group.key.class),
        tally.since_ns.map_or(String::new(), |since| format!(
            "; the longest for {}{}",
            if tally.since_is_bound {
                "at least "
            } else {
                ""
            },
            seconds(judge.at_ns.saturating_sub(since))
        )),
    )];
    lines.extend(
        accepted(group)
            .into_iter()
            .take(LISTED)
            .map(|(port, count)| {
                format!(
                    "{} of them were accepted on port {port}, where its clients have closed",
                    digits(count)
                )
            }),
    );
    // What they all have in common the report says by itself.
    let fates = provenance.fates();
    if fates.len() > 1 {
        lines.extend(fates.iter().filter_map(fate_line));
    }
    for reason in reasons {
        match reason {
            Reason::Growing(rise) => lines.push(format!(
                "{} more in {}, higher in {} inventories: {}",
                digits(rise.growth),
                seconds(rise.lasting_ns),
                rise.steps,
                pace(
                    per_minute(rise.growth as f64, rise.lasting_ns),
                    group.window.rate_per_min().unwrap_or_default()
                )
            )),
            Reason::Large => {}
            Reason::FdShare {
                holder,
                count,
                limit,
            } => lines.push(format!(
                "{} are {} of the {} descriptors that {} may have open{}",
                digits(*count),
                percent(*count, *limit),
                digits(*limit),
                named(judge, *holder),
                judge.fd_used(*holder).map_or(String::new(), |used| format!(
                    "; {} are in use",
                    digits(used)
                )),
            )),
            Reason::PortShare { .. } => {}
        }
    }
    for (netns, ports) in &tally.ports {
        lines.extend(ports_line(judge, *netns, ports));
    }
    if tally.total > tally.aged {
        lines.push(format!(
            "{} more are younger",
            digits(tally.total - tally.aged)
        ));
    }
    lines.extend(holders_line(judge, group));
    lines
}

/// Ports on which the connections were accepted, and how many, most first.
fn accepted(group: &Group) -> Vec<(u16, u64)> {
    let mut ports: BTreeMap<u16, u64> = BTreeMap::new();
    for (origin, tally) in &group.tally.origins {
        if let Some(Far::ClientOf(port)) = origin.far
            && tally.aged > 0
        {
            *ports.entry(port).or_default() += tally.aged;
        }
    }
    let mut ports: Vec<_> = ports.into_iter().collect();
    ports.arrange_by_key(|(_, count)| Reverse(*count));
    ports
}

/// What had happened to some of the sockets; `None` when nothing is known about that.
fn fate_line(fate: &Fate<'_>) -> Option<String> {
    let origin = fate.origin;
    let happened = match origin.after {
        After::Unknown => return None,
        After::NeverUsed => "nothing since socket(): no connect() came as far as a local port",
        After::BindFailed => "bind() failed",
        After::BoundOnly => "bind(), and nothing since",
        After::ConnectRefused => "connect() was refused",
        After::ConnectTimedOut => "connect() got no answer",
        After::ConnectFailed => "connect() failed",
        After::PeerReset => "the peer reset the connection",
        After::ConnectionFailed => "the connection failed",
        After::ConnectionEnded => "the connection had ended",
        After::PeerClosed => "the peer had closed",
    };
    let errno = (origin.errno.as_ref()).map_or(String::new(), |errno| format!(" ({errno})"));
    let to = (origin.peer.as_ref()).map_or(String::new(), |peer| format!(", to {peer}"));
    let rate = (fate.rate.filter(|rate| *rate >= 0.5)).map_or(String::new(), |rate| {
        format!("; {} more per minute", whole(rate))
    });
    Some(format!(
        "{} of them: {happened}{errno}{to}{rate}",
        digits(fate.count)
    ))
}

fn ports_line(judge: &Judge<'_>, netns: Option<u32>, ports: &[u16]) -> Option<String> {
    let (report, held) = judge.range_use(netns, ports)?;
    let [lo, hi] = report.range?;
    let mut line = format!(
        "{} of the range {lo}-{hi} ({}) are held by them in network namespace {}; \
         {} of {} are free",
        counted(held, "port"),
        percent(held, report.size),
        report.netns,
        digits(report.free),
        digits(report.size)
    );
    let outside: Vec<u16> = ports
        .iter()
        .copied()
        .filter(|port| !(lo..=hi).contains(port))
        .collect();
    if !outside.is_empty() {
        line.push_str(&format!(
            "; {} outside it as well: {}",
            counted(outside.len() as u64, "port"),
            list(outside.iter(), outside.len())
        ));
    }
    Some(line)
}

/// Who has the sockets open, unless that is only the process that the verdict names.
fn holders_line(judge: &Judge<'_>, group: &Group) -> Option<String> {
    let process = group.key.process;
    let holders = &group.tally.holders;
    if let [(only, _)] = holders.as_slice()
        && *only == process
    {
        return None;
    }
    let is_holder = holders.iter().any(|(holder, _)| *holder == process);
    let others = holders
        .iter()
        .filter(|(holder, _)| *holder != process)
        .map(|(holder, count)| format!("{} ({})", named(judge, *holder), digits(*count)));
    let count = holders.len() - usize::from(is_holder);
    let has_exited = judge.info(process).is_some_and(|info| info.exited);
    Some(format!(
        "{} {}; they are open in {}",
        named(judge, process),
        match (is_holder, has_exited) {
            (true, _) => "shares them",
            (false, true) => "created them and has exited",
            // Whoever holds nothing is not looked up again and again: it may have exited unseen.
            (false, false) => "created them and has none of them open any more",
        },
        list(others, count)
    ))
}

/// What to change.
pub(super) fn remedy(judge: &Judge<'_>, group: &Group) -> Vec<String> {
    let process = group.key.process;
    let mut lines: Vec<String> = match group.key.class {
        LeakClass::Unbound => vec![
            "close() the socket on every path that gives it up: when bind(), connect(), \
             setsockopt() or anything else fails after socket(), and when its owner is dropped"
                .into(),
            "a connection that was refused or reset is CLOSED too and has to be closed as well; \
             raising RLIMIT_NOFILE only delays the end"
                .into(),
        ],
        LeakClass::Bound => vec![
            "close() the socket on every path that gives it up after bind(): each holds its \
             port until its last descriptor is closed, there is no timeout"
                .into(),
            "if it is meant for connect(): leave out bind(), or set IP_BIND_ADDRESS_NO_PORT \
             before it (Linux 4.2 or later), so that no port is taken before connect(); a wider \
             net.ipv4.ip_local_port_range only delays the end"
                .into(),
        ],
        LeakClass::CloseWait => vec![
            "close() the connection when read() returns 0: the peer has closed and the kernel \
             waits for this process, without a timeout"
                .into(),
            "no setting of the kernel closes them: net.ipv4.tcp_fin_timeout and tcp_tw_reuse \
             concern the other end, and keepalive only turns them into CLOSED ones that stay open"
                .into(),
        ],
    };
    let others: Vec<ProcessId> = group
        .tally
        .holders
        .iter()
        .map(|(holder, _)| *holder)
        .filter(|holder| *holder != process)
        .collect();
    if !others.is_empty() {
        lines.push(
            "every process that inherited or received a descriptor has to close it too: create \
             sockets with SOCK_CLOEXEC, close them in forked children, close the sender's copy \
             after SCM_RIGHTS"
                .into(),
        );
    }
    let open_in = group.tally.holders.iter().map(|(holder, _)| *holder);
    lines.push(format!(
        "to free them now: restart {}",
        list(
            open_in.map(|holder| named(judge, holder)),
            group.tally.holders.len()
        )
    ));
    lines
}

/// What was not visible.
pub(super) fn coverage(judge: &Judge<'_>, group: &Group, provenance: &Provenance) -> Vec<String> {
    let tally = &group.tally;
    let mut lines = Vec::new();
    let unseen = tally.aged.saturating_sub(tally.births_known);
    if unseen > 0 {
        lines.push(format!(
            "the creation of {} of {} was not seen (older than sockleak, or accepted): \
             counted for their oldest holder, idle since first found so",
            digits(unseen),
            digits(tally.aged)
        ));
    }
    let once = tally.aged.saturating_sub(tally.confirmed);
    if once > 0 {
        lines.push(format!(
            "{} of {} were found idle in one inventory only",
            digits(once),
            digits(tally.aged)
        ));
    }
    if tally.unremembered > 0 {
        lines.push(format!(
            "{} further sockets of unknown age are left out: too many to remember",
            digits(tally.unremembered)
        ));
    }
    let unknown: u64 = (provenance.origins.iter())
        .filter(|origin| origin.after == After::Unknown)
        .map(|origin| origin.count)
        .sum();
    if unknown > 0 {
        lines.push(format!(
            "what was done with {} of {} before is not known",
            digits(unknown),
            digits(tally.aged)
        ));
    }
    if provenance.stacked < tally.aged {
        let accepted: u64 = accepted(group).iter().map(|(_, count)| count).sum();
        lines.push(format!(
            "where they were created is known for {} of {}{}",
            digits(provenance.stacked),
            digits(tally.aged),
            if accepted > 0 {
                "; no stack is taken of accept()"
            } else {
                ""
            }
        ));
    }
    if group.key.class == LeakClass::CloseWait {
        lines.push(
            "whether the process still writes to its half-closed peers is not observed".into(),
        );
    }
    if !judge.inventory_complete {
        lines.push("the inventory is incomplete: counts may be too low".into());
    }
    if judge.surroundings.lost > 0 {
        lines.push(format!(
            "{} events or records were lost since attach",
            digits(judge.surroundings.lost)
        ));
    }
    lines.extend(judge.surroundings.coverage.iter().cloned());
    lines
}

/// `name[pid]`.
fn named(judge: &Judge<'_>, process: ProcessId) -> String {
    name_of(judge.comm(process), process.pid)
}

/// The first few of `count` items.
fn list<T: std::fmt::Display>(items: impl Iterator<Item = T>, count: usize) -> String {
    let shown: Vec<String> = items.take(LISTED).map(|item| item.to_string()).collect();
    let mut text = shown.join(", ");
    if count > shown.len() {
        text.push_str(&format!(
            " and {} more",
            digits((count - shown.len()) as u64)
        ));
    }
    text
}

/// A time as people say it: `45 s`, `12 min`, `3.5 h`.
fn seconds(ns: u64) -> String {
    let s = ns as f64 / 1e9;
    if s < 10.0 && !ns.is_multiple_of(1_000_000_000) {
        format!("{s:.1} s")
    } else if s < 120.0 {
        format!("{s:.0} s")
    } else if s < 7200.0 {
        format!("{:.0} min", s / 60.0)
    } else {
        format!("{:.1} h", s / 3600.0)
    }
}

fn percent(part: u64, of: u64) -> String {
    format!("{:.0} %", part as f64 * 100.0 / of.max(1) as f64)
}

/// `1,122`; saturates.
fn whole(rate: f64) -> String {
    digits(rate.round() as u64)
}

/// How fast it grows, by the `median` slope, which sees past bursts; the `mean` says whether there were any.
fn pace(mean: f64, median: f64) -> String {
    if mean > 2.0 * median {
        format!(
            "most of them in bursts, {} per minute otherwise",
            whole(median)
        )
    } else {
        format!("{} per minute", whole(median))
    }
}

#[cfg(test)]
mod tests {
    use super::pace;

    #[test]
    fn a_pace_does_not_contradict_the_count_beside_it() {
        assert_eq!(
            pace(21_737.0, 1122.0),
            "most of them in bursts, 1,122 per minute otherwise"
        );
        assert_eq!(pace(70.0, 60.4), "60 per minute");
        assert_eq!(pace(30.0, 60.0), "60 per minute", "it has begun late");
    }
}
