//! First of all: what it comes to.

use super::super::plain::{clock, failure, leak, orphans, process};
use super::super::units::{counted, duration};
use super::Html;
use crate::report::Body;
use crate::report::history::History;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tone {
    Bad,
    Warn,
    Good,
    Unknown,
}

impl Tone {
    fn class(self) -> &'static str {
        match self {
            Self::Bad => "bad",
            Self::Warn => "warn",
            Self::Good => "good",
            Self::Unknown => "unknown",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Bad => "Problem",
            Self::Warn => "Warning",
            Self::Good => "Nothing found",
            Self::Unknown => "Unknown",
        }
    }
}

pub(super) fn put(page: &mut Html, history: &History) {
    put_cut(page, history);
    let lines = headlines(history);
    let (tone, first) = lines.first().cloned().unwrap_or((
        Tone::Unknown,
        "No interval was recorded: nothing is known.".to_owned(),
    ));
    page.raw("<section id=\"verdict\" class=\"");
    page.raw(tone.class());
    page.raw("\">\n<h1><span class=\"tone\">");
    page.text(tone.word());
    page.raw("</span> ");
    page.text(&first);
    page.raw("</h1>\n");
    put_worst(page, history);
    let more: Vec<_> = lines
        .into_iter()
        .skip(1)
        .take(6)
        .map(|(_, line)| line)
        .collect();
    if !more.is_empty() {
        page.element("p class=\"faint\"", "Also:");
        page.list(&more);
    }
    page.end_section();
}

/// Of the worst finding: how it goes on, and what to change.
fn put_worst(page: &mut Html, history: &History) {
    let (facts, remedy) = if let Some(worst) = history.leaks().first() {
        let limit = worst.limit.as_ref().map(leak::limit);
        let facts: Vec<_> = [Some(leak::pace(worst)), leak::after(worst), limit]
            .into_iter()
            .flatten()
            .collect();
        (facts.join("; "), worst.remedy.first().cloned())
    } else if let Some(worst) = history.failures().first() {
        let held = failure::holders(&worst.held_by);
        let facts = match held.is_empty() {
            true => String::new(),
            false => format!("ports held by {held}"),
        };
        (facts, worst.remedy.first().cloned())
    } else if let Some(found) = history.orphans() {
        let by = orphans::closed_by(found);
        let facts = by.map_or(String::new(), |by| format!("closed by {by}"));
        (facts, found.remedy.first().cloned())
    } else if let Some(worst) = history.hot_loops().first() {
        (worst.meaning.clone(), worst.remedy.first().cloned())
    } else {
        return;
    };
    if !facts.is_empty() {
        page.element("p", &facts);
    }
    if let Some(remedy) = remedy {
        page.raw("<p><b>What to do:</b> ");
        page.text(&remedy);
        page.raw("</p>\n");
    }
}

/// The worst first.
fn headlines(history: &History) -> Vec<(Tone, String)> {
    let mut lines = Vec::new();
    for leak in history.leaks() {
        let text = format!(
            "{} leaks {}: {}.",
            process(&leak.comm, leak.pid),
            counted(leak.count, "socket"),
            leak::class(leak.class),
        );
        lines.push((Tone::Bad, text));
    }
    for failed in history.failures() {
        let text = format!(
            "{}: {}() failed {} with {}: {}.",
            process(&failed.comm, failed.pid),
            failed.op.name(),
            counted(failed.count, "time"),
            failed.errno,
            failure::why(&failed)
                .split_once(": ")
                .map_or(String::new(), |(_, why)| why.to_owned()),
        );
        lines.push((Tone::Bad, text));
    }
    if let Some(found) = history.orphans() {
        let tone = if orphans::is_near(found) {
            Tone::Bad
        } else {
            Tone::Warn
        };
        let text = format!(
            "Orphans, connections that their process has closed and the kernel keeps: {}.",
            orphans::limit(found),
        );
        lines.push((tone, text));
    }
    for hot in history.hot_loops() {
        let search = &hot.search;
        let whereto = search
            .dst
            .as_ref()
            .map_or(String::new(), |dst| format!(" to {dst}"));
        let text = format!(
            "{} burns CPU time in the port search of {}(){whereto}: {}.",
            process(&search.comm, search.pid),
            search.op.name(),
            super::super::plain::search::cost(&hot),
        );
        lines.push((Tone::Warn, text));
    }
    for pressure in history.pressures() {
        let text = format!("Ports run short towards {}.", pressure.dst);
        lines.push((Tone::Warn, text));
    }
    if lines.is_empty() {
        lines.extend(nothing_found(history));
    }
    lines
}

/// What may be said when nothing was found, and how surely.
fn nothing_found(history: &History) -> Option<(Tone, String)> {
    let failed = match &history.end {
        Some(at) => at.body.failed,
        None if history.so_far.intervals > 0 => history.so_far.failed,
        None => return None,
    };
    let watched = duration(super::watched_s(history));
    let up_to = if history.end.is_none() {
        ", up to the cut"
    } else {
        ""
    };
    let calls = [
        ("connect()", failed.connect),
        ("bind()", failed.bind),
        ("listen()", failed.listen),
    ];
    let unseen: Vec<_> = calls
        .iter()
        .filter(|(_, count)| count.is_none())
        .map(|(name, _)| *name)
        .collect();
    let failures = match failed.total() {
        0 if unseen.len() == calls.len() => "failed calls were not visible".to_owned(),
        0 if unseen.is_empty() => "no call failed for want of a port".to_owned(),
        0 => format!(
            "no call failed for want of a port ({} not visible)",
            unseen.join(", ")
        ),
        n => format!("{} failed, none of what is shown", counted(n, "call")),
    };
    let tone = match failed.total() {
        0 => Tone::Good,
        _ => Tone::Warn,
    };
    let text = format!("In {watched}{up_to}, no process was found to leak sockets; {failures}.");
    Some((tone, text))
}

/// What is missing stands in front of everything.
fn put_cut(page: &mut Html, history: &History) {
    if let Some(cut) = &history.cut {
        page.raw("<p class=\"notice\" role=\"note\"><b>This recording is cut</b> ");
        page.text(&format!(
            "after {} UTC: {}. ",
            clock(&cut.ts),
            cut.body.reason
        ));
        page.text(&match (&cut.body.until, cut.body.after_end) {
            (_, true) => "The last report was recorded before that: it is final.".to_owned(),
            (Some(until), false) => format!(
                "There is no last report. What follows is as of {} UTC, the end of the last \
                 complete interval.",
                clock(until)
            ),
            (None, false) => "No interval was recorded in full.".to_owned(),
        });
        page.raw("</p>\n");
    }
    for gap in &history.gaps {
        if let Body::Gap(body) = &gap.body {
            page.element(
                "p class=\"notice\" role=\"note\"",
                &format!(
                    "{} of {} to {} UTC are missing: {}.",
                    counted(body.lines, "line"),
                    clock(&body.since),
                    clock(&gap.ts),
                    body.reason
                ),
            );
        }
    }
    let further = history.gaps_omitted;
    if further > 0 {
        let text = format!("There are {}.", counted(further, "further gap"));
        page.element("p class=\"notice\" role=\"note\"", &text);
    }
    if history.unreadable > 0 {
        let text = format!(
            "{} left out: of a later version of sockleak, or of a kind that is not known.",
            counted(history.unreadable, "line")
        );
        page.element("p class=\"notice\" role=\"note\"", &text);
    }
}
