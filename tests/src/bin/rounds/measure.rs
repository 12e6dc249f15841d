//! Times rounds, each by itself.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use crate::{
    agent::Agent,
    kinds::{Kind, Place},
};

/// Rounds before the first that counts: caches of the allocator and the network stack fill up.
const WARM_UP: usize = 1000;
/// Rounds that count.
const ROUNDS: usize = 1001;
/// Rounds of one measurement.
pub const ALL_ROUNDS: usize = WARM_UP + ROUNDS;
/// After the last round, for the agent to do what it still has to do about them.
const PAUSE: Duration = Duration::from_millis(100);

/// What one kind of round took.
pub struct Figure {
    /// Each round that counts, shortest first; all that ran on the one processor meanwhile.
    rounds_ns: Vec<u64>,
    /// CPU time of the agent during those rounds, and with the pause at the end.
    agent_inside_ns: u64,
    agent_ns: u64,
}

/// Times one kind of round beside `agent`, if there is one.
pub fn measure(kind: Kind, place: &Place, agent: Option<&Agent>) -> Result<Figure> {
    let cpu_ns = || agent.map_or(Ok(0), Agent::cpu_ns);
    let mut rounds_ns = vec![u64::MAX; ROUNDS];
    for _ in 0..WARM_UP {
        kind.once(place)
            .with_context(|| format!("a round of kind {}", kind.name()))?;
    }
    let before = cpu_ns()?;
    for slot in &mut rounds_ns {
        let start = now_ns();
        kind.once(place)
            .with_context(|| format!("a round of kind {}", kind.name()))?;
        *slot = now_ns() - start;
    }
    let inside = cpu_ns()?;
    thread::sleep(PAUSE);
    let after = cpu_ns()?;
    rounds_ns.sort_unstable();
    Ok(Figure {
        rounds_ns,
        agent_inside_ns: inside.saturating_sub(before),
        agent_ns: after.saturating_sub(before),
    })
}

impl Figure {
    /// One line of output.
    ///
    /// The median is what a round takes; one round in thirty meets a timer tick or the kernel's putting
    /// away of what earlier rounds left behind (RCU callbacks), which is only in the mean.
    pub fn line(&self, run: &str, kind: Kind) -> Value {
        let per_round = |total: u64| total as f64 / ROUNDS as f64;
        let median = self.rounds_ns.get(ROUNDS / 2).copied().unwrap_or(0);
        json!({
            "run": run,
            "kind": kind.name(),
            "median_ns": median.saturating_sub(clock_ns()),
            "mean_ns": per_round(self.rounds_ns.iter().sum()),
            "agent_inside_ns": per_round(self.agent_inside_ns),
            "agent_ns": per_round(self.agent_ns),
        })
    }
}

/// What reading the clock adds to the time of a round: the least of some tries.
fn clock_ns() -> u64 {
    let tries = (0..100).map(|_| {
        let start = now_ns();
        now_ns() - start
    });
    tries.min().unwrap_or(0)
}

/// `CLOCK_MONOTONIC`, ns.
pub fn now_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec).unwrap_or(0)
}
