//! Programs that leak from two known functions at two known rates until their descriptors are
//! used up: does the report name the functions, count right, and foresee the end? Needs root.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sockleak_tests::schema;
use sockleak_tests::victim::Scratch;

const SOURCE: &str = include_str!("leaky/leaky.c");

/// Name, how it is compiled, and whether its functions can be named.
const VARIANTS: [(&str, &[&str], bool); 4] = [
    ("lk-frames", &["-O2", "-fno-omit-frame-pointer"], true),
    ("lk-noframes", &["-O2", "-fomit-frame-pointer"], true),
    (
        "lk-static",
        &["-O2", "-fomit-frame-pointer", "-static"],
        true,
    ),
    ("lk-stripped", &["-O2", "-fomit-frame-pointer", "-s"], false),
];

const REFUSED_PER_S: f64 = 20.0;
const UNUSED_PER_S: f64 = 5.0;
const DESCRIPTORS: u64 = 400;

const PYTHON: &str = r#"
import resource, socket, time
resource.setrlimit(resource.RLIMIT_NOFILE, (400, 400))
kept = []
def leak_unused():
    kept.append(socket.socket())
begin = time.monotonic()
while len(kept) < 200:
    while len(kept) < (time.monotonic() - begin) * 15:
        leak_unused()
    time.sleep(0.002)
print(len(kept), flush=True)
input()
"#;

fn start(mut command: Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().expect("the program can be started")
}

fn line(child: &mut Child) -> String {
    let mut text = String::new();
    let out = child.stdout.as_mut().expect("a pipe");
    BufReader::new(out).read_line(&mut text).expect("a line");
    text
}

fn unix_s(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs_f64()
}

/// Unix time of a monotonic time in seconds.
fn unix_of(monotonic_s: f64) -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let now_s = now.tv_sec as f64 + now.tv_nsec as f64 / 1e9;
    unix_s(SystemTime::now()) + monotonic_s - now_s
}

/// `2026-08-01T03:14:15.926Z` as Unix time, of today's or yesterday's date.
fn time_of(report: &Value) -> f64 {
    let text = report["ts"].as_str().expect("a time");
    let clock = text.get(11..23).expect("a time of day");
    let part = |range: std::ops::Range<usize>| -> f64 { clock[range].parse().expect("a number") };
    let of_day = part(0..2) * 3600.0 + part(3..5) * 60.0 + part(6..12);
    let now = unix_s(SystemTime::now());
    let midnight = now - now % 86_400.0;
    let today = midnight + of_day;
    if today > now + 3600.0 {
        today - 86_400.0
    } else {
        today
    }
}

fn of(report: &Value, after: &str) -> (u64, Option<f64>, Vec<String>) {
    let origins = report["origins"].as_array().expect("origins");
    let mut count = 0;
    let mut rate = Some(0.0);
    let mut frames = Vec::new();
    for origin in origins.iter().filter(|origin| origin["after"] == after) {
        count += origin["count"].as_u64().expect("a count");
        rate = rate
            .zip(origin["rate_per_min"].as_f64())
            .map(|(a, b)| a + b);
        let stack = origin["stack"].as_array().cloned().unwrap_or_default();
        frames.extend(
            stack
                .iter()
                .filter_map(|one| one.as_str().map(str::to_owned)),
        );
    }
    (count, rate, frames)
}

#[test]
fn functions_counts_rates_and_the_end_are_right() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIP: BPF needs root");
        return;
    }
    let scratch = Scratch::new();
    let mut watch = Command::new(env!("CARGO_BIN_EXE_sockleak-under-test"));
    watch.args([
        "watch", "--json", "-i", "1s", "--older", "2s", "--stacks", "always",
    ]);
    let mut watch = start(watch);
    let out = BufReader::new(watch.stdout.take().expect("a pipe"));
    let mut lines = out.lines();
    let first = lines.next().expect("a start line").expect("readable");
    schema::validate(&first).expect("valid");
    let reader = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>());

    let mut running = Vec::new();
    for (name, flags, named) in VARIANTS {
        let program = scratch.compile(name, SOURCE, flags);
        let mut command = Command::new(program);
        let numbers = [REFUSED_PER_S, UNUSED_PER_S, 60.0].map(|one| one.to_string());
        command.args(numbers).arg(DESCRIPTORS.to_string());
        running.push((name, named, unix_s(SystemTime::now()), start(command)));
    }
    let mut python = Command::new("python3");
    python.args(["-c", PYTHON]);
    let mut python = start(python);
    let truths: Vec<Value> = (running.iter_mut())
        .map(|(.., child)| serde_json::from_str(&line(child)).expect("its account"))
        .collect();
    let kept: u64 = line(&mut python).trim().parse().expect("a count");
    // The youngest are idle for long enough then.
    std::thread::sleep(Duration::from_millis(3_500));
    let pid = Pid::from_raw(watch.id().cast_signed()).expect("a pid");
    kill_process(pid, Signal::TERM).expect("it lives");
    let mut said = String::new();
    let _ = watch
        .stderr
        .take()
        .map(|mut err| err.read_to_string(&mut said));
    assert!(watch.wait().expect("it ends").success(), "{said}");
    let lines = reader.join().expect("the reader");
    let reports: Vec<Value> = (lines.iter())
        .map(|text| schema::validate(text).expect("valid"))
        .collect();
    let end = reports.last().expect("an end line");
    assert_eq!(end["type"], "end");
    let last = |pid: u32| -> &Value {
        let leaks = end["leaks"].as_array().expect("leaks");
        let found = leaks.iter().find(|leak| leak["pid"] == pid);
        found.unwrap_or_else(|| panic!("{pid} is not accused: {leaks:?}"))
    };

    for ((name, named, began, child), truth) in running.iter_mut().zip(&truths) {
        let (refused, unused) = (&truth["refused"], &truth["unused"]);
        let leak = last(child.id());
        eprintln!("{name}: {truth}\n{leak}");
        let total = refused.as_u64().zip(unused.as_u64()).map(|(a, b)| a + b);
        assert_eq!(leak["count"].as_u64(), total, "{name}");
        assert_eq!(leak["after"], "connect_refused", "{name}");
        assert_eq!(leak["peer"], "127.0.0.1:9", "{name}");
        assert_eq!(leak["stacked"], leak["count"], "{name}");
        for (after, count, function) in [
            ("connect_refused", refused, "leak_refused"),
            ("never_used", unused, "leak_unused"),
        ] {
            let (reported, _, frames) = of(leak, after);
            assert_eq!(Some(reported), count.as_u64(), "{name} {after}");
            let is_named = frames.iter().any(|frame| frame.starts_with(function));
            assert_eq!(is_named, *named, "{name} {after}: {frames:?}");
            let at = format!("{name}+0x");
            let is_placed = frames.iter().any(|frame| frame.starts_with(&at));
            assert!(*named || is_placed, "{name} {after}: {frames:?}");
        }

        let hit = unix_of(truth["full_at_s"].as_f64().expect("it was full"));
        let took = hit - *began;
        let grown = reports.iter().filter(|line| {
            let at = time_of(line) - *began;
            line["type"] == "leak" && line["pid"] == child.id() && at > took * 0.6 && at < took
        });
        let mut checked = 0;
        for line in grown {
            for (after, per_s) in [
                ("connect_refused", REFUSED_PER_S),
                ("never_used", UNUSED_PER_S),
            ] {
                let rate = of(line, after).1.expect("a rate");
                let expected = per_s * 60.0;
                let wrong = (rate - expected).abs() / expected;
                assert!(
                    wrong < 0.05,
                    "{name} {after}: {expected} per minute, reported {rate}"
                );
            }
            assert_eq!(line["limit"]["name"], "fd_limit", "{name}: {line}");
            let eta = line["limit"]["eta_s"].as_f64().expect("a forecast");
            let wrong = (time_of(line) + eta - hit).abs() / took;
            assert!(
                wrong < 0.1,
                "{name}: full after {took} s, {eta} s left said {line}"
            );
            checked += 1;
        }
        assert!(checked >= 3, "{name}: only {checked} reports while it grew");
    }

    let leak = last(python.id());
    assert_eq!(leak["count"], kept);
    let (_, _, frames) = of(leak, "never_used");
    assert!(frames.len() > 1, "the interpreter's frames: {frames:?}");
    eprintln!("python3: {frames:?}");

    for (.., child) in &mut running {
        let _ = child.kill();
        let _ = child.wait();
    }
    let _ = python.kill();
    let _ = python.wait();
}
