//! How far all of it can be trusted: what was attached, what was lost, and whether the counts agree
//! with the kernel's own.

use super::super::plain::{grouped, loss};
use super::super::units::{bytes, count, counted, duration, signed};
use super::{Html, readable};
use crate::report::history::History;
use crate::report::{EndReport, Loss, SelfCost, StartReport};

pub(super) fn put(page: &mut Html, history: &History) {
    page.section("coverage", "What this rests on");
    page.raw("<dl class=\"facts\">\n");
    if let Some(at) = &history.start {
        put_hooks(page, &at.body);
    }
    let end = history.end.as_ref().map(|at| at.body.as_ref());
    match (end, &history.so_far.last) {
        (Some(end), _) => {
            put_balance(page, end);
            fact(page, "not visible", &end.coverage.join("; "));
            put_loss(page, &end.loss);
            put_cost(page, &end.self_cost, end.duration_s);
        }
        (None, Some(last)) => {
            let text = "not known: it is part of the last report, which is missing";
            fact(page, "balance", text);
            put_loss(page, &last.loss);
            put_cost(page, &last.self_cost, history.so_far.duration_s);
        }
        (None, None) => {}
    }
    if let Some(at) = &history.recording {
        let text = format!(
            "by sockleak {} from {}, {}",
            at.body.sockleak,
            readable(&at.ts),
            counted(history.so_far.intervals, "interval")
        );
        fact(page, "recorded", &text);
        fact(page, "command", &at.body.command.join(" "));
    }
    page.raw("</dl>\n");
    page.end_section();
}

fn fact(page: &mut Html, name: &str, text: &str) {
    if text.is_empty() {
        return;
    }
    page.element("dt", name);
    page.element("dd", text);
    page.raw("\n");
}

fn put_hooks(page: &mut Html, start: &StartReport) {
    let by_backend = grouped(start.hooks.iter().filter_map(|(name, state)| {
        let backend = state.backend.as_deref()?;
        Some((name.as_str(), backend))
    }));
    let each: Vec<_> = by_backend
        .into_iter()
        .map(|(names, backend)| format!("{names} by {backend}"))
        .collect();
    fact(page, "hooks", &each.join("; "));
    let missing: Vec<_> = start
        .hooks
        .iter()
        .filter(|(_, state)| state.backend.is_none())
        .map(|(name, state)| {
            let why = state.reason.as_deref().unwrap_or("unknown reason");
            format!("{name} ({why})")
        })
        .collect();
    fact(page, "missing", &missing.join("; "));
    let limits: Vec<_> = start
        .hooks
        .iter()
        .filter_map(|(name, state)| Some(format!("{name}: {}", state.limits.as_ref()?)))
        .collect();
    if !limits.is_empty() {
        page.element("dt", "limits");
        page.raw("<dd>");
        page.list(&limits);
        page.raw("</dd>\n");
    }
}

fn put_balance(page: &mut Html, end: &EndReport) {
    let verdict = if end.difference.unsigned_abs() <= end.difference_uncertainty {
        "nothing was missed"
    } else {
        "some births or deaths were missed"
    };
    let text = format!(
        "the kernel counts {} sockets; {} at the start, {} created, {} accepted and {} destroyed since \
         make {}: difference {}, {verdict}",
        count(end.sockstat_alloc),
        count(end.baseline),
        count(end.allocated),
        count(end.children),
        count(end.destroyed),
        signed(end.live),
        signed(end.difference),
    );
    fact(page, "balance", &text);
}

fn put_loss(page: &mut Html, lost: &Loss) {
    let named = loss::named(lost);
    let text = if named.is_empty() {
        "nothing".to_owned()
    } else {
        named.join(", ")
    };
    fact(page, "lost", &text);
}

fn put_cost(page: &mut Html, cost: &SelfCost, watched_s: f64) {
    let cpu_s = cost.cpu_ns as f64 / 1e9;
    let share = if watched_s > 0.0 {
        format!(" ({:.2} % of a core)", cpu_s / watched_s * 100.0)
    } else {
        String::new()
    };
    let text = format!(
        "{} of CPU time{share}, {} of memory",
        duration(cpu_s),
        bytes(cost.rss_bytes)
    );
    fact(page, "sockleak took", &text);
}
