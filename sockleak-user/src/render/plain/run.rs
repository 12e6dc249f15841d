//! What a command left open.

use super::super::page::{Page, Style};
use super::super::units::{count, counted, duration};
use super::{TEXT, leak, process};
use crate::report::{OpenSockets, RunReport, SocketClass};

const INDENT: usize = 6;
const INNER: usize = 14;

pub fn put(page: &mut Page, run: &RunReport) {
    for group in &run.left_open {
        page.put(Style::Bad, "LEAK")
            .put(Style::Normal, "  ")
            .put(Style::Strong, &counted(group.count, "socket"))
            .put(Style::Normal, " ")
            .put(Style::Normal, class(group.class))
            .put(Style::Normal, ", open at exit")
            .end_line();
        put_group(page, group);
        page.end_line();
    }
    put_others(page, "in use", "at exit", &run.in_use);
    put_others(page, "behind", "in a process left behind", &run.left_behind);
    let verdict = if run.leak {
        format!("{} left open", counted(run.leaked, "socket"))
    } else {
        "no socket left open".to_owned()
    };
    let style = if run.leak { Style::Bad } else { Style::Strong };
    page.labelled(0, "leaks", TEXT, style, &verdict);
    page.labelled(0, "run", TEXT, Style::Normal, &totals(run));
    page.labelled_list(0, "missed", TEXT, &run.incomplete);
    page.labelled_list(0, "hint", TEXT, &run.hints);
    if !run.loss.is_empty() {
        let each: Vec<String> = run
            .loss
            .iter()
            .map(|(name, value)| format!("{name}\u{a0}{}", count(*value)))
            .collect();
        page.labelled(0, "loss", TEXT, Style::Warn, &each.join(", "));
    }
}

fn put_group(page: &mut Page, group: &OpenSockets) {
    let who = process(&group.comm, group.pid);
    let who = match group.processes {
        0 | 1 => who,
        more => format!("{}, for example {who}", counted(more, "process")),
    };
    page.labelled(INDENT, "by", INNER, Style::Normal, &who);
    if let Some(after) = after(group) {
        page.labelled(INDENT, "after", INNER, Style::Normal, &after);
    }
    if let Some(thread) = group.thread.as_ref().filter(|name| **name != group.comm) {
        page.labelled(INDENT, "thread", INNER, Style::Normal, thread);
    }
    if let Some(age) = group.oldest_age_s {
        page.labelled(INDENT, "age", INNER, Style::Normal, &duration(age));
    }
    if let Some(frames) = &group.stack {
        page.labelled_list(INDENT, "made at", INNER, frames);
    }
    if let Some(why) = &group.stack_incomplete {
        page.labelled(INDENT, "stack", INNER, Style::Faint, why);
    }
}

/// A line per group, with the innermost frame that has a name of the program's own.
fn put_others(page: &mut Page, label: &str, where_: &str, groups: &[OpenSockets]) {
    for group in groups {
        let text = format!(
            "{} {} {where_}: {}",
            counted(group.count, "socket"),
            class(group.class),
            process(&group.comm, group.pid),
        );
        page.labelled(0, label, TEXT, Style::Normal, &text);
    }
    if !groups.is_empty() {
        page.end_line();
    }
}

fn class(class: SocketClass) -> &'static str {
    match class {
        SocketClass::Unbound => "CLOSED without a port",
        SocketClass::Bound => "CLOSED but holding a port",
        SocketClass::CloseWait => "in CLOSE_WAIT: the peer has closed",
        SocketClass::Listen => "listening",
        SocketClass::Connecting => "connecting",
        SocketClass::Established => "connected",
        SocketClass::Closing => "shut down",
    }
}

fn after(group: &OpenSockets) -> Option<String> {
    leak::happened(group.after?, group.errno.as_deref(), group.peer.as_deref())
}

fn totals(run: &RunReport) -> String {
    let end = match (run.status, run.signal) {
        (_, Some(signal)) => format!("ended by signal {signal}"),
        (Some(status), None) => format!("status {status}"),
        (None, None) => "of unknown end".to_owned(),
    };
    let behind = match run.processes_left_behind {
        0 => String::new(),
        more => format!(" ({} left behind)", count(more)),
    };
    format!(
        "{end} after {}: {}{behind}, {} created, {} closed, {} open at exit",
        duration(run.duration_s),
        counted(run.processes, "process"),
        counted(run.created, "socket"),
        count(run.closed),
        count(run.open_at_exit),
    )
}
