//! A leak, as an answer: who, how much, since when, until when, and what to change.

use super::super::page::{Page, Style};
use super::super::units::{count, counted, duration, per_minute};
use super::{process, put_container};
use crate::report::{After, Holder, Leak, LeakClass, Limit, LimitName};

const INDENT: usize = 6;
const TEXT: usize = 14;
/// Stacks of one leak that are shown, and frames of each.
const STACKS: usize = 3;
const FRAMES: usize = 12;

#[inline(never)]
pub fn put(page: &mut Page, leak: &Leak) {
    let name = process(&leak.comm, leak.pid);
    page.put(Style::Bad, "LEAK")
        .put(Style::Normal, "  ")
        .put(Style::Strong, &name)
        .put(Style::Normal, "  ")
        .put(Style::Strong, &counted(leak.count, "socket"))
        .put(Style::Normal, " ")
        .put(Style::Normal, class(leak.class))
        .end_line();
    put_container(page, INDENT, TEXT, leak.container.as_deref());

    page.labelled(INDENT, "pace", TEXT, Style::Normal, &pace(leak));
    if let Some(after) = after(leak) {
        page.labelled(INDENT, "after", TEXT, Style::Normal, &after);
    }
    page.labelled_list(INDENT, "why", TEXT, &leak.evidence);
    if let Some(known) = &leak.limit {
        page.labelled(INDENT, "limit", TEXT, urgency(known), &limit(known));
    }
    if !leak.held_by.is_empty() {
        page.labelled(
            INDENT,
            "held by",
            TEXT,
            Style::Normal,
            &holders(&leak.held_by),
        );
    }
    stacks(page, leak);
    page.labelled_list(INDENT, "fix", TEXT, &leak.remedy);
    page.labelled_list(INDENT, "unseen", TEXT, &leak.coverage);
}

/// What state they are in.
pub fn class(class: LeakClass) -> &'static str {
    match class {
        LeakClass::Unbound => "CLOSED without a port, never closed",
        LeakClass::Bound => "CLOSED but holding a port, never closed",
        LeakClass::CloseWait => "in CLOSE_WAIT: the peer has closed, it has not",
    }
}

/// What happened before they were forgotten, and towards whom.
pub fn after(leak: &Leak) -> Option<String> {
    happened(leak.after, leak.errno.as_deref(), leak.peer.as_deref())
}

/// What had happened to sockets before they were forgotten.
pub(super) fn happened(after: After, errno: Option<&str>, peer: Option<&str>) -> Option<String> {
    let happened = match after {
        After::NeverUsed => "socket(), and nothing since",
        After::ConnectRefused => "connect() was refused",
        After::ConnectTimedOut => "connect() got no answer",
        After::ConnectFailed => "connect() failed",
        After::PeerReset => "the peer reset the connection",
        After::ConnectionFailed => "the connection failed",
        After::ConnectionEnded => "the connection had ended",
        After::PeerClosed => "the peer had closed the connection",
        After::BindFailed => "bind() failed",
        After::BoundOnly => "bind(), and nothing since",
        After::Unknown => return None,
    };
    let errno = errno.map_or(String::new(), |errno| format!(" ({errno})"));
    let peer = peer.map_or(String::new(), |peer| format!(", to {peer}"));
    Some(format!("{happened}{errno}{peer}"))
}

/// Where the sockets were created, most frequent place first.
fn stacks(page: &mut Page, leak: &Leak) {
    let stacked = (leak.origins.iter()).filter(|origin| origin.stack.is_some());
    let mut shown: Vec<(&[String], u64)> = Vec::new();
    for origin in stacked {
        let frames = origin.stack.as_deref().unwrap_or_default();
        match shown.iter_mut().find(|(known, _)| *known == frames) {
            Some((_, count)) => *count += origin.count,
            None => shown.push((frames, origin.count)),
        }
    }
    for (frames, of) in shown.iter().take(STACKS) {
        let whose = format!("{} of {} created at:", count(*of), count(leak.count));
        page.labelled(INDENT, "stack", TEXT, Style::Faint, &whose);
        page.labelled_list(INDENT, "", TEXT, frames.get(..FRAMES).unwrap_or(frames));
        if frames.len() > FRAMES {
            let more = format!("{} more frames", frames.len() - FRAMES);
            page.labelled(INDENT, "", TEXT, Style::Faint, &more);
        }
    }
    if shown.is_empty()
        && let Some(why) = leak.origins.iter().find_map(|one| one.unnamed.as_ref())
    {
        page.labelled(INDENT, "stack", TEXT, Style::Faint, why);
    }
}

/// Growth, age, confidence.
pub fn pace(leak: &Leak) -> String {
    let growth = leak
        .rate_per_min
        .map_or("growth not known yet".to_owned(), per_minute);
    let relation = if leak.age_is_lower_bound { ">= " } else { "" };
    let oldest = leak
        .oldest_age_s
        .map_or("of unknown age".to_owned(), |age| {
            format!("{relation}{}", duration(age))
        });
    format!(
        "{growth}, oldest {oldest}, confidence\u{a0}{:.2}",
        leak.confidence
    )
}

/// What runs out, and when.
pub fn limit(limit: &Limit) -> String {
    let name = match limit.name {
        LimitName::FdLimit => "file descriptors",
        LimitName::PortRange => "local ports",
        LimitName::FileMax => "open files of the host (fs.file-max)",
        LimitName::TcpMem => "TCP memory pages of the host (tcp_mem)",
    };
    let used = limit
        .used
        .map_or(String::new(), |used| format!("{} of ", count(used)));
    let when = match limit.eta_s {
        Some(eta) if eta <= 0.0 => "reached".to_owned(),
        Some(eta) => format!("reached in {}", duration(eta)),
        None => "not coming closer".to_owned(),
    };
    format!("{name} {used}{}: {when}", count(limit.value))
}

fn urgency(limit: &Limit) -> Style {
    match limit.eta_s {
        Some(eta) if eta <= 0.0 => Style::Bad,
        Some(_) => Style::Warn,
        None => Style::Normal,
    }
}

fn holders(holders: &[Holder]) -> String {
    let each: Vec<_> = holders
        .iter()
        .map(|holder| {
            let name = process(&holder.comm, holder.pid);
            format!("{name} {}", count(holder.count))
        })
        .collect();
    each.join(", ")
}
