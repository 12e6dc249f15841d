//! Programs in Java and Go that leak: are their own functions named? Needs root; what the machine
//! lacks is skipped.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;
use sockleak_tests::schema;
use sockleak_tests::victim::Scratch;

/// A child and what it says. Killed and reaped at the end.
struct Running {
    child: Child,
    says: BufReader<ChildStdout>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program can be started");
        let says = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, says }
    }

    fn line(&mut self) -> String {
        let mut text = String::new();
        self.says.read_line(&mut text).expect("a line");
        text.trim_end().to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a tool did its work; a machine without it is no failure, a tool that fails is.
fn made_with(tool: &str, arguments: &[&str], place: &Path) -> bool {
    let cache = place.join("cache");
    let made = Command::new(tool)
        .args(arguments)
        .current_dir(place)
        .envs([("GOCACHE", cache.as_path()), ("HOME", place)])
        .env("CGO_ENABLED", "0")
        .output();
    match made {
        Ok(output) => {
            assert!(output.status.success(), "{tool}: {output:?}");
            true
        }
        Err(error) => {
            eprintln!("SKIP {tool}: {error}");
            false
        }
    }
}

fn go(scratch: &Scratch) -> Option<Running> {
    let source = scratch.path("leak.go");
    fs::write(&source, include_str!("leaky/leak.go")).expect("there is room");
    let arguments = ["build", "-o", "lk-go", "leak.go"];
    made_with("go", &arguments, &scratch.path(""))
        .then(|| Running::start(&mut Command::new(scratch.path("lk-go"))))
}

/// The map of what a JVM has compiled. Removed at the end.
struct PerfMap(PathBuf);

impl Drop for PerfMap {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A JVM whose leaking function is compiled and in a perf map before it leaks on.
fn java(scratch: &Scratch) -> Option<(Running, PerfMap)> {
    let source = scratch.path("Leak.java");
    fs::write(&source, include_str!("leaky/Leak.java")).expect("there is room");
    let place = scratch.path("");
    if !made_with("javac", &["Leak.java"], &place) {
        return None;
    }
    let mut command = Command::new("java");
    command.current_dir(&place).args([
        "-Xcomp",
        "-XX:+PreserveFramePointer",
        "-XX:CompileCommand=quiet",
        "-XX:CompileCommand=compileonly,Leak::*",
        "-XX:CompileCommand=dontinline,Leak::leakHere",
        "Leak",
    ]);
    let mut java = Running::start(&mut command);
    assert_eq!(java.line(), "1");
    let pid = java.child.id().to_string();
    let map = PerfMap(PathBuf::from(format!("/tmp/perf-{pid}.map")));
    if !made_with("jcmd", &[&pid, "Compiler.perfmap"], &place) || !map.0.exists() {
        eprintln!("SKIP java: this JVM writes no perf map (Compiler.perfmap is of JDK 17)");
        return None;
    }
    let input = java.child.stdin.as_mut().expect("a pipe");
    input.write_all(b"\n").expect("it reads");
    Some((java, map))
}

/// Whether a leak of this process is told with all of these functions in its stack.
fn tells(line: &Value, pid: u32, functions: &[&str]) -> bool {
    if line["type"] != "leak" || line["pid"] != pid {
        return false;
    }
    assert_eq!(line["after"], "never_used", "{line}");
    assert_eq!(line["stacked"], line["count"], "{line}");
    let origins = line["origins"].as_array().expect("origins");
    let has_all = |origin: &Value| {
        let frames = origin["stack"].as_array().cloned().unwrap_or_default();
        let has = |name: &str| {
            let mut names = frames.iter().filter_map(Value::as_str);
            names.any(|frame| frame.contains(name))
        };
        functions.iter().all(|function| has(function))
    };
    origins.iter().any(has_all)
}

/// Reports, one a second, until both have to be told.
const MOST_INTERVALS: usize = 120;

#[test]
fn functions_of_java_and_go_are_named() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIP: BPF needs root");
        return;
    }
    let scratch = Scratch::new();
    let mut watch = Command::new(env!("CARGO_BIN_EXE_sockleak-under-test"));
    watch.args([
        "watch", "--json", "-i", "1s", "--older", "2s", "--stacks", "always",
    ]);
    let mut watch = Running::start(&mut watch);
    schema::validate(&watch.line()).expect("valid");
    let (go, java) = (go(&scratch), java(&scratch));
    if go.is_none() && java.is_none() {
        return;
    }
    let mut missing = Vec::new();
    if let Some(go) = &go {
        let functions: &[&str] = &["syscall.Socket", "main.leakHere", "main.main"];
        missing.push((go.child.id(), functions));
    }
    if let Some((java, _)) = &java {
        missing.push((java.child.id(), &["socket0", "leakHere", "JavaMain"]));
    }
    let mut said = Vec::new();
    let mut intervals = 0;
    while !missing.is_empty() && intervals < MOST_INTERVALS {
        let line = schema::validate(&watch.line()).expect("valid");
        missing.retain(|(pid, functions)| !tells(&line, *pid, functions));
        intervals += usize::from(line["type"] == "interval");
        if line["type"] == "leak" {
            said.push(line);
        }
    }
    assert!(missing.is_empty(), "{missing:?}: {:?}", said.last());
}
