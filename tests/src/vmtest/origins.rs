//! What had happened to leaked sockets, and where they were created.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::setting::Setting;
use super::suite::Outcome;
use super::watch::Watch;
use crate::workload::Phase;

/// Workload, phase in which it has forgotten its sockets, their class, and what a leak must say.
const FATES: [(&str, &str, &str, &str, Option<&str>); 7] = [
    ("unbound-leak", "leaked", "unbound", "never_used", None),
    ("bound-leak", "leaked", "bound", "bound_only", None),
    (
        "refused",
        "refused",
        "unbound",
        "connect_refused",
        Some("ECONNREFUSED"),
    ),
    (
        "no-port",
        "failed",
        "unbound",
        "connect_failed",
        Some("EADDRNOTAVAIL"),
    ),
    (
        "reset",
        "reset",
        "unbound",
        "peer_reset",
        Some("ECONNRESET"),
    ),
    (
        "aborted",
        "aborted",
        "unbound",
        "connection_failed",
        Some("ECONNABORTED"),
    ),
    (
        "close-wait",
        "close-wait",
        "close_wait",
        "peer_closed",
        None,
    ),
];

/// A third of the descriptors that a workload then allows itself, which makes a leak of them.
const COUNT: usize = 120;
const DESCRIPTORS: &str = "--descriptors=120";

/// All of them at once under one watch, over IPv4 and IPv6 in turn.
pub(super) fn told(setting: &Setting, backend: &str) -> anyhow::Result<Outcome> {
    let started = Watch::start(setting, backend, &["--older=1s", "--stacks=always"])?;
    let mut watch = started.map_err(|refusal| anyhow::anyhow!("refused: {}", refusal.stderr))?;
    let mut running = Vec::new();
    for (index, (workload, phase, ..)) in FATES.iter().enumerate() {
        let family = ["--family=4", "--family=6"][index % 2];
        let count = format!("--count={COUNT}");
        let arguments = [*workload, &count, "--processes=1", family, DESCRIPTORS];
        let mut driver = setting.workload(&arguments)?;
        let mut now = driver.must_phase()?;
        while now.phase != *phase {
            driver.step()?;
            now = (driver.phase()?).with_context(|| format!("{workload} has no phase {phase}"))?;
        }
        running.push((driver, now));
    }
    // Two looks at each: the sockets are idle for longer than `--older` at the second one.
    watch.now()?;
    std::thread::sleep(Duration::from_millis(1_200));
    // Names take their time where the processor is emulated.
    for _ in 0..40 {
        let mark = watch.said.len();
        watch.now()?;
        watch.now()?;
        let said = watch.said_since(mark);
        let leaks = said.iter().filter(|line| line["type"] == "leak");
        let (named, all) = leaks.fold((0, 0), |(named, all), leak| {
            let is_named = leak["stack"].is_array() || leak["class"] == "close_wait";
            (named + usize::from(is_named), all + 1)
        });
        if all >= FATES.len() && named == all {
            break;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    let end = watch.stop()?;
    let leaks = end["leaks"].as_array().context("no leaks")?;
    for ((workload, _, class, after, errno), (_, phase)) in FATES.iter().zip(&running) {
        one(leaks, phase, class, after, *errno).with_context(|| (*workload).to_owned())?;
    }
    for (driver, _) in running {
        driver.quit()?;
    }
    Ok(Outcome::Pass)
}

fn one(
    leaks: &[Value],
    phase: &Phase,
    class: &str,
    after: &str,
    errno: Option<&str>,
) -> anyhow::Result<()> {
    let pid = phase.processes.first().context("no process")?.pid;
    let leak = (leaks.iter())
        .find(|leak| leak["pid"] == pid && leak["class"] == class)
        .with_context(|| format!("no leak of {class} sockets of {pid} in {leaks:?}"))?;
    ensure!(leak["count"] == COUNT, "{COUNT} leaked, reported {leak}");
    ensure!(leak["after"] == after, "after {after}, reported {leak}");
    ensure!(
        leak["errno"] == serde_json::json!(errno),
        "died of {errno:?}, reported {leak}"
    );
    let attempted = matches!(
        after,
        "connect_refused" | "peer_reset" | "connection_failed"
    );
    ensure!(
        leak["peer"].is_string() == attempted || after == "connect_failed",
        "the peer in {leak}"
    );
    if class == "close_wait" {
        // Accepted: no process was in the middle of creating them.
        return Ok(());
    }
    ensure!(leak["stacked"] == COUNT, "all have a stack: {leak}");
    let frames = leak["stack"].as_array().context("no stack")?;
    let named = |frame: &Value| frame.as_str().is_some_and(|frame| frame.contains("::"));
    ensure!(frames.iter().any(named), "no function is named: {leak}");
    Ok(())
}
