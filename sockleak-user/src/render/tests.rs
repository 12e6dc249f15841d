//! Goldens of every kind of report in every form, and proofs that nothing harmful gets out.

use proptest::prelude::*;

use super::fixtures::{self, HOSTILE};
use super::{Json, Plain, Renderer, folded, histories, html, plain};
use crate::report::history::History;
use crate::report::*;
use crate::sanitize::is_harmless;

fn rendered(renderer: &dyn Renderer, report: &Report) -> String {
    let mut out = Vec::new();
    renderer.render(report, &mut out).expect("memory is enough");
    String::from_utf8(out).expect("text is UTF-8")
}

fn colored() -> Plain {
    Plain {
        color: true,
        ..Plain::default()
    }
}

fn golden(name: &str, text: String) {
    insta::with_settings!({
        snapshot_path => "goldens",
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, {
        insta::assert_snapshot!(name, text);
    });
}

#[test]
fn plain() {
    for (name, report) in fixtures::all() {
        golden(name, rendered(&Plain::default(), &report));
    }
}

#[test]
fn json() {
    let lines: String = fixtures::all()
        .iter()
        .map(|(_, report)| rendered(&Json, report))
        .collect();
    golden("all_json", lines);
}

#[test]
fn histories() {
    for (name, history) in histories_all() {
        let mut out = Vec::new();
        plain::history(&history, false, &mut out).expect("memory is enough");
        let text = String::from_utf8(out).expect("text is UTF-8");
        for line in text.lines() {
            let width = unicode_width::UnicodeWidthStr::width(line);
            assert!(width <= 80, "{name}: {width} columns: {line}");
        }
        golden(&format!("history_{name}"), text);
        let mut out = Vec::new();
        folded::write(&history, &mut out).expect("memory is enough");
        let text = String::from_utf8(out).expect("text is UTF-8");
        golden(&format!("history_{name}_folded"), text);
        let mut out = Vec::new();
        html::write(&history, &mut out).expect("memory is enough");
        let text = String::from_utf8(out).expect("text is UTF-8");
        // The style is a file of its own.
        let (before, rest) = text.split_once("<style>").expect("a style");
        let (_, after) = rest.split_once("</style>").expect("its end");
        golden(
            &format!("history_{name}_html"),
            format!("{before}<style></style>{after}"),
        );
    }
}

/// Every tag is ours, and each is closed.
fn check_markup(name: &str, page: &str) {
    const KNOWN: &str = " a article b body circle dd details div dl dt figcaption figure h1 h2 h3 head \
        header html li line main ol p path rect section span style summary svg table tbody td text th \
        thead title tr ul ";
    let (doctype, mut rest) = page.split_once('\n').expect("more than one line");
    assert_eq!(doctype, "<!DOCTYPE html>");
    let mut open = Vec::new();
    while let Some((_, tag)) = rest.split_once('<') {
        let (tag, behind) = tag.split_once('>').expect("a tag ends");
        assert_eq!(tag.matches('"').count() % 2, 0, "{name}: <{tag}>");
        rest = behind;
        let named = tag.trim_start_matches('/').trim_end_matches('/');
        let element = named.split_whitespace().next().expect("a name");
        if element == "meta" {
            continue;
        }
        assert!(KNOWN.contains(&format!(" {element} ")), "{name}: <{tag}>");
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(element), "{name}: <{tag}>");
        } else if !tag.ends_with('/') {
            open.push(element);
        }
    }
    assert!(open.is_empty(), "{name}: {open:?} are open");
    for outside in ["http:", "https:", "src=", "href=", "url(", "@import"] {
        assert!(!page.contains(outside), "{name}: {outside}");
    }
}

#[test]
fn pages_are_well_formed_and_load_nothing() {
    for (name, history) in histories_all() {
        let mut out = Vec::new();
        html::write(&history, &mut out).expect("memory is enough");
        check_markup(name, &String::from_utf8(out).expect("text is UTF-8"));
    }
}

/// A history that is hostile wherever it has text.
fn poisoned_history(text: &str, with_end: bool) -> History {
    let mut history = History::default();
    let reports = poisoned(text);
    for report in &reports {
        if with_end || !matches!(report.body, Body::End(_)) {
            history.add(report.clone());
        }
    }
    history.interval_is_complete();
    // Once more, so that there is something to draw.
    for report in reports {
        if matches!(report.body, Body::Interval(_) | Body::Leak(_)) {
            history.add(report);
        }
    }
    history.interval_is_complete();
    history
}

fn check_history(text: &str) {
    for with_end in [false, true] {
        let history = poisoned_history(text, with_end);
        let mut page = Vec::new();
        html::write(&history, &mut page).expect("memory is enough");
        let page = String::from_utf8(page).expect("text is UTF-8");
        assert!(harmless_but_for_line_ends(&page), "{text:?}");
        // Words of the text may be those that a page of ours must not have.
        if !text.contains(|c: char| c.is_ascii_alphabetic()) {
            check_markup("poisoned", &page);
        }
        let mut lines = Vec::new();
        plain::history(&history, false, &mut lines).expect("memory is enough");
        let lines = String::from_utf8(lines).expect("text is UTF-8");
        assert!(harmless_but_for_line_ends(&lines), "{text:?}");
        let mut stacks = Vec::new();
        folded::write(&history, &mut stacks).expect("memory is enough");
        let stacks = String::from_utf8(stacks).expect("text is UTF-8");
        assert!(harmless_but_for_line_ends(&stacks), "{text:?}");
    }
}

#[test]
fn hostile_text_cannot_become_markup() {
    check_history(HOSTILE);
    for text in ["\"><", "</", "'<!--", "]]>", "&#60;", "\" =1><"] {
        check_history(text);
    }
    let history = poisoned_history("<script>alert(1)</script>", true);
    let mut page = Vec::new();
    html::write(&history, &mut page).expect("memory is enough");
    let page = String::from_utf8(page).expect("text is UTF-8");
    assert!(!page.contains("<script") && page.contains("&lt;script&gt;"));
}

fn histories_all() -> [(&'static str, History); 4] {
    [
        ("whole", histories::whole()),
        ("killed", histories::killed()),
        ("healthy", histories::healthy()),
        ("nothing", histories::nothing()),
    ]
}

#[test]
fn colour_adds_nothing_but_colour() {
    let sgr = |text: &str| {
        let mut parts = text.split("\x1b[");
        let mut out = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (parameters, rest) = part.split_once('m').expect("an SGR sequence ends in m");
            assert!(parameters.chars().all(|c| c.is_ascii_digit() || c == ';'));
            out.push_str(rest);
        }
        out
    };
    for (name, report) in fixtures::all() {
        let plain = rendered(&Plain::default(), &report);
        assert_eq!(sgr(&rendered(&colored(), &report)), plain, "{name}");
    }
    let (_, incident) = fixtures::all().swap_remove(0);
    assert!(rendered(&colored(), &incident).contains("\x1b[1;31m"));
}

/// Tables are as wide as their content, so only what ordinary hosts have must fit.
#[test]
fn ordinary_reports_fit_into_80_columns() {
    let ordinary = [
        "snapshot_incident",
        "snapshot_empty",
        "ports_incident",
        "ports_towards",
        "ports_empty",
        "probes_hardened",
        "probes_unprivileged",
        "start",
        "interval",
        "failure_exhausted",
        "failure_conflict",
        "hot_loop",
        "pressure",
        "leak_bound",
        "leak_stack",
        "run_leak",
        "run_clean",
        "end_leaks",
        "end_healthy",
        "end_losses",
        "recording",
        "recording_gap",
        "recording_cut",
    ];
    let mut seen = 0;
    for (name, report) in fixtures::all() {
        if !ordinary.contains(&name) {
            continue;
        }
        seen += 1;
        for line in rendered(&Plain::default(), &report).lines() {
            let width = unicode_width::UnicodeWidthStr::width(line);
            assert!(width <= 80, "{name}: {width} columns: {line}");
        }
    }
    assert_eq!(seen, ordinary.len());
}

#[test]
fn json_lines_start_with_their_type() {
    for (name, report) in fixtures::all() {
        let line = rendered(&Json, &report);
        let kind = report.body.kind();
        let start = format!(
            "{{\"type\":\"{kind}\",\"schema\":1,\"ts\":\"{}\",",
            fixtures::TS
        );
        assert!(line.starts_with(&start), "{name}: {line}");
        assert_eq!(line.lines().count(), 1, "{name}");
    }
}

/// A report that is hostile wherever it has text, as if nothing had been cleaned on entry.
fn poisoned(text: &str) -> Vec<Report> {
    let poison = |json: &mut String| json.clone_from(&text.to_owned());
    let mut reports = fixtures::all();
    for (_, report) in &mut reports {
        match &mut report.body {
            Body::Snapshot(body) => {
                body.incomplete.iter_mut().for_each(poison);
                body.processes.iter_mut().for_each(|p| poison(&mut p.comm));
                for socket in body.sockets.iter_mut().flatten() {
                    poison(&mut socket.comm);
                    poison(&mut socket.src);
                    socket.dst.iter_mut().for_each(poison);
                }
            }
            Body::Ports(body) => {
                body.incomplete.iter_mut().for_each(poison);
                body.limits.iter_mut().for_each(poison);
                poison(&mut body.conclusion);
                body.holders.iter_mut().for_each(|h| poison(&mut h.comm));
                let outside = body.outside.holders.iter_mut();
                outside.for_each(|h| poison(&mut h.comm));
                let blockers = body.to.iter_mut().flat_map(|to| &mut to.holders);
                blockers.for_each(|h| poison(&mut h.comm));
            }
            Body::Diagnosis(body) => {
                poison(&mut body.conclusion);
                body.coverage.iter_mut().for_each(poison);
                for finding in &mut body.findings {
                    poison(&mut finding.comm);
                    poison(&mut finding.title);
                    finding.container.iter_mut().for_each(poison);
                    finding.dst.iter_mut().for_each(poison);
                    finding.evidence.iter_mut().for_each(poison);
                    finding.remedy.iter_mut().for_each(poison);
                    finding.coverage.iter_mut().for_each(poison);
                    finding.stack.iter_mut().flatten().for_each(poison);
                }
                for change in body.what_if.iter_mut().flatten() {
                    poison(&mut change.change);
                    poison(&mut change.note);
                }
            }
            Body::Probes(body) => {
                poison(&mut body.kernel);
                poison(&mut body.machine);
                for hook in &mut body.hooks {
                    poison(&mut hook.hook);
                    poison(&mut hook.gives);
                    hook.attach_to.iter_mut().for_each(poison);
                    hook.backend.iter_mut().for_each(poison);
                    hook.reason.iter_mut().for_each(poison);
                }
                for problem in &mut body.problems {
                    poison(&mut problem.what);
                    poison(&mut problem.costs);
                    poison(&mut problem.fix);
                }
            }
            Body::Start(body) => {
                poison(&mut body.kernel);
                for state in body.hooks.values_mut() {
                    state.backend.iter_mut().for_each(poison);
                    state.reason.iter_mut().for_each(poison);
                    state.limits.iter_mut().for_each(poison);
                }
            }
            Body::Interval(body) => {
                body.processes
                    .iter_mut()
                    .for_each(|process| poison(&mut process.held.comm));
                for search in body.searches.iter_mut().flatten() {
                    poison(&mut search.comm);
                    search.dst.iter_mut().for_each(poison);
                }
                body.loss.events_dropped.insert(text.to_owned(), 1);
            }
            Body::Failure(body) => {
                poison(&mut body.errno);
                poison(&mut body.comm);
                body.cgroup.iter_mut().for_each(poison);
                body.src.iter_mut().for_each(poison);
                body.dst.iter_mut().for_each(poison);
                body.held_by.iter_mut().for_each(|h| poison(&mut h.comm));
                body.callers.iter_mut().for_each(|c| poison(&mut c.comm));
                body.remedy.iter_mut().for_each(poison);
            }
            Body::HotLoop(body) => {
                poison(&mut body.search.comm);
                body.search.dst.iter_mut().for_each(poison);
                poison(&mut body.meaning);
                body.remedy.iter_mut().for_each(poison);
            }
            Body::Pressure(body) => {
                poison(&mut body.dst);
                body.src.iter_mut().for_each(poison);
                body.who.iter_mut().for_each(|who| poison(&mut who.comm));
                poison(&mut body.meaning);
                body.remedy.iter_mut().for_each(poison);
            }
            Body::Leak(body) => {
                poison(&mut body.comm);
                body.held_by.iter_mut().for_each(|h| poison(&mut h.comm));
                body.stack.iter_mut().flatten().for_each(poison);
                body.evidence.iter_mut().for_each(poison);
                body.remedy.iter_mut().for_each(poison);
                body.coverage.iter_mut().for_each(poison);
            }
            Body::Run(body) => {
                body.command.iter_mut().for_each(poison);
                body.incomplete.iter_mut().for_each(poison);
                body.hints.iter_mut().for_each(poison);
                for group in body.left_open.iter_mut().chain(&mut body.in_use) {
                    poison(&mut group.comm);
                    group.peer.iter_mut().for_each(poison);
                    group.thread.iter_mut().for_each(poison);
                    group.stack_incomplete.iter_mut().for_each(poison);
                    group.stack.iter_mut().flatten().for_each(poison);
                }
            }
            Body::Event(body) => {
                poison(&mut body.comm);
                poison(&mut body.sk);
                body.src = Some(text.to_owned());
                body.dst = Some(text.to_owned());
                if let Some(search) = &mut body.search {
                    search.errno.iter_mut().for_each(poison);
                }
            }
            Body::End(body) => {
                body.coverage.iter_mut().for_each(poison);
                body.processes
                    .iter_mut()
                    .for_each(|process| poison(&mut process.held.comm));
            }
            Body::Recording(body) => {
                poison(&mut body.sockleak);
                poison(&mut body.host);
                poison(&mut body.kernel);
                poison(&mut body.machine);
                body.command.iter_mut().for_each(poison);
            }
            Body::Gap(body) => {
                poison(&mut body.since);
                poison(&mut body.reason);
            }
            Body::Cut(body) => {
                poison(&mut body.reason);
                body.until.iter_mut().for_each(poison);
            }
        }
        poison(&mut report.ts);
    }
    reports.into_iter().map(|(_, report)| report).collect()
}

fn harmless_but_for_line_ends(text: &str) -> bool {
    text.chars().all(|c| c == '\n' || is_harmless(c))
}

/// Lines may wrap elsewhere, but text cannot begin a line of its own in JSON or in an event.
fn check(text: &str) {
    for report in poisoned(text) {
        let kind = report.body.kind();
        let json = rendered(&Json, &report);
        assert!(harmless_but_for_line_ends(&json), "{kind}: {json:?}");
        assert_eq!(json.matches('\n').count(), 1, "{kind}: {json:?}");
        let value: serde_json::Value = serde_json::from_str(&json).expect("JSON parses");
        assert_eq!(value["ts"], *text, "the text survives the round trip");

        let plain = rendered(&Plain::default(), &report);
        assert!(harmless_but_for_line_ends(&plain), "{kind}: {plain:?}");
        if kind == "event" {
            assert_eq!(plain.matches('\n').count(), 1, "{plain:?}");
            let columns = plain.split_whitespace().count();
            assert_eq!(columns, 13, "{plain:?}");
        }
    }
}

#[test]
fn hostile_text_cannot_reach_the_terminal() {
    check(HOSTILE);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn no_text_can_reach_the_terminal(text in any::<String>()) {
        check(&text);
    }

    #[test]
    fn no_text_can_become_markup(text in "[<>&\"'/! =\\-\\PC0-9]{0,12}") {
        check_history(&text);
    }
}
