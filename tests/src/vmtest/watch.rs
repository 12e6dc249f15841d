//! A running `sockleak watch --json`.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal};
use serde_json::Value;

use super::setting::Setting;
use crate::schema;

/// Longest line that is quoted in a failure.
const QUOTE: usize = 400;

/// A running `sockleak watch --json`. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Watch {
    child: Child,
    lines: Receiver<String>,
    patience: Duration,
    ended: bool,
    /// Everything it has said, in order.
    pub(super) said: Vec<Value>,
}

/// How a watch ended before it began.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: Option<i32>,
    pub(super) stderr: String,
}

impl Watch {
    /// Starts it with a forced backend and waits for its `start` line; a refusal when it ends
    /// instead.
    pub(super) fn start(
        setting: &Setting,
        backend: &str,
        more: &[&str],
    ) -> anyhow::Result<Result<Self, Refusal>> {
        setting.quiet();
        // Reports are demanded when they are needed; none in between.
        let interval = "1h";
        let mut child = Command::new(&setting.sockleak)
            .args([
                "watch",
                "--json",
                "--top=0",
                "--backend",
                backend,
                "-i",
                interval,
            ])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", setting.sockleak.display()))?;
        let stdout = child.stdout.take().context("no pipe")?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut watch = Self {
            child,
            lines,
            patience: setting.patience,
            ended: false,
            said: Vec::new(),
        };
        match watch.next(Instant::now() + setting.patience)? {
            Some(line) => {
                ensure!(line["type"] == "start", "the first line is {line}");
                Ok(Ok(watch))
            }
            None => Ok(Err(watch.refusal()?)),
        }
    }

    /// The same where it must be possible.
    pub(super) fn must_start(
        setting: &Setting,
        backend: &str,
        more: &[&str],
    ) -> anyhow::Result<Self> {
        let started = Self::start(setting, backend, more)?;
        started.map_err(|refusal| anyhow::anyhow!("refused: {}", refusal.stderr.trim()))
    }

    fn refusal(&mut self) -> anyhow::Result<Refusal> {
        let status = self.child.wait()?.code();
        let stderr = self.stderr()?;
        Ok(Refusal { status, stderr })
    }

    fn stderr(&mut self) -> anyhow::Result<String> {
        let mut text = String::new();
        if let Some(mut pipe) = self.child.stderr.take() {
            pipe.read_to_string(&mut text)?;
        }
        Ok(text)
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line, checked; `None` at the end of the output.
    fn next(&mut self, deadline: Instant) -> anyhow::Result<Option<Value>> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.lines.recv_timeout(left) {
            Ok(text) => {
                let value = schema::validate(&text)?;
                self.said.push(value.clone());
                Ok(Some(value))
            }
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => bail!("sockleak watch said nothing in time"),
        }
    }

    /// Demands a report now (SIGUSR1), which comes with an inventory of its own, and returns the
    /// `interval` line.
    pub(super) fn now(&mut self) -> anyhow::Result<Value> {
        let asked = Instant::now();
        self.signal(Signal::USR1)?;
        let deadline = asked + self.patience;
        loop {
            let Some(line) = self.next(deadline)? else {
                let refusal = self.refusal()?;
                bail!("sockleak watch ended: {refusal:?}");
            };
            // Lines may have been under way when the signal was sent; an inventory that is
            // younger than our question is the answer. A slow pipe only makes us ask again.
            let age = line["inventory_age_s"].as_f64().unwrap_or(f64::INFINITY);
            if line["type"] == "interval" {
                if asked.elapsed().as_secs_f64() > age {
                    return Ok(line);
                }
                self.signal(Signal::USR1)?;
            }
        }
    }

    /// The lines said since `mark`, a length of `said`.
    pub(super) fn said_since(&self, mark: usize) -> &[Value] {
        self.said.get(mark..).unwrap_or_default()
    }

    /// Ends it with SIGTERM, if that has not been done, and returns its `end` line.
    pub(super) fn stop(&mut self) -> anyhow::Result<Value> {
        if !self.ended {
            self.ended = true;
            self.signal(Signal::TERM)?;
            let deadline = Instant::now() + self.patience;
            while self.next(deadline)?.is_some() {}
            let status = self.child.wait()?;
            let stderr = self.stderr()?;
            ensure!(
                status.code() == Some(0),
                "watch ended with {status}: {stderr}"
            );
        }
        let last = self.said.last().context("it has said nothing")?;
        ensure!(
            last["type"] == "end",
            "the last line is {}",
            quote(&last.to_string())
        );
        Ok(last.clone())
    }

    /// Ends it with SIGKILL.
    pub(super) fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = Pid::from_raw(self.child.id().cast_signed()).context("no pid")?;
        Ok(rustix::process::kill_process(pid, signal)?)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn quote(text: &str) -> &str {
    let end = text
        .char_indices()
        .nth(QUOTE)
        .map_or(text.len(), |(at, _)| at);
    text.get(..end).unwrap_or(text)
}
