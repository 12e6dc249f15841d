//! The table of each view.

use super::destinations;
use super::known::{FailureKey, Known};
use super::subject::{Subject, View};
use super::table::{Cell, Column, Row, Table};
use crate::render::page::Style;
use crate::render::plain::{clock, leak};
use crate::render::units::{count, growth, short_age, short_latency};
use crate::report::{
    After, FailureReport, IntervalProcess, Leak, LeakClass, Limit, LimitName, PortsReport,
    SearchReport,
};

const PROCESSES: &[Column] = &[
    Column::right("PID", 0),
    Column::left("COMM", 0),
    Column::right("TOTAL", 0),
    Column::right("UNBOUND", 0),
    Column::right("BOUND", 0),
    Column::right("ESTAB", 3),
    Column::right("CLOSEW", 0),
    Column::right("LISTEN", 8),
    Column::right("CONN", 7),
    Column::right("CLOSING", 9),
    Column::right("NEW", 4),
    Column::right("GONE", 5),
    Column::right("+/MIN", 0),
    Column::right("OLDEST", 1),
    Column::right("FD%", 2),
    Column::right("NETNS", 10),
    Column::left("CGROUP", 11),
];

const LEAKS: &[Column] = &[
    Column::right("PID", 0),
    Column::left("COMM", 0),
    Column::right("SOCKETS", 0),
    Column::left("CLASS", 0),
    Column::right("+/MIN", 0),
    Column::right("OLDEST", 1),
    Column::left("RUNS OUT", 0),
    Column::right("SURE", 3),
    Column::left("AFTER", 2),
];

const FAILURES: &[Column] = &[
    Column::right("PID", 0),
    Column::left("COMM", 0),
    Column::left("CALL", 0),
    Column::left("ERRNO", 0),
    Column::right("NOW", 0),
    Column::right("TOTAL", 0),
    Column::left("CAUSE", 1),
    Column::left("TO OR PORT", 0),
    Column::left("LAST", 4),
    Column::right("SEARCH", 3),
    Column::left("HELD BY", 2),
];

const SEARCHES: &[Column] = &[
    Column::right("PID", 0),
    Column::left("COMM", 0),
    Column::left("CALL", 1),
    Column::left("TO", 0),
    Column::right("CALLS", 0),
    Column::right("FAIL", 0),
    Column::right("P50", 3),
    Column::right("P99", 0),
    Column::right("MAX", 4),
    Column::right("CAND", 2),
    Column::right("2ND%", 0),
    Column::right("CPU%", 0),
    Column::right("TIMEW", 5),
];

const NAMESPACES: &[Column] = &[
    Column::right("NETNS", 0),
    Column::left("RANGE", 0),
    Column::right("SIZE", 0),
    Column::right("USED%", 0),
    Column::right("BOUND", 0),
    Column::right("CONN", 0),
    Column::right("LISTEN", 0),
    Column::right("TIMEW", 0),
    Column::right("FREE", 0),
    Column::right("RESERVED", 2),
    Column::right("1ST%", 3),
    Column::right("2ND%", 3),
    Column::right("OUTSIDE", 4),
];

const EVENTS: &[Column] = &[
    Column::left("TIME", 0),
    Column::left("EVENT", 0),
    Column::right("PID", 0),
    Column::left("COMM", 0),
    Column::left("LOCAL", 0),
    Column::left("PEER", 0),
    Column::right("AGE", 2),
    Column::left("RESULT", 1),
    Column::right("TOOK", 3),
    Column::right("CAND", 4),
    Column::right("TID", 5),
    Column::right("NETNS", 6),
];

/// The table of a view, in the order of the report.
pub fn table(view: View, known: &Known) -> Table {
    let (columns, rows) = match view {
        View::Overview => {
            let interval = known.interval().into_iter();
            let processes = interval.flat_map(|interval| &interval.processes);
            (PROCESSES, processes.map(process).collect())
        }
        View::Leaks => (LEAKS, known.leaks().map(leaking).collect()),
        View::Failures => (FAILURES, failures(known)),
        View::Searches => {
            let searches = known.searches();
            (SEARCHES, searches.map(search).collect())
        }
        View::Destinations => (destinations::COLUMNS, destinations::rows(known)),
        View::Ports => {
            let interval = known.interval().into_iter();
            let namespaces = interval.flat_map(|interval| &interval.ports);
            (NAMESPACES, namespaces.map(namespace).collect())
        }
        View::Events => (EVENTS, events(known)),
    };
    Table {
        columns,
        unfiltered: rows.len(),
        rows,
        empty: nothing(view, known),
    }
}

/// Why there are no rows.
fn nothing(view: View, known: &Known) -> String {
    let Some(interval) = known.interval() else {
        return "attached; the first interval is not over yet".to_owned();
    };
    match view {
        View::Overview => "no process has TCP sockets".to_owned(),
        View::Leaks => "no leak found so far".to_owned(),
        View::Failures => "no call has failed since the start".to_owned(),
        View::Searches | View::Destinations if interval.searches.is_none() => {
            "port searches are not visible: no hook; sockleak probes says why".to_owned()
        }
        View::Searches => "no port was searched in this interval".to_owned(),
        View::Destinations => "no connect() in this interval".to_owned(),
        View::Ports => "no namespace has been looked at yet".to_owned(),
        View::Events if known.has_events => "no event yet".to_owned(),
        View::Events => {
            "events are not noted, to save their cost; start with: sockleak watch --events"
                .to_owned()
        }
    }
}

fn process(process: &IntervalProcess) -> Row {
    let held = &process.held;
    let fd_percent = match (held.fd_used, held.fd_limit) {
        (Some(used), Some(limit @ 1..)) => Some((used as f64 / limit as f64 * 100.0, used)),
        _ => None,
    };
    let new = process.allocated.saturating_add(process.accepted);
    Row {
        subject: Subject::Process(held.pid),
        cells: vec![
            Cell::number(held.pid.into()),
            Cell::text(&held.comm),
            Cell::number(held.total),
            Cell::number(held.unbound).alarming(Style::Warn),
            Cell::number(held.bound).alarming(Style::Warn),
            Cell::number(held.established),
            Cell::number(held.close_wait).alarming(Style::Warn),
            Cell::number(held.listen),
            Cell::number(held.connecting),
            Cell::number(held.closing),
            Cell::number(new),
            Cell::number(process.destroyed),
            Cell::maybe(process.closed_per_min, |rate| {
                Cell::shown(rate, growth(rate))
            }),
            Cell::maybe(process.oldest_closed_s, |age| {
                Cell::shown(age, short_age(age))
            }),
            Cell::maybe(fd_percent, |(percent, _)| {
                let style = if percent >= 90.0 {
                    Style::Bad
                } else {
                    Style::Normal
                };
                Cell::shown(percent, format!("{percent:.0}")).styled(style)
            }),
            Cell::maybe(held.netns, |netns| Cell::number(netns.into())),
            Cell::maybe(held.cgroup.as_deref(), Cell::text),
        ],
    }
}

/// One word for a class.
pub fn class(class: LeakClass) -> &'static str {
    match class {
        LeakClass::Unbound => "unbound",
        LeakClass::Bound => "bound",
        LeakClass::CloseWait => "close_wait",
    }
}

/// What runs out, and when, in two words.
pub fn runs_out(limit: &Limit) -> (Style, String) {
    let name = match limit.name {
        LimitName::FdLimit => "fd",
        LimitName::PortRange => "ports",
        LimitName::FileMax => "file-max",
        LimitName::TcpMem => "tcp_mem",
    };
    match limit.eta_s {
        Some(eta) if eta <= 0.0 => (Style::Bad, format!("{name}: used up")),
        Some(eta) => (Style::Warn, format!("{name} in {}", short_age(eta))),
        None => (Style::Normal, format!("{name}: not soon")),
    }
}

fn leaking(found: &Leak) -> Row {
    let bound = if found.age_is_lower_bound { ">" } else { "" };
    let after = leak::after(found).filter(|_| found.after != After::Unknown);
    Row {
        subject: Subject::Leak(found.pid, found.class),
        cells: vec![
            Cell::number(found.pid.into()),
            Cell::text(&found.comm).styled(Style::Strong),
            Cell::number(found.count).styled(Style::Bad),
            Cell::text(class(found.class)),
            Cell::maybe(found.rate_per_min, |rate| Cell::shown(rate, growth(rate))),
            Cell::maybe(found.oldest_age_s, |age| {
                Cell::shown(age, format!("{bound}{}", short_age(age)))
            }),
            Cell::maybe(found.limit.as_ref(), |limit| {
                let (style, text) = runs_out(limit);
                Cell::shown(-limit.eta_s.unwrap_or(f64::MAX), text).styled(style)
            }),
            Cell::shown(found.confidence, format!("{:.2}", found.confidence)),
            Cell::maybe(after, Cell::text),
        ],
    }
}

fn failures(known: &Known) -> Vec<Row> {
    let failures = known.failures.iter();
    failures
        .filter_map(|failed| {
            let report = failed.report()?;
            let holder = report
                .held_by
                .first()
                .map(|one| format!("{}[{}] {}", one.comm, one.pid, count(one.count)));
            Some(Row {
                subject: Subject::Failure(FailureKey::of(report)),
                cells: vec![
                    Cell::number(report.pid.into()),
                    Cell::text(&report.comm).styled(Style::Strong),
                    Cell::text(report.op.name()),
                    Cell::text(&report.errno),
                    Cell::number(failed.now).alarming(Style::Bad),
                    Cell::number(failed.total),
                    Cell::text(report.cause.name()),
                    Cell::maybe(target(report), Cell::text),
                    Cell::text(clock(&failed.line.ts).split('.').next().unwrap_or_default()),
                    Cell::maybe(report.search_ns, latency_cell),
                    Cell::maybe(holder, Cell::text),
                ],
            })
        })
        .collect()
}

/// Where a failed call wanted to go, or what it asked for.
pub fn target(report: &FailureReport) -> Option<&str> {
    report.dst.as_deref().or(report.src.as_deref())
}

fn latency_cell(ns: u64) -> Cell {
    Cell::shown(ns as f64, short_latency(ns))
}

/// What names the searches of one line.
pub fn search_subject(search: &SearchReport) -> Subject {
    Subject::Search(search.pid, search.op, search.dst.clone(), search.netns)
}

fn search(search: &SearchReport) -> Row {
    let bound = if search.latency_is_upper_bound {
        "<"
    } else {
        ""
    };
    let max_bound = if search.max_is_upper_bound {
        "<"
    } else {
        bound
    };
    let time = |ns: Option<u64>, mark: &str| {
        Cell::maybe(ns, |ns| {
            Cell::shown(ns as f64, format!("{mark}{}", short_latency(ns)))
        })
    };
    Row {
        subject: search_subject(search),
        cells: vec![
            Cell::number(search.pid.into()),
            Cell::text(&search.comm),
            Cell::text(search.op.name()),
            Cell::maybe(search.dst.as_deref(), Cell::text),
            Cell::number(search.calls),
            Cell::number(search.failed).alarming(Style::Bad),
            time(search.p50_ns, bound),
            time(search.p99_ns, bound),
            time(search.max_ns, max_bound),
            Cell::maybe(search.candidates_avg, |average| {
                Cell::shown(average, format!("{average:.0}"))
            }),
            percent(search.second_parity, parity_style(search.second_parity)),
            Cell::maybe(search.cpu_share, |share| cpu(share, search)),
            Cell::number(search.time_waits),
        ],
    }
}

fn parity_style(share: f64) -> Style {
    match share {
        share if share >= 0.5 => Style::Bad,
        share if share > 0.0 => Style::Warn,
        _ => Style::Normal,
    }
}

pub(super) fn percent(share: f64, style: Style) -> Cell {
    Cell::shown(share, format!("{:.0}", share * 100.0)).styled(style)
}

fn cpu(share: f64, search: &SearchReport) -> Cell {
    let mark = if search.cpu_share_is_lower_bound {
        ">"
    } else {
        ""
    };
    Cell::shown(share, format!("{mark}{:.1}", share * 100.0))
}

/// Share of the range that is neither free nor reserved; `None` without a range.
pub fn used_share(ports: &PortsReport) -> Option<f64> {
    let open = ports.size.saturating_sub(ports.reserved);
    (ports.range.is_some() && open > 0)
        .then(|| open.saturating_sub(ports.free) as f64 / open as f64)
}

/// How a share of a range stands out.
pub fn used_style(share: f64) -> Style {
    match share {
        share if share >= 0.95 => Style::Bad,
        share if share >= 0.5 => Style::Warn,
        _ => Style::Normal,
    }
}

fn namespace(ports: &PortsReport) -> Row {
    let half = ports.size.saturating_sub(ports.reserved) as f64 / 2.0;
    let parity = |used: Option<u64>| {
        Cell::maybe(used.filter(|_| half > 0.0), |used| {
            percent((used as f64 / half).min(1.0), Style::Normal)
        })
    };
    Row {
        subject: Subject::Namespace(ports.netns),
        cells: vec![
            Cell::number(ports.netns.into()),
            Cell::maybe(ports.range, |[low, high]| {
                Cell::text(format!("{low}-{high}"))
            }),
            Cell::number(ports.size),
            Cell::maybe(used_share(ports), |share| percent(share, used_style(share))),
            Cell::number(ports.bound).alarming(Style::Warn),
            Cell::number(ports.connected),
            Cell::number(ports.listening),
            Cell::number(ports.time_wait),
            Cell::maybe(ports.range, |_| Cell::number(ports.free)),
            Cell::number(ports.reserved),
            parity(ports.first_parity_used),
            parity(ports.second_parity_used),
            Cell::number(ports.outside),
        ],
    }
}

fn events(known: &Known) -> Vec<Row> {
    let events = known.events();
    events
        .map(|(number, ts, event)| {
            let search = event.search.as_ref();
            let result = search.map(|search| match &search.errno {
                Some(errno) => Cell::text(errno).styled(Style::Bad),
                None => Cell::text("ok"),
            });
            Row {
                subject: Subject::Event(number),
                cells: vec![
                    Cell::text(clock(ts)),
                    Cell::text(event.event.as_ref()),
                    Cell::number(event.pid.into()),
                    Cell::text(&event.comm),
                    Cell::maybe(event.src.as_deref(), Cell::text),
                    Cell::maybe(event.dst.as_deref(), Cell::text),
                    Cell::maybe(event.age_s, |age| Cell::shown(age, short_age(age))),
                    Cell::maybe(result, |cell| cell),
                    Cell::maybe(search.and_then(|search| search.search_ns), latency_cell),
                    Cell::maybe(search.and_then(|search| search.candidates), |n| {
                        Cell::number(n.into())
                    }),
                    Cell::number(event.tid.into()),
                    Cell::maybe(event.netns, |netns| Cell::number(netns.into())),
                ],
            }
        })
        .collect()
}
