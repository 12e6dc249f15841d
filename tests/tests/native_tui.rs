//! `watch` on a real terminal: tmux draws, presses keys and takes the terminal away.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use sockleak::tui::app::{Key, keys::BINDINGS};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const SOCKLEAK: &str = env!("CARGO_BIN_EXE_sockleak-under-test");
const PANICS: &str = env!("CARGO_BIN_EXE_screen-panics");

/// Says what is left out, past the test harness, where `cargo xtask test` collects it.
fn skipped(reason: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED native_tui: {reason}");
}

/// Whether these tests can run here.
fn can_run() -> bool {
    if !rustix::process::geteuid().is_root() {
        skipped("watch needs root");
        return false;
    }
    let found = Command::new("tmux").arg("-V").output();
    if !found.is_ok_and(|output| output.status.success()) {
        skipped("tmux is not here (apt install tmux; cargo xtask test fetches it)");
        return false;
    }
    true
}

/// A terminal. Dropping it takes it away from whoever uses it.
struct Terminal {
    dir: PathBuf,
}

impl Terminal {
    /// Runs a script for sh in a terminal of this size. The script finds its files in `$PWD`.
    fn start(name: &str, (width, height): (u16, u16), script: &str) -> Self {
        let name = format!("sockleak-tui-{name}-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("a place for files");
        // After it, the terminal stays, so that one can see what is left.
        let script = format!("{script}\nexec sleep 600\n");
        fs::write(dir.join("script"), script).expect("it is ours");
        let terminal = Self { dir };
        let (width, height) = (width.to_string(), height.to_string());
        terminal.tmux(&[
            "new-session",
            "-d",
            "-s",
            "it",
            "-x",
            &width,
            "-y",
            &height,
            "sh ./script",
        ]);
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux")
            .arg("-S")
            .arg(self.dir.join("socket"))
            .args(["-f", "/dev/null"])
            .args(arguments)
            .current_dir(&self.dir)
            .env_remove("TMUX")
            .env("LC_ALL", "C.UTF-8")
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::null())
            .output()
            .expect("tmux is here");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-t", "it"])
    }

    fn press(&self, key: &str) {
        self.tmux(&["send-keys", "-t", "it", key]);
    }

    /// What is on the screen once `is_it` holds of it.
    fn when(&self, what: &str, is_it: impl Fn(&str) -> bool) -> String {
        let screen = wait(|| Some(self.screen()).filter(|screen| is_it(screen)));
        screen.unwrap_or_else(|| panic!("{what} was not seen on:\n{}", self.screen()))
    }

    fn sees(&self, text: &str) -> String {
        self.when(text, |screen| screen.contains(text))
    }

    /// Leaks show in the second look at all descriptors, which is asked for: on a busy machine
    /// the first one has been too dear to be repeated soon.
    fn sees_after_a_look(&self, text: &str) {
        let found = wait(|| {
            self.press("u");
            std::thread::sleep(Duration::from_millis(500));
            self.screen().contains(text).then_some(())
        });
        assert!(
            found.is_some(),
            "{text} was not seen on:\n{}",
            self.screen()
        );
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The number in a file, once it is there.
    fn pid(&self) -> Pid {
        let read = || {
            fs::read_to_string(self.file("pid"))
                .ok()?
                .trim()
                .parse()
                .ok()
        };
        let pid: i32 = wait(read).expect("the script writes its pid");
        Pid::from_raw(pid).expect("a pid")
    }

    /// The settings of the terminal before and after.
    fn is_as_before(&self) {
        let read = |name| {
            fs::read_to_string(self.file(name))
                .ok()
                .filter(|text| !text.is_empty())
        };
        let after = wait(|| read("after")).expect("stty has said it");
        assert_eq!(read("before"), Some(after));
        // It is not on the second screen any more, and its cursor is there.
        let flags = self.tmux(&["display", "-p", "-t", "it", "#{alternate_on}#{cursor_flag}"]);
        assert_eq!(flags.trim(), "01");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn wait<T>(mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if began.elapsed() > PATIENCE {
            return None;
        }
        std::thread::sleep(Duration::from_millis(30));
    }
}

/// `watch` between two looks at the settings of the terminal.
fn watch(arguments: &str) -> String {
    format!(
        "stty -g > before
         sh -c 'echo $$ > pid; exec {SOCKLEAK} watch --backend tracepoint --stacks never {arguments}'
         echo \"status $?\"; stty -g > after"
    )
}

/// An incident with leaks and failures. Dropping it ends it.
struct Incident(Child);

impl Incident {
    fn start() -> Self {
        let mut child = Command::new(SOCKLEAK)
            .args(["demo", "bound-leak", "--hold"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sockleak can be started");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let incident = Self(child);
        let mut lines = lines.map_while(Result::ok);
        assert!(lines.any(|line| line.contains("Ctrl-C")), "it runs");
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

/// How tmux calls a key.
fn name(key: Key) -> String {
    match key {
        Key::Char(' ') => "Space".to_owned(),
        Key::Char(c) => c.to_string(),
        Key::Ctrl(c) => format!("C-{c}"),
        Key::Enter => "Enter".to_owned(),
        Key::Esc => "Escape".to_owned(),
        Key::Tab => "Tab".to_owned(),
        Key::BackTab => "BTab".to_owned(),
        Key::Backspace => "BSpace".to_owned(),
        Key::Up => "Up".to_owned(),
        Key::Down => "Down".to_owned(),
        Key::Left => "Left".to_owned(),
        Key::Right => "Right".to_owned(),
        Key::PageUp => "PageUp".to_owned(),
        Key::PageDown => "PageDown".to_owned(),
        Key::Home => "Home".to_owned(),
        Key::End => "End".to_owned(),
    }
}

/// Whether a screen is as expected: it has the text; with `!`, it has not; with `@`, the row of the
/// cursor has.
fn is_as(screen: &str, expected: &str) -> bool {
    if let Some(text) = expected.strip_prefix('!') {
        return !screen.contains(text);
    }
    if let Some(text) = expected.strip_prefix('@') {
        let mut lines = screen.lines();
        return lines.any(|line| line.starts_with('>') && line.contains(text));
    }
    screen.contains(expected)
}

/// Keys in order, and what is on the screen after each.
fn walk() -> Vec<(Key, &'static str)> {
    use Key::{Char, Ctrl};
    let mut walk = vec![
        (Char('1'), "[1 Overview]"),
        (Char('2'), "[2 Leaks]"),
        (Char('3'), "[3 Failures]"),
        (Char('4'), "[4 Search]"),
        (Char('5'), "[5 Dest]"),
        (Char('6'), "half of them or more"),
        (Char('7'), "[7 Events]"),
        (Key::Tab, "[1 Overview]"),
        (Key::BackTab, "[7 Events]"),
        (Char('?'), "Keys"),
        (Char('j'), "lines 2-"),
        (Char('k'), "lines 1-"),
        (Key::Down, "lines 2-"),
        (Key::Up, "lines 1-"),
        (Key::End, "TOTAL is since the start"),
        (Key::Home, "lines 1-"),
        (Char('G'), "TOTAL is since the start"),
        (Char('g'), "lines 1-"),
        (Key::PageDown, "TOTAL is since the start"),
        (Key::PageUp, "lines 1-"),
        (Ctrl('f'), "TOTAL is since the start"),
        (Ctrl('b'), "lines 1-"),
        (Ctrl('d'), "TOTAL is since the start"),
        (Ctrl('u'), "lines 1-"),
        (Char('H'), "[7 Events]"),
        (Char('2'), "holding a port, never closed"),
        (Key::Enter, "its process"),
        (Char('i'), "FD/LIMIT"),
        (Key::Right, "!PID COMM TOTAL"),
        (Char('l'), "!PID COMM TOTAL"),
        (Char('h'), "!PID COMM TOTAL"),
        (Key::Left, "PID COMM TOTAL"),
        (Key::Esc, "its process"),
        (Key::Backspace, "/ search"),
        (Char('1'), "[1 Overview]"),
        (Char('s'), "PID▼"),
        (Char('r'), "PID▲"),
        (Char('S'), "!▲"),
        (Char('f'), "filter: _"),
        (Char('f'), "filter: f_"),
        (Char('t'), "filter: ft_"),
        (Key::Enter, "filter: ft, "),
        (Key::Esc, "inetd"),
        (Char('/'), "search: _"),
        (Char('i'), "search: i_"),
        (Char('n'), "search: in_"),
        (Key::Enter, "@inetd"),
        (Char('n'), "@inetd"),
        (Char('N'), "@inetd"),
        (Char('p'), "PAUSED"),
        (Char('p'), "!PAUSED"),
        (Char(' '), "PAUSED"),
        (Char(' '), "!PAUSED"),
        (Char('u'), "looking at all descriptors"),
        (Ctrl('r'), "looking at all descriptors"),
        (Char('2'), "[2 Leaks]"),
        (Ctrl('s'), "reports in ./sockleak-leaks-"),
        (Char('3'), "[3 Failures]"),
        (Char('e'), "reports in ./sockleak-failures-"),
        (Ctrl('l'), "[3 Failures]"),
        // Nobody could continue it here, so that it does not stop.
        (Ctrl('z'), "[3 Failures]"),
        (Char('7'), "[7 Events]"),
        (Char('z'), "? shows the keys"),
        (Char('q'), "status 0"),
    ];
    // Ends it as well; pressed by a test of its own.
    walk.push((Ctrl('c'), ""));
    walk
}

#[test]
fn every_key_is_answered_on_a_terminal() {
    if !can_run() {
        return;
    }
    let _incident = Incident::start();
    let terminal = Terminal::start("keys", (80, 24), &watch("-i 500ms --older 1s --events"));
    terminal.sees_after_a_look("LEAK");
    for (key, text) in walk() {
        if key == Key::Ctrl('c') {
            continue;
        }
        terminal.press(&name(key));
        terminal.when(&format!("{text:?} after {key:?}"), |screen| {
            is_as(screen, text)
        });
    }
    terminal.sees("self ");
    terminal.is_as_before();
    let mut exported = 0;
    for entry in fs::read_dir(&terminal.dir).expect("it is there") {
        let path = entry.expect("a file").path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            let text = fs::read_to_string(&path).expect("it is ours");
            sockleak_tests::schema::validate_all(&text).expect("lines as in watch --json");
            assert!(text.lines().count() >= 3, "{text}");
            exported += 1;
        }
    }
    assert_eq!(exported, 2);
}

#[test]
fn the_walk_presses_every_key() {
    let walk = walk();
    for key in BINDINGS.iter().flat_map(|binding| binding.keys) {
        assert!(walk.iter().any(|(pressed, _)| pressed == key), "{key:?}");
    }
}

#[test]
fn a_large_screen_is_used_and_a_smaller_one_is_followed() {
    if !can_run() {
        return;
    }
    let _incident = Incident::start();
    let terminal = Terminal::start("sizes", (160, 50), &watch("-i 500ms --older 1s"));
    let screen = terminal.sees("UNBOUND");
    assert!(screen.contains("sockleak [1 Overview]"), "{screen}");
    // What there is no room for on 80 columns.
    assert!(screen.contains("CGROUP"), "{screen}");
    terminal.tmux(&["resize-window", "-t", "it", "-x", "80", "-y", "24"]);
    terminal.when("fewer columns", |screen| {
        screen.contains("UNBOUND") && !screen.contains("CGROUP")
    });
    terminal.tmux(&["resize-window", "-t", "it", "-x", "30", "-y", "6"]);
    terminal.sees("screen too small");
    terminal.press("q");
    terminal.is_as_before();
}

#[test]
fn signals_and_ctrl_c_leave_the_terminal_as_it_was() {
    if !can_run() {
        return;
    }
    for (n, signal) in [
        Some(Signal::INT),
        Some(Signal::TERM),
        Some(Signal::HUP),
        None,
    ]
    .into_iter()
    .enumerate()
    {
        let terminal = Terminal::start(&format!("signal{n}"), (80, 24), &watch("-i 500ms"));
        terminal.sees("[1 Overview]");
        match signal {
            Some(signal) => kill_process(terminal.pid(), signal).expect("it is ours"),
            None => terminal.press("C-c"),
        }
        let screen = terminal.sees("status 0");
        assert!(
            screen.contains("self "),
            "the last report is printed:\n{screen}"
        );
        terminal.is_as_before();
    }
}

#[test]
fn a_panic_gives_the_terminal_back_before_it_speaks() {
    if !can_run() {
        return;
    }
    let script = format!("stty -g > before; {PANICS}; echo \"status $?\"; stty -g > after");
    let terminal = Terminal::start("panic", (80, 24), &script);
    terminal.sees("[1 Overview]");
    terminal.press("q");
    let screen = terminal.sees("status 101");
    assert!(screen.contains("in the middle of it"), "{screen}");
    terminal.is_as_before();
}

#[test]
fn a_panic_of_the_thread_that_draws_ends_the_watch_and_says_so() {
    if !can_run() {
        return;
    }
    let script = format!(
        "stty -g > before; RUST_BACKTRACE=0 {PANICS} draw; echo \"status $?\"; stty -g > after"
    );
    let terminal = Terminal::start("panic-draw", (80, 24), &script);
    terminal.sees("[1 Overview]");
    terminal.press("?");
    let screen = terminal.sees("status 1");
    assert!(screen.contains("in the middle of a frame"), "{screen}");
    assert!(
        screen.contains("sockleak: the thread that draws has ended"),
        "{screen}"
    );
    terminal.is_as_before();
}

#[test]
fn a_stopped_job_leaves_the_terminal_to_the_shell_and_comes_back() {
    if !can_run() {
        return;
    }
    // With job control, as shells have it for people; each line read is one `fg`.
    let script = format!(
        "set -m\n{}\nwhile read -r line; do rm -f after; fg; echo \"then $?\"; stty -g > after; done",
        watch("-i 500ms")
    );
    let terminal = Terminal::start("stop", (80, 24), &script);
    terminal.sees("[1 Overview]");
    terminal.press("C-z");
    // 128 + SIGTSTP.
    let screen = terminal.sees("status 148");
    assert!(!screen.contains("[1 Overview]"), "{screen}");
    terminal.is_as_before();
    let comes_back = || {
        terminal.press("Enter");
        terminal.sees("[1 Overview]");
        let flags = terminal.tmux(&["display", "-p", "-t", "it", "#{alternate_on}#{cursor_flag}"]);
        assert_eq!(flags.trim(), "10", "on the second screen, without cursor");
        // And it reads keys as before.
        terminal.press("?");
        terminal.sees("Keys");
        terminal.press("?");
        terminal.when("no help", |screen| !screen.contains("Keys"));
    };
    comes_back();
    kill_process(terminal.pid(), Signal::TSTP).expect("it is ours");
    terminal.sees("then 148");
    terminal.is_as_before();
    comes_back();
    // Of SIGSTOP a process learns when it goes on.
    kill_process(terminal.pid(), Signal::STOP).expect("it is ours");
    // 128 + SIGSTOP; the shell has a terminal that is as we left it.
    wait(|| {
        fs::read_to_string(terminal.file("after"))
            .ok()
            .filter(|text| !text.is_empty())
    })
    .expect("the shell goes on");
    terminal.tmux(&["send-keys", "-t", "it", "C-j"]);
    terminal.sees("[1 Overview]");
    terminal.press("q");
    terminal.sees("then 0");
    terminal.is_as_before();
}

#[test]
fn a_terminal_that_is_gone_is_a_quiet_end_with_a_whole_recording() {
    if !can_run() {
        return;
    }
    for (name, command) in [("pane", "kill-pane"), ("server", "kill-server")] {
        let terminal = Terminal::start(
            name,
            (80, 24),
            &watch("-i 500ms --record recording 2> errors"),
        );
        terminal.sees("allocated");
        let pid = terminal.pid();
        terminal.tmux(&[command]);
        let ended = wait(|| test_kill_process(pid).is_err().then_some(()));
        assert!(
            ended.is_some(),
            "it ends when its terminal is gone ({command})"
        );
        let errors = fs::read_to_string(terminal.file("errors")).expect("it is ours");
        assert_eq!(errors, "", "{command}");
        whole(&terminal.file("recording"));
    }
}

fn whole(recording: &Path) {
    let output = Command::new(SOCKLEAK)
        .args(["report", "--json"])
        .arg(recording)
        .output()
        .expect("sockleak can be started");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains(r#""type":"end""#), "{text}");
    assert!(!text.contains(r#""type":"cut""#), "{text}");
}

#[test]
fn colour_follows_the_flag_and_no_color() {
    if !can_run() {
        return;
    }
    let _incident = Incident::start();
    for (name, environment, arguments, wanted) in [
        ("colour", "", "", true),
        ("no-color", "NO_COLOR=1", "", false),
        ("never", "", "--color never", false),
        ("always", "NO_COLOR=1", "--color always", true),
    ] {
        let script = format!(
            "export {environment} X=1; {}",
            watch(&format!("-i 500ms --older 1s {arguments}"))
        );
        let terminal = Terminal::start(name, (80, 24), &script);
        terminal.sees("FAIL");
        let screen = terminal.tmux(&["capture-pane", "-p", "-e", "-t", "it"]);
        // Red, in either of its forms (ECMA-48 8.3.117, and 38;5;N for one of 256).
        let has_colour = screen.contains("38;5;1m") || screen.contains("\x1b[31m");
        assert_eq!(has_colour, wanted, "{name}: {screen:?}");
    }
}

#[test]
fn whoever_waits_is_told_for_what_and_finds_only_the_report_afterwards() {
    if !can_run() {
        return;
    }
    let script = format!("{SOCKLEAK} diagnose -d 3 --no-bpf | cat; echo \"over\"");
    let terminal = Terminal::start("progress", (80, 50), &script);
    terminal.when("what is done", |screen| {
        screen
            .lines()
            .any(|line| line.starts_with("looking, and watching: ") && line.ends_with(" of 3 s"))
    });
    let screen = terminal.sees("over");
    assert!(!screen.contains("watching: "), "{screen}");
    assert!(
        screen.contains("looked") || screen.contains("checked"),
        "{screen}"
    );
    // Nobody looks at standard error: nothing is written there.
    let output = Command::new(SOCKLEAK)
        .args(["diagnose", "-d", "1", "--no-bpf"])
        .env("TERM", "xterm")
        .output()
        .expect("sockleak can be started");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn plain_is_plain_on_a_terminal_too() {
    if !can_run() {
        return;
    }
    for (name, environment, arguments) in [
        ("plain", "", "--plain"),
        ("dumb", "TERM=dumb", ""),
        ("stdin", "", "< /dev/null"),
    ] {
        let script = format!(
            "export {environment} X=1; {SOCKLEAK} watch --backend tracepoint -d 200ms {arguments}"
        );
        let terminal = Terminal::start(name, (80, 60), &script);
        terminal.sees("Hit Ctrl-C to end.");
    }
}
