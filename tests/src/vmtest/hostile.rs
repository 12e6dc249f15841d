//! Without privileges, with a hostile process name, with a reader that goes away.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::agent::{self, finish};
use super::setting::Setting;
use super::suite::{Outcome, Suite};

/// The user that owns nothing.
const NOBODY: u32 = 65534;

pub(super) fn run(setting: &Setting, suite: &mut Suite) {
    suite.test("unprivileged", || unprivileged(setting));
    suite.test("terminal-escapes", || escapes(setting));
    suite.test("reader-gone", || reader_gone(setting));
    suite.test("usage", || usage(setting));
}

/// Status 3, and the message says which capability is missing and how to get it.
fn unprivileged(setting: &Setting) -> anyhow::Result<Outcome> {
    // The binary may lie where only root may look.
    let copy = std::env::temp_dir().join(format!("sockleak-{}", std::process::id()));
    std::fs::copy(&setting.sockleak, &copy).context("cannot copy sockleak")?;
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755))?;
    let run = finish(
        Command::new(&copy)
            .args(["watch", "--json", "-d", "1s"])
            .current_dir("/")
            .uid(NOBODY)
            .gid(NOBODY),
    );
    std::fs::remove_file(&copy)?;
    let run = run?;
    ensure!(
        run.status == Some(3),
        "status {:?}: {}",
        run.status,
        run.stderr
    );
    ensure!(
        run.stderr.contains("CAP_"),
        "no capability is named: {}",
        run.stderr
    );
    ensure!(
        run.stderr.contains("sudo"),
        "no command is given: {}",
        run.stderr
    );
    Ok(Outcome::Pass)
}

/// A process whose name is an escape sequence: no output carries it.
fn escapes(setting: &Setting) -> anyhow::Result<Outcome> {
    let mut driver = setting.workload(&["named", "--count=2000"])?;
    let phase = driver.must_phase()?;
    let Some(pid) = phase.processes.first().map(|truth| truth.pid.to_string()) else {
        bail!("the workload has no process");
    };
    let runs: [&[&str]; 6] = [
        &["snapshot", "--color=never"],
        &["snapshot", "--color=never", "--sockets", "-p", &pid],
        &["snapshot", "--color=never", "--no-bpf"],
        &["snapshot", "--json"],
        &[
            "watch",
            "--plain",
            "--color=never",
            "-i",
            "500ms",
            "-d",
            "2s",
            "--older=500ms",
        ],
        &[
            "watch",
            "--json",
            "-i",
            "500ms",
            "-d",
            "2s",
            "--older=500ms",
        ],
    ];
    for arguments in runs {
        let run = agent::run(setting, arguments)?;
        ensure!(
            run.status == Some(0),
            "{arguments:?}: {:?} {}",
            run.status,
            run.stderr
        );
        let text = String::from_utf8(run.stdout).context("output is not UTF-8")?;
        ensure!(text.contains(&pid), "{arguments:?} does not show pid {pid}");
        for (output, text) in [("stdout", &text), ("stderr", &run.stderr)] {
            let control = text.chars().find(|c| c.is_control() && *c != '\n');
            ensure!(control.is_none(), "{arguments:?}: {control:?} on {output}");
        }
        ensure!(
            text.contains("x1b]0;x"),
            "{arguments:?} does not show the name"
        );
    }
    driver.quit()?;
    Ok(Outcome::Pass)
}

/// A closed pipe ends it quietly and soon.
fn reader_gone(setting: &Setting) -> anyhow::Result<Outcome> {
    let mut child = Command::new(&setting.sockleak)
        .args(["watch", "--json", "-i", "500ms"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    drop(child.stdout.take());
    let begin = Instant::now();
    while child.try_wait()?.is_none() {
        if begin.elapsed() > setting.patience {
            child.kill()?;
            child.wait()?;
            bail!("it goes on without a reader");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(0),
        "{}: {stderr}",
        output.status
    );
    ensure!(stderr.is_empty(), "it is not quiet: {stderr}");
    Ok(Outcome::Pass)
}

/// Wrong usage is status 2.
fn usage(setting: &Setting) -> anyhow::Result<Outcome> {
    for arguments in [
        &["watch", "--no-such-flag"][..],
        &["no-such-command"],
        &["watch", "-i", "x"],
    ] {
        let run = agent::run(setting, arguments)?;
        ensure!(
            run.status == Some(2),
            "{arguments:?}: {:?} {}",
            run.status,
            run.stderr
        );
        ensure!(run.stdout.is_empty(), "{arguments:?} prints to stdout");
    }
    Ok(Outcome::Pass)
}
