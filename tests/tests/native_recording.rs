//! `watch --record` and `report` on this machine. What attaches hooks needs root.

use std::fs;
use std::io::{BufRead as _, BufReader, Cursor, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use rustix::process::{Pid, Signal, kill_process};
use sockleak::cli::report::{Form, show};
use sockleak_tests::schema::{validate, validate_all, validate_recorded};

/// Nobody, on every distribution.
const UNPRIVILEGED: u32 = 65_534;

/// A directory of the test's own, gone when it is over.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let name = format!("sockleak-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a place for files");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIP: watch needs root");
    }
    root
}

fn sockleak(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sockleak-under-test"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a name of ours")
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("output is UTF-8")
}

/// An incident with leaks and failures. Dropping it ends it.
struct Incident(Child);

impl Incident {
    fn start() -> Self {
        let mut child = sockleak(&["demo", "bound-leak", "--hold"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("sockleak can be started");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let incident = Self(child);
        let runs = lines
            .map_while(Result::ok)
            .any(|line| line.contains("Ctrl-C"));
        assert!(runs, "the demo says how to end it");
        incident
    }
}

impl Drop for Incident {
    fn drop(&mut self) {
        // It takes its actors along.
        let _ = kill_process(Pid::from_child(&self.0), Signal::INT);
        let _ = self.0.wait();
    }
}

/// Watches it, and gives what was printed.
fn watched(file: &Path, more: &[&str]) -> Output {
    let _incident = Incident::start();
    let mut arguments = vec!["watch", "-i", "500ms", "-d", "4", "--older", "1"];
    arguments.extend(["--record", text(file)]);
    arguments.extend(more);
    sockleak(&arguments)
        .output()
        .expect("sockleak can be started")
}

/// A recording and what `watch --json` printed meanwhile.
fn recorded() -> &'static (Vec<u8>, String) {
    static RECORDED: OnceLock<(Vec<u8>, String)> = OnceLock::new();
    RECORDED.get_or_init(|| {
        let place = Place::new("recorded");
        let file = place.file("a.rec");
        let printed = stdout(&watched(&file, &["--json"]));
        let mode = fs::metadata(&file).expect("it was made").permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        (fs::read(&file).expect("readable"), printed)
    })
}

fn shown(bytes: &[u8], mask: bool, form: Form) -> anyhow::Result<String> {
    let mut out = Vec::new();
    let length = Some(bytes.len() as u64);
    show(Cursor::new(bytes), length, mask, form, &mut out)?;
    Ok(String::from_utf8(out).expect("output is UTF-8"))
}

#[test]
fn a_report_has_the_lines_that_were_printed_for_everybody_and_each_time() {
    if !is_root() {
        return;
    }
    let (bytes, printed) = recorded();
    let lines = validate_all(printed).expect("all lines are described");
    for kind in ["start", "interval", "leak", "failure", "end"] {
        assert!(lines.iter().any(|line| line["type"] == kind), "{kind}");
    }
    let place = Place::new("shared");
    let file = place.file("a.rec");
    fs::write(&file, bytes).expect("there is room");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("it is ours");
    // The build directory may be closed to others.
    let program = place.file("sockleak");
    fs::copy(env!("CARGO_BIN_EXE_sockleak-under-test"), &program).expect("there is room");
    let unprivileged = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.args(arguments).stdin(Stdio::null());
        command.uid(UNPRIVILEGED).gid(UNPRIVILEGED).current_dir("/");
        stdout(&command.output().expect("it can be started"))
    };
    for _ in 0..2 {
        let again = unprivileged(&["report", "--json", text(&file)]);
        assert!(again == *printed, "the lines differ");
    }
    let plain = unprivileged(&["report", text(&file)]);
    assert!(!plain.contains("CUT"), "{plain}");
    assert!(
        plain.contains("LEAK  ") && plain.contains("FAIL  "),
        "{plain}"
    );
    let folded = unprivileged(&["report", "--folded", text(&file)]);
    assert!(folded.lines().count() > 0);
    let page = unprivileged(&["report", "--html", "-", text(&file)]);
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
    let out = place.file("a.html");
    for _ in 0..2 {
        let said = sockleak(&["report", text(&file), "--html", text(&out)]).output();
        assert_eq!(stdout(&said.expect("it can be started")), "");
        assert!(fs::read_to_string(&out).expect("it was made") == page);
    }
    let refused = sockleak(&["report", text(&file), "--html", text(&file)]).output();
    assert_eq!(refused.expect("it can be started").status.code(), Some(1));
    assert!(
        fs::read(&file).expect("readable") == *bytes,
        "the recording is left alone"
    );
    let file = fs::File::open(&file).expect("readable");
    let piped = sockleak(&["report", "--json", "-"]).stdin(file).output();
    assert!(stdout(&piped.expect("it can be started")) == *printed);
}

/// Made in a guest with Linux 6.12.
#[test]
fn a_recording_of_another_kernel_is_the_same_for_anybody_each_time() {
    if !is_root() {
        return;
    }
    let bytes: &[u8] = include_bytes!("../../sockleak-user/src/cli/recorded/linux-6.12.rec");
    let place = Place::new("foreign");
    let (file, program) = (place.file("a.rec"), place.file("sockleak"));
    fs::write(&file, bytes).expect("there is room");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("it is ours");
    fs::copy(env!("CARGO_BIN_EXE_sockleak-under-test"), &program).expect("there is room");
    let expected = shown(bytes, false, Form::Json).expect("whole");
    let lines: Vec<_> = (expected.lines().map(validate_recorded))
        .map(|line| line.expect("it is described"))
        .collect();
    assert_eq!(lines[0]["kernel"], "6.12.107+deb13-cloud-amd64");
    for _ in 0..2 {
        let mut command = Command::new(&program);
        command.args(["report", "--json", text(&file)]);
        command.uid(UNPRIVILEGED).gid(UNPRIVILEGED).current_dir("/");
        let said = stdout(&command.output().expect("it can be started"));
        assert!(said == expected, "the lines differ");
    }
}

#[test]
fn the_plain_output_can_be_recorded_with_everything_that_json_has() {
    if !is_root() {
        return;
    }
    let place = Place::new("plain");
    let file = place.file("a.rec");
    let output = watched(&file, &["--color", "never"]);
    let printed = stdout(&output);
    let last = printed.lines().last().expect("a line");
    assert!(last.starts_with("recorded  "), "{last}");
    let lines = shown(&fs::read(&file).expect("readable"), false, Form::Json).expect("whole");
    let lines = validate_all(&lines).expect("all lines are described");
    assert_eq!(lines.last().map(|end| end["type"] == "end"), Some(true));
    assert!(lines.iter().any(|line| line["type"] == "leak"));
    // What the watch said last is what the report says.
    let plain = shown(
        &fs::read(&file).expect("readable"),
        false,
        Form::Plain { color: false },
    );
    let plain = plain.expect("whole");
    let (_, end) = plain.split_once("\nleaks ").expect("the leak report");
    assert!(printed.contains(end), "{printed}\n---\n{end}");
}

/// A generator that is the same each time (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

#[test]
fn a_thousand_cuts_show_what_was_in_front_of_them() {
    if !is_root() {
        return;
    }
    let (bytes, printed) = recorded();
    let whole: Vec<_> = printed.lines().collect();
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut described = 0;
    for n in 0..1_000 {
        let at = numbers.below(bytes.len());
        let bytes = &bytes[..at];
        let Ok(json) = shown(bytes, false, Form::Json) else {
            assert!(at < 400, "{at} bytes have a header");
            assert!(shown(bytes, false, Form::Plain { color: false }).is_err());
            continue;
        };
        let mut lines: Vec<_> = json.lines().collect();
        let cut = lines.pop().expect("at least that it is cut");
        assert_eq!(lines, whole[..lines.len()], "cut at {at}");
        assert!(lines.len() < whole.len());
        let cut = validate(cut).expect("it is described");
        assert_eq!(cut["type"], "cut");
        let read = cut["read_bytes"].as_u64().expect("a number");
        let unread = cut["unread_bytes"].as_u64().expect("a number");
        assert_eq!(read + unread, at as u64);
        if let Some(last) = lines.last() {
            let last = validate(last).expect("it is described");
            assert_eq!(last["ts"], cut["ts"], "after which time");
            described += 1;
        }
        if n % 20 == 0 {
            let plain = shown(bytes, false, Form::Plain { color: false }).expect("a header");
            assert!(plain.contains("\nCUT "), "{plain}");
            let total = plain
                .lines()
                .filter(|line| line.contains("difference"))
                .count();
            assert_eq!(total, 0, "no balance was recorded: {plain}");
            shown(bytes, true, Form::Folded).expect("a header");
            let page = shown(bytes, true, Form::Html).expect("a header");
            assert!(page.contains("This recording is cut"), "{page}");
        }
    }
    assert!(described > 900, "only {described}");
}

#[test]
fn masked_reports_have_no_address() {
    if !is_root() {
        return;
    }
    let (bytes, printed) = recorded();
    assert!(printed.contains("127.0.0.1"), "the incident is on loopback");
    let plain = Form::Plain { color: false };
    for form in [Form::Json, plain, Form::Folded, Form::Html] {
        let text = shown(bytes, true, form).expect("whole");
        for address in ["127.0.0.", "0.0.0.0", "::1"] {
            let found = text.lines().find(|line| line.contains(address));
            assert_eq!(found, None, "{form:?}: {address}");
        }
    }
    validate_all(&shown(bytes, true, Form::Json).expect("whole")).expect("still described");
}

#[test]
fn a_watch_that_is_killed_leaves_what_it_has_seen() {
    if !is_root() {
        return;
    }
    let place = Place::new("killed");
    let file = place.file("a.rec");
    let mut child = sockleak(&["watch", "--json", "-i", "100ms", "--record", text(&file)])
        .stdout(Stdio::piped())
        .spawn()
        .expect("sockleak can be started");
    let mut printed = child.stdout.take().expect("a pipe");
    let mut said = Vec::new();
    let mut some = [0; 4096];
    while said.iter().filter(|byte| **byte == b'\n').count() < 6 {
        let n = printed.read(&mut some).expect("it talks");
        assert!(n > 0, "it has ended");
        said.extend_from_slice(&some[..n]);
    }
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::KILL).expect("it runs");
    printed.read_to_end(&mut said).expect("it is over");
    child.wait().expect("it is over");

    let said = String::from_utf8(said).expect("output is UTF-8");
    let json = shown(&fs::read(&file).expect("readable"), false, Form::Json).expect("a header");
    let mut lines: Vec<_> = json.lines().collect();
    let cut = validate(lines.pop().expect("a line")).expect("it is described");
    assert_eq!(cut["type"], "cut");
    assert!(lines.len() >= 4, "{lines:?}");
    for (recorded, printed) in lines.iter().zip(said.lines()) {
        // The kill may have come in the middle of what was printed.
        assert!(recorded.starts_with(printed), "{recorded}");
    }
}

#[test]
fn a_file_that_may_not_grow_does_not_end_the_watch() {
    if !is_root() {
        return;
    }
    let place = Place::new("full");
    let file = place.file("a.rec");
    // 8 blocks of 512 bytes: some lines, not all.
    let script = format!(
        "ulimit -f 8; exec {} watch -i 100ms -d 1 --color never --record {}",
        env!("CARGO_BIN_EXE_sockleak-under-test"),
        text(&file)
    );
    let output = Command::new("sh").args(["-c", &script]).output();
    let output = output.expect("a shell can be started");
    let printed = stdout(&output);
    assert!(
        printed.contains("\nsockstat "),
        "it came to its end: {printed}"
    );
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(
        complaints.matches("the watch goes on").count(),
        1,
        "said once: {complaints}"
    );
    assert!(complaints.contains("are missing"), "{complaints}");
    let bytes = fs::read(&file).expect("readable");
    assert!(bytes.len() <= 4096);
    let plain = shown(&bytes, false, Form::Plain { color: false }).expect("a header");
    assert!(plain.contains("\nCUT "), "{plain}");
}

#[test]
fn nothing_is_overwritten_and_nothing_is_left_behind() {
    let place = Place::new("existing");
    let file = place.file("precious");
    fs::write(&file, "precious").expect("there is room");
    let arguments = ["watch", "-d", "100ms", "--record", text(&file)];
    let output = sockleak(&arguments).output().expect("it can be started");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(complaint.contains("not overwritten"), "{complaint}");
    assert_eq!(fs::read(&file).expect("readable"), b"precious");

    let output = sockleak(&["report", text(&file)]).output();
    let output = output.expect("it can be started");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        complaint.contains("no recording of sockleak"),
        "{complaint}"
    );

    let file = place.file("no-such-directory/a.rec");
    let output = sockleak(&["watch", "-d", "100ms", "--record", text(&file)]).output();
    assert_eq!(output.expect("it can be started").status.code(), Some(1));

    // A watch that does not come about.
    let file = place.file("a.rec");
    let mut command = sockleak(&["watch", "-d", "100ms", "--record", text(&file)]);
    if rustix::process::geteuid().is_root() {
        let program = place.file("sockleak");
        fs::copy(env!("CARGO_BIN_EXE_sockleak-under-test"), &program).expect("there is room");
        fs::set_permissions(&place.0, fs::Permissions::from_mode(0o777)).expect("it is ours");
        command = Command::new(program);
        command.args(["watch", "-d", "100ms", "--record", text(&file)]);
        command.uid(UNPRIVILEGED).gid(UNPRIVILEGED).current_dir("/");
    }
    let output = command.output().expect("it can be started");
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(!file.exists());
}
