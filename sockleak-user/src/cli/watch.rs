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
    exit::reader_is_gone,
    output::Output,
    prepare::{explain, prepare},
    printer::{Format, Printer},
    progress::Progress,
};
use crate::{
    decode::{self, Event, EventKind},
    engine::{Sampled, Session, Settings, timestamp},
    model::{Filter, Subject},
    report::{Body, EventReport, HotLoop, Report, SearchOutcome, errno_name},
    rights,
    source::ring::RECORD,
    tracker::VisibleCalls,
    tui::Ask,
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
        top: match config.screen {
            // It can be scrolled.
            Some(_) => Some(config.top.max(ROWS)),
            None => (config.top != usize::MAX).then_some(config.top),
        },
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
        let stop = Stop::new(config.screen.is_some())?;
        let now = listen(SignalKind::user_defined1())?;
        // A file that may grow no further (RLIMIT_FSIZE) is an error of the write, not our end.
        let _too_large = listen(SignalKind::from_raw(libc::SIGXFSZ))?;
        let printer = Printer::stdout(config.format);
        let mut output = Output::new(printer, config.record.as_deref())?;
        let progress = Progress::begin("attaching, and looking at all descriptors", None);
        let started = Session::start(&facts, &plan, settings);
        drop(progress);
        let (session, start, events) = match started {
            Ok(started) => started,
            Err(error) => {
                output.discard();
                return Err(explain(&facts, error));
            }
        };
        rights::keep_for_watching();
        if let Some(options) = config.screen {
            output.open_screen(options)?;
        }
        output.emit(Report::new(timestamp(), Body::Start(start)))?;
        let result = follow(session, events, &config, stop, now, &mut output).await;
        // An error leaves the terminal as it was, too.
        let result = output.close_screen().and(result);
        // Nobody is there to be told about the recording.
        let is_gone = result.as_ref().is_err_and(reader_is_gone);
        let format = if is_gone { Format::Json } else { config.format };
        output.finish(format)?;
        result
    })
}

/// Rows that a screen can be scrolled through, at least.
const ROWS: usize = 1_000;

/// Ctrl-C, SIGTERM and, with a screen, the end of the terminal.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Option<Signal>,
}

impl Stop {
    fn new(has_screen: bool) -> Result<Self> {
        let hang_up = has_screen.then(|| listen(SignalKind::hangup()));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: hang_up.transpose()?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            () = hung_up(&mut self.hang_up) => {}
        }
    }
}

async fn hung_up(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => future::pending().await,
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
    output: &mut Output,
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
            _ = ticks.tick() => report_interval(&mut session, config, output, &mut explained)?,
            // As with dd: a report at once, with a look at every descriptor whatever it costs.
            _ = now.recv() => {
                session.demand_inventory();
                report_interval(&mut session, config, output, &mut explained)?;
            }
            Some(batch) = next(&mut events) => {
                print_events(&batch, config, session.visible(), output)?;
            },
            ask = output.asked() => match ask {
                Ask::Quit | Ask::Gone => break,
                Ask::Refresh => {
                    session.demand_inventory();
                    report_interval(&mut session, config, output, &mut explained)?;
                }
                Ask::Look(netns) => look_at_ports(&mut session, netns, output)?,
            },
        }
    }
    let end = session.finish()?;
    if let Some(events) = &mut events {
        while let Ok(batch) = events.try_recv() {
            print_events(&batch, config, session.visible(), output)?;
        }
        let rest = session.take_last_events();
        print_events(&rest, config, session.visible(), output)?;
    }
    output.begin_end();
    let closed = output.close_screen();
    for leak in &end.leaks {
        let report = Report::new(timestamp(), Body::Leak(leak.clone()));
        output.record(&report);
        if config.format == Format::Json {
            output.print(report)?;
        }
    }
    let report = Report::new(timestamp(), Body::End(Box::new(end)));
    output.record(&report);
    // A terminal that is gone is no reason to record less.
    closed?;
    output.print(report)
}

/// For the screen only: `watch` records what it sees by itself.
fn look_at_ports(session: &mut Session, netns: u32, output: &mut Output) -> Result<()> {
    match session.look_at_ports(netns) {
        Ok(Some(look)) => {
            output.print(Report::new(timestamp(), Body::Ports(Box::new(look))))?;
        }
        Ok(None) => {}
        Err(error) => log::warn!("looking at the ports of netns {netns}: {error:#}"),
    }
    Ok(())
}

fn report_interval(
    session: &mut Session,
    config: &WatchConfig,
    output: &mut Output,
    explained: &mut Explained,
) -> Result<()> {
    let Sampled {
        interval,
        failures,
        hot_loops,
        pressures,
        leaks,
    } = session.sample()?;
    output.emit(Report::new(timestamp(), Body::Interval(interval)))?;
    // Programs and the screen get every kind; people the most frequent ones, and the number of all above. The
    // recording has what programs get.
    let for_programs = config.format == Format::Json || config.screen.is_some();
    let shown = if for_programs { usize::MAX } else { config.top };
    let mut print = |output: &mut Output, mut report: Report| {
        output.record(&report);
        if !for_programs && !explained.first_time(&report.body) {
            Explained::shorten(&mut report.body);
        }
        output.print(report)
    };
    for (n, failure) in failures.into_iter().enumerate() {
        let report = Report::new(timestamp(), Body::Failure(failure));
        if n < shown {
            print(output, report)?;
        } else {
            output.record(&report);
        }
    }
    let most = if config.screen.is_some() {
        usize::MAX
    } else {
        config.top
    };
    for hot in hot_loops.into_iter().take(most) {
        print(output, Report::new(timestamp(), Body::HotLoop(hot)))?;
    }
    for pressure in pressures.into_iter().take(most) {
        print(output, Report::new(timestamp(), Body::Pressure(pressure)))?;
    }
    for leak in leaks.into_iter().take(most) {
        output.emit(Report::new(timestamp(), Body::Leak(leak)))?;
    }
    output.interval_is_over();
    Ok(())
}

/// What people have been told how to remedy: that is not repeated in every interval. The last
/// report has it all.
#[derive(Default)]
struct Explained(HashSet<String>);

impl Explained {
    /// Whatever comes after so many is told again.
    const MOST: usize = 1024;

    fn first_time(&mut self, body: &Body) -> bool {
        let subject = match body {
            Body::Failure(failure) => {
                format!("{} {:?} {:?}", failure.pid, failure.op, failure.cause)
            }
            Body::HotLoop(HotLoop { search, .. }) => {
                format!("{} {:?} {:?} hot", search.pid, search.op, search.dst)
            }
            Body::Pressure(pressure) => format!("{} {} soon", pressure.netns, pressure.dst),
            _ => return true,
        };
        if self.0.len() >= Self::MOST {
            self.0.clear();
        }
        self.0.insert(subject)
    }

    fn shorten(body: &mut Body) {
        match body {
            Body::Failure(failure) => failure.remedy.clear(),
            Body::HotLoop(hot) => hot.remedy.clear(),
            Body::Pressure(pressure) => pressure.remedy.clear(),
            _ => {}
        }
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
    output: &mut Output,
) -> Result<()> {
    for record in batch.chunks(RECORD) {
        match decode::event(record) {
            Ok(event) if passes(&config.filter, &event) => {
                output.emit(Report::new(
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
