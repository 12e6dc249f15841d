//! The systemd unit: what systemd thinks of it, and whether its command line is one of ours.

use std::fs;
use std::io::Write as _;
use std::process::Command;

use clap::Parser as _;
use sockleak::cli::args::{Cli, Command as Sub};

const UNIT: &str = include_str!("../../../docs/systemd/sockleak-watch.service");

/// The values of a setting, in order.
fn values(name: &str) -> Vec<&'static str> {
    let of = |line: &'static str| line.strip_prefix(name)?.strip_prefix('=');
    UNIT.lines().filter_map(of).collect()
}

#[test]
fn it_starts_a_watch_whose_lines_programs_can_read() {
    let [start] = values("ExecStart")[..] else {
        panic!("one command");
    };
    let cli = Cli::try_parse_from(start.split(' ')).expect("it is a command line");
    let Sub::Watch(watch) = cli.command else {
        panic!("{start}");
    };
    assert!(watch.output.json);
}

#[test]
fn its_capabilities_are_those_that_the_documentation_explains() {
    let security = include_str!("../../../SECURITY.md");
    let [capabilities] = values("CapabilityBoundingSet")[..] else {
        panic!("one set");
    };
    for capability in capabilities.split(' ') {
        let explained = security
            .lines()
            .any(|line| line.starts_with('|') && line.contains(capability));
        assert!(explained, "{capability}");
    }
    for needed in ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN", "CAP_SYS_PTRACE"] {
        assert!(capabilities.split(' ').any(|one| one == needed), "{needed}");
    }
}

#[test]
fn systemd_understands_all_of_it() {
    let dir = std::env::temp_dir().join(format!("sockleak-unit-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a directory");
    let path = dir.join("sockleak-watch.service");
    // Which program there is, is not the question; whether there is one is.
    let unit = UNIT.replace("/usr/bin/sockleak", "/bin/true");
    fs::write(&path, unit).expect("it is ours");
    let verified = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .arg(&path)
        .output();
    fs::remove_dir_all(&dir).expect("it is ours");
    let Ok(output) = verified else {
        let reason = "SKIPPED unit: systemd-analyze is not here (apt install systemd)";
        let _ = writeln!(std::io::stderr(), "{reason}");
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let about_it: Vec<_> = said
        .lines()
        .filter(|line| line.contains("sockleak-watch"))
        .collect();
    assert!(about_it.is_empty(), "{said}");
    assert!(output.status.success(), "{said}");
}
