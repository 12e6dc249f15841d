//! The agent that is measured: started, waited for, asked to end.

use std::{
    fs::{self, File},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::measure::now_ns;

/// Between two looks at what the agent has printed.
const POLL: Duration = Duration::from_millis(20);
/// An agent that is not attached by then never will be.
const PATIENCE_NS: u64 = 60_000_000_000;
/// How long the agent is left to itself to see what its reports cost.
const IDLE: Duration = Duration::from_secs(300);

/// A run whose name begins with it is another tool: it prints no JSON, and is attached when it has come to rest.
const PEER: &str = "peer-";
/// A tool is at rest when it uses less than a hundredth of a processor for so long, after it has used any.
const REST: Duration = Duration::from_secs(3);

/// A running agent; killed when dropped.
pub struct Agent {
    name: String,
    child: Child,
    output: String,
    start: Value,
}

impl Agent {
    /// Starts `command` and waits until it has printed a line of type `start`; another tool, until it rests.
    ///
    /// # Errors
    /// When it ends before, with what it said.
    pub fn start(name: &str, command: &str) -> Result<Self> {
        let mut words = command.split_whitespace();
        let program = words.next().context("an agent without a program")?;
        let output = format!("/tmp/rounds.{name}.out");
        let errors = format!("/tmp/rounds.{name}.err");
        let child = Command::new(program)
            .args(words)
            .stdin(Stdio::null())
            .stdout(File::create(&output)?)
            .stderr(File::create(&errors)?)
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let mut agent = Self {
            name: name.to_owned(),
            child,
            output,
            start: Value::Null,
        };
        let began = now_ns();
        loop {
            if agent.is_peer() {
                if agent.rests()? {
                    return Ok(agent);
                }
            } else if let Some(line) = agent.line("start")? {
                agent.start = line;
                return Ok(agent);
            }
            if let Some(status) = agent.child.try_wait()? {
                bail!(
                    "{command}: {status}: {}",
                    fs::read_to_string(&errors)?.trim_end()
                );
            }
            if now_ns() - began > PATIENCE_NS {
                bail!("{command}: not attached after 60 s");
            }
            thread::sleep(POLL);
        }
    }

    fn is_peer(&self) -> bool {
        self.name.starts_with(PEER)
    }

    /// Waits for [`REST`]: whether the tool has done its work before that.
    fn rests(&self) -> Result<bool> {
        let before = self.cpu_ns()?;
        thread::sleep(REST);
        let used = self.cpu_ns()?.saturating_sub(before);
        Ok(before > 0 && u128::from(used) < REST.as_nanos() / 100)
    }

    /// The first complete line of this type that the agent has printed.
    fn line(&self, kind: &str) -> Result<Option<Value>> {
        let text = fs::read_to_string(&self.output)?;
        let tag = format!("\"type\":\"{kind}\"");
        let complete = |line: &&str| line.ends_with('\n') && line.contains(&tag);
        for line in text.split_inclusive('\n').filter(complete) {
            let value: Value = serde_json::from_str(line)
                .with_context(|| format!("{} printed {line}", self.name))?;
            if value.get("type").and_then(Value::as_str) == Some(kind) {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// CPU time of all its threads, ns: first field of `/proc/PID/task/TID/schedstat`.
    ///
    /// # Errors
    /// When the agent has died.
    pub fn cpu_ns(&self) -> Result<u64> {
        let tasks = format!("/proc/{}/task", self.child.id());
        let mut total = 0;
        for task in fs::read_dir(&tasks).with_context(|| format!("{} has died", self.name))? {
            let path = task?.path().join("schedstat");
            let text = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
            let field = text.split_whitespace().next().unwrap_or_default();
            total += field
                .parse::<u64>()
                .with_context(|| format!("{}: {text}", path.display()))?;
        }
        Ok(total)
    }

    /// Leaves the agent alone for five minutes, then ends it: what it cost by itself, and whether its
    /// counts were exact. Another tool is only ended.
    ///
    /// # Errors
    /// When it fails, or says nothing at its end.
    pub fn finish(mut self) -> Result<Value> {
        if self.is_peer() {
            let (cpu_ns, status) = (self.cpu_ns()?, self.end(Signal::INT)?);
            let agent = json!({"cpu_ns": cpu_ns, "status": status.code()});
            return Ok(json!({"run": self.name, "agent": agent}));
        }
        let before = self.cpu_ns()?;
        thread::sleep(IDLE);
        let idle = self.cpu_ns()? - before;
        let total = self.cpu_ns()?;
        let began = now_ns();
        let status = self.end(Signal::TERM)?;
        let exit_ns = now_ns() - began;
        let end = self
            .line("end")?
            .with_context(|| format!("{} ended ({status}) without a last line", self.name))?;
        Ok(json!({
            "run": self.name,
            "agent": {
                "idle_ns": idle,
                "idle_s": IDLE.as_secs(),
                "cpu_ns": total,
                "exit_ns": exit_ns,
                "status": status.code(),
                "start": self.start,
                "end": end,
            },
        }))
    }

    fn end(&mut self, signal: Signal) -> Result<ExitStatus> {
        kill_process(Pid::from_child(&self.child), signal).context("ending the agent")?;
        Ok(self.child.wait()?)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
