//! Many orphans: whose they are, towards whom, and what to change.

use super::super::page::{Page, Style};
use super::super::units::{bytes, count, counted};
use super::process;
use crate::report::{OrphanPeer, OrphansReport};

const INDENT: usize = 6;
const TEXT: usize = 14;
/// Processes and peers that are shown.
const SHOWN: usize = 3;

/// Whose they are, towards whom, and what to change.
#[inline(never)]
pub fn put(page: &mut Page, orphans: &OrphansReport) {
    let style = if is_near(orphans) {
        Style::Bad
    } else {
        Style::Warn
    };
    page.put(style, "ORPH")
        .put(Style::Normal, "  ")
        .put(Style::Strong, &counted(orphans.count, "connection"))
        .put(
            Style::Normal,
            " closed by their process, kept by the kernel",
        )
        .end_line();
    if let Some(text) = closed_by(orphans) {
        page.labelled(INDENT, "by", TEXT, Style::Strong, &text);
    }
    page.labelled_list(INDENT, "to", TEXT, &peers(orphans));
    page.labelled(INDENT, "limit", TEXT, style, &limit(orphans));
    page.labelled_list(INDENT, "why", TEXT, &orphans.evidence);
    page.labelled_list(INDENT, "fix", TEXT, &orphans.remedy);
    page.labelled_list(INDENT, "unseen", TEXT, &orphans.coverage);
}

/// Who has closed most of them.
pub fn closed_by(orphans: &OrphansReport) -> Option<String> {
    let most: Vec<String> = (orphans.processes.iter().take(SHOWN))
        .map(|one| format!("{} {}", process(&one.comm, one.pid), count(one.count)))
        .collect();
    let mut text = most.join(", ");
    if !text.is_empty() && orphans.unattributed > 0 {
        text.push_str(&format!(", not known {}", count(orphans.unattributed)));
    }
    (!text.is_empty()).then_some(text)
}

/// Towards whom most of them are.
pub fn peers(orphans: &OrphansReport) -> Vec<String> {
    orphans.peers.iter().take(SHOWN).map(peer).collect()
}

/// One line for an interval.
pub fn brief(orphans: &OrphansReport) -> String {
    let mut text = format!(
        "{}, {} unsent",
        count(orphans.count),
        bytes(orphans.unsent_bytes)
    );
    if let Some(most) = orphans.processes.first() {
        let name = process(&most.comm, most.pid);
        text.push_str(&format!("; {} closed by {name}", count(most.count)));
    }
    if let Some(most) = orphans.peers.first() {
        text.push_str(&format!("; most: {}", peer(most)));
    }
    text
}

fn peer(peer: &OrphanPeer) -> String {
    let whose = match &peer.local {
        Some(local) => format!("{}, which had connected to {local}", peer.peer),
        None => peer.peer.clone(),
    };
    format!(
        "{whose}: {}, {} unsent",
        count(peer.count),
        bytes(peer.unsent_bytes)
    )
}

/// How many the kernel bears.
pub fn limit(orphans: &OrphansReport) -> String {
    match (orphans.max, orphans.effective_max) {
        (Some(max), Some(effective)) if effective < max => format!(
            "{} of {} (tcp_max_orphans {}, halved for those with unsent data)",
            count(orphans.count),
            count(effective),
            count(max)
        ),
        (Some(max), _) => format!(
            "{} of {} (tcp_max_orphans)",
            count(orphans.count),
            count(max)
        ),
        (None, _) => "not known".to_owned(),
    }
}

/// There are a quarter of what the kernel bears.
pub fn is_near(orphans: &OrphansReport) -> bool {
    (orphans.effective_max).is_some_and(|max| orphans.count >= max / 4)
}
