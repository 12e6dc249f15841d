//! `sockleak demo`: reproduce an incident, show what sockleak says about it, and hold that
//! against what the incident's own processes say.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::signal::unix::{SignalKind, signal};

use super::args::DemoArgs;
use super::config;
use super::exit::Failure;
use super::prepare::{explain, prepare};
use super::printer::{Format, Printer};
use crate::demo::calls::{Curve, Curves, check_curves};
use crate::demo::check::{Check, Observed, compare};
use crate::demo::{DemoError, GroundTruth, Launcher, Running, SCENARIOS, Scenario, find, wording};
use crate::engine::{Session, Settings, timestamp};
use crate::model::Filter;
use crate::probe::{Stacks, plan::Choice};
use crate::report::{Body, EndReport, ProcessReport, Report};
use crate::tracker;

/// `--older` of a demo: nobody wants to wait half a minute for a verdict.
const OLDER: Duration = Duration::from_secs(1);

/// How long the incident goes on under our eyes once it is complete.
const WATCH: Duration = Duration::from_secs(5);

/// Time between samples.
const INTERVAL: Duration = Duration::from_secs(1);

/// Runs the subcommand.
///
/// # Errors
/// Exit status 1 when the report differs from the incident's own count, 2 for an unknown name,
/// 3 without the privileges.
pub fn run(args: &DemoArgs) -> anyhow::Result<()> {
    let format = config::format(&args.output);
    let mut printer = Printer::stdout(format);
    let Some(name) = &args.name else {
        return list(&mut printer);
    };
    let scenario = find(name).ok_or_else(|| {
        let known: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        let known = known.join(", ");
        Failure::Usage(format!("there is no demo {name:?}; there are: {known}"))
    })?;
    if args.hold {
        hold(scenario, format, &mut printer)
    } else {
        let choice = config::choice(args.attach.backend);
        show(scenario, choice, format, &mut printer)
    }
}

fn list(printer: &mut Printer) -> anyhow::Result<()> {
    for scenario in SCENARIOS {
        printer.line(&format!("{:12} {}", scenario.name, scenario.summary))?;
    }
    Ok(())
}

fn start(scenario: &Scenario) -> anyhow::Result<Running> {
    let started = scenario.start(&Launcher::this_binary());
    started.map_err(|error| match error {
        DemoError::NotPermitted(_) => Failure::NotAllowed {
            what: error.to_string(),
            fix: format!("sudo sockleak demo {}", scenario.name),
        }
        .into(),
        error => anyhow::Error::from(error)
            .context(format!("the demo {} could not be started", scenario.name)),
    })
}

/// Only the incident, until a signal.
fn hold(scenario: &Scenario, format: Format, printer: &mut Printer) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .context("starting the event loop")?;
    // The runtime has this thread only, on whose life those of the actors depend.
    runtime.block_on(async {
        let listen = |kind| signal(kind).context("listening for signals");
        let mut interrupt = listen(SignalKind::interrupt())?;
        let mut terminate = listen(SignalKind::terminate())?;
        let mut running = start(scenario)?;
        for _ in 0..scenario.steps {
            running.step()?;
        }
        let truth = running.count()?;
        match format {
            Format::Json => print_json(&truth, None, printer)?,
            Format::Plain { .. } => {
                for line in wording::held(scenario, &truth, running.stage_pid()) {
                    printer.line(&line)?;
                }
            }
        }
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        running.stop();
        Ok(())
    })
}

/// The incident, the report, and whether they agree.
fn show(
    scenario: &Scenario,
    choice: Choice,
    format: Format,
    printer: &mut Printer,
) -> anyhow::Result<()> {
    let plain = matches!(format, Format::Plain { .. });
    let (facts, plan) = prepare(choice);
    let settings = Settings {
        filter: Filter::default(),
        older: OLDER,
        top: None,
        stacks: Stacks::Always,
        events: false,
        max_sockets: None,
    };
    let (mut session, ..) =
        Session::start(&facts, &plan, settings).map_err(|error| explain(&facts, error))?;
    if plain {
        for line in wording::introduction(scenario) {
            printer.line(&line)?;
        }
    }
    let mut running = start(scenario)?;
    if plain {
        let seconds = WATCH.as_secs();
        printer.line(&match scenario.steps {
            0 => format!("It runs. Watching for {seconds} s ..."),
            steps => format!("It goes on in {steps} steps. Watching ..."),
        })?;
    }
    let mut curves = Curves::default();
    if scenario.steps > 0 {
        session.sample()?;
    }
    for _ in 0..scenario.steps {
        let truth = running.step()?;
        let searches = session.sample()?.interval.searches;
        curves.take(&truth, &searches.unwrap_or_default());
    }
    let begin = Instant::now();
    while scenario.steps == 0 && begin.elapsed() < WATCH {
        thread::sleep(INTERVAL);
        session.demand_inventory();
        session.sample()?;
    }
    let truth = running.freeze()?;
    // The youngest socket must be old enough to count.
    thread::sleep(OLDER + INTERVAL / 2);
    session.sample()?;
    let mut end = session.finish()?;
    running.stop();

    let held: Vec<ProcessReport> = (end.processes.iter())
        .map(|process| process.held.clone())
        .collect();
    let created = (end.processes.iter())
        .map(|process| (process.held.pid, process.allocated))
        .collect();
    let observed = Observed {
        processes: &held,
        created: Some(&created),
        leaks: Some(&end.leaks),
        ports: &end.ports,
        failures: Some(&end.failures),
    };
    let mut check = compare(&truth, observed);
    check.wrong.extend(crate::demo::check_orphans(&truth, &end));
    let curves = curves.all();
    if scenario.steps > 0 {
        check.wrong.extend(check_curves(&truth, &curves));
    }
    only_ours(&mut end, &truth);
    printer.print(&Report::new(timestamp(), Body::End(Box::new(end))))?;
    if plain {
        let verdict = wording::verdict(&truth, &check);
        for line in wording::curves(&truth, &curves).iter().chain(&verdict) {
            printer.line(line)?;
        }
    } else {
        print_json(&truth, Some((&check, &curves)), printer)?;
    }
    if !check.agrees() {
        bail!(
            "the report differs from the demo's own count: {}",
            check.wrong.join("; ")
        );
    }
    Ok(())
}

/// The totals are of the host; the lists shall show the demo and nobody else.
fn only_ours(end: &mut EndReport, truth: &GroundTruth) {
    let ours = |pid: u32| truth.processes.iter().any(|own| own.pid == pid);
    end.processes.retain(|process| ours(process.held.pid));
    end.leaks.retain(|leak| ours(leak.pid));
    end.failures.retain(|failure| ours(failure.pid));
    end.failures_by_cause = tracker::by_cause(&end.failures);
    end.hot_loops.retain(|hot| ours(hot.search.pid));
    if let Some(orphans) = &mut end.orphans {
        orphans.processes.retain(|process| ours(process.pid));
        orphans.peers.retain(|peer| peer.netns == truth.netns);
    }
    end.pressures
        .retain(|pressure| pressure.netns == truth.netns);
    end.ports.retain(|ports| ports.netns == truth.netns);
}

fn print_json(
    truth: &GroundTruth,
    outcome: Option<(&Check, &[Curve])>,
    printer: &mut Printer,
) -> anyhow::Result<()> {
    let object = serde_json::json!({
        "type": "demo",
        "schema": crate::report::SCHEMA,
        "ts": timestamp(),
        "truth": truth,
        "check": outcome.map(|(check, _)| check),
        "curves": outcome.map(|(_, curves)| curves),
        "equal": outcome.map(|(check, _)| check.agrees()),
    });
    printer.line(&object.to_string())
}
