//! Every workload under one watch.

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::compare;
use super::loss::{self, Excused};
use super::setting::Setting;
use super::suite::{Outcome, Suite};
use super::totals::{Totals, balanced};
use super::watch::Watch;
use crate::workload::{Phase, WORKLOADS};

/// Sockets per process: few, because every phase of every workload waits for an inventory.
const COUNT: &str = "--count=20";

/// Age from which idle sockets are suspicious.
pub(super) const OLDER: &[&str] = &["--older=2s"];

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
    let outcomes = loss::conclusive(setting, (backend, OLDER), Excused::Searching, |watch| {
        let mut totals = Totals::default();
        let mut outcomes = Vec::new();
        for workload in &wanted {
            let outcome = both_families(setting, watch, workload, &mut totals);
            outcomes.push((*workload, outcome));
        }
        let complete = outcomes.iter().all(|(_, outcome)| outcome.is_ok());
        let outcome = watch.stop().and_then(|end| {
            accused_nobody(setting, &watch.said, |pid| totals.has(pid))?;
            ensure!(complete, "a workload failed, so its totals are not known");
            totals.check(setting, &end)?;
            Ok(Outcome::Pass)
        });
        outcomes.push(("totals", outcome));
        Ok(outcomes)
    });
    suite.record_all(name, outcomes);
}

fn both_families(
    setting: &Setting,
    watch: &mut Watch,
    workload: &str,
    totals: &mut Totals,
) -> anyhow::Result<Outcome> {
    for family in ["--family=4", "--family=6"] {
        let arguments = [workload, COUNT, "--processes=2", family];
        let last = one(setting, watch, &arguments).with_context(|| family.to_owned())?;
        totals.add(&last);
    }
    Ok(Outcome::Pass)
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

/// None of these processes was accused: the workloads are too small.
fn accused_nobody(
    setting: &Setting,
    said: &[Value],
    ours: impl Fn(&Value) -> bool,
) -> anyhow::Result<()> {
    for line in said {
        // Somebody else on this machine may really leak.
        let accused = line["type"] == "leak" && (setting.guest || ours(&line["pid"]));
        ensure!(!accused, "accused without cause: {line}");
    }
    Ok(())
}

/// MPTCP under a watch of its own: subflows are sockets that only the kernel creates, so only
/// the balance is known. `exact` says whether the backend sees them at all.
pub(super) fn mptcp(setting: &Setting, backend: &str, exact: bool) -> anyhow::Result<Outcome> {
    loss::conclusive(setting, (backend, OLDER), Excused::Searching, |watch| {
        let mut driver = setting.workload(&["mptcp", COUNT])?;
        let workload = driver.pid();
        while let Some(phase) = driver.phase()? {
            if let Some(why) = phase.skipped {
                return Ok(Outcome::Skip(why));
            }
            watch.now()?;
            driver.step()?;
        }
        let end = watch.stop()?;
        accused_nobody(setting, &watch.said, |pid| *pid == workload)?;
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
    })
}
