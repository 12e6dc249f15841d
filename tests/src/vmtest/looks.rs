//! `snapshot`, with and without BPF, and `probes`.

use anyhow::{Context as _, ensure};

use serde_json::Value;

use super::setting::Setting;
use super::suite::{Outcome, Suite};
use super::{agent, compare};
use crate::workload::{Phase, WORKLOADS};

const METHODS: [(&str, &[&str]); 2] = [
    ("snapshot", &["snapshot", "--json"]),
    ("snapshot-no-bpf", &["snapshot", "--json", "--no-bpf"]),
];

/// Workloads with sockets that no descriptor shows, or that several processes share.
const HIDDEN: [&str; 5] = ["forked", "passed", "accept-queue", "orphans", "mptcp"];

pub(super) fn run(setting: &Setting, suite: &mut Suite) {
    suite.test("probes", || probes(setting));
    for (method, arguments) in METHODS {
        for workload in ["unbound-leak", "bound-leak"] {
            suite.test(&format!("{method}/{workload}"), || {
                large(setting, workload, arguments)
            });
        }
        for (index, (workload, ..)) in WORKLOADS.iter().enumerate() {
            // The tests of `watch` take the same inventory in every phase of every workload;
            // what only a snapshot explains is left for here.
            if method == "snapshot" && !HIDDEN.contains(workload) {
                continue;
            }
            // Both families take turns; the watch tests run all with both.
            let family = ["--family=4", "--family=6"][index % 2];
            suite.test(&format!("{method}/small/{workload}"), || {
                small(
                    setting,
                    &[workload, "--count=20", "--processes=2", family],
                    arguments,
                )
            });
        }
    }
}

fn probes(setting: &Setting) -> anyhow::Result<Outcome> {
    let probes = agent::object(setting, &["probes", "--json"])?;
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    ensure!(
        probes["kernel"] == release.trim(),
        "kernel is {}",
        probes["kernel"]
    );
    for hook in probes["hooks"].as_array().context("no hooks")? {
        let explained = !hook["backend"].is_null() || hook["reason"].is_string();
        ensure!(explained, "neither a backend nor a reason: {hook}");
    }
    Ok(Outcome::Pass)
}

/// 40,000 sockets, made before sockleak looks.
fn large(setting: &Setting, workload: &str, arguments: &[&str]) -> anyhow::Result<Outcome> {
    let count = match workload {
        // Every process has its own ports: 54,000 in all from 10,000 up.
        "bound-leak" => setting.many / 5,
        _ => setting.many,
    };
    setting.quiet();
    let mut driver = setting.workload(&[workload, &format!("--count={count}")])?;
    look(setting, &driver.must_phase()?, arguments)?;
    driver.quit()?;
    Ok(Outcome::Pass)
}

/// Every phase of a workload.
fn small(setting: &Setting, workload: &[&str], arguments: &[&str]) -> anyhow::Result<Outcome> {
    setting.quiet();
    let mut driver = setting.workload(workload)?;
    for _ in 0..4 {
        let Some(phase) = driver.phase()? else { break };
        if let Some(why) = phase.skipped {
            return Ok(Outcome::Skip(why));
        }
        look(setting, &phase, arguments).with_context(|| format!("phase {}", phase.phase))?;
        driver.step()?;
    }
    driver.quit()?;
    Ok(Outcome::Pass)
}

fn look(setting: &Setting, phase: &Phase, arguments: &[&str]) -> anyhow::Result<()> {
    let snapshot = agent::object(setting, arguments)?;
    if phase.workload == "mptcp" {
        // What MPTCP makes of its subflows, and when, is each kernel's own business.
        return Ok(());
    }
    compare::holdings(&snapshot, phase)?;
    if !setting.guest {
        return Ok(());
    }
    complete(setting, &snapshot)?;
    let hidden = phase.accept_queue + phase.orphans + phase.in_flight;
    ensure!(
        snapshot["unattributed"] == hidden,
        "{hidden} sockets are behind no descriptor, reported {} ({})",
        snapshot["unattributed"],
        snapshot["unattributed_kinds"]
    );
    let kinds = &snapshot["unattributed_kinds"];
    for (kind, count) in [
        ("accept_queue", phase.accept_queue),
        ("orphan", phase.orphans),
        ("unknown", phase.in_flight),
    ] {
        ensure!(kinds[kind] == count, "{count} are {kind}, reported {kinds}");
    }
    Ok(())
}

/// Complete, or the one thing that older kernels do not tell without BPF.
fn complete(setting: &Setting, snapshot: &Value) -> anyhow::Result<()> {
    if snapshot["complete"] == true {
        return Ok(());
    }
    let gaps = snapshot["incomplete"].as_array().context("no reason")?;
    let is_old = |gap: &Value| {
        gap.as_str()
            .is_some_and(|gap| gap.contains("from Linux 6.8 on"))
    };
    let excused = snapshot["method"] == "proc" && setting.kernel < (6, 8);
    ensure!(excused && gaps.iter().all(is_old), "not complete: {gaps:?}");
    Ok(())
}
