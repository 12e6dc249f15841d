//! What is known about one thing, in the words of the plain reports.

use super::super::app::known::{Failed, FailureKey};
use super::super::app::{Known, Screen, Subject};
use super::port_map;
use crate::render::page::{Line, Page, Style};
use crate::render::plain::{
    self, occupancy, ports,
    subject::{ProcessNow, put_destination, put_process},
};
use crate::render::units::{count, counted};
use crate::report::{Body, EventReport, LeakClass, SearchReport};

/// The lines about a subject.
pub fn lines(subject: &Subject, known: &Known, screen: Screen) -> Vec<Line> {
    let width = usize::from(screen.width).clamp(40, 120);
    let mut page = Page::new(width, false);
    match subject {
        Subject::Process(pid) => process(&mut page, *pid, known),
        Subject::Leak(pid, class) => return leak(known, (*pid, *class), width),
        Subject::Failure(key) => return failure(known, key, width),
        Subject::Search(..) => search(&mut page, subject, known),
        Subject::Destination(dst, netns) => destination(&mut page, (dst, *netns), known),
        Subject::Namespace(netns) => return namespace(known, *netns, screen, width),
        Subject::Event(number) => {
            let mut events = known.events();
            if let Some((_, ts, event)) = events.find(|(known, _, _)| known == number) {
                put_event(&mut page, ts, event);
            }
        }
    }
    page.into_lines()
}

fn gone(what: &str) -> Vec<Line> {
    vec![vec![(
        Style::Faint,
        format!("{what} is not in the newest report"),
    )]]
}

fn process(page: &mut Page, pid: u32, known: &Known) {
    let interval = known.interval().into_iter();
    let mut rows = interval.flat_map(|interval| &interval.processes);
    let failures = known.failures.iter().filter_map(Failed::report);
    let now = ProcessNow {
        row: rows.find(|row| row.held.pid == pid),
        leaks: (known.leaks())
            .filter(|leak| leak.pid == pid || leak.holders.contains(&pid))
            .collect(),
        failures: failures.filter(|failure| failure.pid == pid).collect(),
        searches: (known.searches())
            .filter(|search| search.pid == pid)
            .collect(),
        hot_loops: (known.hot_loops())
            .filter(|hot| hot.search.pid == pid)
            .collect(),
    };
    put_process(page, pid, &now);
}

fn leak(known: &Known, (pid, class): (u32, LeakClass), width: usize) -> Vec<Line> {
    let mut lines = known.lines.iter();
    let found = lines.find(
        |line| matches!(&line.body, Body::Leak(leak) if leak.pid == pid && leak.class == class),
    );
    found.map_or_else(
        || gone("this leak"),
        |line| plain::page(line, width, false).into_lines(),
    )
}

fn failure(known: &Known, key: &FailureKey, width: usize) -> Vec<Line> {
    let mut failures = known.failures.iter();
    let is_it = |report| FailureKey::of(report) == *key;
    let Some(Failed { line, total, now }) =
        failures.find(|failed| failed.report().is_some_and(is_it))
    else {
        return gone("this failure");
    };
    let mut lines = plain::page(line, width, false).into_lines();
    let text = format!(
        "      total   {} since the start, {} in the last interval",
        counted(*total, "time"),
        count(*now)
    );
    lines.insert(1.min(lines.len()), vec![(Style::Normal, text)]);
    lines
}

fn search(page: &mut Page, subject: &Subject, known: &Known) {
    let Subject::Search(pid, op, dst, netns) = subject else {
        return;
    };
    let is_it = |search: &SearchReport| {
        search.pid == *pid && search.op == *op && search.dst == *dst && search.netns == *netns
    };
    let found: Vec<_> = known.searches().filter(|search| is_it(search)).collect();
    if found.is_empty() {
        page.line(Style::Faint, "no such search in the newest interval");
    }
    for one in &found {
        plain::search::put_figures(page, one);
        page.gap();
        plain::histogram::put(page, one);
    }
    for hot in known.hot_loops().filter(|hot| is_it(&hot.search)) {
        page.gap();
        plain::search::put_hot(page, hot);
    }
    let pressures = known.pressures();
    for one in pressures.filter(|one| Some(&one.dst) == dst.as_ref() && one.netns == *netns) {
        page.gap();
        plain::pressure::put(page, one);
    }
}

fn destination(page: &mut Page, (dst, netns): (&str, u32), known: &Known) {
    let pressures: Vec<_> = (known.pressures())
        .filter(|one| one.dst == dst && one.netns == netns)
        .collect();
    let searches: Vec<_> = (known.searches())
        .filter(|search| search.dst.as_deref() == Some(dst) && search.netns == netns)
        .collect();
    let failures = known.failures.iter().filter_map(Failed::report);
    let failures: Vec<_> = failures
        .filter(|failure| failure.dst.as_deref() == Some(dst) && failure.netns == netns)
        .collect();
    put_destination(page, (dst, netns), &pressures, &searches, &failures);
}

fn namespace(known: &Known, netns: u32, screen: Screen, width: usize) -> Vec<Line> {
    let look = known.look().filter(|(_, look)| look.netns == netns);
    let Some((ts, look)) = look else {
        let interval = known.interval().into_iter();
        let all = interval.flat_map(|interval| &interval.ports);
        let one: Vec<_> = all.filter(|ports| ports.netns == netns).cloned().collect();
        let mut page = Page::new(width, false);
        page.line(Style::Faint, "looking at its ports");
        ports::put(&mut page, &one);
        return page.into_lines();
    };
    let mut lines = port_map::lines(look, screen);
    lines.push(vec![(
        Style::Faint,
        format!("       as of {}", plain::clock(ts)),
    )]);
    let mut page = Page::new(width, false);
    page.end_line();
    occupancy::put(&mut page, look);
    lines.extend(page.into_lines());
    lines
}

fn put_event(page: &mut Page, ts: &str, event: &EventReport) {
    const COLUMN: usize = 12;
    let mut put = |label: &str, text: &str| {
        page.labelled(0, label, COLUMN, Style::Normal, text);
    };
    put("event", &event.event);
    put("at", ts);
    put("process", &plain::process(&event.comm, event.pid));
    put("thread", &event.tid.to_string());
    put("socket", &event.sk);
    let unknown = || "-".to_owned();
    let netns = event.netns.map(|netns| netns.to_string());
    put("netns", &netns.unwrap_or_else(unknown));
    put("local", event.src.as_deref().unwrap_or("-"));
    put("peer", event.dst.as_deref().unwrap_or("-"));
    if let Some(age) = event.age_s {
        put("age", &crate::render::units::duration(age));
    }
    let Some(search) = &event.search else {
        return;
    };
    put("result", search.errno.as_deref().unwrap_or("ok"));
    if let Some(ns) = search.search_ns {
        let bound = if search.search_is_upper_bound {
            "at most "
        } else {
            ""
        };
        put(
            "search",
            &format!("{bound}{}", crate::render::units::latency(ns)),
        );
    }
    if let Some(candidates) = search.candidates {
        put("examined", &counted(candidates.into(), "port"));
    }
    if let Some([low, high]) = search.range {
        put("range", &format!("{low}-{high}"));
    }
}
