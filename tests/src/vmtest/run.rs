//! `sockleak run` with commands whose every socket is known: children and grandchildren, exec, a
//! process left behind, signals, and many processes of a millisecond.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{IntoRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket, socket_with};
use rustix::process::{Pid, Signal, getpid, kill_process};
use serde_json::Value;

use super::agent;
use super::setting::Setting;
use super::suite::Outcome;
use crate::schema;

/// First argument with which the test program is a command that leaves sockets open.
pub(super) const COMMAND: &str = "__leaver";

/// One socket in this many is leaked by [`storm`].
const EVERY: usize = 7;

/// Plays a command.
pub(super) fn play(arguments: &[String]) -> ExitCode {
    match act(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{arguments:?}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(arguments: &[String]) -> anyhow::Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["tree", count] => {
            tree()?;
            storm(count.parse()?)
        }
        ["clean"] => {
            drop([tcp()?, tcp()?, tcp()?]);
            Ok(())
        }
        ["unused", count] => (0..count.parse()?).try_for_each(|_: u32| forget(tcp()?)),
        ["refused"] => {
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
            let made = tcp()?;
            ensure!(connect(&made, &free).is_err(), "{free} is taken");
            forget(made)
        }
        ["bound"] => {
            let made = tcp()?;
            bind(&made, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
            forget(made)
        }
        ["listener"] => forget(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.into()),
        ["exec"] => {
            forget(socket(AddressFamily::INET, SocketType::STREAM, None)?)?;
            let cloexec = SocketFlags::CLOEXEC;
            forget(socket_with(
                AddressFamily::INET6,
                SocketType::STREAM,
                cloexec,
                None,
            )?)?;
            Err(myself(&["clean"]).exec().into())
        }
        ["grand"] => child(&["unused", "2"]),
        ["killed"] => {
            forget(tcp()?)?;
            forget(tcp()?)?;
            kill_process(getpid(), Signal::KILL)?;
            bail!("a dead process goes on")
        }
        // Its own child is nobody's when it has exited.
        ["daemon"] => {
            let mut command = myself(&["sleeper"]);
            command.stdin(Stdio::null()).stdout(Stdio::null());
            command.stderr(Stdio::null()).spawn()?;
            Ok(())
        }
        ["sleeper"] => {
            forget(tcp()?)?;
            std::thread::sleep(Duration::from_secs(60));
            Ok(())
        }
        other => bail!("no such part: {other:?}"),
    }
}

/// All parts, one after the other.
fn tree() -> anyhow::Result<()> {
    drop(tcp()?);
    for part in [
        "clean", "refused", "bound", "listener", "exec", "grand", "daemon",
    ] {
        child(&[part])?;
    }
    child(&["unused", "5"])?;
    let killed = myself(&["killed"]).status()?;
    ensure!(killed.code().is_none(), "{killed:?}");
    Ok(())
}

/// Many processes that create a socket each, a known number of which is not closed.
fn storm(count: usize) -> anyhow::Result<()> {
    for number in 0..count {
        // SAFETY: this process has one thread, and the child only makes system calls.
        let pid = unsafe { libc::fork() };
        match pid {
            0 => {
                // SAFETY: system calls on integers; the process ends here.
                unsafe {
                    let made = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
                    if number % EVERY != 0 {
                        libc::close(made);
                    }
                    libc::_exit(0);
                }
            }
            1.. => {
                let mut status = 0;
                // SAFETY: a child of ours and a valid place for its status.
                unsafe { libc::waitpid(pid, &raw mut status, 0) };
            }
            _ => return Err(std::io::Error::last_os_error()).context("fork"),
        }
    }
    Ok(())
}

fn tcp() -> anyhow::Result<OwnedFd> {
    Ok(socket(AddressFamily::INET, SocketType::STREAM, None)?)
}

#[allow(
    clippy::unnecessary_wraps,
    reason = "the last step of parts that can fail"
)]
fn forget(socket: OwnedFd) -> anyhow::Result<()> {
    let _ = socket.into_raw_fd();
    Ok(())
}

fn myself(arguments: &[&str]) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg(COMMAND).args(arguments);
    command
}

fn child(arguments: &[&str]) -> anyhow::Result<()> {
    let status = myself(arguments).status()?;
    ensure!(status.success(), "{arguments:?}: {status}");
    Ok(())
}

/// Runs `sockleak run` on a part; its status and report.
fn run(setting: &Setting, backend: &str, part: &[&str]) -> anyhow::Result<(Option<i32>, Value)> {
    let here = std::env::current_exe()?;
    let file = std::env::temp_dir().join(format!("sockleak-run-{}-{backend}", std::process::id()));
    let mut command = Command::new(&setting.sockleak);
    command.args([
        "run",
        "--fail-on-leak",
        "--backend",
        backend,
        "--json",
        "--output",
    ]);
    command
        .arg(&file)
        .arg("--")
        .arg(here)
        .arg(COMMAND)
        .args(part);
    let run = agent::finish(&mut command)?;
    let text = std::fs::read_to_string(&file)
        .with_context(|| format!("no report; status {:?}: {}", run.status, run.stderr))?;
    std::fs::remove_file(&file)?;
    ensure!(run.stdout.is_empty(), "standard output is not ours");
    Ok((run.status, schema::validate(text.trim_end())?))
}

/// Sockets of a list by class and what had happened to them.
fn count(list: &Value, class: &str, after: Value) -> u64 {
    let groups = list.as_array().into_iter().flatten();
    groups
        .filter(|group| group["class"] == class && group["after"] == after)
        .map(|group| group["count"].as_u64().unwrap_or(0))
        .sum()
}

/// Every part leaves what it should, one of them a sleeper; and not one of many processes that
/// live a millisecond is missed. One run for all: most of its time in a guest is the attaching.
pub(super) fn everything(setting: &Setting, backend: &str) -> anyhow::Result<Outcome> {
    let many: u64 = if setting.guest { 100 } else { 2000 };
    let leaked = many.div_ceil(EVERY as u64);
    let (status, report) = run(setting, backend, &["tree", &many.to_string()])?;
    let behind = report["left_behind"][0]["pid"].as_i64();
    if let Some(pid) = behind.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
        kill_process(pid, Signal::KILL)?;
    }
    let left = &report["left_open"];
    let figure = |name: &str| report[name].as_u64().unwrap_or(0);
    let told = [
        status.map_or(0, |status| u64::try_from(status).unwrap_or(0)),
        count(left, "unbound", "never_used".into()),
        count(left, "unbound", "connect_refused".into()),
        count(left, "bound", "bound_only".into()),
        count(&report["in_use"], "listen", Value::Null),
        count(&report["left_behind"], "unbound", "never_used".into()),
        figure("leaked"),
        figure("open_at_exit"),
        figure("created"),
        figure("closed"),
        figure("processes"),
        figure("processes_left_behind"),
    ];
    // unused 5, exec 1, grand 2, killed 2 are never used. Closed: 1 of the first process, 3 of
    // clean, 1 of refused, of exec 1 by exec and 3 after it.
    let (used, kept) = (23 + many, 9 + many - leaked);
    let (open, all) = (12 + leaked, 13 + leaked);
    let truth = [
        23,
        10 + leaked,
        1,
        1,
        1,
        1,
        open,
        all,
        used,
        kept,
        12 + many,
        1,
    ];
    ensure!(
        told == truth,
        "{told:?} is said, {truth:?} is true: {report}"
    );
    ensure!(report["complete"] == true, "not complete: {report}");
    for group in left.as_array().into_iter().flatten() {
        ensure!(group["stack"].is_array(), "without stack: {group}");
    }
    Ok(Outcome::Pass)
}
