//! Every backend, forced in turn.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use sockleak::demo::{self, Launcher};

use super::bpf_ids::{self, Kind};
use super::setting::Setting;
use super::suite::{Outcome, Suite};
use super::totals::Totals;
use super::watch::{Refusal, Watch};
use super::{compare, loss, workloads};
use crate::workload::Truth;

/// Backends, and whether they see sockets that only the kernel creates.
const BACKENDS: [(&str, bool); 3] = [("fentry", true), ("kprobe", true), ("tracepoint", false)];

pub(super) fn run(setting: &Setting, suite: &mut Suite) {
    for (backend, exact) in BACKENDS {
        if !suite.wants(backend) {
            continue;
        }
        let refusal = match probe(setting, backend) {
            Ok(refusal) => refusal,
            Err(error) => {
                suite.record(&format!("{backend}/attach"), Err(error));
                continue;
            }
        };
        if let Some(refusal) = refusal {
            suite.record(
                &format!("{backend}/refusal-names-the-reason"),
                explained(setting, backend, &refusal).map(|()| Outcome::Pass),
            );
            let why = format!("this kernel refuses {backend}: {}", refusal.stderr.trim());
            suite.record(backend, Ok(Outcome::Skip(why)));
            continue;
        }
        suite.record(&format!("{backend}/attach"), Ok(Outcome::Pass));
        workloads::all(setting, suite, backend);
        suite.test(&format!("{backend}/mptcp"), || {
            workloads::mptcp(setting, backend, exact)
        });
        suite.test(&format!("{backend}/leak"), || leak(setting, backend));
        suite.test(&format!("{backend}/older-leak"), || {
            older_leak(setting, backend)
        });
        suite.test(&format!("{backend}/healthy"), || healthy(setting, backend));
        suite.test(&format!("{backend}/sigkill"), || sigkill(setting, backend));
    }
}

/// Can the backend be had? `None` when it can.
fn probe(setting: &Setting, backend: &str) -> anyhow::Result<Option<Refusal>> {
    match Watch::start(setting, backend, &[])? {
        Ok(watch) => {
            let hooks = watch.said.first().map(|start| start["hooks"].clone());
            let hooks = hooks.context("no start line")?;
            for hook in ["alloc", "destroy"] {
                let served_by = &hooks[hook]["backend"];
                ensure!(served_by == backend, "{hook} is served by {served_by}");
            }
            let (end, _) = watch.stop()?;
            loss::check(&end)?;
            Ok(None)
        }
        Err(refusal) => Ok(Some(refusal)),
    }
}

/// A kernel without the backend: status 3, and the reason is the true one.
fn explained(setting: &Setting, backend: &str, refusal: &Refusal) -> anyhow::Result<()> {
    ensure!(
        refusal.status == Some(3),
        "status {:?}: {}",
        refusal.status,
        refusal.stderr
    );
    ensure!(
        !setting.guest,
        "test kernels have every backend: {}",
        refusal.stderr
    );
    let reason = refusal.stderr.to_lowercase();
    let (cause, words): (bool, &[&str]) = match backend {
        // Loading is refused (EPERM or ENOTSUPP) or the kernel is built without trampolines.
        "fentry" => (true, &["eperm", "not permitted", "enotsupp", "trampoline"]),
        "kprobe" => (
            !has_kprobes(),
            &["config_kprobes", "kprobe_events", "kprobes"],
        ),
        _ => (true, &["cgroup", "tracepoint", "btf"]),
    };
    ensure!(cause, "refused although the kernel has {backend}: {reason}");
    if !words.iter().any(|word| reason.contains(word)) {
        bail!("no reason ({words:?}) in: {reason}");
    }
    Ok(())
}

/// The perf event source of kprobes exists exactly when the kernel has them.
fn has_kprobes() -> bool {
    std::path::Path::new("/sys/bus/event_source/devices/kprobe").exists()
}

/// Four processes leak many sockets under our eyes: exact counts, a leak line for each.
fn leak(setting: &Setting, backend: &str) -> anyhow::Result<Outcome> {
    let mut watch = workloads::start(setting, backend)?;
    let mut totals = Totals::default();
    let count = format!("--count={}", setting.many);
    let mut driver = setting.workload(&["unbound-leak", &count])?;
    let leaked = driver.must_phase()?;
    watch
        .until(|interval| compare::holdings(interval, &leaked))
        .context("leaked")?;
    driver.step()?;
    let grown = driver.must_phase()?;
    watch
        .until(|interval| compare::holdings(interval, &grown))
        .context("grown")?;
    let seen = accusations(&mut watch, &grown.processes)?;
    ensure!(
        seen.len() == grown.processes.len(),
        "{} accused: {seen:?}",
        seen.len()
    );
    driver.step()?;
    let closed = driver.must_phase()?;
    watch
        .until(|interval| compare::holdings(interval, &closed))
        .context("closed")?;
    totals.add(&closed);
    driver.quit()?;
    let (end, _) = watch.stop()?;
    totals.check(setting, &end)?;
    Ok(Outcome::Pass)
}

/// Waits until a `leak` line with the exact count has come for each of these processes.
fn accusations(watch: &mut Watch, processes: &[Truth]) -> anyhow::Result<Vec<Value>> {
    let from = watch.said.len();
    let begin = Instant::now();
    loop {
        let said = watch.said.get(from..).unwrap_or_default();
        let matching: Vec<Value> = (processes.iter())
            .filter_map(|truth| said.iter().rev().find(|line| accuses(line, truth)).cloned())
            .collect();
        if matching.len() == processes.len() || begin.elapsed() > Duration::from_secs(60) {
            return Ok(matching);
        }
        watch.until(|_| Ok(()))?;
    }
}

fn accuses(line: &Value, truth: &Truth) -> bool {
    line["type"] == "leak"
        && line["pid"] == truth.pid
        && line["class"] == "unbound"
        && line["count"] == truth.unbound
        && line["holders"] == serde_json::json!([truth.pid])
}

/// The leak is older than sockleak: classes are exact all the same, for bound sockets, too.
fn older_leak(setting: &Setting, backend: &str) -> anyhow::Result<Outcome> {
    let count = format!("--count={}", setting.many / 2);
    let mut driver = setting.workload(&["bound-leak", &count, "--processes=2"])?;
    let leaked = driver.must_phase()?;
    let mut watch = workloads::start(setting, backend)?;
    watch
        .until(|interval| compare::holdings(interval, &leaked))
        .context("leaked")?;
    driver.step()?;
    let grown = driver.must_phase()?;
    watch
        .until(|interval| compare::holdings(interval, &grown))
        .context("grown")?;
    driver.step()?;
    let closed = driver.must_phase()?;
    watch
        .until(|interval| compare::holdings(interval, &closed))
        .context("closed")?;
    driver.quit()?;
    let (end, said) = watch.stop()?;
    loss::check(&end)?;
    super::totals::balanced(setting, &end)?;
    for truth in &leaked.processes {
        let accused = said.iter().any(|line| {
            line["type"] == "leak" && line["pid"] == truth.pid && line["class"] == "bound"
        });
        ensure!(accused, "pid {} was not accused", truth.pid);
    }
    Ok(Outcome::Pass)
}

/// The busy, correct server: nobody is accused.
fn healthy(setting: &Setting, backend: &str) -> anyhow::Result<Outcome> {
    let scenario = demo::find("healthy").context("no scenario")?;
    let mut watch = Watch::start(setting, backend, &["--older=1s"])?
        .map_err(|refusal| anyhow::anyhow!("refused: {}", refusal.stderr))?;
    let mut running = scenario.start(&Launcher::this_binary())?;
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(8) {
        watch.until(|_| Ok(()))?;
    }
    let truth = running.freeze()?;
    watch.until(|interval| {
        for own in &truth.processes {
            let row = compare::row(interval, own.pid);
            let total = row.map_or(0, |row| row["total"].as_u64().unwrap_or(u64::MAX));
            ensure!(total == own.held.total(), "{own:?} reported as {row:?}");
        }
        Ok(())
    })?;
    running.stop();
    let (end, said) = watch.stop()?;
    for line in said {
        let ours = truth.processes.iter().any(|own| line["pid"] == own.pid);
        ensure!(
            line["type"] != "leak" || !(ours || setting.guest),
            "accused: {line}"
        );
    }
    loss::check(&end)?;
    super::totals::balanced(setting, &end)?;
    Ok(Outcome::Pass)
}

/// Killed without warning it leaves nothing in the kernel.
fn sigkill(setting: &Setting, backend: &str) -> anyhow::Result<Outcome> {
    let kinds = [Kind::Program, Kind::Link];
    let before: Vec<_> = kinds
        .into_iter()
        .map(bpf_ids::all)
        .collect::<Result<_, _>>()?;
    let mut watch = workloads::start(setting, backend)?;
    watch.until(|_| Ok(()))?;
    let pid = watch.pid();
    let programs = bpf_ids::held_by(pid, Kind::Program)?;
    let links = bpf_ids::held_by(pid, Kind::Link)?;
    ensure!(
        !programs.is_empty(),
        "it holds no programs that could be left"
    );
    watch.kill()?;
    // The kernel frees programs after a grace period.
    let begin = Instant::now();
    for (kind, ids) in [(Kind::Program, programs), (Kind::Link, links)] {
        for id in ids {
            while bpf_ids::exists(kind, id)? {
                ensure!(begin.elapsed() < setting.patience, "{kind:?} {id} is left");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
    if setting.guest {
        for (kind, before) in kinds.into_iter().zip(before) {
            let after = bpf_ids::all(kind)?;
            ensure!(
                after == before,
                "{kind:?} ids before {before:?}, after {after:?}"
            );
        }
    }
    let pinned = std::fs::read_dir("/sys/fs/bpf").map_or(0, |entries| {
        let ours = |name: &std::ffi::OsStr| name.to_string_lossy().contains("sockleak");
        entries
            .flatten()
            .filter(|entry| ours(&entry.file_name()))
            .count()
    });
    ensure!(pinned == 0, "{pinned} pins are left");
    Ok(Outcome::Pass)
}
