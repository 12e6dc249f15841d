//! Do the workloads tell the truth? Held against what the kernel says of them, without sockleak:
//! /proc/PID/fd with the `system.sockprotoname` attribute, and /proc/PID/net/tcp{,6} of their
//! private namespace. Needs root (CAP_SYS_ADMIN) for the namespaces.

use std::path::Path;

use sockleak_tests::oracle::{hashed_by_state, tcp_descriptors};
use sockleak_tests::workload::{Driver, Phase, Truth, WORKLOADS};

fn check(phase: &Phase, namespace_of: u32, mptcp: bool) {
    let at = format!("{} {}", phase.workload, phase.phase);
    for truth in &phase.processes {
        if truth.exited {
            assert_eq!(truth.total(), 0, "{at}");
        } else if !mptcp {
            let seen = tcp_descriptors(truth.pid);
            assert_eq!(seen, truth.total(), "{at}: descriptors of {truth:?}");
        }
    }
    let states = hashed_by_state(namespace_of).expect("the namespace");
    let in_state = |state: u8| states.get(&state).copied().unwrap_or(0);
    let sum = |count: fn(&Truth) -> u64| -> u64 { phase.processes.iter().map(count).sum() };
    if !mptcp {
        assert_eq!(
            in_state(10),
            sum(|one| one.listen),
            "{at}: LISTEN in {states:?}"
        );
        let established = sum(|one| one.established) + phase.accept_queue;
        assert_eq!(in_state(1), established, "{at}: ESTABLISHED in {states:?}");
        assert_eq!(
            in_state(8),
            sum(|one| one.close_wait),
            "{at}: CLOSE_WAIT in {states:?}"
        );
        assert_eq!(in_state(4), phase.orphans, "{at}: FIN_WAIT1 in {states:?}");
        // FIN_WAIT2 (5) is also how a TIME_WAIT in that substate is listed.
        for unexpected in [2, 3, 9, 11] {
            assert_eq!(
                in_state(unexpected),
                0,
                "{at}: state {unexpected} in {states:?}"
            );
        }
    }
    if let Some(live) = phase.live() {
        // Shared sockets are held by every one of three processes in `forked`.
        let shared = sum(|one| one.shared);
        let sharers = phase.processes.iter().filter(|one| one.shared > 0).count() as u64;
        let distinct = sum(|one| one.total()) - shared
            + shared.checked_div(sharers).unwrap_or(0)
            + phase.accept_queue
            + phase.orphans
            + phase.in_flight;
        assert_eq!(live, distinct as i64, "{at}: live sockets");
    }
}

fn drive(arguments: &[&str]) -> Vec<String> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIP: {arguments:?} needs root for a network namespace");
        return Vec::new();
    }
    let program = Path::new(env!("CARGO_BIN_EXE_workload"));
    let mut driver = Driver::start(program, arguments).expect("start");
    let mut names = Vec::new();
    while let Some(phase) = driver.phase().expect("phase") {
        names.push(phase.phase.clone());
        if let Some(why) = &phase.skipped {
            eprintln!("SKIP: {arguments:?}: {why}");
            break;
        }
        check(&phase, driver.pid(), arguments[0] == "mptcp");
        if names.len() == 4 {
            break;
        }
        driver.step().expect("step");
    }
    driver.quit().expect("quit");
    names
}

#[test]
fn every_workload_tells_the_truth_over_ipv4_and_ipv6() {
    for (name, ..) in WORKLOADS {
        for family in ["--family=4", "--family=6"] {
            let phases = drive(&[name, "--count=50", "--processes=3", family]);
            eprintln!("{name} {family}: {phases:?}");
        }
    }
}

#[test]
fn thousands_of_sockets_in_several_processes() {
    let phases = drive(&["unbound-leak", "--count=5000"]);
    eprintln!("{phases:?}");
}
