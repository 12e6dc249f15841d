//! `diagnose` next to incidents that are held.
//!
//! In a guest all of them run at once, each in its own namespace, and one diagnosis has to tell
//! them apart: guest time is dear. Elsewhere others may have incidents, so only the held ones are
//! looked for. All demos, one by one: `super::demos`, and natively
//! `tests/native_diagnose.rs`.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::agent;
use super::setting::Setting;
use super::suite::{Outcome, Suite};

/// Demo, what it has to be called, and the process to blame.
const INCIDENTS: [(&str, &str, &str); 2] = [
    ("refused-leak", "refused_leak", "channel-manager"),
    ("reuse-theft", "reuse_bound_ports", "agent"),
];

pub(super) struct Held {
    child: Child,
    truth: Value,
}

impl Held {
    pub(super) fn start(setting: &Setting, name: &str) -> anyhow::Result<Child> {
        let mut command = Command::new(&setting.sockleak);
        command.args(["demo", name, "--hold", "--json"]);
        let streams = command.stdin(Stdio::null()).stdout(Stdio::piped());
        streams
            .spawn()
            .with_context(|| format!("cannot hold {name}"))
    }

    pub(super) fn wait(mut child: Child) -> anyhow::Result<Self> {
        let out = child.stdout.take().context("no pipe")?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        let mut object: Value = serde_json::from_str(&line).context("the demo said nothing")?;
        Ok(Self {
            child,
            truth: object["truth"].take(),
        })
    }

    pub(super) fn has(&self, pid: &Value) -> bool {
        let mut all = self.truth["processes"].as_array().into_iter().flatten();
        all.any(|own| own["pid"] == *pid)
    }

    /// The id of one of its processes.
    pub(super) fn anybody(&self) -> anyhow::Result<&Value> {
        let pid = self.truth["processes"].get(0).map(|one| &one["pid"]);
        pid.context("a demo without processes")
    }

    pub(super) fn pid(&self, comm: &str) -> anyhow::Result<&Value> {
        let mut all = self.truth["processes"].as_array().into_iter().flatten();
        let own = all.find(|own| own["comm"] == comm);
        own.map(|own| &own["pid"])
            .with_context(|| format!("no {comm}"))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::INT);
        let _ = self.child.wait();
    }
}

pub(super) fn run(setting: &Setting, suite: &mut Suite) {
    suite.test("diagnose", || told_apart(setting));
}

fn told_apart(setting: &Setting) -> anyhow::Result<Outcome> {
    let begin = Instant::now();
    let names = INCIDENTS
        .map(|(name, ..)| name)
        .into_iter()
        .chain(["healthy"]);
    let started: Vec<Child> = names
        .map(|name| Held::start(setting, name))
        .collect::<anyhow::Result<_>>()?;
    let held: Vec<Held> = started
        .into_iter()
        .map(Held::wait)
        .collect::<anyhow::Result<_>>()?;
    eprintln!("     note: diagnose: held after {:.1?}", begin.elapsed());
    let first = &["diagnose", "--json", "-d", "2"];
    check(&agent::object(setting, first)?, &held, setting)?;
    eprintln!("     note: diagnose: told after {:.1?}", begin.elapsed());
    if !setting.guest {
        return Ok(Outcome::Pass);
    }
    // The other two take turns: each start of sockleak takes its time here.
    let backend = match (setting.kernel.0 + setting.kernel.1) % 2 {
        0 => "tracepoint",
        _ => "kprobe",
    };
    let short = ["diagnose", "--json", "-d", "1", "--backend", backend];
    let diagnosis = agent::object(setting, &short).with_context(|| backend.to_owned())?;
    check(&diagnosis, &held, setting).with_context(|| backend.to_owned())?;
    Ok(Outcome::Pass)
}

fn check(diagnosis: &Value, held: &[Held], setting: &Setting) -> anyhow::Result<()> {
    let findings = diagnosis["findings"].as_array().context("no findings")?;
    for ((_, id, comm), held) in INCIDENTS.iter().zip(held) {
        let pid = held.pid(comm)?;
        let named = (findings.iter())
            .find(|one| one["pid"] == *pid && one["caused_by"].is_null())
            .with_context(|| format!("{comm} is not named in {diagnosis}"))?;
        ensure!(named["id"] == *id, "{comm} has {id}, reported {named}");
    }
    for finding in findings {
        let ours = held.iter().any(|held| held.has(&finding["pid"]));
        if !setting.guest && !ours {
            continue;
        }
        let cause = &finding["caused_by"];
        let known = INCIDENTS.iter().zip(held).any(|((_, id, comm), held)| {
            let is_root = cause.is_null() && finding["id"] == *id;
            let blamed = held.pid(comm).is_ok_and(|pid| finding["pid"] == *pid);
            blamed && (is_root || cause["id"] == *id)
        });
        ensure!(known, "nobody has this: {finding}");
    }
    Ok(())
}
