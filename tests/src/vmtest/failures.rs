//! Failures and port searches against what the workloads' calls returned.

use std::collections::BTreeSet;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::loss::{self, Excused};
use super::replay;
use super::setting::Setting;
use super::suite::{Outcome, Suite};
use super::tally::{Tally, breakdowns, circumstances};
use super::watch::Watch;
use super::workloads::OLDER;
use crate::workload::{FAILURES, Phase, Walks};

/// How often each call fails.
const COUNT: &str = "--count=20";

/// Workloads that know who has the ports in the end.
const BREAKDOWNS: [&str; 5] = [
    "exhausted",
    "exhausted-time-wait",
    "exhausted-odd",
    "exhausted-mixed",
    "bind-exhausted",
];

/// Names of the tests.
pub(super) fn names(backend: &str) -> impl Iterator<Item = String> {
    let all = (FAILURES.iter()).map(move |(workload, ..)| name(backend, workload));
    all.chain(BREAKDOWNS.map(|workload| breakdown_name(backend, workload)))
}

fn breakdown_name(backend: &str, workload: &str) -> String {
    format!("{backend}/breakdown/{workload}")
}

fn name(backend: &str, workload: &str) -> String {
    match is_walk(workload) {
        true => format!("{backend}/candidates/{workload}"),
        false => format!("{backend}/failure/{workload}"),
    }
}

fn is_walk(workload: &str) -> bool {
    workload.starts_with("walk")
}

/// Runs every workload that fails, over both families, under one watch, and the others each
/// under its own.
pub(super) fn all(setting: &Setting, suite: &mut Suite, backend: &str) {
    let wanted = (FAILURES.iter()).map(|(workload, ..)| *workload);
    let wanted = wanted.filter(|workload| suite.wants(&name(backend, workload)));
    let (walks, failures): (Vec<_>, Vec<_>) = wanted.partition(|workload| is_walk(workload));
    if !failures.is_empty() {
        under_one_watch(setting, suite, backend, &failures);
    }
    for workload in BREAKDOWNS {
        suite.test(&breakdown_name(backend, workload), || {
            breakdown(setting, backend, workload)
        });
    }
    for workload in walks {
        suite.test(&name(backend, workload), || {
            candidates(setting, backend, workload)
        });
    }
}

fn under_one_watch(setting: &Setting, suite: &mut Suite, backend: &str, wanted: &[&str]) {
    let name = |workload: &str| name(backend, workload);
    // A program that a softirq interrupts is skipped there, and 200 threads preempt each other
    // inside of some. The counts must be exact all the same.
    let excused = Excused::SkippedRuns;
    let outcomes = loss::conclusive(setting, (backend, OLDER), excused, |watch| {
        let mut all = All::default();
        // It tries out what the kernel can, with sockets of its own.
        all.skipped.insert(watch.pid());
        let mut outcomes = Vec::new();
        for workload in wanted {
            let outcome = both_families(setting, backend, watch, workload, &mut all);
            outcomes.push((*workload, outcome));
        }
        let outcome = watch.stop().and_then(|_| {
            // Nothing came late, and nobody else has failed.
            let counts = |pid| match setting.guest {
                true => !all.skipped.contains(&pid),
                false => all.pids.contains(&pid),
            };
            let mut truth = Tally::default();
            truth.add(backend, &all.ledger);
            truth.same_as(&Tally::of(&watch.said, counts)?)?;
            Ok(Outcome::Pass)
        });
        outcomes.push(("totals", outcome));
        Ok(outcomes)
    });
    suite.record_all(name, outcomes);
}

fn both_families(
    setting: &Setting,
    backend: &str,
    watch: &mut Watch,
    workload: &str,
    all: &mut All,
) -> anyhow::Result<Outcome> {
    let mut reasons = Vec::new();
    for family in ["--family=4", "--family=6"] {
        let arguments = [workload, COUNT, "--processes=3", family];
        let skipped = one(setting, backend, watch, &arguments, all);
        reasons.extend(skipped.with_context(|| family.to_owned())?);
    }
    // A cause may exist for one family only.
    Ok(match reasons.as_slice() {
        [_, why] => Outcome::Skip(why.clone()),
        _ => Outcome::Pass,
    })
}

/// What all workloads of a watch have done.
#[derive(Default)]
struct All {
    ledger: crate::workload::Ledger,
    pids: BTreeSet<u32>,
    /// sockleak itself, and processes of workloads that this kernel cannot run to their end.
    skipped: BTreeSet<u32>,
}

/// Runs one workload; the reason when this kernel cannot.
fn one(
    setting: &Setting,
    backend: &str,
    watch: &mut Watch,
    arguments: &[&str],
    all: &mut All,
) -> anyhow::Result<Option<String>> {
    let mark = watch.said.len();
    let mut driver = setting.workload(arguments)?;
    let phase = driver.must_phase()?;
    if phase.skipped.is_some() {
        all.skipped.insert(driver.pid());
    }
    let pids: BTreeSet<u32> = phase.processes.iter().map(|one| one.pid).collect();
    all.pids.extend(&pids);
    all.ledger.failures.extend(phase.ledger.failures.clone());
    all.ledger.searches.extend(phase.ledger.searches.clone());
    if let Some(why) = phase.skipped {
        driver.quit()?;
        return Ok(Some(why));
    }
    watch.now()?;
    // What belongs to an interval may follow its line; the next one ends it.
    watch.now()?;
    compare(backend, watch.said_since(mark), &phase, &pids)?;
    driver.quit()?;
    Ok(None)
}

fn compare(
    backend: &str,
    said: &[Value],
    phase: &Phase,
    pids: &BTreeSet<u32>,
) -> anyhow::Result<()> {
    let mut truth = Tally::default();
    truth.add(backend, &phase.ledger);
    truth.same_as(&Tally::of(said, |pid| pids.contains(&pid))?)?;
    circumstances(said, &phase.ledger)
}

/// Who has the ports of an exhausted range. Under a watch of its own, because sockleak looks
/// there as seldom as its cost allows, the first time at once. Backends and families have no part
/// in that answer, so they take turns: every workload runs over both.
fn breakdown(setting: &Setting, backend: &str, workload: &str) -> anyhow::Result<Outcome> {
    let turn = BREAKDOWNS.iter().position(|known| *known == workload);
    let turn = turn.unwrap_or(0) + usize::from(backend == "kprobe");
    let family = match turn % 2 {
        0 => "--family=4",
        _ => "--family=6",
    };
    loss::conclusive(setting, (backend, OLDER), Excused::SkippedRuns, |watch| {
        let mut driver = setting.workload(&[workload, COUNT, family])?;
        let phase = driver.must_phase()?;
        watch.now()?;
        watch.now()?;
        breakdowns(&watch.said, &phase.ledger)?;
        driver.quit()?;
        watch.stop()
    })
    .with_context(|| family.to_owned())?;
    Ok(Outcome::Pass)
}

/// Every port that connect() examined, 100 times.
fn candidates(setting: &Setting, backend: &str, workload: &str) -> anyhow::Result<Outcome> {
    if backend == "tracepoint" {
        let why = "tracepoints do not see where a search begins";
        return Ok(Outcome::Skip(why.to_owned()));
    }
    // The kernel fills its table of starting points in the very first search after boot, which
    // therefore cannot be counted. That the connection is refused does not matter.
    let _ = std::net::TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, 9));
    for family in ["--family=4", "--family=6"] {
        let events: &[&str] = &["--events"];
        let skipped = loss::conclusive(setting, (backend, events), Excused::Searching, |watch| {
            walked(setting, watch, workload, family)
        });
        if let Some(why) = skipped.with_context(|| family.to_owned())? {
            return Ok(Outcome::Skip(why));
        }
    }
    Ok(Outcome::Pass)
}

/// Replays every port search of a workload; the reason when this kernel cannot run it.
fn walked(
    setting: &Setting,
    watch: &mut Watch,
    workload: &str,
    family: &str,
) -> anyhow::Result<Option<String>> {
    let mut driver = setting.workload(&[workload, family])?;
    let phase = driver.must_phase()?;
    if phase.skipped.is_some() {
        return Ok(phase.skipped);
    }
    watch.now()?;
    // Before the workload's end, which makes many more events at once.
    watch.stop()?;
    driver.quit()?;
    let pid = phase.processes.first().map(|one| one.pid);
    let walks = phase.walks.context("the workload has not walked")?;
    let connects: Vec<_> = (watch.said.iter())
        .filter(|line| line["type"] == "event" && line["event"] == "connect")
        .filter(|line| line["pid"] == serde_json::json!(pid))
        .collect();
    let second = replayed(setting, &connects, &walks)?;
    // A range that two passes go over is made to be more than half full.
    ensure!(walks.own_range || second > 0, "no search went far enough");
    let expected = [connects.len() as u64 - second, second];
    let timed = timed_by_parity(&watch.said, pid);
    ensure!(
        timed == expected,
        "searches by parity {expected:?}, timed {timed:?}"
    );
    Ok(None)
}

/// connect() calls of a process whose times are in the histograms of the first and second parity.
fn timed_by_parity(lines: &[Value], pid: Option<u32>) -> [u64; 2] {
    let searches = (lines.iter())
        .filter(|line| line["type"] == "interval")
        .filter_map(|line| line["searches"].as_array())
        .flatten()
        .filter(|search| search["pid"] == serde_json::json!(pid) && search["op"] == "connect");
    let mut timed = [0; 2];
    for search in searches {
        let parities = ["first_parity_latency", "second_parity_latency"];
        for (sum, parity) in timed.iter_mut().zip(parities) {
            let buckets = search[parity]["histogram"].as_array();
            let calls = (buckets.into_iter().flatten()).filter_map(|bucket| bucket[1].as_u64());
            *sum += calls.sum::<u64>();
        }
    }
    timed
}

/// Holds every search against a replay; how many found their port in the second parity.
fn replayed(setting: &Setting, connects: &[&Value], walks: &Walks) -> anyhow::Result<u64> {
    let (events, calls) = (connects.len(), walks.ports.len());
    ensure!(events == calls, "{calls} connections, {events} events");
    let dst = walks.dst.map(|dst| dst.to_string());
    // The one pass came with 6.8; before, the socket's own range has two parities as well.
    let one_pass = walks.own_range && setting.kernel >= (6, 8);
    let mut second = 0;
    let mut taken: BTreeSet<u16> = walks.taken.iter().copied().collect();
    for (turn, (line, chosen)) in connects.iter().zip(&walks.ports).enumerate() {
        let at = || format!("connection {turn}: {line}");
        ensure!(line["dst"] == serde_json::json!(dst), "dst of {}", at());
        let src = line["src"].as_str().with_context(at)?;
        ensure!(src.ends_with(&format!(":{chosen}")), "src of {}", at());
        let search = &line["search"];
        let range = serde_json::json!(walks.range);
        ensure!(search["range"] == range, "range of {}", at());
        let start = u32::try_from(search["start"].as_u64().with_context(at)?)?;
        let walk = replay::walk(walks.range, start, one_pass, &taken);
        if walk.port != Some(*chosen) || search["candidates"] != walk.candidates {
            bail!("the replay gives {walk:?} for {}", at());
        }
        taken.insert(*chosen);
        second += u64::from(walk.is_second);
    }
    Ok(second)
}
