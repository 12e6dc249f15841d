//! Recordings, line by line.

use super::fixtures::{TS, all, report};
use crate::report::history::{At, History};
use crate::report::*;

/// Seconds between the lines below.
const INTERVAL_S: u64 = 5;

/// `2026-08-01T03:MM:SS.000Z`, after so many seconds.
pub fn after(seconds: u64) -> String {
    format!(
        "2026-08-01T03:{:02}:{:02}.000Z",
        14 + seconds / 60,
        seconds % 60
    )
}

fn at(seconds: u64, body: Body) -> Report {
    Report::new(after(seconds), body)
}

/// The body of a fixture.
fn body(name: &str) -> Body {
    let (_, report) = all()
        .into_iter()
        .find(|(known, _)| *known == name)
        .expect("a fixture");
    report.body
}

macro_rules! of {
    ($variant:ident, $name:literal) => {
        match body($name) {
            Body::$variant(body) => body,
            other => unreachable!("{} is {}", $name, other.kind()),
        }
    };
}

fn process(n: usize) -> IntervalProcess {
    of!(Interval, "interval").processes.swap_remove(n)
}

fn java_holds(bound: u64, unbound: u64) -> ProcessReport {
    ProcessReport {
        total: bound + unbound + 16,
        bound,
        unbound,
        fd_used: Some(bound + unbound + 100),
        created_by: Default::default(),
        ..process(0).held
    }
}

/// The lines of interval `n`, from 0: java leaks, a client runs out of ports.
fn interval_lines(n: u64) -> Vec<Report> {
    let seconds = (n + 1) * INTERVAL_S;
    let bound = (n * 800).min(12_001);
    let unbound = n * 350;
    let failed = n.saturating_sub(15) * 120;
    let mut lines = vec![at(
        seconds,
        Body::Interval(IntervalReport {
            sockstat: SockstatReport {
                alloc: 240 + bound + unbound,
                tw: 300 * n,
                ..of!(Interval, "interval").sockstat
            },
            allocated: 1_160,
            destroyed: 10,
            live: 240 + bound + unbound,
            processes: vec![
                IntervalProcess {
                    held: java_holds(bound, unbound),
                    ..process(0)
                },
                process(1),
            ],
            failed: OpCounts {
                connect: Some(failed),
                bind: Some(0),
                listen: Some(0),
            },
            failed_unlisted: 0,
            ..of!(Interval, "interval")
        }),
    )];
    if failed > 0 {
        let failure = FailureReport {
            count: failed,
            ..of!(Failure, "failure_exhausted")
        };
        lines.push(at(seconds, Body::Failure(failure)));
        lines.push(at(seconds, body("hot_loop")));
        let pressure = PressureReport {
            used: Some(20_000 + 200 * n),
            ..of!(Pressure, "pressure")
        };
        lines.push(at(seconds, Body::Pressure(pressure)));
    }
    if n > 8 {
        let leak = Leak {
            count: bound,
            ..of!(Leak, "leak_bound")
        };
        lines.push(at(seconds, Body::Leak(leak)));
    }
    lines
}

/// All lines of a run, `None` where an interval is complete.
pub fn lines(intervals: u64) -> Vec<Option<Report>> {
    let mut lines = vec![Some(report(body("recording"))), Some(report(body("start")))];
    for n in 0..intervals {
        lines.extend(interval_lines(n).into_iter().map(Some));
        lines.push(None);
    }
    lines
}

fn history(lines: Vec<Option<Report>>) -> History {
    let mut history = History::default();
    for line in lines {
        match line {
            Some(report) => history.add(report),
            None => history.interval_is_complete(),
        }
    }
    history
}

/// Stacks that share their outer frames, and one that names try to break.
fn origins() -> Vec<LeakOrigin> {
    let of = |frames: &[&str], count| LeakOrigin {
        count,
        stack: Some(frames.iter().map(|name| (*name).to_owned()).collect()),
        ..of!(Leak, "leak_stack").origins.swap_remove(0)
    };
    let outer = ["tokio::runtime::task::harness::poll", "std::thread::start"];
    let with = |inner: &[&'static str]| [inner, &outer].concat();
    vec![
        of(
            &with(&[
                "socket",
                "collector::Channel::connect",
                "collector::Manager::retry",
            ]),
            6_400,
        ),
        of(
            &with(&[
                "socket",
                "collector::Channel::connect",
                "collector::Manager::start",
            ]),
            1_300,
        ),
        of(
            &with(&["socket", "<hyper::client::Pool<T> as Clone>::clone"]),
            2_100,
        ),
        of(&["socket", "Lcom/acme/Foo;::<init> & \"more\""], 900),
    ]
}

/// A run that came to its end.
pub fn whole() -> History {
    let mut lines = lines(38);
    let mut end = of!(End, "end_leaks");
    if let Some(leak) = end.leaks.last_mut() {
        leak.origins = origins();
    }
    lines.push(Some(at(195, Body::End(end))));
    history(lines)
}

/// One that was killed, and lost lines before.
pub fn killed() -> History {
    let mut lines = lines(20);
    lines.insert(30, Some(report(body("recording_gap"))));
    let mut history = history(lines);
    history.cut = Some(At {
        ts: after(104),
        body: CutReport {
            intervals: 20,
            until: Some(after(100)),
            ..of!(Cut, "recording_cut")
        },
    });
    history
}

/// One in which nothing happened.
pub fn healthy() -> History {
    let mut lines = lines(0);
    lines.push(Some(report(body("end_healthy"))));
    history(lines)
}

/// One that was cut off before the first interval was over.
pub fn nothing() -> History {
    let mut history = history(lines(0));
    history.cut = Some(At {
        ts: TS.to_owned(),
        body: of!(Cut, "recording_cut_early"),
    });
    history
}
