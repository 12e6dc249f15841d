//! `sockleak run` on a test suite with one leaking test: it is named, and the run fails; without
//! it, it passes. Needs root and rustc.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use sockleak_tests::schema::validate;

/// A test suite as `cargo test` builds it; the second test leaks if told.
const SUITE: &str = r#"
use std::net::{TcpListener, TcpStream};
use std::os::fd::IntoRawFd;

#[test]
fn closes() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    drop(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
}

#[test]
fn forgets() {
    unsafe extern "C" { // SAFETY: socket(2), in the C library that std links.
        fn socket(domain: i32, kind: i32, protocol: i32) -> i32;
    }
    let fd = unsafe { socket(2, 1, 0) }; // SAFETY: as libc declares it.
    assert!(fd >= 0);
    if !cfg!(leaking) {
        drop(unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd) }); // SAFETY: ours.
    }
}

#[test]
fn listens() {
    let _ = TcpListener::bind("127.0.0.1:0").unwrap().into_raw_fd();
}
"#;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn compile(dir: &Path, name: &str, flags: &[&str]) -> PathBuf {
    let source = dir.join("suite.rs");
    std::fs::write(&source, SUITE).expect("the directory is ours");
    let program = dir.join(name);
    let output = Command::new("rustc")
        .args([
            "--test",
            "--edition",
            "2024",
            "-g",
            "--check-cfg",
            "cfg(leaking)",
        ])
        .args(flags)
        .arg("-o")
        .arg(&program)
        .arg(&source)
        .output()
        .expect("rustc can be started");
    assert!(output.status.success(), "{output:?}");
    program
}

fn run(dir: &Path, command: &[&str]) -> (Output, Value) {
    let file = dir.join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_sockleak-under-test"))
        .args(["run", "--fail-on-leak", "--json", "--output"])
        .arg(&file)
        .arg("--")
        .args(command)
        .output()
        .expect("sockleak can be started");
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    let report = validate(text.trim_end()).unwrap_or_else(|error| {
        panic!("{error:#}: {}", String::from_utf8_lossy(&output.stderr));
    });
    (output, report)
}

#[test]
fn the_leaking_test_is_named() {
    if !is_root() {
        eprintln!("SKIP: BPF needs root");
        return;
    }
    let dir = std::env::temp_dir().join(format!("sockleak-run-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a temporary directory");
    let leaking = compile(&dir, "leaking", &["--cfg", "leaking"]);
    let framed = ["--cfg", "leaking", "-C", "force-frame-pointers=yes"];
    let framed = compile(&dir, "framed", &framed);
    let clean = compile(&dir, "clean", &[]);
    for program in [&leaking, &framed] {
        let (output, report) = run(&dir, &[program.to_str().expect("UTF-8")]);
        assert_eq!(output.status.code(), Some(23), "{report}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("3 passed"));
        let groups = report["left_open"].as_array().expect("an array");
        assert_eq!(groups.len(), 1, "{report}");
        assert_eq!(groups[0]["count"], 1, "{report}");
        assert_eq!(groups[0]["after"], "never_used");
        // Also without frame pointers, among the guesses then.
        let stack = groups[0]["stack"].to_string();
        assert!(stack.contains("forgets"), "{report}");
        assert_eq!(report["in_use"][0]["class"], "listen", "{report}");
        assert_eq!(report["complete"], true, "{report}");
    }
    let (output, report) = run(&dir, &[clean.to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(0), "{report}");
    assert_eq!(report["leak"], false);

    // What fails or cannot be started keeps its own status.
    for (command, status) in [
        (&["sh", "-c", "exit 7"][..], 7),
        (&["sh", "-c", "kill -9 $$"], 137),
    ] {
        assert_eq!(run(&dir, command).0.status.code(), Some(status));
    }
    for (command, status) in [("/no/such/command", 127), ("/etc/passwd", 126)] {
        let output = Command::new(env!("CARGO_BIN_EXE_sockleak-under-test"))
            .args(["run", "--", command])
            .output()
            .expect("sockleak can be started");
        assert_eq!(output.status.code(), Some(status), "{output:?}");
    }
    std::fs::remove_dir_all(&dir).expect("it is ours");
}
