//! A recording, as `watch` would have ended; or as far as it goes, when it has no end.

use std::io::{self, Write};

use super::super::page::{Page, Style};
use super::super::units::{count, counted, duration};
use super::{Plain, TEXT, clock, end, failure, loss, orphans, pressure, recording, search, start};
use crate::report::history::{History, SoFar};

/// Writes all of it.
///
/// # Errors
/// Those of `out`.
pub fn put(history: &History, color: bool, out: &mut dyn Write) -> io::Result<()> {
    let mut page = Page::new(Plain::default().width, color);
    let page = &mut page;
    if let Some(at) = &history.recording {
        recording::put(page, &at.ts, &at.body);
    }
    if let Some(at) = &history.start {
        start::put_attached(page, &at.body);
    }
    put_missing(page, history);
    match &history.end {
        Some(at) => end::put(page, &at.body),
        None => put_so_far(page, &history.so_far),
    }
    page.write_to(out)
}

fn put_missing(page: &mut Page, history: &History) {
    for gap in &history.gaps {
        if let crate::report::Body::Gap(body) = &gap.body {
            recording::put_gap(page, &gap.ts, body);
        }
    }
    if history.gaps_omitted > 0 {
        let text = format!("and {}", counted(history.gaps_omitted, "further gap"));
        page.labelled(0, "", TEXT, Style::Warn, &text);
    }
    if history.unreadable > 0 {
        let text = format!(
            "{} left out: of a later version, or of a kind that this one does not know",
            counted(history.unreadable, "line")
        );
        page.labelled(0, "unread", TEXT, Style::Warn, &text);
    }
    if let Some(at) = &history.cut {
        recording::put_cut(page, &at.ts, &at.body);
    }
}

/// What the intervals tell. No total of the whole run is made up from them.
fn put_so_far(page: &mut Page, so_far: &SoFar) {
    let (Some(last), Some(until)) = (&so_far.last, &so_far.until) else {
        page.end_line();
        page.labelled(
            0,
            "leaks",
            TEXT,
            Style::Strong,
            "not known: no interval was recorded",
        );
        return;
    };
    let as_of = format!("as of {}", clock(until));
    if so_far.leaks.is_empty() {
        page.end_line();
        let text = format!("none found {as_of}");
        page.labelled(0, "leaks", TEXT, Style::Strong, &text);
    } else {
        end::put_leaks(page, &so_far.leaks, &as_of);
    }
    if let Some(found) = &last.orphans {
        page.end_line();
        orphans::put(page, found);
    }
    failure::put_found(
        page,
        &failure::Failed {
            counts: &so_far.failed,
            unlisted: so_far.failed_unlisted,
            failures: &so_far.failures(),
            causes: &so_far.failures_by_cause(),
        },
    );
    page.end_line();
    let hot_loops = so_far.hot_loops();
    let text = match (last.searches.is_some(), hot_loops.is_empty()) {
        (false, true) => "not visible: no hook",
        (true, true) => "no hot loop",
        (_, false) => "hot loops, each with the figures of its last interval",
    };
    page.labelled(0, "searches", TEXT, Style::Strong, text);
    search::put_found(page, &hot_loops);
    for found in &so_far.pressures {
        page.end_line();
        pressure::put(page, found);
    }
    end::put_processes(page, &last.processes);

    page.end_line();
    let text = format!(
        "in {} of {}, up to {}: created {}, accepted {}, destroyed {}",
        counted(so_far.intervals, "interval"),
        duration(so_far.duration_s),
        clock(until),
        count(so_far.allocated),
        count(so_far.children),
        count(so_far.destroyed),
    );
    page.labelled(0, "total", TEXT, Style::Normal, &text);
    let text = format!(
        "alloc {} {as_of}; whether every socket was counted is said at the end, which is missing",
        count(last.sockstat.alloc)
    );
    page.labelled(0, "sockstat", TEXT, Style::Warn, &text);
    loss::put(page, &last.loss);
    loss::put_cost(page, &last.self_cost, Some(so_far.duration_s));
}
