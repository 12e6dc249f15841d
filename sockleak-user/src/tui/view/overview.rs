//! The host: what the kernel counts, and what was found, worst first.

use super::super::app::rows::{class, runs_out, target, used_share, used_style};
use super::super::app::{App, Known};
use super::{missed, table, watched};
use crate::render::page::{Line, Style};
use crate::render::plain::{loss, orphans, process, subject};
use crate::render::units::{bytes, count, counted, duration, per_minute, per_second};
use crate::report::IntervalReport;

/// Column at which figures begin.
const COLUMN: usize = 10;
/// Namespaces that are shown.
const NAMESPACES: usize = 2;
/// Columns of a name.
const NAME: usize = 24;
/// Findings that are shown on a screen of 24 rows; more on higher ones.
const FINDINGS: usize = 5;

/// Everything above the table of processes.
pub fn top(app: &App) -> Vec<Line> {
    let known = app.shown();
    let Some(interval) = known.interval() else {
        return starting(known);
    };
    let mut lines = host(app, known, interval);
    let room = FINDINGS + usize::from(app.screen.height.saturating_sub(24)) / 2;
    let found = findings(known);
    if found.is_empty() {
        let time = watched(known).map_or(String::new(), |time| format!(" in {time}"));
        let searches = match interval.searches {
            Some(_) => "no dear port search",
            None => "port searches are not visible",
        };
        let text = format!("nothing{time}: no leak, no failed call; {searches}");
        lines.push(labelled("found", vec![(Style::Normal, text)]));
    }
    let more = found.len().saturating_sub(room);
    lines.extend(found.into_iter().take(room));
    if more > 0 {
        let text = format!("and {more} more in the other views");
        lines.push(labelled("", vec![(Style::Faint, text)]));
    }
    lines
}

fn labelled(label: &str, pieces: Line) -> Line {
    let mut line = vec![(Style::Strong, format!("{label:COLUMN$}"))];
    line.extend(pieces);
    line
}

fn starting(known: &Known) -> Vec<Line> {
    let Some(start) = known.start() else {
        return Vec::new();
    };
    let hooks = start.hooks.values();
    let attached = hooks.filter(|hook| hook.backend.is_some()).count();
    let text = format!(
        "{attached} of {} on kernel {}, attached in {}",
        counted(start.hooks.len() as u64, "hook"),
        start.kernel,
        duration(start.attach_ns as f64 / 1e9),
    );
    let seen = start.seen.map_or(String::new(), |seen| {
        format!(", {} with a descriptor", count(seen))
    });
    let sockets = format!("{}{seen}", counted(start.baseline, "TCP socket"));
    vec![
        labelled("tracing", vec![(Style::Normal, text)]),
        labelled("baseline", vec![(Style::Normal, sockets)]),
    ]
}

fn host(app: &App, known: &Known, interval: &IntervalReport) -> Vec<Line> {
    let sockstat = &interval.sockstat;
    let seconds = interval.interval_s;
    let text = format!(
        "{} allocated  {} in use  {} orphans  {} TIME_WAIT  {}",
        count(sockstat.alloc),
        count(sockstat.inuse),
        count(sockstat.orphan),
        count(sockstat.tw),
        counted(sockstat.mem_pages, "page"),
    );
    let mut lines = vec![labelled("sockets", vec![(Style::Normal, text)])];
    let text = format!(
        "created {}  accepted {}  destroyed {}",
        per_second(interval.allocated, seconds),
        per_second(interval.children, seconds),
        per_second(interval.destroyed, seconds),
    );
    let used = COLUMN + text.chars().count() + 2;
    let width = usize::from(app.screen.width).saturating_sub(used + 12);
    let curve = curve(known, width, app.screen.unicode);
    let mut rates = vec![(Style::Normal, format!("{text}  "))];
    if !curve.is_empty() {
        rates.push((Style::Faint, "allocated ".to_owned()));
        rates.push((Style::Strong, curve));
    }
    lines.push(labelled("rates", rates));
    for (n, ports) in interval.ports.iter().take(NAMESPACES).enumerate() {
        let (Some([low, high]), Some(share)) = (ports.range, used_share(ports)) else {
            continue;
        };
        let label = if n == 0 { "ports" } else { "" };
        let text = format!("{:.0} % of {low}-{high}", share * 100.0);
        let rest = format!(
            ": {} free, {} bound, {} connected, {} TIME_WAIT{}",
            count(ports.free),
            count(ports.bound),
            count(ports.connected),
            count(ports.time_wait),
            if interval.ports.len() > 1 {
                format!("  netns {}", ports.netns)
            } else {
                String::new()
            }
        );
        let pieces = vec![(used_style(share), text), (Style::Normal, rest)];
        lines.push(labelled(label, pieces));
    }
    if let Some(text) = subject::failed(&interval.failed) {
        lines.push(labelled("failed", vec![(Style::Bad, text)]));
    }
    lines.push(lost(known, interval));
    if let Some(text) = missed(known) {
        let text = format!("{text}: too much at a time; totals here are too low");
        lines.push(labelled("missed", vec![(Style::Warn, text)]));
    }
    match interval.inventory_age_s {
        None => {
            let text = "no inventory yet: only sockets created since the start are counted";
            lines.push(labelled("unseen", vec![(Style::Warn, text.to_owned())]));
        }
        Some(age) if age > seconds / 2.0 && age >= 1.0 => {
            let text = format!("as found {} ago", duration(age));
            lines.push(labelled("holdings", vec![(Style::Faint, text)]));
        }
        Some(_) => {}
    }
    lines
}

fn lost(known: &Known, interval: &IntervalReport) -> Line {
    let lost = loss::named(&interval.loss);
    let cost = &interval.self_cost;
    let time = watched(known).map_or(String::new(), |time| format!(" in {time}"));
    let own = format!(
        "  self: CPU {}{time}, {}",
        duration(cost.cpu_ns as f64 / 1e9),
        bytes(cost.rss_bytes)
    );
    let (style, text) = if lost.is_empty() {
        (Style::Normal, "nothing lost".to_owned())
    } else {
        (Style::Warn, lost.join(", "))
    };
    labelled("loss", vec![(style, text), (Style::Faint, own)])
}

/// Allocated sockets over time, from the least to the most that was seen.
fn curve(known: &Known, width: usize, unicode: bool) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    const ASCII: [char; 8] = ['_', '_', '.', '.', '-', '-', '=', '='];
    if known.history.len() < 2 || width < 4 {
        return String::new();
    }
    let from = known.history.len().saturating_sub(width);
    let moments: Vec<u64> = known
        .history
        .iter()
        .skip(from)
        .map(|one| one.alloc)
        .collect();
    let least = moments.iter().min().copied().unwrap_or(0);
    let most = moments.iter().max().copied().unwrap_or(0);
    let bars = if unicode { BARS } else { ASCII };
    let bar = |value: u64| {
        let place = (value - least) as f64 / (most - least).max(1) as f64 * 7.0;
        // Between 0 and 7.
        bars.get(place.round() as usize).copied().unwrap_or('?')
    };
    moments.into_iter().map(bar).collect()
}

/// A name that leaves room for what is said about it. A task's has 15 bytes, but each may be
/// written as an escape.
fn name(comm: &str, pid: u32) -> String {
    process(&table::cut(comm, NAME), pid)
}

/// One line for each finding.
fn findings(known: &Known) -> Vec<Line> {
    let mut lines = Vec::new();
    for leak in known.leaks() {
        let mut line = vec![
            (Style::Bad, format!("{:COLUMN$}", "LEAK")),
            (Style::Strong, name(&leak.comm, leak.pid)),
        ];
        let rate = leak
            .rate_per_min
            .map_or(String::new(), |rate| format!("  {}", per_minute(rate)));
        let text = format!(
            "  {} {}{rate}",
            counted(leak.count, "socket"),
            class(leak.class)
        );
        line.push((Style::Normal, text));
        if let Some(limit) = &leak.limit {
            let (style, text) = runs_out(limit);
            line.push((style, format!("  {text}")));
        }
        lines.push(line);
    }
    for failed in known.failures.iter().filter(|failed| failed.now > 0) {
        let Some(report) = failed.report() else {
            continue;
        };
        let to = target(report).map_or(String::new(), |to| format!("  {to}"));
        let text = format!(
            "  {}() {} x{}: {}{to}",
            report.op.name(),
            report.errno,
            count(failed.now),
            report.cause.name()
        );
        lines.push(vec![
            (Style::Bad, format!("{:COLUMN$}", "FAIL")),
            (Style::Strong, name(&report.comm, report.pid)),
            (Style::Normal, text),
        ]);
    }
    for hot in known.hot_loops() {
        let search = &hot.search;
        let to = search
            .dst
            .as_ref()
            .map_or(String::new(), |dst| format!(" to {dst}"));
        let share = search.cpu_share.or(search.cpu_share_at_most);
        let share = share.map_or(String::new(), |share| {
            format!(": {:.1} % of a core", share * 100.0)
        });
        let text = format!("  port search of {}(){to}{share}", search.op.name());
        lines.push(vec![
            (Style::Bad, format!("{:COLUMN$}", "HOT")),
            (Style::Strong, name(&search.comm, search.pid)),
            (Style::Normal, text),
        ]);
    }
    for pressure in known.pressures() {
        let eta = pressure
            .eta_s
            .map_or(String::new(), |eta| format!(", none in {}", duration(eta)));
        let free = pressure
            .free
            .map_or(String::new(), |free| format!(": {} left", count(free)));
        lines.push(vec![
            (Style::Warn, format!("{:COLUMN$}", "SOON")),
            (Style::Normal, "ports run short towards ".to_owned()),
            (Style::Strong, pressure.dst.clone()),
            (Style::Normal, format!("{free}{eta}")),
        ]);
    }
    let orphaned = known.interval();
    if let Some(found) = orphaned.and_then(|interval| interval.orphans.as_ref()) {
        lines.push(vec![
            (Style::Warn, format!("{:COLUMN$}", "ORPHANS")),
            (Style::Normal, orphans::brief(found)),
        ]);
    }
    lines
}
