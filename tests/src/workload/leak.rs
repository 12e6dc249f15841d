//! Sockets that are created and forgotten.

use std::os::fd::OwnedFd;

use anyhow::Context as _;

use super::crew::{Member, obey};
use super::{Options, Phase, Script, Truth};

const LEAK: u8 = b'l';
const GROW: u8 = b'g';
const CLOSE: u8 = b'c';

/// `leaked` (count each), `grown` (a tenth more), `closed` (none, the processes live on).
pub(super) fn unbound(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    run(options, script, false)
}

/// The same with sockets that hold a port.
pub(super) fn bound(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    run(options, script, true)
}

/// One process whose name would set the title of a terminal.
pub(super) fn named(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    rustix::thread::set_name(c"\x1b]0;x\x07").context("cannot set the process name")?;
    let one = Options {
        processes: 1,
        ..*options
    };
    run(&one, script, false)
}

fn run(options: &Options, script: &mut Script, bound: bool) -> anyhow::Result<()> {
    let mut members = (0..options.processes)
        .map(|index| Member::fork(move |channel| leaker(options, index, bound, channel)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    for (order, name) in [(LEAK, "leaked"), (GROW, "grown"), (CLOSE, "closed")] {
        let processes = (members.iter_mut())
            .map(|member| member.ask(order))
            .collect::<anyhow::Result<Vec<_>>>()?;
        if !script.show(&account(script.phase(name), processes))? {
            break;
        }
    }
    Ok(())
}

fn account(phase: Phase, processes: Vec<Truth>) -> Phase {
    let allocated: u64 = processes.iter().map(|one| one.allocated).sum();
    let held: u64 = processes.iter().map(Truth::total).sum();
    Phase {
        processes,
        allocated: Some(allocated),
        children: Some(0),
        destroyed: Some(allocated - held),
        ..phase
    }
}

fn leaker(
    options: &Options,
    index: usize,
    bound: bool,
    channel: std::os::unix::net::UnixStream,
) -> anyhow::Result<()> {
    let mut truth = Truth::of_self();
    let mut sockets: Vec<OwnedFd> = Vec::new();
    // Every process has ports of its own, from 10,000 up.
    let most = options.count + options.count / 10;
    let first_port = 10_000 + index * most;
    obey(channel, |order| {
        let batch = match order {
            LEAK => options.count,
            GROW => options.count / 10,
            _ => {
                sockets.clear();
                0
            }
        };
        for _ in 0..batch {
            let socket = if bound {
                let port = u16::try_from(first_port + sockets.len()).context("too many ports")?;
                options.bound_socket(port)?
            } else {
                options.socket()?
            };
            truth.allocated += 1;
            sockets.push(socket);
        }
        let held = if bound {
            &mut truth.bound
        } else {
            &mut truth.unbound
        };
        *held = sockets.len() as u64;
        Ok(truth.clone())
    })
}
