//! The agent that is measured.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// One that is not attached by then never will be: kernels without hardware help are slow.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running `sockleak watch --json`; killed when dropped.
pub struct Agent {
    child: Child,
    lines: Receiver<Value>,
    /// Its first line.
    pub start: Value,
    /// From its start to that line.
    pub started_in: Duration,
}

/// What the kernel says of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// CPU time of its threads and of its children, ns.
    pub cpu_ns: u64,
    /// Of the process itself, in kB: resident now.
    pub rss_kb: u64,
    /// Of that, not backed by a file.
    pub anon_kb: u64,
    /// The most it has been.
    pub peak_kb: u64,
    /// Open descriptors.
    pub fds: u64,
}

impl Agent {
    /// Starts `program watch --json WORDS...` and waits for its first line.
    pub fn start(program: &str, words: &[String]) -> Result<Self> {
        let began = Instant::now();
        let mut child = Command::new(program)
            .args(["watch", "--json"])
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let output = child.stdout.take().context("an agent without output")?;
        let (send, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or(Value::Null);
                if send.send(value).is_err() {
                    return;
                }
            }
        });
        let mut agent = Self {
            child,
            lines,
            start: Value::Null,
            started_in: Duration::ZERO,
        };
        match agent.lines.recv_timeout(PATIENCE) {
            Ok(first) if kind(&first) == "start" => {
                agent.started_in = began.elapsed();
                agent.start = first;
                Ok(agent)
            }
            Ok(other) => bail!("{program} began with {other}"),
            Err(_) => bail!("{program} said nothing: {:?}", agent.child.try_wait()),
        }
    }

    /// What it costs so far.
    pub fn figures(&self) -> Result<Figures> {
        let pid = self.child.id();
        let status =
            fs::read_to_string(format!("/proc/{pid}/status")).context("the agent has died")?;
        let kb = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let value = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            value.with_context(|| format!("/proc/{pid}/status has no {name}"))
        };
        let mut spent_ns = cpu_ns(pid)?;
        for child in children(pid) {
            // It may be over by now.
            spent_ns += cpu_ns(child).unwrap_or(0);
        }
        Ok(Figures {
            cpu_ns: spent_ns,
            rss_kb: kb("VmRSS:")?,
            anon_kb: kb("RssAnon:")?,
            peak_kb: kb("VmHWM:")?,
            fds: fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64,
        })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal).context("signalling the agent")
    }

    /// The reports that have come since the last call.
    pub fn reports(&self) -> Vec<Value> {
        self.lines.try_iter().collect()
    }

    /// Ends it: how long that took, and its last report.
    pub fn finish(mut self) -> Result<(Duration, Value)> {
        let began = Instant::now();
        kill_process(Pid::from_child(&self.child), Signal::TERM).context("ending the agent")?;
        let status = self.child.wait().context("waiting for the agent")?;
        let took = began.elapsed();
        // The reader has all of it once the process is gone.
        let last = self.lines.iter().filter(|line| kind(line) == "end").last();
        match last {
            Some(end) if status.success() => Ok((took, end)),
            _ => bail!("the agent ended ({status}) without a last line"),
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn kind(line: &Value) -> &str {
    line.get("type").and_then(Value::as_str).unwrap_or_default()
}

/// First field of `/proc/PID/task/TID/schedstat`, of every thread.
fn cpu_ns(pid: u32) -> Result<u64> {
    let mut total = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).context("the agent has died")? {
        let path = task?.path().join("schedstat");
        // A thread may be over by now.
        let text = fs::read_to_string(path).unwrap_or_default();
        let field = text.split_whitespace().next();
        total += field.and_then(|field| field.parse().ok()).unwrap_or(0);
    }
    Ok(total)
}

fn children(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let list = list.unwrap_or_default();
    list.split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}
