//! The counters and the kernel's own counts, read together.

use std::{thread, time::Duration};

use anyhow::Result;

use crate::{
    engine::clock,
    model::{Counters, Sockstat},
    probe::Attached,
    source::{kernel_maps::KernelMaps, sockstat},
    tracker,
};

/// How often the counters are read again when sockets come and go meanwhile.
const ATTEMPTS: u32 = 50;
/// Pause between such attempts.
const PAUSE: Duration = Duration::from_millis(2);

/// Counters, then sockstat, then the counters again.
pub(super) struct Reading {
    pub(super) at_ns: u64,
    pub(super) before: Counters,
    pub(super) sockstat: Sockstat,
    pub(super) after: Counters,
}

/// Reads once, whatever moves meanwhile.
pub(super) fn read(maps: &KernelMaps, attached: &Attached) -> Result<Reading> {
    let before = counted(maps, attached)?;
    let sockstat = sockstat::read()?;
    let after = counted(maps, attached)?;
    Ok(Reading {
        at_ns: clock::monotonic_ns(),
        before,
        sockstat,
        after,
    })
}

/// What the programs have counted, and what they would have if the kernel had let them run.
fn counted(maps: &KernelMaps, attached: &Attached) -> Result<Counters> {
    let mut counters = maps.counters()?;
    let unseen = attached.unseen();
    counters.allocated += unseen.created;
    counters.children += unseen.children;
    counters.destroyed_unknown += unseen.destroyed;
    Ok(counters)
}

/// Reads until nothing moves while reading, or patience ends; then the calmest of the readings.
pub(super) fn settled(maps: &KernelMaps, attached: &Attached) -> Result<Reading> {
    let mut calmest = read(maps, attached)?;
    for _ in 0..ATTEMPTS {
        let moved = tracker::moved(&calmest.before, &calmest.after);
        if moved == 0 {
            break;
        }
        thread::sleep(PAUSE);
        let next = read(maps, attached)?;
        if tracker::moved(&next.before, &next.after) <= moved {
            calmest = next;
        }
    }
    Ok(calmest)
}
