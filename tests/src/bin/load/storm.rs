//! Whether the counts are right after millions of sockets, with a table that is too small for those that live
//! and an agent that does not run part of the time.

use std::{
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{
    Arguments, Rate,
    agent::Agent,
    children::{Helper, holders},
    traffic,
};

/// Idle sockets meanwhile; the table has room for fewer.
const LIVE: u32 = 4_000;
const ROOM: u32 = 1_000;
/// Processes that make connections, one more than a guest has processors.
const CREWS: usize = 3;
/// The agent runs, and is stopped, for so long.
const RUNS: Duration = Duration::from_secs(8);
const STOPPED: Duration = Duration::from_secs(2);

/// Runs it; failure when the counts differ from the kernel's, or too few sockets could be made in time.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let held = holders(LIVE)?;
    let mut words = arguments.words.clone();
    words.extend(["--max-sockets".to_owned(), ROOM.to_string()]);
    let agent = Agent::start(&arguments.program, &words)?;
    let [what, number] = traffic::words(Rate::Max);
    let mut crews = (0..CREWS)
        .map(|_| Ok(Helper::start(&[&what, &number])?.0))
        .collect::<Result<Vec<_>>>()?;
    let (churn, _) = Helper::start(&["churn"])?;
    let began = Instant::now();
    let mut made = 0;
    let mut stops = 0;
    while made < arguments.sockets && began.elapsed() < arguments.span() {
        thread::sleep(RUNS);
        agent.signal(Signal::STOP)?;
        thread::sleep(STOPPED);
        agent.signal(Signal::CONT)?;
        stops += 1;
        made = 0;
        for crew in &mut crews {
            let connections: u64 = crew.ask()?.trim().parse().context("no number")?;
            // Each has two ends.
            made += connections * 2;
        }
    }
    let took = began.elapsed();
    for crew in crews {
        crew.end()?;
    }
    churn.end()?;
    for helper in held {
        helper.end()?;
    }
    let agent_start = agent.start.clone();
    let (_, end) = agent.finish()?;
    let number = |name: &str| end.get(name).and_then(Value::as_i64);
    let exact = number("difference") == Some(0);
    let enough = made >= arguments.sockets;
    println!(
        "{}",
        json!({
            "verdict": exact && enough, "sockets": made, "seconds": took.as_secs_f64(), "stops": stops,
            "backends": backends(&agent_start), "baseline": end.get("baseline"), "allocated": end.get("allocated"),
            "children": end.get("children"), "destroyed": end.get("destroyed"),
            "sockstat_alloc": end.get("sockstat_alloc"), "difference": end.get("difference"),
            "difference_uncertainty": end.get("difference_uncertainty"), "loss": end.get("loss"),
        })
    );
    Ok(match exact && enough {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Which backend serves each hook.
fn backends(start: &Value) -> Value {
    let hooks = start.get("hooks").and_then(Value::as_object);
    let served = hooks.into_iter().flatten();
    served
        .map(|(hook, state)| (hook.clone(), state["backend"].clone()))
        .collect()
}
