//! The dialogue with whoever runs the workload.

use std::io::{self, BufRead as _, Write as _};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::Phase;

/// Says what phase the workload is in and waits to be sent on.
#[derive(Debug)]
pub struct Script {
    workload: &'static str,
    netns: u32,
}

impl Script {
    /// Enters a network namespace of its own with loopback up.
    pub(super) fn begin(workload: &'static str) -> anyhow::Result<Self> {
        // SAFETY: only CLONE_NEWNET is passed; the descriptor table stays as it is.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }
            .context("cannot make a network namespace: run the workload as root")?;
        sockleak::demo::loopback_up().context("cannot bring up lo")?;
        let netns = sockleak::demo::namespace_inode(std::process::id())?;
        Ok(Self { workload, netns })
    }

    /// A phase without content, for the workload to fill in.
    pub(super) fn phase(&self, name: &str) -> Phase {
        Phase {
            workload: self.workload.to_owned(),
            phase: name.to_owned(),
            netns: self.netns,
            ..Phase::default()
        }
    }

    /// Lets TCP come to rest, prints the phase and waits for `step`. False when the workload
    /// shall end.
    pub(super) fn show(&mut self, phase: &Phase) -> anyhow::Result<bool> {
        settle(phase.orphans)?;
        let mut out = io::stdout().lock();
        writeln!(out, "{}", serde_json::to_string(phase)?)?;
        out.flush()?;
        drop(out);
        let mut order = String::new();
        io::stdin().lock().read_line(&mut order)?;
        match order.trim_end() {
            "step" => Ok(true),
            "quit" | "" => Ok(false),
            other => bail!("expected step or quit, not {other:?}"),
        }
    }

    /// Says that this kernel cannot run the workload.
    pub(super) fn skip(&mut self, why: &str) -> anyhow::Result<()> {
        let mut phase = self.phase("skipped");
        phase.skipped = Some(why.to_owned());
        self.show(&phase).map(drop)
    }
}

/// Waits until handshakes and closes are over. `orphans` are what is meant to stay.
pub(super) fn settle(orphans: u64) -> anyhow::Result<()> {
    // A FIN may wait 40 ms for its delayed ACK.
    until("handshakes and closes are over", || {
        Ok(under_way()? == orphans)
    })
}

/// Sockets of this namespace in SYN_SENT, SYN_RECV, FIN_WAIT1, LAST_ACK or CLOSING.
fn under_way() -> io::Result<u64> {
    let mut count = 0;
    for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        let text = match std::fs::read_to_string(table) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            text => text?,
        };
        let states = text
            .lines()
            .skip(1)
            .filter_map(|line| line.split_whitespace().nth(3));
        count += states
            .filter(|state| matches!(*state, "02" | "03" | "04" | "09" | "0B"))
            .count();
    }
    Ok(count as u64)
}

/// Waits until TCP has done what it still has to do on its own.
pub(super) fn until(what: &str, mut done: impl FnMut() -> io::Result<bool>) -> anyhow::Result<()> {
    let begin = Instant::now();
    while !done().with_context(|| format!("cannot see whether {what}"))? {
        if begin.elapsed() > Duration::from_secs(60) {
            bail!("waited 60 s in vain until {what}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
