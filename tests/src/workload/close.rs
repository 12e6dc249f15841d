//! Sockets that the kernel closes because their process ends.

use super::crew::{Member, obey};
use super::{Options, Script, Truth};

const CREATE: u8 = b'+';

fn creator(options: &Options) -> anyhow::Result<Member> {
    let options = *options;
    Member::fork(move |channel| {
        let mut truth = Truth::of_self();
        let mut sockets = Vec::new();
        obey(channel, |_| {
            sockets = options.sockets(options.count)?;
            truth.allocated += options.count as u64;
            truth.unbound = sockets.len() as u64;
            Ok(truth.clone())
        })?;
        // Not closed: exit does that.
        std::mem::forget(sockets);
        Ok(())
    })
}

/// `leaked` (two processes hold `count` each), `exited` (one is left), `killed` (none is left).
pub(super) fn by_exit(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    let count = options.count as u64;
    let mut exits = creator(options)?;
    let mut killed = creator(options)?;
    let mut processes = vec![exits.ask(CREATE)?, killed.ask(CREATE)?];
    let mut phase = script.phase("leaked");
    phase.allocated = Some(2 * count);
    phase.children = Some(0);
    phase.destroyed = Some(0);
    phase.processes = processes.clone();
    if !script.show(&phase)? {
        return Ok(());
    }

    exits.dismiss()?;
    end(&mut processes, 0);
    phase.phase = "exited".to_owned();
    phase.destroyed = Some(count);
    phase.processes = processes.clone();
    if !script.show(&phase)? {
        return Ok(());
    }

    // Dropping a member kills and reaps it.
    drop(killed);
    end(&mut processes, 1);
    phase.phase = "killed".to_owned();
    phase.destroyed = Some(2 * count);
    phase.processes = processes;
    script.show(&phase).map(drop)
}

fn end(processes: &mut [Truth], index: usize) {
    if let Some(process) = processes.get_mut(index) {
        (process.unbound, process.exited) = (0, true);
    }
}

/// `gone-1`, `gone-2`, ...: each time `processes` processes create `count` sockets and exit.
pub(super) fn short_lived(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    let mut processes: Vec<Truth> = Vec::new();
    for round in 1.. {
        for _ in 0..options.processes {
            let mut member = creator(options)?;
            let truth = member.ask(CREATE)?;
            member.dismiss()?;
            processes.push(Truth {
                unbound: 0,
                exited: true,
                ..truth
            });
        }
        let total = (processes.len() * options.count) as u64;
        let mut phase = script.phase(&format!("gone-{round}"));
        phase.allocated = Some(total);
        phase.children = Some(0);
        phase.destroyed = Some(total);
        phase.processes = processes.clone();
        if !script.show(&phase)? {
            break;
        }
    }
    Ok(())
}
