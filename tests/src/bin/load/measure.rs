//! Figures of the agent: by connections a second and by sockets that are held.

use std::{thread, time::Instant};

use anyhow::{Context as _, Result};
use serde_json::json;

use super::{
    Arguments, Rate,
    agent::Agent,
    children::{Helper, holders},
    looks, traffic,
};

/// Starts and ends without anything going on.
const STARTS: usize = 5;

/// Measures everything and prints a line for each.
pub fn run(arguments: &Arguments) -> Result<()> {
    starts(arguments)?;
    for &live in &arguments.live {
        let held = holders(live)?;
        // Nothing is going on meanwhile: what is dear about many sockets are the looks at them.
        for &rate in &arguments.rates {
            let busiest = arguments.live.first() == Some(&live);
            if busiest || rate == Rate::Of(0) {
                one(arguments, live, held.len(), rate)?;
            }
        }
        if live > 0 {
            looks::run(&arguments.program, live)?;
        }
        for helper in held {
            helper.end()?;
        }
    }
    Ok(())
}

fn starts(arguments: &Arguments) -> Result<()> {
    let mut figures = Vec::new();
    for _ in 0..STARTS {
        let agent = Agent::start(&arguments.program, &arguments.words)?;
        let attach_ns = agent.start.get("attach_ns").and_then(|ns| ns.as_u64());
        let attach_ns = attach_ns.context("the first line does not say how long attaching took")?;
        let started_in = agent.started_in;
        let (exit, _) = agent.finish()?;
        figures.push((started_in, attach_ns, exit));
    }
    figures.sort_unstable();
    let (started_in, attach_ns, exit) = figures.get(STARTS / 2).copied().context("no start")?;
    println!(
        "{}",
        json!({
            "starts": STARTS, "first_line_ns": started_in.as_nanos() as u64,
            "attach_ns": attach_ns, "exit_ns": exit.as_nanos() as u64,
        })
    );
    Ok(())
}

fn one(arguments: &Arguments, live: u32, processes: usize, rate: Rate) -> Result<()> {
    let agent = Agent::start(&arguments.program, &arguments.words)?;
    let mut traffic = match rate {
        Rate::Of(0) => None,
        rate => {
            let [what, rate] = traffic::words(rate);
            Some(Helper::start(&[&what, &rate])?.0)
        }
    };
    // The first report, which is made of everything that was there before, is not among what is counted.
    thread::sleep(arguments.span() / 4);
    let count = |traffic: &mut Option<Helper>| -> Result<u64> {
        let Some(traffic) = traffic else {
            return Ok(0);
        };
        traffic.ask()?.parse().context("the traffic says no number")
    };
    let connections = count(&mut traffic)?;
    let before = agent.figures()?;
    let began = Instant::now();
    thread::sleep(arguments.span());
    let after = agent.figures()?;
    let took = began.elapsed();
    let connections = count(&mut traffic)? - connections;
    if let Some(traffic) = traffic {
        traffic.end()?;
    }
    let (exit, end) = agent.finish()?;
    println!(
        "{}",
        json!({
            "live": live, "processes": processes, "rate": rate.name(),
            "connections_per_s": connections as f64 / took.as_secs_f64(),
            "cpu_share": (after.cpu_ns - before.cpu_ns) as f64 / took.as_nanos() as f64,
            "rss_kb": after.rss_kb, "anon_kb": after.anon_kb, "peak_kb": after.peak_kb,
            "fds": after.fds, "exit_ns": exit.as_nanos() as u64,
            "difference": end.get("difference"), "loss": end.get("loss"),
        })
    );
    Ok(())
}
