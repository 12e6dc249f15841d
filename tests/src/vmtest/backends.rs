//! Every backend, forced in turn.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use sockleak::demo::{self, Launcher, Scenario};

use super::bpf_ids::{self, Kind};
use super::loss::{self, Excused};
use super::setting::Setting;
use super::suite::{Outcome, Suite};
use super::totals::Totals;
use super::watch::{Refusal, Watch};
use super::workloads::{self, OLDER};
use super::{compare, failures, origins, run as runs};
use crate::workload::{Driver, Phase, Truth, WORKLOADS};

/// Backends, and whether they see sockets that only the kernel creates.
const BACKENDS: [(&str, bool); 3] = [("fentry", true), ("kprobe", true), ("tracepoint", false)];

pub(super) fn run(setting: &Setting, suite: &mut Suite) {
    for (backend, exact) in BACKENDS {
        if !names(backend).iter().any(|name| suite.wants(name)) {
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
        failures::all(setting, suite, backend);
        suite.test(&format!("{backend}/mptcp"), || {
            workloads::mptcp(setting, backend, exact)
        });
        suite.test(&format!("{backend}/leak"), || leak(setting, backend));
        suite.test(&format!("{backend}/older-leak"), || {
            older_leak(setting, backend)
        });
        suite.test(&format!("{backend}/origins"), || {
            origins::told(setting, backend)
        });
        suite.test(&format!("{backend}/healthy"), || healthy(setting, backend));
        suite.test(&format!("{backend}/run"), || {
            runs::everything(setting, backend)
        });
        suite.test(&format!("{backend}/full-map"), || {
            full_map(setting, backend)
        });
        suite.test(&format!("{backend}/sigkill"), || sigkill(setting, backend));
        suite.test(&format!("{backend}/sigkill-any-time"), || {
            sigkill_any_time(setting, backend)
        });
    }
}

/// All tests of a backend: it need not be tried when none of them is wanted.
fn names(backend: &str) -> Vec<String> {
    let own = [
        "attach",
        "mptcp",
        "leak",
        "older-leak",
        "origins",
        "healthy",
        "run",
        "full-map",
        "sigkill",
        "sigkill-any-time",
    ];
    let mut names: Vec<String> = own.map(|test| format!("{backend}/{test}")).to_vec();
    names.extend(
        WORKLOADS
            .iter()
            .map(|(name, ..)| format!("{backend}/workload/{name}")),
    );
    names.extend(failures::names(backend));
    names
}

/// Can the backend be had? `None` when it can.
fn probe(setting: &Setting, backend: &str) -> anyhow::Result<Option<Refusal>> {
    match Watch::start(setting, backend, &[])? {
        Ok(mut watch) => {
            let hooks = watch.said.first().map(|start| start["hooks"].clone());
            let hooks = hooks.context("no start line")?;
            // Of the kernels of the matrix all offer everything with each backend; who accepts has no tracepoint.
            let all = [
                "alloc",
                "destroy",
                "accept",
                "ending",
                "connect",
                "bind",
                "accept_owner",
            ];
            let wanted = match (setting.guest, backend) {
                (false, _) => &all[..2],
                (true, "tracepoint") => &all[..6],
                (true, _) => &all[..],
            };
            for hook in wanted {
                let served_by = &hooks[hook]["backend"];
                ensure!(served_by == backend, "{hook} is served by {served_by}");
            }
            let end = watch.stop()?;
            let lost = loss::reported(&end, Excused::Searching)?;
            ensure!(lost.is_none(), "lost something: {lost:?}");
            // Whether the kernel counts the hits of kprobes that it skips.
            let coverage = end["coverage"].to_string();
            let uncounted = backend == "kprobe" && setting.kernel < (6, 7);
            ensure!(
                coverage.contains("does not say how often") == uncounted,
                "skipped kprobes: {coverage}"
            );
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
    loss::conclusive(setting, (backend, OLDER), Excused::Searching, |watch| {
        leak_under(setting, watch, setting.many_with(backend))
    })
}

fn leak_under(setting: &Setting, watch: &mut Watch, many: usize) -> anyhow::Result<Outcome> {
    let mut totals = Totals::default();
    let count = format!("--count={many}");
    let mut driver = setting.workload(&["unbound-leak", &count])?;
    let leaked = driver.must_phase()?;
    compare::holdings(&watch.now()?, &leaked).context("leaked")?;
    driver.step()?;
    let grown = driver.must_phase()?;
    compare::holdings(&watch.now()?, &grown).context("grown")?;
    let seen = accusations(watch, &grown.processes, "unbound")?;
    ensure!(
        seen.len() == grown.processes.len(),
        "{} accused: {seen:?}",
        seen.len()
    );
    driver.step()?;
    let closed = driver.must_phase()?;
    compare::holdings(&watch.now()?, &closed).context("closed")?;
    totals.add(&closed);
    driver.quit()?;
    totals.check(setting, &watch.stop()?)?;
    Ok(Outcome::Pass)
}

/// Lets the sockets grow old and looks for a `leak` line with the exact count for each process.
fn accusations(watch: &mut Watch, processes: &[Truth], class: &str) -> anyhow::Result<Vec<Value>> {
    // [`OLDER`], and a little more.
    std::thread::sleep(Duration::from_millis(2_500));
    let mark = watch.said.len();
    watch.now()?;
    // `leak` lines follow their interval: the next one ends them.
    watch.now()?;
    let said = watch.said_since(mark);
    Ok((processes.iter())
        .filter_map(|truth| {
            said.iter()
                .find(|line| accuses(line, truth, class))
                .cloned()
        })
        .collect())
}

fn accuses(line: &Value, truth: &Truth, class: &str) -> bool {
    let held = truth.unbound + truth.bound;
    line["type"] == "leak"
        && line["pid"] == truth.pid
        && line["class"] == class
        && line["count"] == held
        && line["holders"] == serde_json::json!([truth.pid])
}

/// The leak is older than sockleak: classes are exact all the same, for bound sockets, too.
fn older_leak(setting: &Setting, backend: &str) -> anyhow::Result<Outcome> {
    let count = format!("--count={}", setting.many_with(backend) / 2);
    loss::repeated(Excused::SkippedRuns, || {
        let mut driver = setting.workload(&["bound-leak", &count, "--processes=2"])?;
        let leaked = driver.must_phase()?;
        let mut watch = Watch::must_start(setting, backend, OLDER)?;
        let outcome = older_leak_under(setting, &mut watch, driver, &leaked);
        Ok((watch, outcome))
    })
}

fn older_leak_under(
    setting: &Setting,
    watch: &mut Watch,
    mut driver: Driver,
    leaked: &Phase,
) -> anyhow::Result<Outcome> {
    compare::holdings(&watch.now()?, leaked).context("leaked")?;
    driver.step()?;
    let grown = driver.must_phase()?;
    compare::holdings(&watch.now()?, &grown).context("grown")?;
    let seen = accusations(watch, &grown.processes, "bound")?;
    ensure!(
        seen.len() == grown.processes.len(),
        "{} accused: {seen:?}",
        seen.len()
    );
    driver.step()?;
    let closed = driver.must_phase()?;
    compare::holdings(&watch.now()?, &closed).context("closed")?;
    driver.quit()?;
    super::totals::balanced(setting, &watch.stop()?)?;
    Ok(Outcome::Pass)
}

/// The busy, correct server: nobody is accused.
fn healthy(setting: &Setting, backend: &str) -> anyhow::Result<Outcome> {
    let scenario = demo::find("healthy").context("no scenario")?;
    let soon: &[&str] = &["--older=1s"];
    loss::conclusive(setting, (backend, soon), Excused::SkippedRuns, |watch| {
        healthy_under(setting, watch, scenario)
    })
}

fn healthy_under(
    setting: &Setting,
    watch: &mut Watch,
    scenario: &Scenario,
) -> anyhow::Result<Outcome> {
    let mut running = scenario.start(&Launcher::this_binary())?;
    for _ in 0..8 {
        std::thread::sleep(Duration::from_secs(1));
        watch.now()?;
    }
    let truth = running.freeze()?;
    let interval = watch.now()?;
    for own in &truth.processes {
        let row = compare::row(&interval, own.pid);
        let total = row.map_or(0, |row| row["total"].as_u64().unwrap_or(u64::MAX));
        ensure!(total == own.held.total(), "{own:?} reported as {row:?}");
    }
    running.stop();
    let end = watch.stop()?;
    for line in &watch.said {
        let ours = truth.processes.iter().any(|own| line["pid"] == own.pid);
        ensure!(
            line["type"] != "leak" || !(ours || setting.guest),
            "accused: {line}"
        );
    }
    super::totals::balanced(setting, &end)?;
    Ok(Outcome::Pass)
}

/// More sockets than the map has room for: a counted loss that is said aloud, and the inventory
/// still knows every socket.
fn full_map(setting: &Setting, backend: &str) -> anyhow::Result<Outcome> {
    let mut watch = Watch::must_start(setting, backend, &["--max-sockets=100"])?;
    let mut driver = setting.workload(&["unbound-leak", "--count=1000", "--processes=1"])?;
    let leaked = driver.must_phase()?;
    let interval = watch.now()?;
    compare::holdings(&interval, &leaked)?;
    let full = interval["loss"]["sockets_full"]
        .as_u64()
        .context("no counter")?;
    // There is room for a third more: the tables are not made to be full.
    ensure!(
        (860..=900).contains(&full),
        "100 of 1000 sockets were to fit, and {full} did not"
    );
    driver.quit()?;
    let end = watch.stop()?;
    // What was not recorded is counted all the same.
    super::totals::balanced(setting, &end)?;
    let coverage = end["coverage"].to_string();
    ensure!(
        coverage.contains("--max-sockets"),
        "no remedy is given: {coverage}"
    );
    Ok(Outcome::Pass)
}

/// Killed without warning it leaves nothing in the kernel.
fn sigkill(setting: &Setting, backend: &str) -> anyhow::Result<Outcome> {
    let kinds = [Kind::Program, Kind::Link];
    let before: Vec<_> = kinds
        .into_iter()
        .map(bpf_ids::all)
        .collect::<Result<_, _>>()?;
    let mut watch = Watch::must_start(setting, backend, OLDER)?;
    watch.now()?;
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
            // What the watch before us has left to be freed may be among `before`.
            ensure!(
                after.is_subset(&before),
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

/// The same while it is still probing, loading or attaching.
fn sigkill_any_time(setting: &Setting, backend: &str) -> anyhow::Result<Outcome> {
    if !setting.guest {
        let why = "others load BPF programs on this machine, too, so nobody knows whose are left";
        return Ok(Outcome::Skip(why.to_owned()));
    }
    let kinds = [Kind::Program, Kind::Link];
    let before: Vec<_> = kinds
        .into_iter()
        .map(bpf_ids::all)
        .collect::<Result<_, _>>()?;
    let moments = [5, 20, 50, 100, 200, 300, 500, 700, 1000, 1500, 2000, 3000];
    // All of them with the first backend; the others begin in the same way.
    let every = if backend == "fentry" { 1 } else { 2 };
    for delay in moments.into_iter().step_by(every) {
        let mut child = std::process::Command::new(&setting.sockleak)
            .args(["watch", "--json", "-i", "100ms", "--backend", backend])
            .stdout(std::process::Stdio::null())
            .spawn()?;
        std::thread::sleep(Duration::from_millis(delay));
        child.kill()?;
        child.wait()?;
        for (kind, before) in kinds.into_iter().zip(&before) {
            let begin = Instant::now();
            while !bpf_ids::all(kind)?.is_subset(before) {
                ensure!(
                    begin.elapsed() < setting.patience,
                    "after {delay} ms: {kind:?} ids before {before:?}, after {:?}",
                    bpf_ids::all(kind)?
                );
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
    Ok(Outcome::Pass)
}
