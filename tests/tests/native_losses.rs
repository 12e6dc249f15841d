//! What does not fit is counted, each kind where it is lost: maps and a ring of few elements, and a
//! reader that does not read. Needs root. Others may use sockets on this machine meanwhile, so
//! figures are bounds: what others do takes room and is lost, too.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use sockleak::model::Counters;
use sockleak::probe::{Attached, Choice, LoadOptions, Stacks, facts, plan};
use sockleak::source::kernel_maps::KernelMaps;

/// Elements of every map.
const ROOM: u32 = 4;
/// What is put into each.
const MANY: u16 = 24;
/// Sockets that are opened and closed while nobody reads the ring.
const BURST: u64 = 20_000;

fn can_run() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIP: attaching needs root");
    }
    root
}

fn attached(options: &LoadOptions) -> (Attached, KernelMaps) {
    let facts = facts::gather();
    let plan = plan::plan(&facts, Choice::Auto);
    let mut attached = Attached::load(&facts, &plan, options).expect("this machine can trace");
    let maps = KernelMaps::take(&mut attached, options.searches);
    (attached, maps.expect("its maps are there"))
}

/// A process that has sockets, each another one.
fn holder() -> Child {
    let mut child = Command::new(env!("CARGO_BIN_EXE_holder"))
        .arg("own")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the holder can be started");
    let mut text = String::new();
    let out = child.stdout.as_mut().expect("a pipe");
    let mut byte = [0];
    while !text.ends_with("ready\n") && out.read(&mut byte).expect("it writes") == 1 {
        text.push(char::from(byte[0]));
    }
    child
}

fn address(n: u16) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 77, n as u8)
}

fn since(then: &Counters, now: &Counters, of: impl Fn(&Counters) -> u64) -> u64 {
    of(now) - of(then)
}

/// What was lost of what `work` does.
fn lost_in(options: &LoadOptions, work: impl FnOnce()) -> (Counters, Counters) {
    let (attached, maps) = attached(options);
    let before = maps.counters().expect("counters can be read");
    work();
    let now = maps.counters().expect("counters can be read");
    drop(attached);
    (before, now)
}

#[test]
fn maps_of_sockets_and_processes_without_room_lose_no_totals() {
    if !can_run() {
        return;
    }
    let options = LoadOptions {
        sockets: ROOM,
        processes: ROOM,
        stacks: Stacks::Never,
        ..LoadOptions::default()
    };
    let (before, now) = lost_in(&options, || {
        let mut holders: Vec<Child> = (0..MANY).map(|_| holder()).collect();
        for child in &mut holders {
            drop(child.stdin.take());
            child.wait().expect("it ends");
        }
    });
    let lost = |of: fn(&Counters) -> u64| since(&before, &now, of);
    let beyond = u64::from(MANY) - u64::from(ROOM);
    assert!(lost(|c| c.sockets_full) >= beyond, "{now:?}");
    assert!(lost(|c| c.processes_full) >= beyond, "{now:?}");
    assert!(lost(|c| c.allocated) >= u64::from(MANY), "{now:?}");
    assert!(lost(Counters::destroyed) >= u64::from(MANY), "{now:?}");
}

#[test]
fn maps_of_searches_failures_and_endings_without_room_lose_no_totals() {
    if !can_run() {
        return;
    }
    let options = LoadOptions {
        searches: ROOM,
        stacks: Stacks::Never,
        ..LoadOptions::default()
    };
    let (before, now) = lost_in(&options, || {
        // As many destinations, endings, and kinds of failure.
        for n in 1..=MANY {
            let listener = TcpListener::bind((address(n), 0)).expect("loopback is up");
            let port = listener.local_addr().expect("it is bound").port();
            let connected = TcpStream::connect((address(n), port)).expect("it listens");
            let taken = TcpListener::bind((address(n), port));
            assert!(taken.is_err(), "the port is taken");
            drop((listener, connected));
            let refused = TcpStream::connect((address(n), port));
            assert!(refused.is_err(), "nobody listens");
        }
    });
    let lost = |of: fn(&Counters) -> u64| since(&before, &now, of);
    let beyond = u64::from(MANY) - u64::from(ROOM);
    for (name, lost) in [
        ("searches_full", lost(|c| c.searches_full)),
        ("failures_full", lost(|c| c.failures_full)),
        ("endings_full", lost(|c| c.endings_full)),
    ] {
        assert!(
            lost >= beyond,
            "{name}: {lost} of at least {beyond}; {now:?}"
        );
    }
    assert!(lost(|c| c.failures[1]) >= u64::from(MANY), "{now:?}");
    assert!(lost(|c| c.searches[0]) >= 2 * u64::from(MANY), "{now:?}");
}

fn open_and_close(count: u64) {
    for _ in 0..count {
        let socket = rustix::net::socket(
            rustix::net::AddressFamily::INET,
            rustix::net::SocketType::STREAM,
            None,
        );
        drop(socket.expect("a socket"));
    }
}

#[test]
fn a_ring_that_nobody_reads_counts_what_it_drops_by_kind() {
    if !can_run() {
        return;
    }
    let options = LoadOptions {
        events: true,
        stacks: Stacks::Never,
        ..LoadOptions::default()
    };
    let (attached, maps) = attached(&options);
    let before = maps.counters().expect("counters can be read");
    open_and_close(BURST);
    let now = maps.counters().expect("counters can be read");
    let lost = |of: fn(&Counters) -> u64| since(&before, &now, of);
    // 1 MiB holds some 7,000 records, of three kinds in turn.
    for (name, lost) in [
        ("alloc", lost(|c| c.dropped_alloc)),
        ("release", lost(|c| c.dropped_release)),
        ("destroy", lost(|c| c.dropped_destroy)),
    ] {
        assert!(lost >= BURST / 2, "{name}: {lost}");
    }
    assert!(
        lost(|c| c.allocated) >= BURST,
        "totals do not rest on events"
    );
    drop(attached);
}

/// The pipe of `watch --events` is full: events are lost behind the ring, in our own queue, and
/// together with those that are printed and those that the ring dropped none is missing.
#[test]
fn a_reader_that_stops_costs_counted_events() {
    if !can_run() {
        return;
    }
    let mut watch = Command::new(env!("CARGO_BIN_EXE_sockleak-under-test"))
        .args([
            "watch", "--json", "--events", "-i", "1h", "--stacks", "never",
        ])
        .args(["--pid", &std::process::id().to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .expect("sockleak can be started");
    let mut out = watch.stdout.take().expect("a pipe");
    // Attached: the first line is there.
    let mut said = Vec::new();
    let mut byte = [0];
    while out.read(&mut byte).expect("it writes") == 1 && byte[0] != b'\n' {
        said.push(byte[0]);
    }
    // More than pipe, queue and ring hold together.
    let count = 4 * BURST;
    open_and_close(count);
    let pid = rustix::process::Pid::from_child(&watch);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it lives");
    out.read_to_end(&mut said).expect("it ends");
    assert!(watch.wait().expect("it ends").success());
    let text = String::from_utf8_lossy(&said);
    let printed = text.matches("\"type\":\"event\"").count() as u64;
    let end: Value = serde_json::from_str(text.lines().last().expect("a last line")).expect("JSON");
    let dropped = end["loss"]["events_dropped"]
        .as_object()
        .expect("by kind")
        .clone();
    let queue = dropped["queue"].as_u64().expect("a number");
    let in_ring: u64 = dropped.values().filter_map(Value::as_u64).sum::<u64>() - queue;
    let _ = writeln!(
        std::io::stderr(),
        "printed {printed}, queue {queue}, ring {in_ring}"
    );
    assert!(queue > 0, "{dropped:?}");
    assert!(
        printed + queue + in_ring >= 3 * count,
        "{printed} printed, {dropped:?}"
    );
}
