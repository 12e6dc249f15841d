//! Do the workloads of failures tell the truth? They stop when a call returns anything else than
//! is meant; here it is held against what the kernel says without sockleak that every one of
//! them runs, and how many ports of its range are taken by what. Needs root.

use std::collections::BTreeSet;
use std::path::Path;

use sockleak_tests::workload::{Driver, FAILURES, Phase};

/// States of /proc/net/tcp by number (include/net/tcp_states.h).
const ESTABLISHED: u8 = 1;
const TIME_WAIT: [u8; 2] = [5, 6];

/// Local port, remote port and state of everything in /proc/PID/net/tcp and tcp6.
fn table(pid: u32) -> Vec<(u16, u16, u8)> {
    let port = |address: &str| {
        let (_, port) = address.rsplit_once(':').expect("an address has a port");
        u16::from_str_radix(port, 16).expect("hexadecimal")
    };
    let mut rows = Vec::new();
    for name in ["tcp", "tcp6"] {
        let text = std::fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let words: Vec<_> = line.split_whitespace().collect();
            let state = u8::from_str_radix(words[3], 16).expect("hexadecimal");
            rows.push((port(words[1]), port(words[2]), state));
        }
    }
    rows
}

fn check(phase: &Phase, pid: u32) {
    let at = &phase.workload;
    let no_failure = phase.walks.is_some() || at == "peer-refuses";
    assert_eq!(phase.ledger.failures.is_empty(), no_failure, "{at}");
    assert!(!phase.ledger.searches.is_empty(), "{at}");
    let rows = table(pid);
    for failure in &phase.ledger.failures {
        assert!(failure.count > 0, "{at}: {failure:?}");
        let (Some(taken), Some([low, high])) = (failure.breakdown, failure.range) else {
            continue;
        };
        let in_state = |states: &[u8]| {
            let ports: BTreeSet<_> = (rows.iter())
                .filter(|(local, _, state)| (low..=high).contains(local) && states.contains(state))
                .filter(|(_, remote, _)| failure.dst.is_none_or(|dst| dst.port() == *remote))
                .map(|(local, ..)| local)
                .collect();
            ports.len() as u64
        };
        let seen = (in_state(&[ESTABLISHED]), in_state(&TIME_WAIT));
        assert_eq!(seen, (taken.connected, taken.time_wait), "{at}: {rows:?}");
        let all = taken.connected + taken.time_wait + taken.bound + taken.reserved;
        assert_eq!(all, u64::from(high - low) + 1, "{at}: the range is taken");
    }
    if let Some(walks) = &phase.walks {
        let distinct: BTreeSet<_> = walks.ports.iter().chain(&walks.taken).collect();
        assert_eq!(
            distinct.len(),
            walks.ports.len() + walks.taken.len(),
            "{at}"
        );
        assert_eq!(walks.ports.len(), 100, "{at}");
    }
}

#[test]
fn every_failure_is_provoked_over_ipv4_and_ipv6() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIP: failures need root for a network namespace");
        return;
    }
    let program = Path::new(env!("CARGO_BIN_EXE_workload"));
    for (name, ..) in FAILURES {
        for family in ["--family=4", "--family=6"] {
            let arguments = [name, "--count=7", "--processes=3", family];
            let mut driver = Driver::start(program, &arguments).expect("start");
            let phase = driver.must_phase().expect("phase");
            match &phase.skipped {
                Some(why) => eprintln!("SKIP: {name} {family}: {why}"),
                None => check(&phase, driver.pid()),
            }
            driver.quit().expect("quit");
        }
    }
}
