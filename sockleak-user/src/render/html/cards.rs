//! Every finding with its evidence and its remedy.

use super::super::plain::{failure, leak, orphans, pressure, process, search};
use super::super::units::{counted, latency};
use super::Html;
use crate::report::history::History;
use crate::report::{FailureReport, HotLoop, Leak, OrphansReport, PressureReport};

/// Findings of a kind that get a card; tables have more.
const CARDS: usize = 5;

pub(super) fn put(page: &mut Html, history: &History) {
    let leaks = history.leaks();
    let failures = history.failures();
    let hot_loops = history.hot_loops();
    let pressures = history.pressures();
    let orphans = history.orphans();
    let kinds = [
        leaks.len(),
        failures.len(),
        hot_loops.len(),
        pressures.len(),
    ];
    if kinds == [0; 4] && orphans.is_none() {
        return;
    }
    page.section("findings", "Findings");
    let mut told: Vec<Vec<String>> = Vec::new();
    for found in leaks.iter().take(CARDS) {
        put_leak(page, found, &mut told);
    }
    for found in failures.iter().take(CARDS) {
        put_failure(page, found, &mut told);
    }
    for found in hot_loops.iter().take(CARDS) {
        put_hot(page, found, &mut told);
    }
    for found in pressures.iter().take(CARDS) {
        put_pressure(page, found, &mut told);
    }
    if let Some(found) = orphans {
        put_orphans(page, found, &mut told);
    }
    let names = ["leak", "kind of failure", "hot loop", "warning"];
    for (n, what) in kinds.into_iter().zip(names) {
        if n > CARDS {
            let more = counted((n - CARDS) as u64, &format!("more {what}"));
            page.element("p class=\"faint\"", &format!("And {more}."));
        }
    }
    page.end_section();
}

fn open(page: &mut Html, class: &str, kind: &str, who: &str, what: &str) {
    page.raw("<article class=\"card ");
    page.raw(class);
    page.raw("\">\n<h3>");
    page.element("span class=\"kind\"", kind);
    page.raw(" ");
    page.element("span class=\"who\"", who);
    page.raw(" ");
    page.element("span class=\"what\"", what);
    page.raw("</h3>\n<dl>");
}

fn row(page: &mut Html, name: &str, text: &str) {
    if text.is_empty() {
        return;
    }
    page.raw("<dt>");
    page.text(name);
    page.raw("</dt><dd>");
    page.text(text);
    page.raw("</dd>\n");
}

fn rows(page: &mut Html, name: &str, items: &[String]) {
    if items.is_empty() {
        return;
    }
    page.element("dt", name);
    page.raw("<dd>");
    page.list(items);
    page.raw("</dd>\n");
}

/// What to change; said once, however many findings it helps.
fn close(page: &mut Html, remedy: &[String], told: &mut Vec<Vec<String>>, unseen: &[String]) {
    if !remedy.is_empty() {
        page.element("dt class=\"fix\"", "remedy");
        page.raw("<dd class=\"fix\">");
        if told.iter().any(|known| known == remedy) {
            page.text("as above");
        } else {
            page.list(remedy);
            told.push(remedy.to_vec());
        }
        page.raw("</dd>\n");
    }
    page.raw("</dl>\n");
    if !unseen.is_empty() {
        page.raw("<details><summary>What was not visible</summary>");
        page.list(unseen);
        page.raw("</details>\n");
    }
    page.raw("</article>\n");
}

fn put_leak(page: &mut Html, found: &Leak, told: &mut Vec<Vec<String>>) {
    let what = format!(
        "{} {}",
        counted(found.count, "socket"),
        leak::class(found.class)
    );
    let who = process(&found.comm, found.pid);
    open(page, "bad", "Leak", &who, &what);
    row(page, "pace", &leak::pace(found));
    row(page, "after", &leak::after(found).unwrap_or_default());
    rows(page, "evidence", &found.evidence);
    if let Some(limit) = &found.limit {
        row(page, "limit", &leak::limit(limit));
    }
    row(page, "held by", &failure::holders(&found.held_by));
    let stack = found
        .origins
        .iter()
        .find_map(|origin| origin.stack.as_ref());
    if let Some(frames) = stack.or(found.stack.as_ref()) {
        page.element("dt", "created at");
        page.raw("<dd><ol class=\"stack\">");
        for frame in frames.iter().take(12) {
            page.element("li", frame);
        }
        page.raw("</ol></dd>\n");
    }
    close(page, &found.remedy, told, &found.coverage);
}

fn put_failure(page: &mut Html, found: &FailureReport, told: &mut Vec<Vec<String>>) {
    let what = format!(
        "{}() = {}, {}",
        found.op.name(),
        found.errno,
        counted(found.count, "time")
    );
    open(
        page,
        "bad",
        "Failure",
        &process(&found.comm, found.pid),
        &what,
    );
    row(page, "cause", &failure::why(found));
    row(page, "socket", &failure::whereto(found).unwrap_or_default());
    row(
        page,
        "search",
        &failure::searched(found).unwrap_or_default(),
    );
    let ports = found.breakdown.as_ref().map(failure::ports);
    row(page, "ports", &ports.unwrap_or_default());
    row(page, "held by", &failure::holders(&found.held_by));
    if !found.callers.is_empty() {
        row(page, "used by", &failure::callers(&found.callers));
    }
    close(page, &found.remedy, told, &[]);
}

fn put_hot(page: &mut Html, found: &HotLoop, told: &mut Vec<Vec<String>>) {
    let whereto = found.search.dst.as_ref();
    let whereto = whereto.map_or(String::new(), |dst| format!(" to {dst}"));
    let what = format!("port search of {}(){whereto}", found.search.op.name());
    let who = process(&found.search.comm, found.search.pid);
    open(page, "warn", "Hot loop", &who, &what);
    row(page, "cost", &search::cost(found));
    row(
        page,
        "price",
        &search::price(&found.search).unwrap_or_default(),
    );
    row(page, "meaning", &found.meaning);
    close(page, &found.remedy, told, &[]);
}

fn put_pressure(page: &mut Html, found: &PressureReport, told: &mut Vec<Vec<String>>) {
    let what = format!("ports run short, network namespace {}", found.netns);
    open(
        page,
        "warn",
        "Soon",
        &format!("towards {}", found.dst),
        &what,
    );
    row(page, "meaning", &found.meaning);
    row(page, "room", &pressure::room(found).unwrap_or_default());
    if let (Some(first), Some(second)) = (found.first_p50_ns, found.second_p50_ns) {
        let text = format!(
            "half of the searches in the first parity take up to {}, in the second up to {}",
            latency(first),
            latency(second)
        );
        row(page, "price", &text);
    }
    row(page, "callers", &failure::holders(&found.who));
    close(page, &found.remedy, told, &[]);
}

fn put_orphans(page: &mut Html, found: &OrphansReport, told: &mut Vec<Vec<String>>) {
    let class = if orphans::is_near(found) {
        "bad"
    } else {
        "warn"
    };
    let who = counted(found.count, "connection");
    let what = "closed by their process, kept by the kernel";
    open(page, class, "Orphans", &who, what);
    row(
        page,
        "closed by",
        &orphans::closed_by(found).unwrap_or_default(),
    );
    rows(page, "to", &orphans::peers(found));
    row(page, "limit", &orphans::limit(found));
    rows(page, "evidence", &found.evidence);
    close(page, &found.remedy, told, &found.coverage);
}
