//! Every workload under one watch.

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::compare;
use super::loss;
use super::setting::Setting;
use super::suite::{Outcome, Suite};
use super::totals::{Totals, balanced};
use super::watch::Watch;
use crate::workload::{Phase, WORKLOADS};

/// Sockets per process: few, because every phase of every workload waits for an inventory.
const COUNT: &str = "--count=20";

/// Phases of the workloads that have no end of their own.
const PHASES: usize = 4;

/// Runs all workloads over both families under a watch of its own and checks every phase, and
/// the totals at the end.
pub(super) fn all(setting: &Setting, suite: &mut Suite, backend: &str) {
    let name = |workload: &str| format!("{backend}/workload/{workload}");
    let wanted: Vec<&str> = (WORKLOADS.iter().map(|(workload, ..)| *workload))
        .filter(|workload| *workload != "mptcp" && suite.wants(&name(workload)))
        .collect();
    if wanted.is_empty() {
        return;
    }
    let mut watch = match start(setting, backend) {
        Ok(watch) => watch,
        Err(error) => {
            suite.record(&name("start"), Err(error));
            return;
        }
    };
    let mut totals = Totals::default();
    let mut complete = true;
    for workload in wanted {
        let mut outcome = Ok(Outcome::Pass);
        for family in ["--family=4", "--family=6"] {
            match one(
                setting,
                &mut watch,
                &[workload, COUNT, "--processes=2", family],
            ) {
                Ok(last) => totals.add(&last),
                Err(error) => {
                    outcome = Err(error.context(family.to_owned()));
                    break;
                }
            }
        }
        complete &= outcome.is_ok();
        suite.record(&name(workload), outcome);
    }
    let end = watch.stop();
    let outcome = end.and_then(|(end, said)| {
        quiet_throughout(setting, &said, |pid| totals.has(pid))?;
        ensure!(complete, "a workload failed, so its totals are not known");
        totals.check(setting, &end)?;
        Ok(Outcome::Pass)
    });
    suite.record(&name("totals"), outcome);
}

/// A watch that must be possible.
pub(super) fn start(setting: &Setting, backend: &str) -> anyhow::Result<Watch> {
    let started = Watch::start(setting, backend, &["--older=2s"])?;
    started.map_err(|refusal| anyhow::anyhow!("refused: {}", refusal.stderr.trim()))
}

/// Runs one workload to its end and returns its last phase.
fn one(setting: &Setting, watch: &mut Watch, arguments: &[&str]) -> anyhow::Result<Phase> {
    let mut driver = setting.workload(arguments)?;
    let mut last = driver.must_phase()?;
    for turn in 1.. {
        let interval = watch.now()?;
        compare::holdings(&interval, &last).with_context(|| format!("phase {}", last.phase))?;
        if turn == PHASES {
            break;
        }
        driver.step()?;
        match driver.phase()? {
            Some(phase) => last = phase,
            None => break,
        }
    }
    driver.quit()?;
    Ok(last)
}

/// Nothing was lost, and none of these processes was accused: the workloads are too small.
fn quiet_throughout(
    setting: &Setting,
    said: &[Value],
    ours: impl Fn(&Value) -> bool,
) -> anyhow::Result<()> {
    for line in said {
        // Somebody else on this machine may really leak.
        let accused = line["type"] == "leak" && (setting.guest || ours(&line["pid"]));
        ensure!(!accused, "accused without cause: {line}");
        if line["type"] == "interval" {
            loss::check(line)?;
        }
    }
    Ok(())
}

/// MPTCP under a watch of its own: subflows are sockets that only the kernel creates, so only
/// the balance is known. `exact` says whether the backend sees them at all.
pub(super) fn mptcp(setting: &Setting, backend: &str, exact: bool) -> anyhow::Result<Outcome> {
    let mut watch = start(setting, backend)?;
    let mut driver = setting.workload(&["mptcp", COUNT])?;
    let workload = driver.pid();
    while let Some(phase) = driver.phase()? {
        if let Some(why) = phase.skipped {
            return Ok(Outcome::Skip(why));
        }
        watch.now()?;
        driver.step()?;
    }
    let (end, said) = watch.stop()?;
    quiet_throughout(setting, &said, |pid| *pid == workload)?;
    loss::check(&end)?;
    if exact {
        balanced(setting, &end)?;
    } else {
        let coverage = end["coverage"].to_string();
        ensure!(
            coverage.contains("MPTCP") || coverage.contains("kernel"),
            "the blind spot is not stated: {coverage}"
        );
    }
    Ok(Outcome::Pass)
}
