//! Do the demos' actors tell the truth, and does nothing outlive them? Held against the kernel
//! without sockleak. Needs root (CAP_SYS_ADMIN) for the namespaces.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sockleak::demo::{GroundTruth, Launcher, SCENARIOS, find};
use sockleak_tests::oracle::{hashed_by_state, tcp_descriptors};

fn launcher() -> Option<Launcher> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIP: demos need root for a network namespace");
        return None;
    }
    Some(Launcher::program(Path::new(env!("CARGO_BIN_EXE_workload"))))
}

fn holds(truth: &GroundTruth) {
    assert!(!truth.processes.is_empty());
    for own in &truth.processes {
        assert_eq!(tcp_descriptors(own.pid), own.held.total(), "{own:?}");
        let comm = fs::read_to_string(format!("/proc/{}/comm", own.pid)).expect("comm");
        assert_eq!(comm.trim_end(), own.comm);
    }
    let states = hashed_by_state(truth.processes[0].pid).expect("the namespace");
    let sum = |count: fn(&sockleak::demo::Held) -> u64| -> u64 {
        truth.processes.iter().map(|own| count(&own.held)).sum()
    };
    let established = states.get(&1).copied().unwrap_or(0);
    assert_eq!(established, sum(|held| held.established), "{states:?}");
}

#[test]
fn every_demo_tells_the_truth() {
    let Some(launcher) = launcher() else { return };
    for scenario in SCENARIOS {
        let begin = Instant::now();
        let mut running = scenario.start(&launcher).expect(scenario.name);
        let started = begin.elapsed();
        let first = running.count().expect("count");
        std::thread::sleep(Duration::from_millis(500));
        let truth = running.freeze().expect("freeze");
        eprintln!("{} after {started:.2?}: {truth:#?}", scenario.name);
        holds(&truth);
        for (before, after) in first.processes.iter().zip(&truth.processes) {
            assert_eq!(before.pid, after.pid);
            if before.guilty {
                assert!(
                    after.held.total() > before.held.total(),
                    "it does not grow: {after:?}"
                );
            }
        }
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(
            running.count().expect("count"),
            truth,
            "it moves while at rest"
        );
        running.stop();
    }
}

#[test]
fn the_bound_leak_is_the_incident() {
    let Some(launcher) = launcher() else { return };
    let mut running = find("bound-leak")
        .expect("known")
        .start(&launcher)
        .expect("start");
    let truth = running.freeze().expect("freeze");
    assert_eq!(truth.range, [50000, 62000]);
    let guilty: Vec<_> = truth.processes.iter().filter(|own| own.guilty).collect();
    let [app] = guilty[..] else {
        panic!("{guilty:?}")
    };
    assert_eq!(app.held.bound, 12_001);
    assert!(app.held.unbound > 7_000, "{app:?}");
    assert_eq!(app.failed_binds, app.held.unbound);
    let victim = truth
        .processes
        .iter()
        .find(|own| own.comm == "ftp")
        .expect("a victim");
    assert!(victim.failed_connects > 0 && victim.failed_binds > 0);
    assert_eq!(victim.held.total(), 0);
}

/// Processes that live in network namespace `netns`.
fn inhabitants(netns: u32) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        if sockleak::demo::namespace_inode(pid).is_ok_and(|inode| inode == netns) {
            found.insert(pid);
        }
    }
    found
}

/// The parent of this test is a process of its own, which is killed without warning.
#[test]
fn nothing_outlives_a_killed_parent() {
    if launcher().is_none() {
        return;
    }
    let mut parent = Command::new(env!("CARGO_BIN_EXE_workload"))
        .args(["hold-demo", "healthy"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("start");
    let mut line = String::new();
    let output = parent.stdout.take().expect("stdout");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).expect("line");
    let netns: u32 = line
        .trim()
        .parse()
        .unwrap_or_else(|_| panic!("said {line:?}"));
    let before = inhabitants(netns);
    assert!(before.len() >= 8, "{before:?}");

    parent.kill().expect("kill");
    parent.wait().expect("wait");
    let begin = Instant::now();
    while !inhabitants(netns).is_empty() {
        let left = inhabitants(netns);
        assert!(
            begin.elapsed() < Duration::from_secs(10),
            "{left:?} live on"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}
