//! What is known about a process, looked up while it lives.

use std::{os::fd::AsFd, sync::LazyLock};

use crate::model::Arrange as _;
use crate::model::{ProcessId, ProcessInfo};
use crate::sanitize::printable;
use crate::source::pid_dir::{PidDir, numbered_entries};

use super::container::{id_in_cgroup, ns_pid_in_status, pod_in_cgroup};

/// Looks `process` up; `None` when it has exited, also when its pid belongs to another one now.
///
/// A start time of 0 means unknown and matches any. What the rights do not allow to read stays
/// `None` inside.
pub fn lookup(process: ProcessId) -> Option<ProcessInfo> {
    let dir = PidDir::open(process.pid).ok()?;
    let start_ticks = dir.start_ticks().ok()?;
    if process.start_ticks != 0 && process.start_ticks != start_ticks {
        return None;
    }
    let comm = dir.read("comm").ok()?;
    let cgroups = dir
        .read("cgroup")
        .map(|text| parse_cgroups(&text))
        .unwrap_or_default();
    Some(ProcessInfo {
        comm: printable(comm.strip_suffix(b"\n").unwrap_or(&comm)),
        container: cgroups.container(),
        pod: cgroups.pod(),
        cgroup: cgroups.path,
        // Where everybody is in one pid namespace, this spares the reading of a long file.
        ns_pid: (dir.pid_namespace().ok() != own_pid_namespace())
            .then(|| ns_pid_in_status(&dir.read("status").ok()?))
            .flatten(),
        netns: dir.netns().ok(),
        fd_used: fd_used(&dir),
        fd_at_ns: None,
        fd_limit: dir.read("limits").ok().and_then(|t| parse_fd_limit(&t)),
        exited: false,
    })
}

fn own_pid_namespace() -> Option<u32> {
    static OWN: LazyLock<Option<u32>> =
        LazyLock::new(|| PidDir::open(std::process::id()).ok()?.pid_namespace().ok());
    *OWN
}

/// Identity of a living process: its pid and when it started.
pub fn identify(pid: u32) -> Option<ProcessId> {
    let start_ticks = PidDir::open(pid).ok()?.start_ticks().ok()?;
    Some(ProcessId { pid, start_ticks })
}

/// Whether a process lives and has not exited: one that waits to be reaped has nothing open.
pub fn is_running(process: ProcessId) -> bool {
    let Ok(dir) = PidDir::open(process.pid) else {
        return false;
    };
    let same = dir
        .start_ticks()
        .is_ok_and(|start| start == process.start_ticks);
    same && dir.read("stat").is_ok_and(|stat| !is_zombie(&stat))
}

/// Field 3 of `/proc/PID/stat`, behind the name, which may contain anything.
fn is_zombie(stat: &[u8]) -> bool {
    let after_name = stat.iter().rposition(|byte| *byte == b')');
    let state = after_name.and_then(|at| stat.get(at + 2));
    matches!(state, Some(b'Z' | b'X'))
}

/// Open descriptors: the size of `/proc/PID/fd` (6.2+), counted one by one where that is 0.
fn fd_used(dir: &PidDir) -> Option<u64> {
    dir.fd_count_by_size().or_else(|| {
        let fds = numbered_entries(dir.subdir("fd").ok()?.as_fd()).ok()?;
        u64::try_from(fds.len()).ok()
    })
}

/// Soft `RLIMIT_NOFILE` in `/proc/PID/limits`, which unlike prlimit(2) may be read of any
/// process; `None` when it is unlimited.
fn parse_fd_limit(limits: &[u8]) -> Option<u64> {
    let limits = std::str::from_utf8(limits).ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// The cgroup paths of a process, printable.
#[derive(Debug, Default, PartialEq, Eq)]
struct Cgroups {
    /// The most telling path.
    path: Option<String>,
    /// All of them, in the order in which they are trusted.
    all: Vec<String>,
}

impl Cgroups {
    fn container(&self) -> Option<String> {
        self.all
            .iter()
            .find_map(|path| id_in_cgroup(path))
            .map(str::to_owned)
    }

    fn pod(&self) -> Option<String> {
        self.all.iter().find_map(|path| pod_in_cgroup(path))
    }
}

/// Parses `/proc/PID/cgroup` (cgroups(7)): lines of `hierarchy:controllers:path`.
///
/// The v2 path comes first, then v1's `name=systemd`, then the longest other. Hybrid set-ups
/// leave everybody in the root of the hierarchy that they do not use, so `/` only counts when
/// there is nothing better.
fn parse_cgroups(text: &[u8]) -> Cgroups {
    let mut lines: Vec<(u8, String)> = text
        .split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let mut fields = line.splitn(3, |byte| *byte == b':');
            let (hierarchy, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            let rank = match (hierarchy, controllers) {
                (b"0", b"") => 0,
                (_, b"name=systemd") => 1,
                _ => 2,
            };
            let rank = if path == b"/" { rank + 3 } else { rank };
            Some((rank, printable(path)))
        })
        .collect();
    // Stable, so that of equally long paths the first listed stays first.
    lines.arrange_by_key(|(rank, path)| (*rank, std::cmp::Reverse(path.len())));
    let all: Vec<String> = lines.into_iter().map(|(_, path)| path).collect();
    Cgroups {
        path: all.first().cloned(),
        all,
    }
}

/// Files of a process, whatever is in them.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(text: &[u8]) {
    let cgroups = parse_cgroups(text);
    let printable = |text: &str| text.chars().all(crate::sanitize::is_harmless);
    assert!(cgroups.all.iter().all(|path| printable(path)));
    assert!(cgroups.container().is_none_or(|id| printable(&id)));
    assert!(cgroups.pod().is_none_or(|id| printable(&id)));
    let _ = (
        is_zombie(text),
        parse_fd_limit(text),
        ns_pid_in_status(text),
    );
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "4f66ff0ce8c9bd2c0ba3bfb5ea1a3f4b3f1f0b1b2c3d4e5f60718293a4b5c6d7";

    fn path(text: &str) -> Option<String> {
        parse_cgroups(text.as_bytes()).path
    }

    #[test]
    fn the_most_telling_cgroup() {
        let v2 = "0::/system.slice/app.service\n";
        assert_eq!(path(v2).as_deref(), Some("/system.slice/app.service"));
        let hybrid = "9:name=systemd:/user.slice\n4:memory:/a/much/longer/path\n0::/app\n";
        assert_eq!(path(hybrid).as_deref(), Some("/app"));
        let v1 = "9:name=systemd:/user.slice\n4:memory:/a/much/longer/path\n0::/\n";
        assert_eq!(path(v1).as_deref(), Some("/user.slice"));
        let bare = "9:name=systemd:/\n4:memory:/box/1\n3:cpuset:/\n0::/\n";
        assert_eq!(path(bare).as_deref(), Some("/box/1"));
        assert_eq!(path("0::/\n").as_deref(), Some("/"));
        assert_eq!(path("").as_deref(), None);
        assert_eq!(path("0::/with:colon\n").as_deref(), Some("/with:colon"));
    }

    #[test]
    fn the_container_may_be_in_another_hierarchy() {
        let text = format!("9:name=systemd:/init\n4:memory:/docker/{ID}\n0::/\n");
        let cgroups = parse_cgroups(text.as_bytes());
        assert_eq!(cgroups.path.as_deref(), Some("/init"));
        assert_eq!(cgroups.container().as_deref(), Some(ID));
    }

    #[test]
    fn a_hostile_cgroup_name_is_defused() {
        assert_eq!(path("0::/\x1b[2Jx\n").as_deref(), Some("/\\x1b[2Jx"));
    }

    #[test]
    fn soft_limit() {
        let limits = b"Limit                     Soft Limit           Hard Limit           Units\n\
            Max processes             96222                96222                processes\n\
            Max open files            1024                 20000                files\n";
        assert_eq!(parse_fd_limit(limits), Some(1024));
        assert_eq!(parse_fd_limit(b"Max open files unlimited 1 files\n"), None);
        assert_eq!(parse_fd_limit(b""), None);
    }

    #[test]
    fn sees_itself() {
        let me = identify(std::process::id()).unwrap();
        let info = lookup(me).unwrap();
        let comm = std::fs::read_to_string("/proc/self/comm").unwrap();
        assert_eq!(info.comm, comm.trim_end());
        assert!(!info.exited && info.netns.is_some());
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        assert_eq!(info.fd_limit, limit.current);

        let before = lookup(me).unwrap().fd_used.unwrap();
        let files: Vec<_> = (0..100)
            .map(|_| std::fs::File::open("/dev/null").unwrap())
            .collect();
        let after = lookup(me).unwrap().fd_used.unwrap();
        // Other tests of this process open and close a few at the same time.
        assert!(
            (60..140).contains(&(after.saturating_sub(before))),
            "{before} -> {after}"
        );
        drop(files);
    }

    #[test]
    fn a_process_in_a_pid_namespace_of_its_own() {
        let me = identify(std::process::id()).unwrap();
        assert_eq!(lookup(me).unwrap().ns_pid, None);
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIP: namespaces need root; not tested here: pids in pid namespaces");
            return;
        }
        // Its shell is process 1 in there, what that starts is 2.
        let mut child = std::process::Command::new("unshare")
            .args(["--pid", "--fork", "sh", "-c", "sleep 60 & echo $!; wait"])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = child.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).unwrap();
        let children = |pid: u32| -> Vec<u32> {
            let path = format!("/proc/{pid}/task/{pid}/children");
            let text = std::fs::read_to_string(path).unwrap();
            text.split_whitespace()
                .map(|pid| pid.parse().unwrap())
                .collect()
        };
        let shell = children(child.id())[0];
        let sleeper = children(shell)[0];
        let inside = |pid| lookup(identify(pid).unwrap()).unwrap().ns_pid;
        assert_eq!(inside(shell), Some(1));
        assert_eq!(inside(sleeper), line.trim().parse().ok());
        // The first process of a namespace takes all others with it.
        let first = rustix::process::Pid::from_raw(i32::try_from(shell).unwrap()).unwrap();
        rustix::process::kill_process(first, rustix::process::Signal::KILL).unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn another_start_time_is_another_process() {
        let mut me = identify(std::process::id()).unwrap();
        me.start_ticks += 1;
        assert_eq!(lookup(me), None);
        me.start_ticks = 0;
        assert!(lookup(me).is_some());
        assert_eq!(identify(u32::MAX), None);
    }

    proptest! {
        #[test]
        fn never_panics(text in "([0-9]:|name=systemd|:|/|\n|\\PC){0,40}") {
            let _ = parse_cgroups(text.as_bytes());
            let _ = parse_fd_limit(text.as_bytes());
        }
    }
}
