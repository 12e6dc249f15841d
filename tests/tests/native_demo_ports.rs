//! Do the demos about ports come about, and does the remedy that each names help? Held against
//! the actors' own counts and the kernel's, without sockleak. Needs root for the namespaces.

use std::path::Path;
use std::time::{Duration, Instant};

use sockleak::demo::{GroundTruth, Launcher, ProcessTruth, Remedied, Running, find};
use sockleak_tests::oracle::hashed_by_state;

fn launcher() -> Option<Launcher> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIP: demos need root for a network namespace");
        return None;
    }
    Some(Launcher::program(Path::new(env!("CARGO_BIN_EXE_workload"))))
}

fn of<'a>(truth: &'a GroundTruth, comm: &str) -> &'a ProcessTruth {
    let mut all = truth.processes.iter().filter(|own| own.comm == comm);
    all.next()
        .unwrap_or_else(|| panic!("no {comm} in {truth:?}"))
}

/// The incident goes on for a second, then it is brought to rest.
fn play(mut running: Running) -> GroundTruth {
    std::thread::sleep(Duration::from_secs(1));
    running.freeze().expect("freeze")
}

fn incident(name: &str, launcher: &Launcher) -> Running {
    let scenario = find(name).expect("known");
    scenario.start(launcher).expect("start")
}

#[test]
fn time_wait_takes_the_range_and_reuse_gives_it_back() {
    let Some(launcher) = launcher() else { return };
    let truth = play(incident("time-wait", &launcher));
    let made: u64 = truth.processes.iter().map(|own| own.connects).sum();
    let size = u64::from(truth.range[1] - truth.range[0]) + 1;
    let web = of(&truth, "health-check");
    assert_eq!(web.failed_connects, 0, "{web:?}");
    assert!(web.connects > 10, "{web:?}");
    let made = made - web.connects;
    assert_eq!(made, size, "one TIME_WAIT per port");
    let failed: u64 = truth.processes.iter().map(|own| own.failed_connects).sum();
    assert!(failed > 10, "{truth:?}");
    let cron = of(&truth, "cron");
    assert_eq!(cron.connects, 0, "{cron:?}");
    assert!(cron.failed_connects > 10, "{cron:?}");

    for remedy in [Remedied::TimeWaitReuse, Remedied::WiderRange] {
        let truth = play(remedy.start(&launcher).expect("start"));
        let failed: u64 = truth.processes.iter().map(|own| own.failed_connects).sum();
        assert_eq!(failed, 0, "{remedy:?}: {truth:?}");
        assert!(of(&truth, "cron").connects > 10, "{remedy:?}: {truth:?}");
    }
}

#[test]
fn binding_late_lets_destinations_share_ports() {
    let Some(launcher) = launcher() else { return };
    let truth = play(incident("bind-early", &launcher));
    let proxy = of(&truth, "proxy");
    assert_eq!(proxy.connects, 2_000, "{proxy:?}");
    assert!(proxy.failed_binds > 440, "{proxy:?}");
    let truth = play(Remedied::BindLate.start(&launcher).expect("start"));
    let proxy = of(&truth, "proxy");
    assert!(proxy.connects > 2_440, "{proxy:?}");
    assert_eq!(proxy.failed_binds, 0, "{proxy:?}");
}

#[test]
fn bound_ports_are_lost_to_connect_and_others_are_not() {
    let Some(launcher) = launcher() else { return };
    let truth = play(incident("reuse-theft", &launcher));
    assert_eq!(of(&truth, "gateway").connects, 800);
    assert_eq!(of(&truth, "agent").connects, 1_000);
    let second = of(&truth, "gateway-2");
    assert_eq!(second.connects, 0, "{second:?}");
    assert!(second.failed_connects > 10, "{second:?}");
    let truth = play(Remedied::PortsElsewhere.start(&launcher).expect("start"));
    assert_eq!(of(&truth, "agent").connects, 1_000);
    let second = of(&truth, "gateway-2");
    assert_eq!(second.failed_connects, 0, "{second:?}");
    assert!(second.connects > 10, "{second:?}");
}

#[test]
fn parity_grows_step_by_step() {
    let Some(launcher) = launcher() else { return };
    let scenario = find("parity").expect("known");
    let mut running = incident("parity", &launcher);
    let mut times = Vec::new();
    for _ in 0..scenario.steps {
        let begin = Instant::now();
        running.step().expect("step");
        times.push(begin.elapsed());
    }
    let truth = running.freeze().expect("freeze");
    eprintln!("{times:.1?}");
    let [low, high] = truth.range;
    let size = u64::from(high - low) + 1;
    let gateway = of(&truth, "gateway");
    assert_eq!(size, 28_232);
    assert_eq!(gateway.connects, size / 2 + 3_000, "{gateway:?}");
    assert_eq!(gateway.held.established, gateway.connects);
    let accepted: u64 = (truth.processes.iter())
        .filter(|own| own.dst.is_none())
        .map(|own| own.held.established)
        .sum();
    let ranged = of(&truth, "gateway-ranged").connects;
    assert_eq!(accepted, gateway.connects + ranged);
}

#[test]
fn orphans_are_in_the_namespace_and_behind_no_descriptor() {
    let Some(launcher) = launcher() else { return };
    let mut running = incident("orphans", &launcher);
    std::thread::sleep(Duration::from_secs(1));
    let truth = running.freeze().expect("freeze");
    let server = of(&truth, "httpdns");
    assert!(server.orphaned > 550, "{server:?}");
    let states = hashed_by_state(server.pid).expect("the namespace");
    // FIN_WAIT1.
    assert_eq!(
        states.get(&4).copied().unwrap_or(0),
        server.orphaned,
        "{states:?}"
    );
    assert_eq!(of(&truth, "clients").held.established, server.orphaned);
    running.stop();
}

/// How many are in this state in the namespace of the name server.
fn in_state(truth: &GroundTruth, state: u8) -> u64 {
    let states = hashed_by_state(of(truth, "httpdns").pid).expect("the namespace");
    states.get(&state).copied().unwrap_or(0)
}

const ESTABLISHED: u8 = 1;
const FIN_WAIT1: u8 = 4;

#[test]
fn what_is_said_against_orphans_helps() {
    let Some(launcher) = launcher() else { return };
    let mut running = Remedied::OrphansReset.start(&launcher).expect("start");
    let truth = running.freeze().expect("freeze");
    assert!(of(&truth, "httpdns").orphaned > 500, "{truth:?}");
    assert_eq!(in_state(&truth, FIN_WAIT1), 0);
    assert_eq!(in_state(&truth, ESTABLISHED), 0, "the clients are told");
    running.stop();

    let mut running = Remedied::OrphansTimeOut.start(&launcher).expect("start");
    let truth = running.freeze().expect("freeze");
    let begin = Instant::now();
    while in_state(&truth, FIN_WAIT1) > 0 {
        let left = in_state(&truth, FIN_WAIT1);
        assert!(begin.elapsed() < Duration::from_secs(20), "{left} are left");
        std::thread::sleep(Duration::from_millis(100));
    }
    eprintln!("the last orphan was given up after {:.1?}", begin.elapsed());
    running.stop();
}
