//! The other side of the dialogue: starts a workload and sends it from phase to phase.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, bail};

use super::Phase;

/// A running workload. Dropping it ends it.
#[derive(Debug)]
pub struct Driver {
    name: String,
    child: Child,
    orders: Option<ChildStdin>,
    phases: BufReader<ChildStdout>,
}

impl Driver {
    /// Starts `program` (the `workload` binary) with the given arguments.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(program: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let orders = child.stdin.take();
        let phases = child.stdout.take().context("no pipe from the workload")?;
        Ok(Self {
            name: arguments.join(" "),
            child,
            orders,
            phases: BufReader::new(phases),
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the end of the phase that is under way; `None` when the workload has ended.
    ///
    /// # Errors
    /// When the workload failed.
    pub fn phase(&mut self) -> anyhow::Result<Option<Phase>> {
        let mut text = String::new();
        self.phases.read_line(&mut text)?;
        if text.is_empty() {
            let status = self.child.wait()?;
            if !status.success() {
                bail!("workload {} failed: {status}", self.name);
            }
            return Ok(None);
        }
        let phase = serde_json::from_str(&text)
            .with_context(|| format!("workload {} said {text:?}", self.name))?;
        Ok(Some(phase))
    }

    /// The phase that is under way, which must not be the end.
    ///
    /// # Errors
    /// As [`Self::phase`], and when the workload has ended.
    pub fn must_phase(&mut self) -> anyhow::Result<Phase> {
        let phase = self.phase()?;
        phase.with_context(|| format!("workload {} ended early", self.name))
    }

    /// Sends it on to the next phase.
    ///
    /// # Errors
    /// When the workload does not listen any more.
    pub fn step(&mut self) -> anyhow::Result<()> {
        let orders = self
            .orders
            .as_mut()
            .context("the workload has been sent off")?;
        writeln!(orders, "step").with_context(|| format!("workload {} is gone", self.name))
    }

    /// Ends it and waits until it and its processes are gone.
    ///
    /// # Errors
    /// When it fails at the end.
    pub fn quit(mut self) -> anyhow::Result<()> {
        self.orders = None;
        while self.phase()?.is_some() {}
        Ok(())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.orders = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
