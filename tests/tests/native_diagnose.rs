//! `sockleak diagnose` next to a held demo: exactly the right process, finding and order, and
//! nobody else. Needs root.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sockleak_tests::schema::validate;

fn sockleak(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sockleak-under-test"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// A demo that is held. Dropping it ends it.
struct Held {
    child: Child,
    truth: Value,
}

impl Held {
    /// `None`, with a reason on standard error, where demos are not allowed.
    fn start(name: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIP: demos need root for a network namespace");
            return None;
        }
        let mut child = sockleak(&["demo", name, "--hold", "--json"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("sockleak can be started");
        let mut line = String::new();
        let out = child.stdout.take().expect("a pipe");
        BufReader::new(out).read_line(&mut line).expect("a line");
        let mut object: Value = serde_json::from_str(&line).expect("JSON");
        Some(Self {
            child,
            truth: object["truth"].take(),
        })
    }

    fn pid(&self, comm: &str) -> u64 {
        let mut all = self.truth["processes"].as_array().expect("a list").iter();
        let own = all.find(|one| one["comm"] == comm).expect(comm);
        own["pid"].as_u64().expect("a pid")
    }

    /// Others on this machine may have incidents of their own: only this namespace.
    fn diagnose(&self, more: &[&str]) -> Output {
        let inhabitant = self.truth["processes"][0]["pid"].to_string();
        let mut arguments = vec!["diagnose", "-d", "2", "--netns", &inhabitant];
        arguments.extend(more);
        sockleak(&arguments).output().expect("it can be started")
    }

    fn diagnosis(&self, more: &[&str]) -> Value {
        let output = self.diagnose(&[&["--json"], more].concat());
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        validate(text.trim_end()).expect("it is described")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // It takes its actors along.
        let _ = kill_process(Pid::from_child(&self.child), Signal::INT);
        let _ = self.child.wait();
    }
}

/// Kind, process and kind of cause, `null` for none.
fn found(diagnosis: &Value) -> Vec<(String, Option<u64>, Option<String>)> {
    let findings = diagnosis["findings"].as_array().expect("a list");
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let short = |one: &Value| {
        let id = text(&one["id"]).expect("an id");
        (id, one["pid"].as_u64(), text(&one["caused_by"]["id"]))
    };
    findings.iter().map(short).collect()
}

/// The first finding is of this kind and process, everything else follows from it.
fn only(diagnosis: &Value, id: &str, pid: Option<u64>) {
    let found = found(diagnosis);
    let (first, rest) = found.split_first().expect("a finding");
    assert_eq!(first, &(id.to_owned(), pid, None), "{diagnosis:#}");
    for (_, whom, cause) in rest {
        let follows = cause.as_deref() == Some(id) && (*whom == pid || whom.is_none());
        assert!(follows, "{diagnosis:#}");
    }
}

#[test]
fn leaks() {
    let Some(held) = Held::start("bound-leak") else {
        return;
    };
    let diagnosis = held.diagnosis(&["--what-if"]);
    let app = Some(held.pid("app"));
    only(&diagnosis, "bound_leak", app);
    let first = &diagnosis["findings"][0];
    assert_eq!(first["severity"], "critical");
    assert_eq!(first["count"], 12_001);
    let ids: Vec<_> = found(&diagnosis).into_iter().map(|one| one.0).collect();
    for id in ["ephemeral_exhausted", "closed_leak"] {
        assert!(ids.iter().any(|known| known == id), "{ids:?}");
    }
    let changes = diagnosis["what_if"].as_array().expect("asked for");
    assert_eq!(changes[0]["ports_per_destination"], 0, "{changes:?}");
    assert_eq!(changes[1]["ports_per_destination"], 12_001, "{changes:?}");
    // Without BPF the same leak, and what that leaves open.
    let blind = held.diagnosis(&["--no-bpf"]);
    assert_eq!(blind["method"], "proc");
    only(&blind, "bound_leak", app);
    assert!(blind["coverage"].to_string().contains("not seen"));
    drop(held);

    let Some(held) = Held::start("closed-leak") else {
        return;
    };
    let diagnosis = held.diagnosis(&[]);
    let guilty = ["log-collector", "monitor-agent", "cron-helper"].map(|comm| held.pid(comm));
    let found = found(&diagnosis);
    assert_eq!(
        found.first(),
        Some(&("closed_leak".to_owned(), Some(guilty[0]), None))
    );
    let leaks = found.iter().filter(|one| one.2.is_none());
    let mut accused: Vec<u64> = leaks.filter_map(|one| one.1).collect();
    accused.sort_unstable();
    assert_eq!(accused, guilty, "{diagnosis:#}");
}

/// While it goes on, and when it is at its end.
#[test]
fn sockets_of_refused_connections() {
    let Some(held) = Held::start("refused-leak") else {
        return;
    };
    let pid = held.pid("channel-manager");
    let manager = Some(pid);
    let before = held.diagnosis(&[]);
    only(&before, "refused_leak", manager);
    let title = before["findings"][0]["title"].as_str().expect("text");
    assert!(title.contains("127.0.0.1:2280"), "{title}");
    // It stands still from 960 sockets on; it makes 50 a second.
    let fds = format!("/proc/{pid}/fd");
    for _ in 0..300 {
        if std::fs::read_dir(&fds).expect("it runs").count() >= 960 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let after = held.diagnosis(&[]);
    only(&after, "refused_leak", manager);
    let output = held.diagnose(&["--exit-code", "--color", "never"]);
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let plain = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(plain.contains("refused_leak  channel-manager["), "{plain}");
}

#[test]
fn ports() {
    for (name, id, comm) in [
        ("bind-early", "bind_before_connect", Some("proxy")),
        ("reuse-theft", "reuse_bound_ports", Some("agent")),
        ("time-wait", "time_wait_pressure", None),
        ("parity", "parity_search", Some("gateway")),
    ] {
        let Some(held) = Held::start(name) else {
            return;
        };
        let diagnosis = held.diagnosis(&[]);
        only(&diagnosis, id, comm.map(|comm| held.pid(comm)));
        let remedy = diagnosis["findings"][0]["remedy"].to_string();
        let word = match name {
            "time-wait" => "tcp_tw_reuse=1 (now 0)",
            "parity" => "IP_LOCAL_PORT_RANGE",
            _ => "IP_BIND_ADDRESS_NO_PORT",
        };
        assert!(remedy.contains(word), "{remedy}");
    }
}

#[test]
fn orphans_and_the_healthy() {
    let Some(held) = Held::start("orphans") else {
        return;
    };
    let diagnosis = held.diagnosis(&[]);
    let found = found(&diagnosis);
    assert_eq!(found.len(), 1, "{diagnosis:#}");
    assert_eq!(found[0].0, "orphan_pressure");
    // Known when it still closes some while it is watched.
    let deserter = held.pid("httpdns");
    assert!(found[0].1.is_none_or(|pid| pid == deserter), "{found:?}");
    drop(held);

    let Some(held) = Held::start("healthy") else {
        return;
    };
    let output = held.diagnose(&["--exit-code", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let diagnosis = validate(text.trim_end()).expect("it is described");
    assert_eq!(diagnosis["healthy"], true);
    let conclusion = diagnosis["conclusion"].as_str().expect("text");
    for part in [
        "is healthy",
        "busiest destination",
        "no failures",
        "conntrack",
    ] {
        assert!(conclusion.contains(part), "{conclusion}");
    }
}

/// Own processes and the own namespace are visible to everybody.
#[test]
fn without_privileges_it_says_what_it_cannot_see() {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;

    let mut command = sockleak(&["diagnose", "-d", "200ms", "--json"]);
    let place = std::env::temp_dir().join(format!("sockleak-diagnose-{}", std::process::id()));
    if rustix::process::geteuid().is_root() {
        // The build directory may be closed to others.
        std::fs::create_dir_all(&place).expect("a place for files");
        std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o755)).expect("ours");
        let program = place.join("sockleak");
        std::fs::copy(env!("CARGO_BIN_EXE_sockleak-under-test"), &program).expect("room");
        command = Command::new(program);
        command.args(["diagnose", "-d", "200ms", "--json"]);
        command
            .uid(65_534)
            .gid(65_534)
            .current_dir("/")
            .stdin(Stdio::null());
    }
    let output = command.output().expect("it can be started");
    let _ = std::fs::remove_dir_all(&place);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let diagnosis = validate(text.trim_end()).expect("it is described");
    assert_eq!(diagnosis["method"], "proc");
    assert!(
        diagnosis["coverage"].to_string().contains("CAP_BPF"),
        "{diagnosis:#}"
    );
}
