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
        let interval = if setting.guest { "1s" } else { "500ms" };
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

    /// Waits for an interval whose inventory began after this call and that `fits`; the error
    /// is the last objection.
    pub(super) fn until(
        &mut self,
        mut fits: impl FnMut(&Value) -> anyhow::Result<()>,
    ) -> anyhow::Result<Value> {
        let called = Instant::now();
        let deadline = called + self.patience;
        let mut objection = anyhow::anyhow!("there was no interval line");
        let mut tries = 0;
        while Instant::now() < deadline && tries < 12 {
            let Some(line) = self.next(deadline)? else {
                let refusal = self.refusal()?;
                bail!("sockleak watch ended: {refusal:?}");
            };
            if line["type"] != "interval" {
                continue;
            }
            let age = line["inventory_age_s"].as_f64().unwrap_or(f64::INFINITY);
            // Lines that were under way when we began to wait do not count; neither do those
            // that took long to reach us, which only costs a turn.
            if called.elapsed().as_secs_f64() <= age {
                continue;
            }
            match fits(&line) {
                Ok(()) => return Ok(line),
                Err(error) => objection = error,
            }
            tries += 1;
        }
        Err(objection.context(format!("after {tries} intervals")))
    }

    /// Ends it with SIGTERM and returns its `end` line.
    pub(super) fn stop(mut self) -> anyhow::Result<(Value, Vec<Value>)> {
        self.signal(Signal::TERM)?;
        let deadline = Instant::now() + self.patience;
        let mut last = Value::Null;
        while let Some(line) = self.next(deadline)? {
            last = line;
        }
        let status = self.child.wait()?;
        let stderr = self.stderr()?;
        ensure!(
            status.code() == Some(0),
            "watch ended with {status}: {stderr}"
        );
        ensure!(
            last["type"] == "end",
            "the last line is {}",
            quote(&last.to_string())
        );
        Ok((last, std::mem::take(&mut self.said)))
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
