//! `sockleak watch`: attach, follow, report.

use std::{collections::HashSet, future};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::{self, Instant, MissedTickBehavior},
};

use super::{
    args::WatchArgs,
    config::WatchConfig,
    prepare::{explain, prepare},
    printer::{Format, Printer},
};
use crate::{
    decode::{self, Event, EventKind},
    engine::{Sampled, Session, Settings, timestamp},
    model::{Filter, Subject},
    report::{Body, EventReport, Report, SearchOutcome, errno_name},
    source::ring::RECORD,
    tracker::VisibleCalls,
};

/// Runs the subcommand.
///
/// # Errors
/// With exit status 3 when this kernel or these privileges do not allow it.
pub fn run(args: &WatchArgs) -> Result<()> {
    let config = WatchConfig::new(args)?;
    let (facts, plan) = prepare(config.choice);
    let settings = Settings {
        filter: config.filter.clone(),
        older: config.older,
        top: (config.top != usize::MAX).then_some(config.top),
        stacks: config.stacks,
        events: config.events,
        max_sockets: config.max_sockets,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .enable_io()
        .build()
        .context("starting the event loop")?;
    runtime.block_on(async {
        // Before anything is attached, so that no signal can end the process half way.
        let stop = Stop::new()?;
        let now = listen(SignalKind::user_defined1())?;
        let (session, start, events) =
            Session::start(&facts, &plan, settings).map_err(|error| explain(&facts, error))?;
        let mut printer = Printer::stdout(config.format);
        printer.print(&Report::new(timestamp(), Body::Start(start)))?;
        follow(session, events, &config, stop, now, &mut printer).await
    })
}

/// Ctrl-C and SIGTERM.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn new() -> Result<Self> {
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn listen(kind: SignalKind) -> Result<Signal> {
    signal(kind).context("listening for signals")
}

async fn follow(
    mut session: Session,
    mut events: Option<mpsc::Receiver<Bytes>>,
    config: &WatchConfig,
    mut stop: Stop,
    mut now: Signal,
    printer: &mut Printer,
) -> Result<()> {
    let began = Instant::now();
    let mut explained = Explained::default();
    let mut ticks = time::interval_at(began + config.interval, config.interval);
    // After a long pause (SIGSTOP, suspend) one report says it all.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.wait() => break,
            () = until(config.duration.map(|duration| began + duration)) => break,
            _ = ticks.tick() => report_interval(&mut session, config, printer, &mut explained)?,
            // As with dd: a report at once, with a look at every descriptor whatever it costs.
            _ = now.recv() => {
                session.demand_inventory();
                report_interval(&mut session, config, printer, &mut explained)?;
            }
            Some(batch) = next(&mut events) => {
                print_events(&batch, config, session.visible(), printer)?;
            },
        }
    }
    let end = session.finish()?;
    if let Some(events) = &mut events {
        while let Ok(batch) = events.try_recv() {
            print_events(&batch, config, session.visible(), printer)?;
        }
        let rest = session.take_last_events();
        print_events(&rest, config, session.visible(), printer)?;
    }
    if config.format == Format::Json {
        for leak in &end.leaks {
            printer.print(&Report::new(timestamp(), Body::Leak(leak.clone())))?;
        }
    }
    printer.print(&Report::new(timestamp(), Body::End(Box::new(end))))
}

fn report_interval(
    session: &mut Session,
    config: &WatchConfig,
    printer: &mut Printer,
    explained: &mut Explained,
) -> Result<()> {
    let Sampled {
        interval,
        failures,
        hot_loops,
        pressures,
        leaks,
    } = session.sample()?;
    let mut print = |body| printer.print(&Report::new(timestamp(), body));
    print(Body::Interval(interval))?;
    // Programs get every kind; people the most frequent ones, and the number of all above.
    let shown = match config.format {
        Format::Json => usize::MAX,
        Format::Plain { .. } => config.top,
    };
    let mut brief = |subject: String, remedy: &mut Vec<String>| {
        if config.format != Format::Json && !explained.first_time(subject) {
            remedy.clear();
        }
    };
    for mut failure in failures.into_iter().take(shown) {
        let subject = format!("{} {:?} {:?}", failure.pid, failure.op, failure.cause);
        brief(subject, &mut failure.remedy);
        print(Body::Failure(failure))?;
    }
    for mut hot in hot_loops.into_iter().take(config.top) {
        let search = &hot.search;
        let subject = format!("{} {:?} {:?} hot", search.pid, search.op, search.dst);
        brief(subject, &mut hot.remedy);
        print(Body::HotLoop(hot))?;
    }
    for mut pressure in pressures.into_iter().take(config.top) {
        let subject = format!("{} {} soon", pressure.netns, pressure.dst);
        brief(subject, &mut pressure.remedy);
        print(Body::Pressure(pressure))?;
    }
    for leak in leaks.into_iter().take(config.top) {
        print(Body::Leak(leak))?;
    }
    Ok(())
}

/// What people have been told how to remedy: that is not repeated in every interval. The last
/// report has it all.
#[derive(Default)]
struct Explained(HashSet<String>);

impl Explained {
    /// Whatever comes after so many is told again.
    const MOST: usize = 1024;

    fn first_time(&mut self, subject: String) -> bool {
        if self.0.len() >= Self::MOST {
            self.0.clear();
        }
        self.0.insert(subject)
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => time::sleep_until(deadline).await,
        None => future::pending().await,
    }
}

async fn next(events: &mut Option<mpsc::Receiver<Bytes>>) -> Option<Bytes> {
    match events {
        Some(events) => events.recv().await,
        None => future::pending().await,
    }
}

fn print_events(
    batch: &Bytes,
    config: &WatchConfig,
    visible: VisibleCalls,
    printer: &mut Printer,
) -> Result<()> {
    for record in batch.chunks(RECORD) {
        match decode::event(record) {
            Ok(event) if passes(&config.filter, &event) => {
                printer.print(&Report::new(
                    timestamp(),
                    Body::Event(report(event, visible)),
                ))?;
            }
            Ok(_) => {}
            Err(error) => log::warn!("an event could not be decoded: {error}"),
        }
    }
    Ok(())
}

fn passes(filter: &Filter, event: &Event) -> bool {
    filter.matches(&Subject {
        pid: event.pid,
        comm: &event.comm,
        cgroup: None,
        netns: event.netns,
        family: Some(event.family),
    })
}

fn report(event: Event, visible: VisibleCalls) -> EventReport {
    let is_connect = event.kind == EventKind::Connect;
    EventReport {
        event: event.kind.name().into(),
        pid: event.pid,
        tid: event.tid,
        comm: event.comm,
        sk: format!("{:#x}", event.sk),
        netns: event.netns,
        src: event.local.map(|address| address.to_string()),
        dst: event.peer.map(|address| address.to_string()),
        age_s: event.age_ns.map(|age| age as f64 / 1e9),
        search: event.search.map(|search| SearchOutcome {
            errno: (search.errno != 0)
                .then(|| errno_name(u16::try_from(search.errno).unwrap_or(u16::MAX))),
            search_ns: search.search_ns,
            search_is_upper_bound: is_connect && visible.bounded_connects && search.errno == 0,
            candidates: search.candidates,
            range: search.range.map(|(low, high)| [low, high]),
            start: search.start,
        }),
    }
}
