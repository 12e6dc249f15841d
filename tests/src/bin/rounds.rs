//! Measures what watching costs the watched: the time of a round of socket work, with nothing
//! attached and then beside each of several agents.
//!
//! `rounds [--live=N] [--kind=NAME] [--programs] RUN...`, where RUN is `NAME` (nothing attached) or
//! `NAME=PROGRAM ARGUMENT...`, an agent that prints JSON lines as `sockleak watch --json` does. For
//! each run, one JSON line per kind of round and one about the agent on standard output; with
//! `--programs` also one about what each BPF program takes.
//!
//! Meant for a guest that counts instructions (`cargo xtask bench overhead`): there a nanosecond is an
//! instruction, whatever else the host does.

#[path = "rounds/agent.rs"]
mod agent;
#[path = "rounds/kinds.rs"]
mod kinds;
#[path = "rounds/measure.rs"]
mod measure;
#[path = "rounds/programs.rs"]
mod programs;

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use agent::Agent;
use kinds::{Kind, Place};
use programs::Programs;

fn main() -> ExitCode {
    match run(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rounds: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: impl Iterator<Item = String>) -> Result<()> {
    let mut live: usize = 0;
    let mut kinds = Kind::ALL.to_vec();
    let mut runs = Vec::new();
    let mut by_program = false;
    for argument in arguments {
        if let Some(text) = argument.strip_prefix("--live=") {
            live = text
                .parse()
                .with_context(|| format!("`{argument}` wants a number"))?;
        } else if let Some(name) = argument.strip_prefix("--kind=") {
            kinds.retain(|kind: &Kind| kind.name() == name);
        } else if argument == "--programs" {
            by_program = true;
        } else {
            runs.push(argument);
        }
    }
    let place = Place::open()?;
    if by_program {
        Programs::enable()?;
    }
    for run in &runs {
        let (name, command) = run
            .split_once('=')
            .map_or((run.as_str(), None), |(name, command)| {
                (name, Some(command))
            });
        let mut agent = match command
            .map(|command| Agent::start(name, command))
            .transpose()
        {
            Ok(agent) => agent,
            Err(error) => {
                // One agent that this kernel does not allow leaves the other figures standing.
                println!(
                    "{}",
                    serde_json::json!({"run": name, "error": format!("{error:#}")})
                );
                continue;
            }
        };
        // Made after the agent started, so that it has an entry for each of them.
        let held = kinds::hold(live)?;
        for &kind in &kinds {
            let before = Programs::read()?;
            let figure = measure::measure(kind, &place, agent.as_ref())?;
            println!("{}", figure.line(name, kind));
            if by_program {
                let now = Programs::read()?;
                println!("{}", now.line(&before, name, kind, measure::ALL_ROUNDS));
            }
        }
        drop(held);
        if let Some(agent) = agent.take() {
            println!("{}", agent.finish()?);
        }
    }
    Ok(())
}
