//! Do the demos' actors tell the truth, and does nothing outlive them? Held against the kernel
//! without sockleak. Needs root (CAP_SYS_ADMIN) for the namespaces.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
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

/// Waits until nobody lives in the namespace any more.
fn deserted(netns: u32) {
    let begin = Instant::now();
    while !inhabitants(netns).is_empty() {
        let left = inhabitants(netns);
        assert!(
            begin.elapsed() < Duration::from_secs(30),
            "{left:?} live on"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn sockleak(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sockleak-under-test"));
    command.args(arguments).stdout(Stdio::piped());
    command
}

/// Starts `sockleak demo NAME --hold --json` and returns it with its namespace.
fn held(name: &str) -> (Child, u32) {
    let mut demo = sockleak(&["demo", name, "--hold", "--json"])
        .spawn()
        .expect("start");
    let mut line = String::new();
    let output = demo.stdout.take().expect("stdout");
    BufReader::new(output).read_line(&mut line).expect("line");
    let object: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    let netns = object["truth"]["netns"].as_u64().expect("netns");
    (demo, u32::try_from(netns).expect("an inode number"))
}

#[test]
fn nothing_outlives_a_demo_that_is_ended_or_killed() {
    if launcher().is_none() {
        return;
    }
    for (name, signal) in [
        ("healthy", Signal::TERM),
        ("healthy", Signal::INT),
        ("healthy", Signal::KILL),
        ("closed-leak", Signal::KILL),
    ] {
        let (mut demo, netns) = held(name);
        let before = inhabitants(netns);
        assert!(before.len() >= 7, "{before:?}");
        let pid = Pid::from_child(&demo);
        rustix::process::kill_process(pid, signal).expect("kill");
        let status = demo.wait().expect("wait");
        assert_eq!(status.success(), signal != Signal::KILL, "{status}");
        deserted(netns);
    }
}

/// The whole command: the incident, the report, and that they agree.
#[test]
fn every_demo_agrees_with_its_report() {
    if launcher().is_none() {
        return;
    }
    for scenario in SCENARIOS {
        let output = sockleak(&["demo", scenario.name, "--json"])
            .output()
            .expect("run");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        if output.status.code() == Some(3) {
            eprintln!(
                "SKIP: demo {}: this kernel does not allow tracing",
                scenario.name
            );
            continue;
        }
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        let [end, demo] = &lines[..] else {
            panic!("{text}")
        };
        assert_eq!(
            (&end["type"], &demo["type"]),
            (&"end".into(), &"demo".into())
        );
        assert_eq!(demo["equal"], true, "{}", demo["check"]["wrong"]);
        assert_eq!(output.status.code(), Some(0));
        let accused = end["leaks"].as_array().expect("leaks").len();
        if scenario.name == "parity" {
            let processes = demo["truth"]["processes"].as_array().expect("processes");
            let gateway = processes.iter().find(|own| own["comm"] == "gateway");
            let gateway = gateway.expect("a gateway");
            let hot = end["hot_loops"].as_array().expect("hot loops");
            let who: Vec<_> = hot.iter().map(|one| (&one["pid"], &one["dst"])).collect();
            assert_eq!(who, [(&gateway["pid"], &gateway["dst"])], "{hot:?}");
        }
        let processes = demo["truth"]["processes"].as_array().expect("processes");
        let leaks = processes.iter().any(|own| own["guilty"] == true);
        assert_eq!(accused > 0, leaks, "{}", end["leaks"]);
        for leak in end["leaks"].as_array().expect("leaks") {
            // The demo has all stacks taken.
            assert_eq!(leak["stacked"], leak["count"], "{leak}");
            let frames = leak["stack"].as_array().expect("a stack");
            let named = |frame: &serde_json::Value| frame.to_string().contains("demo::");
            assert!(frames.iter().any(named), "{leak}");
        }
    }
}

#[test]
fn an_unknown_demo_is_a_usage_error() {
    let output = sockleak(&["demo", "no-such-incident"])
        .output()
        .expect("run");
    assert_eq!(output.status.code(), Some(2));
    let list = sockleak(&["demo"]).output().expect("run");
    assert_eq!(
        String::from_utf8(list.stdout)
            .expect("UTF-8")
            .lines()
            .count(),
        SCENARIOS.len()
    );
}
