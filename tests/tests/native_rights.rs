//! What sockleak may do, taken away piece by piece: what still works, what is said, and what `watch`
//! keeps once it is attached. Needs root, and setpriv of util-linux.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use sockleak::rights::{IN_RESERVE, WATCHING};
use sockleak_tests::victim::Scratch;

const UNDER_TEST: &str = env!("CARGO_BIN_EXE_sockleak-under-test");

/// What SECURITY.md asks for, without CAP_SYS_ADMIN, which would contain the first three.
const ORDINARY: [&str; 6] = [
    "bpf",
    "perfmon",
    "net_admin",
    "sys_ptrace",
    "syslog",
    "dac_read_search",
];

fn can_run() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIP: attaching and giving up rights needs root");
    }
    root
}

/// Sockets of every kind in a network namespace of their own.
struct Zoo(Child);

impl Zoo {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_holder"))
            .arg("zoo")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the holder can be started");
        let out = child.stdout.take().expect("a pipe");
        let ready = BufReader::new(out).lines().map_while(Result::ok);
        assert!(ready.into_iter().any(|line| line == "ready"));
        Self(child)
    }

    fn netns(&self) -> u64 {
        let link = fs::read_link(format!("/proc/{}/ns/net", self.0.id())).expect("it lives");
        let text = link.to_string_lossy().into_owned();
        let digits = text.trim_start_matches("net:[").trim_end_matches(']');
        digits.parse().expect("a namespace has a number")
    }
}

impl Drop for Zoo {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

fn last(lines: &[u8], kind: &str) -> Value {
    let text = String::from_utf8_lossy(lines);
    let mut values = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let found = values.rfind(|value| value["type"] == kind);
    found.unwrap_or_else(|| panic!("no line of type {kind} in {text}"))
}

/// The range of ports of a namespace that is not ours, for which it has to be entered.
fn range_of(report: &Value, netns: u64) -> Value {
    let ports = report["ports"].as_array().expect("ports are listed");
    let own = ports.iter().find(|ports| ports["netns"] == netns);
    own.map_or(Value::Null, |ports| ports["range"].clone())
}

/// A thread's sets of capabilities, and whether it can gain any by starting a program.
fn sets(status: &str) -> [u64; 4] {
    ["CapEff:", "CapPrm:", "CapBnd:", "NoNewPrivs:"].map(|name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        u64::from_str_radix(line.expect("a line of it").trim(), 16).expect("a number")
    })
}

fn mask(capabilities: &[caps::Capability]) -> u64 {
    capabilities
        .iter()
        .fold(0, |mask, capability| mask | capability.bitmask())
}

#[test]
fn watch_keeps_what_is_documented_and_can_still_look_everywhere() {
    if !can_run() {
        return;
    }
    let zoo = Zoo::start();
    let scratch = Scratch::new();
    let mut watch = Command::new(UNDER_TEST)
        .args([
            "watch", "--json", "--events", "-i", "1s", "-d", "3", "--record",
        ])
        .arg(scratch.path("rec"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("sockleak can be started");
    let out = watch.stdout.take().expect("a pipe");
    let mut lines = Vec::new();
    let held = sets(&fs::read_to_string("/proc/self/status").expect("it is ours"));
    let mut threads = 0;
    for line in BufReader::new(out).lines().map_while(Result::ok) {
        if line.starts_with("{\"type\":\"interval\"") && threads == 0 {
            let tasks = format!("/proc/{}/task", watch.id());
            for task in fs::read_dir(tasks).expect("it lives").map_while(Result::ok) {
                let path = task.path();
                // Threads that enter a namespace come and go.
                let Ok(status) = fs::read_to_string(path.join("status")) else {
                    continue;
                };
                let [force, reach, bounding, no_new] = sets(&status);
                let within = mask(&WATCHING) | mask(&IN_RESERVE);
                assert_eq!(no_new, 1, "{status}");
                assert_eq!(reach & !within, 0, "{status}");
                assert_eq!(bounding & !within, 0, "{status}");
                if path.ends_with(watch.id().to_string()) {
                    assert_eq!(force, mask(&WATCHING) & held[0], "{status}");
                    assert_eq!(reach, within & held[1], "{status}");
                }
                threads += 1;
            }
        }
        lines.extend(line.into_bytes());
        lines.push(b'\n');
    }
    assert!(watch.wait().expect("it ends").success());
    // Besides the main one, those of events and of the recording.
    assert!(threads >= 3, "{threads} threads");
    let end = last(&lines, "end");
    assert!(range_of(&end, zoo.netns()).is_array(), "{}", end["ports"]);
    let rows = end["processes"].as_array().expect("a list");
    let zoo_row = rows.iter().find(|row| row["pid"] == zoo.0.id());
    let zoo_row = zoo_row.expect("its sockets are seen");
    assert!(zoo_row["fd_limit"].is_u64(), "{zoo_row}");
    assert!(scratch.path("rec").metadata().expect("it is there").len() > 1000);
}

#[test]
fn the_document_names_what_is_kept() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(root.join("SECURITY.md")).expect("it is there");
    let kept = text
        .split_once("### What it keeps")
        .expect("a section of its own")
        .1;
    let kept = kept
        .split_once("\n## ")
        .map_or(kept, |(section, _)| section);
    for capability in caps::all() {
        let name = format!("| {capability} |");
        let wanted = WATCHING.contains(&capability) || IN_RESERVE.contains(&capability);
        assert_eq!(kept.contains(&name), wanted, "{name}");
    }
}

/// Runs as a user who has nothing but these capabilities.
struct Nobody {
    program: PathBuf,
    _scratch: Scratch,
}

impl Nobody {
    fn new() -> Option<Self> {
        if Command::new("setpriv").arg("--version").output().is_err() {
            eprintln!("SKIP: there is no setpriv (util-linux)");
            return None;
        }
        let scratch = Scratch::new();
        let program = scratch.path("sockleak");
        fs::copy(UNDER_TEST, &program).expect("the program is copied");
        for path in [program.as_path(), program.parent().expect("a directory")] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("it is ours");
        }
        Some(Self {
            program,
            _scratch: scratch,
        })
    }

    fn with(&self, capabilities: &[&str], words: &[&str]) -> Output {
        let list: String = capabilities
            .iter()
            .map(|name| format!(",+{name}"))
            .collect();
        Command::new("setpriv")
            .args([
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                "--no-new-privs",
            ])
            .arg(format!("--inh-caps=-all{list}"))
            .arg(format!("--ambient-caps=-all{list}"))
            .arg(&self.program)
            .args(words)
            .output()
            .expect("setpriv can be started")
    }

    fn watch(&self, capabilities: &[&str]) -> Output {
        self.with(capabilities, &["watch", "--json", "-d", "1"])
    }
}

fn without(name: &str) -> Vec<&'static str> {
    ORDINARY
        .into_iter()
        .filter(|other| *other != name)
        .collect()
}

/// Sockets of the zoo, whoever else has some.
fn held_by(output: &Output, zoo: &Zoo) -> u64 {
    let end = last(&output.stdout, "end");
    let mut rows = end["processes"].as_array().expect("a list").iter();
    let own = rows.find(|row| row["pid"] == zoo.0.id());
    own.and_then(|row| row["total"].as_u64()).unwrap_or(0)
}

fn coverage(output: &Output) -> String {
    last(&output.stdout, "end")["coverage"].to_string()
}

#[test]
fn every_capability_is_missed_in_its_own_way() {
    if !can_run() {
        return;
    }
    let Some(nobody) = Nobody::new() else { return };
    let zoo = Zoo::start();

    let all = nobody.watch(&[ORDINARY.as_slice(), &["sys_admin"]].concat());
    assert_eq!(
        all.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&all.stderr)
    );
    let end = last(&all.stdout, "end");
    assert!(range_of(&end, zoo.netns()).is_array(), "{}", end["ports"]);
    let served = |output: &Output| {
        let hooks = last(&output.stdout, "start")["hooks"].clone();
        let hooks = hooks.as_object().expect("hooks are listed").clone();
        let served = hooks
            .values()
            .filter(|how| how["backend"].is_string())
            .count();
        assert!(served >= 6, "{hooks:?}");
        served
    };
    let hooks = served(&all);
    let held = held_by(&all, &zoo);
    assert!(held > 10, "{held} sockets");

    // CAP_SYS_ADMIN: only other namespaces cannot be entered.
    let ordinary = nobody.watch(&ORDINARY);
    assert_eq!(
        (ordinary.status.code(), served(&ordinary)),
        (Some(0), hooks)
    );
    assert!(
        coverage(&ordinary).contains("needs CAP_SYS_ADMIN"),
        "{}",
        coverage(&ordinary)
    );
    assert!(range_of(&last(&ordinary.stdout, "end"), zoo.netns()).is_null());

    for essential in ["bpf", "perfmon"] {
        let output = nobody.watch(&without(essential));
        let error = String::from_utf8_lossy(&output.stderr);
        let missing = format!("CAP_{} is missing", essential.to_uppercase());
        assert_eq!(output.status.code(), Some(3), "{error}");
        assert!(
            error.contains(&missing) && error.contains("setcap"),
            "{error}"
        );
    }

    // CAP_NET_ADMIN: the cgroup programs, without which some kernels offer nothing.
    let output = nobody.watch(&without("net_admin"));
    let error = String::from_utf8_lossy(&output.stderr);
    let only_way = last(&all.stdout, "start")["hooks"]["alloc"]["backend"] == "tracepoint";
    assert_eq!(
        output.status.code(),
        Some(if only_way { 3 } else { 0 }),
        "{error}"
    );
    assert!(
        !only_way || error.contains("CAP_NET_ADMIN is missing"),
        "{error}"
    );

    // The rest costs details, of which `probes` says whose they are.
    for (name, word) in [
        ("sys_ptrace", Some("CAP_SYS_PTRACE is missing")),
        ("syslog", None),
        ("dac_read_search", None),
    ] {
        let output = nobody.watch(&without(name));
        assert_eq!(
            (output.status.code(), served(&output)),
            (Some(0), hooks),
            "{name}"
        );
        assert_eq!(held_by(&output, &zoo), held, "{name}");
        let probes = nobody.with(&without(name), &["probes"]);
        let text = String::from_utf8_lossy(&probes.stdout);
        assert!(word.is_none_or(|word| text.contains(word)), "{text}");
    }

    // With nothing at all there is still /proc, and the way to more is named.
    let output = nobody.watch(&[]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{error}");
    assert!(
        error.contains("CAP_BPF and CAP_PERFMON are missing"),
        "{error}"
    );
    let snapshot = nobody.with(&[], &["snapshot", "--no-bpf", "--json"]);
    assert_eq!(snapshot.status.code(), Some(0));
    assert_eq!(last(&snapshot.stdout, "snapshot")["complete"], false);
}
