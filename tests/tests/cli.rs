//! The command line as its users meet it: help, version, mistakes, pipes.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};

use sockleak_tests::schema::{validate, validate_all};

const SUBCOMMANDS: [&str; 8] = [
    "watch", "diagnose", "snapshot", "ports", "report", "run", "probes", "demo",
];

fn sockleak() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sockleak-under-test"));
    // Nothing of the caller's terminal may decide.
    for name in ["COLUMNS", "LINES", "NO_COLOR", "CLICOLOR_FORCE", "TERM"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

fn run<S: AsRef<OsStr>>(arguments: &[S]) -> Output {
    let output = sockleak().args(arguments).output();
    output.expect("sockleak can be started")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("output is UTF-8")
}

/// Status and both outputs.
fn shown(arguments: &[&str]) -> String {
    let output = run(arguments);
    format!(
        "$ sockleak {}\n[status {:?}]\n{}{}",
        arguments.join(" "),
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

fn golden(name: &str, text: String) {
    insta::with_settings!({
        omit_expression => true,
        prepend_module_to_snapshot => false,
        snapshot_path => "goldens",
    }, {
        insta::assert_snapshot!(name, text);
    });
}

#[test]
fn help() {
    golden("help", shown(&["--help"]));
    for command in SUBCOMMANDS {
        golden(&format!("help_{command}"), shown(&[command, "--help"]));
    }
}

#[test]
fn help_lists_every_subcommand_and_fits_a_terminal() {
    let help = text(&run(&["--help"]).stdout);
    let listed: Vec<_> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert_eq!(listed, SUBCOMMANDS);
    for command in SUBCOMMANDS {
        let help = text(&run(&[command, "--help"]).stdout);
        for line in help.lines() {
            assert!(line.chars().count() <= 80, "{command}: {line}");
        }
    }
}

#[test]
fn version() {
    let output = run(&["--version"]);
    assert_eq!(output.status.code(), Some(0));
    let expected = concat!("sockleak ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(text(&output.stdout), expected);
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn usage_errors() {
    let mistakes: [&[&str]; 22] = [
        &[],
        &["wathc"],
        &["probes", "--backend", "ebpf"],
        &["probes", "--frobnicate"],
        &["watch", "--pid", "0"],
        &["watch", "--pid", "java"],
        &["watch", "--interval", "1ms"],
        &["watch", "--duration", "0"],
        &["watch", "--older", "5 fortnights"],
        &["watch", "--plain", "--json"],
        &["watch", "--top", "-1"],
        &["snapshot", "--netns", "/proc/version"],
        &["snapshot", "--netns", "no-such-namespace"],
        &["snapshot", "--color", "sometimes"],
        &["ports", "--to", "10.0.0.5"],
        &["ports", "--to", "redis:6379"],
        &["ports", "--to", "10.0.0.5:0"],
        &["ports", "--from", "10.0.0.9"],
        &["ports", "--to", "[::1]:80", "--from", "127.0.0.1"],
        &["ports", "--netns", "no-such-namespace"],
        &["demo", "--hold"],
        &["demo", "no-such-incident"],
    ];
    let mut all = String::new();
    for arguments in mistakes {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
        all.push_str(&shown(arguments));
        all.push('\n');
    }
    golden("usage_errors", all);
}

/// An argument may come from a script that got it from elsewhere.
#[test]
fn mistakes_cannot_write_to_the_terminal() {
    let hostile = OsStr::from_bytes(b"--\x1b[31m\x1b]0;x\x07\xc2\x9b1m");
    let broken = OsStr::from_bytes(b"\xff\xfe");
    for argument in [hostile, broken] {
        for arguments in [vec![argument], vec![OsStr::new("probes"), argument]] {
            let output = run(&arguments);
            assert_eq!(output.status.code(), Some(2), "{arguments:?}");
            let said = text(&output.stderr);
            let raw = |c: char| c.is_control() && c != '\n';
            assert!(!said.contains(raw), "{said:?}");
            assert!(!said.contains("panicked"), "{said:?}");
        }
    }
}

/// Closes the reading end before anything is written.
fn into_a_closed_pipe(arguments: &[&str]) -> (Option<i32>, String) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut child = sockleak()
        .args(arguments)
        .stdout(Stdio::from(writer))
        .stderr(Stdio::piped())
        .spawn()
        .expect("sockleak can be started");
    let mut said = String::new();
    let mut stderr = child.stderr.take().expect("it is piped");
    stderr.read_to_string(&mut said).expect("UTF-8");
    (child.wait().expect("it ends").code(), said)
}

#[test]
fn a_closed_pipe_ends_quietly() {
    for arguments in [
        vec!["--help"],
        vec!["--version"],
        vec!["probes"],
        vec!["probes", "--json"],
    ] {
        let end = into_a_closed_pipe(&arguments);
        assert_eq!(end, (Some(0), String::new()), "{arguments:?}");
    }
}

#[test]
fn a_full_disk_is_a_failure() {
    let full = File::options().write(true).open("/dev/full");
    let output = sockleak()
        .arg("probes")
        .stdout(full.expect("/dev/full exists"))
        .output()
        .expect("sockleak can be started");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stderr),
        "sockleak: cannot write to standard output: No space left on device (os error 28)\n"
    );
}

#[test]
fn probes_answers_whoever_asks() {
    let output = run(&["probes", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let object = validate(&text(&output.stdout)).expect("it is valid");
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("/proc is mounted");
    assert_eq!(object["kernel"], release.trim_end());
    let hooks = object["hooks"].as_array().expect("a list");
    assert_eq!(hooks.len(), sockleak::probe::Hook::ALL.len());
    for hook in hooks {
        let served = hook["backend"].is_string();
        assert!(served || hook["reason"].is_string(), "no reason: {hook}");
        assert_eq!(served, hook["attach_to"] != serde_json::json!([]), "{hook}");
    }

    let plain = text(&run(&["probes"]).stdout);
    for hook in hooks {
        let name = hook["hook"].as_str().expect("a name");
        let row = plain.lines().find(|line| line.starts_with(name));
        let backend = row.and_then(|row| row.split_whitespace().nth(1));
        let expected = hook["backend"].as_str().unwrap_or("none");
        assert_eq!(backend, Some(expected), "{plain}");
    }
}

#[test]
fn colour_is_for_terminals() {
    let plain = run(&["probes"]).stdout;
    assert!(!plain.contains(&0x1b));
    let always = run(&["probes", "--color", "always"]).stdout;
    assert!(text(&always).contains("\x1b[1m"));
    let json = run(&["probes", "--json", "--color", "always"]).stdout;
    assert!(!json.contains(&0x1b));
}

/// Not a failure, but to be seen in the log of a run.
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIP: tracing needs root; not tested here: what watch and snapshot print");
    }
    root
}

#[test]
fn snapshot_prints_what_the_schema_promises() {
    if !is_root() {
        return;
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback is up");
    let port = listener.local_addr().expect("it is bound").port();
    let own = std::process::id().to_string();
    for how in [
        vec!["--sockets"],
        vec!["--sockets", "--no-bpf"],
        vec!["--sockets", "--pid", &own, "-4"],
    ] {
        let output = run(&[&["snapshot", "--json"], &how[..]].concat());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{how:?}: {said}");
        let object = validate(&text(&output.stdout)).expect("it is valid");
        let mut sockets = object["sockets"].as_array().expect("a list").iter();
        let ours = sockets.find(|socket| socket["src"] == format!("127.0.0.1:{port}"));
        let ours = ours.unwrap_or_else(|| panic!("{how:?} misses our listener: {object}"));
        assert_eq!(ours["pid"].to_string(), own, "{how:?}");
        assert_eq!(ours["class"], "listen", "{how:?}");
    }
}

/// With and without root, with and without BPF: what differs is what could be seen.
#[test]
fn ports_prints_what_the_schema_promises() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback is up");
    let to = listener.local_addr().expect("it is bound").to_string();
    let _client = std::net::TcpStream::connect(&to).expect("it listens");
    let own = std::process::id();
    for how in [
        &[][..],
        &["--no-bpf"],
        &["--no-bpf", "--top", "1", "--pid", "1"],
    ] {
        let arguments = [&["ports", "--json", "--to", &to], how].concat();
        for output in [run(&arguments), without_privileges(&arguments)] {
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(0), "{how:?}: {said}");
            let object = validate(&text(&output.stdout)).expect("it is valid");
            assert_eq!(object["to"]["connected"], 1, "{how:?}: {object}");
            assert_eq!(object["to"]["src"], "127.0.0.1", "{how:?}");
            let holders = object["holders"].as_array().expect("a list");
            let ours = holders.iter().find(|holder| holder["pid"] == own);
            match (how.contains(&"--pid"), ours) {
                (true, ours) => assert!(ours.is_none(), "{object}"),
                // Another process may not look at our sockets without privileges.
                (false, None) => assert_eq!(object["complete"], false, "{object}"),
                (false, Some(ours)) => assert!(ours["connected"].as_u64() >= Some(1)),
            }
        }
    }
    for arguments in [&["ports"][..], &["ports", "--to", &to]] {
        let output = run(arguments);
        let shown = text(&output.stdout);
        assert!(shown.starts_with("ports "), "{shown}");
        let answer = format!("connect() from 127.0.0.1 to {to}").replace(' ', "");
        let one_line = shown.replace(char::is_whitespace, "");
        let is_asked = arguments.len() > 1;
        assert_eq!(one_line.contains(&answer), is_asked, "{shown}");
    }
}

#[test]
fn watch_prints_what_the_schemas_promise() {
    if !is_root() {
        return;
    }
    let options = ["--json", "--events", "-d", "1500ms", "-i", "300ms"];
    let mut child = sockleak()
        .arg("watch")
        .args(options)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("sockleak can be started");
    // Traffic from the first line on, when the hooks are attached, to the last.
    let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut output = String::new();
    stdout.read_line(&mut output).expect("the first line");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback is up");
    let address = listener.local_addr().expect("it is bound");
    for _ in 0..10 {
        let client = std::net::TcpStream::connect(address).expect("it listens");
        drop((listener.accept().expect("the client is there"), client));
    }
    stdout.read_to_string(&mut output).expect("UTF-8");
    let mut said = String::new();
    let mut stderr = child.stderr.take().expect("it is piped");
    stderr.read_to_string(&mut said).expect("UTF-8");
    let status = child.wait().expect("it ends");
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));

    let objects = validate_all(&output).expect("all lines are valid");
    let kinds: Vec<_> = objects
        .iter()
        .filter_map(|line| line["type"].as_str())
        .collect();
    assert_eq!(kinds.first(), Some(&"start"), "{kinds:?}");
    assert_eq!(kinds.last(), Some(&"end"), "{kinds:?}");
    let count = |kind| kinds.iter().filter(|known| **known == kind).count();
    assert!(count("interval") >= 3, "{kinds:?}");
    assert!(count("event") >= 20, "{kinds:?}");
    let own = objects
        .iter()
        .filter(|line| line["event"] == "alloc" && line["pid"] == std::process::id());
    assert!(own.count() >= 11, "a listener and ten clients: {output}");
}

/// Root without capabilities, or whoever runs the tests without being root.
fn without_privileges(arguments: &[&str]) -> Output {
    let mut command = sockleak();
    command.args(arguments);
    if rustix::process::geteuid().is_root() {
        let drop_all = || {
            // What is not in the bounding set is not regained by root's exec (capabilities(7)).
            for capability in 0..64 {
                // SAFETY: prctl(PR_CAPBSET_DROP) takes one number and touches no memory; it
                // fails for numbers that are no capability.
                unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
            }
            Ok(())
        };
        // SAFETY: between fork and exec only prctl is called, which is a plain system call.
        unsafe { command.pre_exec(drop_all) };
    }
    command.output().expect("sockleak can be started")
}

#[test]
fn missing_privileges_are_named_with_their_fix() {
    for arguments in [&["watch", "-d", "1"][..], &["snapshot"]] {
        let output = without_privileges(arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {said}");
        assert!(said.starts_with("sockleak: "), "{said}");
        assert!(said.contains("CAP_BPF"), "{said}");
        let fix = said.lines().find(|line| line.starts_with("fix: "));
        assert!(fix.is_some_and(|fix| fix.contains("sudo")), "{said}");
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
    }
    let output = without_privileges(&["snapshot", "--no-bpf", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    validate(&text(&output.stdout)).expect("it is valid");
    let output = without_privileges(&["probes", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let object = validate(&text(&output.stdout)).expect("it is valid");
    let problems = object["problems"].as_array().expect("a list");
    assert!(
        problems.iter().any(|problem| problem["fatal"] == true),
        "{object}"
    );
}

/// The first reader of a pipe goes after one line, as `head -1` does.
#[test]
fn watch_ends_when_its_reader_goes() {
    if !is_root() {
        return;
    }
    let began = std::time::Instant::now();
    let mut child = sockleak()
        .args(["watch", "--json", "-d", "60", "-i", "100ms"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("sockleak can be started");
    let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("the first line");
    drop(stdout);
    let mut said = String::new();
    let mut stderr = child.stderr.take().expect("it is piped");
    stderr.read_to_string(&mut said).expect("UTF-8");
    let status = child.wait().expect("it ends");
    assert_eq!((status.code(), said.as_str()), (Some(0), ""), "{line}");
    assert!(began.elapsed().as_secs() < 30, "it went on for nobody");
}
