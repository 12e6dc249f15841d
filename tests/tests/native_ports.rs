//! `sockleak ports` against scenes whose every port is known, in private network namespaces.
//! Needs root (CAP_SYS_ADMIN) for the namespaces.
//!
//! The classes that a scene expects are computed here from the addresses of its own sockets. That
//! they mean what they say is then tried out: connect() and bind() are called until they fail.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_linger, set_socket_reuseaddr};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::thread::UnshareFlags;
use serde_json::{Value, json};
use sockleak::demo::{Launcher, find, loopback_up};
use sockleak_tests::schema::validate;

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIP: private network namespaces need root");
    }
    root
}

/// A child that a neighbouring test starts has this process's descriptors until it executes its
/// program, and would be found to hold them.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `inside` on a thread with a network namespace of its own.
fn in_new_namespace(inside: impl FnOnce() + Send + 'static) {
    let _alone = alone();
    let thread = std::thread::spawn(|| {
        // SAFETY: only CLONE_NEWNET is passed; the descriptor table stays shared.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.expect("unshare");
        loopback_up().expect("lo");
        inside();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn set(name: &str, value: &str) {
    fs::write(format!("/proc/sys/net/ipv4/{name}"), value).expect(name);
}

/// From inside the namespace of this thread, or from outside by its path.
fn ports(arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_sockleak-under-test"))
        .arg("ports")
        .args(arguments)
        .args(["--json", "--top", "0"])
        .stderr(Stdio::inherit())
        .output()
        .expect("sockleak can be started");
    assert_eq!(output.status.code(), Some(0), "{arguments:?}");
    validate(&String::from_utf8(output.stdout).expect("UTF-8")).expect("it is valid")
}

/// A scene's addresses.
#[derive(Clone, Copy)]
struct Addresses {
    family: AddressFamily,
    /// Source of the connections.
    own: IpAddr,
    any: IpAddr,
    /// Destinations.
    a: SocketAddr,
    b: SocketAddr,
}

impl Addresses {
    fn new(family: AddressFamily) -> Self {
        let (own, any) = match family {
            AddressFamily::INET => ("127.0.0.1", "0.0.0.0"),
            _ => ("::1", "::"),
        };
        let own = own.parse().expect("an address");
        Self {
            family,
            own,
            any: any.parse().expect("an address"),
            a: SocketAddr::new(own, 80),
            b: SocketAddr::new(own, 81),
        }
    }

    fn socket(&self) -> OwnedFd {
        let flags = SocketFlags::CLOEXEC;
        rustix::net::socket_with(self.family, SocketType::STREAM, flags, None).expect("socket")
    }

    fn bound(&self, address: IpAddr, port: u16) -> OwnedFd {
        let socket = self.socket();
        rustix::net::bind(&socket, &SocketAddr::new(address, port)).expect("bind");
        socket
    }

    fn listener(&self, port: u16) -> OwnedFd {
        let socket = self.bound(self.own, port);
        rustix::net::listen(&socket, 4096).expect("listen");
        socket
    }
}

fn local_port(socket: &OwnedFd) -> u16 {
    let address = rustix::net::getsockname(socket).expect("getsockname");
    SocketAddr::try_from(address).expect("an address").port()
}

/// What the scene has made, by port.
#[derive(Default)]
struct Truth {
    range: (u16, u16),
    reserved: BTreeSet<u16>,
    closed: BTreeSet<u16>,
    listening: BTreeSet<u16>,
    /// Of clients and servers alike.
    connected: BTreeSet<u16>,
    /// Connections whose socket was bound first.
    bound_first: BTreeSet<u16>,
    /// Clients' ports by destination.
    towards: BTreeMap<SocketAddr, BTreeSet<u16>>,
    waiting: BTreeMap<SocketAddr, BTreeSet<u16>>,
}

struct Scene {
    at: Addresses,
    truth: Truth,
    /// Everything that is to stay open.
    kept: Vec<OwnedFd>,
    a: TcpListener,
    b: TcpListener,
}

const LIVE_TO_A: usize = 40;
const LIVE_TO_B: usize = 30;
const WAITING_FOR_A: usize = 12;
const WAITING_FOR_B: usize = 7;

impl Scene {
    fn new(family: AddressFamily, range: (u16, u16), bound_first: usize) -> Self {
        let at = Addresses::new(family);
        let (low, high) = range;
        set("ip_local_port_range", &format!("{low} {high}"));
        let reserved = format!("{}-{},{}", low + 10, low + 19, low + 50);
        set("ip_local_reserved_ports", &reserved);
        set("tcp_tw_reuse", "0");
        let mut scene = Self {
            at,
            truth: Truth {
                range,
                reserved: (low + 10..=low + 19).chain([low + 50]).collect(),
                ..Truth::default()
            },
            kept: Vec::new(),
            a: at.listener(at.a.port()).into(),
            b: at.listener(at.b.port()).into(),
        };
        scene.truth.listening.extend([at.a.port(), at.b.port()]);
        // Held by CLOSED sockets: in the range, reserved ones, outside.
        for port in (low + 20..low + 28).chain([low + 10, 1000, 1001, 1003]) {
            scene.kept.push(at.bound(at.any, port));
            scene.truth.closed.insert(port);
        }
        for port in [low + 30, low + 31, 100, 101, 102] {
            scene.kept.push(at.listener(port));
            scene.truth.listening.insert(port);
        }
        for _ in 0..bound_first {
            let socket = at.bound(at.own, 0);
            let port = local_port(&socket);
            rustix::net::connect(&socket, &at.b).expect("connect");
            scene.kept.push(socket);
            scene.accept(at.b);
            scene.truth.bound_first.insert(port);
            scene.went(at.b, port);
        }
        for (dst, live, waiting) in [
            (at.a, LIVE_TO_A, WAITING_FOR_A),
            (at.b, LIVE_TO_B, WAITING_FOR_B),
        ] {
            for _ in 0..live {
                let client = TcpStream::connect(dst).expect("connect");
                scene.accept(dst);
                let port = client.local_addr().expect("getsockname").port();
                scene.went(dst, port);
                scene.kept.push(client.into());
            }
            for _ in 0..waiting {
                scene.leave_waiting(dst);
            }
        }
        scene
    }

    fn went(&mut self, dst: SocketAddr, port: u16) {
        self.truth.connected.insert(port);
        assert!(self.truth.towards.entry(dst).or_default().insert(port));
    }

    fn listener_of(&self, dst: SocketAddr) -> &TcpListener {
        if dst == self.at.a { &self.a } else { &self.b }
    }

    fn accept(&mut self, dst: SocketAddr) {
        let (child, _) = self.listener_of(dst).accept().expect("accept");
        self.truth.connected.insert(dst.port());
        self.kept.push(child.into());
    }

    /// A connection that the client closes first.
    fn leave_waiting(&mut self, dst: SocketAddr) {
        let client = TcpStream::connect(dst).expect("connect");
        let (mut child, _) = self.listener_of(dst).accept().expect("accept");
        let port = client.local_addr().expect("getsockname").port();
        drop(client);
        // Its FIN is here when this returns.
        std::io::copy(&mut child, &mut std::io::sink()).expect("read");
        drop(child);
        assert!(self.truth.waiting.entry(dst).or_default().insert(port));
    }
}

impl Truth {
    fn all(sets: &BTreeMap<SocketAddr, BTreeSet<u16>>) -> BTreeSet<u16> {
        sets.values().flatten().copied().collect()
    }

    fn in_use(&self) -> BTreeSet<u16> {
        let sets = [&self.closed, &self.listening, &self.connected];
        let waiting = Self::all(&self.waiting);
        sets.into_iter().flatten().copied().chain(waiting).collect()
    }

    fn count(&self, keep: impl Fn(u16) -> bool) -> u64 {
        let (low, high) = self.range;
        (low..=high).filter(|port| keep(*port)).count() as u64
    }

    fn is_bound(&self, port: u16) -> bool {
        let sets = [&self.closed, &self.listening, &self.bound_first];
        !self.reserved.contains(&port) && sets.iter().any(|set| set.contains(&port))
    }

    /// (bound, connected, time_wait, other, unused) towards a destination.
    fn classes(&self, dst: SocketAddr) -> [u64; 5] {
        let none = BTreeSet::new();
        let towards = self.towards.get(&dst).unwrap_or(&none);
        let waiting = self.waiting.get(&dst).unwrap_or(&none);
        let in_use = self.in_use();
        let mut classes = [0; 5];
        let (low, high) = self.range;
        for port in (low..=high).filter(|port| !self.reserved.contains(port)) {
            let class = match port {
                port if self.is_bound(port) => 0,
                port if towards.contains(&port) => 1,
                port if waiting.contains(&port) => 2,
                port if in_use.contains(&port) => 3,
                _ => 4,
            };
            classes[class] += 1;
        }
        classes
    }

    fn half_used(&self, first: bool, used: impl Fn(u16) -> bool) -> u64 {
        let low = self.range.0;
        self.count(|port| {
            (port - low).is_multiple_of(2) == first && !self.reserved.contains(&port) && used(port)
        })
    }
}

/// Whether the kernel can be asked which connections' ports count as bound. Where it cannot, the
/// report has to say so.
fn knows_buckets(at: Addresses) -> bool {
    let listener: TcpListener = at.listener(80).into();
    let _client = TcpStream::connect(at.a).expect("connect");
    let report = ports(&[]);
    let known = !report["bound_connected"].is_null();
    // The iterator sees it on every kernel; /proc on none.
    assert_eq!(known, report["method"] == "bpf", "{report}");
    let limits = report["limits"].to_string();
    assert_eq!(limits.contains("bound before"), !known, "{report}");
    drop(listener);
    known
}

fn compare(report: &Value, scene: &Scene, to: SocketAddr, knows_buckets: bool) {
    let truth = &scene.truth;
    let if_known = |count: u64| {
        if knows_buckets {
            json!(count)
        } else {
            Value::Null
        }
    };
    let (low, high) = truth.range;
    let size = u64::from(high - low) + 1;
    let in_use = truth.in_use();
    let reserved = truth.reserved.len() as u64;
    let in_range = |port: u16| (low..=high).contains(&port);
    let outside: BTreeSet<u16> = in_use
        .iter()
        .copied()
        .filter(|port| !in_range(*port))
        .collect();
    let free = truth.count(|port| !in_use.contains(&port) && !truth.reserved.contains(&port));
    let not_reserved = |set: &BTreeSet<u16>| {
        truth.count(|port| set.contains(&port) && !truth.reserved.contains(&port))
    };
    let bound_listening = not_reserved(&truth.listening);
    let bound_closed = not_reserved(&truth.closed);
    let bound_first = not_reserved(&truth.bound_first);
    let bound = bound_listening + bound_closed + bound_first;
    let connected = truth.count(|port| truth.connected.contains(&port) && !truth.is_bound(port));
    let used = |port: u16| in_use.contains(&port);
    for (field, expected) in [
        ("range", json!([low, high])),
        ("size", json!(size)),
        ("reserved", json!(reserved)),
        ("reserved_used", json!(1)),
        ("bound", json!(bound)),
        ("bound_listening", json!(bound_listening)),
        ("bound_closed", json!(bound_closed)),
        ("bound_connected", if_known(bound_first)),
        ("connected", json!(connected)),
        (
            "time_wait",
            json!(size - reserved - bound - connected - free),
        ),
        ("free", json!(free)),
        ("bind_free", json!(free)),
        ("in_use", json!(in_use.len())),
        ("unowned", json!(0)),
        ("time_wait_sockets", json!(WAITING_FOR_A + WAITING_FOR_B)),
        ("tw_reuse", json!(0)),
        ("first_parity_size", json!(truth.half_used(true, |_| true))),
        ("first_parity_used", json!(truth.half_used(true, used))),
        (
            "second_parity_size",
            json!(truth.half_used(false, |_| true)),
        ),
        ("second_parity_used", json!(truth.half_used(false, used))),
    ] {
        assert_eq!(report[field], expected, "{field} in {report}");
    }
    let drain = &report["drain"];
    assert_eq!(
        drain["within_60_s"],
        WAITING_FOR_A + WAITING_FOR_B,
        "{drain}"
    );
    assert_eq!(drain["within_1_s"], 0, "{drain}");

    let own = std::process::id();
    let holders = report["holders"].as_array().expect("a list");
    let [holder] = &holders[..] else {
        panic!("one process holds all: {holders:?}");
    };
    let count = |set: &BTreeSet<u16>| truth.count(|port| set.contains(&port));
    let expected = json!({
        "pid": own, "comm": holder["comm"],
        "bound": count(&truth.closed),
        "connected": count(&truth.connected),
        "connected_bound": if_known(bound_first),
        "listening": count(&truth.listening),
        "outside": outside.len(),
    });
    assert_eq!(holder, &expected);

    let found = &report["outside"];
    assert_eq!(found["count"], outside.len(), "{found}");
    assert_eq!(
        (&found["time_wait"], &found["unowned"]),
        (&json!(0), &json!(0))
    );
    let expected = json!([[80, 81], [100, 102], [1000, 1001], [1003, 1003]]);
    assert_eq!(found["holders"][0]["ports"], expected, "{found}");
    assert_eq!(found["holders"][0]["bound"], 3, "{found}");
    assert_eq!(found["holders"][0]["listening"], 5, "{found}");
    assert_eq!(found["holders"][0]["connected"], 2, "the accepted ones");

    let [bound, connected, time_wait, other, unused] = truth.classes(to);
    let found = &report["to"];
    let taken = |port: u16| {
        let is_in = |sets: &BTreeMap<_, BTreeSet<u16>>| {
            sets.get(&to)
                .is_some_and(|set: &BTreeSet<u16>| set.contains(&port))
        };
        truth.is_bound(port) || is_in(&truth.towards) || is_in(&truth.waiting)
    };
    for (field, expected) in [
        ("dst", json!(to.to_string())),
        ("src", json!(scene.at.own.to_string())),
        ("bound", json!(bound)),
        ("connected", json!(connected)),
        ("time_wait", json!(time_wait)),
        ("time_wait_reusable", json!(0)),
        ("other", json!(other)),
        ("unused", json!(unused)),
        ("free", json!(other + unused)),
        ("used", json!(bound + connected + time_wait)),
        ("first_parity_used", json!(truth.half_used(true, taken))),
        ("second_parity_used", json!(truth.half_used(false, taken))),
    ] {
        assert_eq!(found[field], expected, "to.{field} in {report}");
    }
    let expected = json!([{
        "pid": own, "comm": holder["comm"], "ports": bound + connected, "bound": bound,
    }]);
    assert_eq!(found["holders"], expected);
    let row = &found["sources"][0];
    assert_eq!(row["free"], found["free"], "{found}");
    assert_eq!(row["connected"], truth.towards[&to].len(), "{found}");
    for row in report["destinations"].as_array().expect("a list") {
        let dst: SocketAddr = row["dst"]
            .as_str()
            .and_then(|dst| dst.parse().ok())
            .expect("dst");
        let [bound, connected, waiting, other, unused] = truth.classes(dst);
        let _ = bound;
        assert_eq!(row["time_wait"], waiting, "{row}");
        assert_eq!(row["free"], other + unused, "{row}");
        let on_bound = row["connected_bound"].as_u64().expect("a number");
        assert_eq!(row["connected"], connected + on_bound, "{row}");
    }
}

/// Sockets that bind() to port 0 gets until it fails.
fn bind_all(at: Addresses) -> Vec<OwnedFd> {
    let mut bound = Vec::new();
    loop {
        let socket = at.socket();
        if at.family == AddressFamily::INET6 {
            set_ipv6_v6only(&socket, false).expect("IPV6_V6ONLY");
        }
        match rustix::net::bind(&socket, &SocketAddr::new(at.any, 0)) {
            Ok(()) => bound.push(socket),
            Err(error) => {
                assert_eq!(error, Errno::ADDRINUSE);
                return bound;
            }
        }
    }
}

/// Sockets that connect() gets until it fails; closing them leaves nothing behind.
fn connect_all(at: Addresses, to: SocketAddr) -> Vec<OwnedFd> {
    let mut clients = Vec::new();
    loop {
        let socket = at.socket();
        set_socket_linger(&socket, Some(Duration::ZERO)).expect("SO_LINGER");
        match rustix::net::connect(&socket, &to) {
            Ok(()) => clients.push(socket),
            Err(error) => {
                assert_eq!(error, Errno::ADDRNOTAVAIL);
                return clients;
            }
        }
    }
}

/// The room is what the report says.
fn try_out(scene: &Scene, report: &Value, to: SocketAddr) {
    let bound = bind_all(scene.at);
    assert_eq!(report["bind_free"], bound.len(), "bind() to port 0");
    drop(bound);
    let clients = connect_all(scene.at, to);
    assert_eq!(report["to"]["free"], clients.len(), "connect() to {to}");
}

fn play(family: AddressFamily, range: (u16, u16)) {
    in_new_namespace(move || {
        let known = knows_buckets(Addresses::new(family));
        if !known {
            eprintln!("SKIP: ports bound before connect(): the kernel cannot be asked for them");
        }
        let scene = Scene::new(family, range, if known { 5 } else { 0 });
        let (a, b) = (scene.at.a.to_string(), scene.at.b.to_string());
        let report = ports(&["--to", &a]);
        compare(&report, &scene, scene.at.a, known);
        compare(&ports(&["--to", &b]), &scene, scene.at.b, known);
        let without_bpf = ports(&["--no-bpf", "--to", &a]);
        assert_eq!(without_bpf["method"], "proc");
        if !known {
            compare(&without_bpf, &scene, scene.at.a, false);
        }
        // The same from outside.
        let thread = rustix::thread::gettid();
        let path = format!("/proc/{}/task/{thread}/ns/net", std::process::id());
        let outside = std::thread::scope(|scope| {
            let elsewhere = scope.spawn(|| {
                let own = fs::File::open("/proc/self/ns/net").expect("the first namespace");
                let network = Some(rustix::thread::LinkNameSpaceType::Network);
                rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&own), network)
                    .expect("setns");
                ports(&["--netns", &path, "--to", &a])
            });
            elsewhere.join().expect("no panic")
        });
        compare(&outside, &scene, scene.at.a, known);
        try_out(&scene, &report, scene.at.a);
    });
}

#[test]
fn ipv4_from_an_even_port() {
    if is_root() {
        play(AddressFamily::INET, (41_000, 41_399));
    }
}

#[test]
fn ipv4_from_an_odd_port() {
    if is_root() {
        play(AddressFamily::INET, (41_001, 41_400));
    }
}

#[test]
fn ipv6() {
    if is_root() {
        play(AddressFamily::INET6, (42_000, 42_199));
    }
}

const NARROW: (u16, u16) = (43_000, 43_009);

fn narrow(at: Addresses, range: (u16, u16)) -> TcpListener {
    set("ip_local_port_range", &format!("{} {}", range.0, range.1));
    at.listener(at.a.port()).into()
}

/// INCIDENTS D: bind() with SO_REUSEADDR of a port that a connection uses takes the port from
/// every connect(), on kernels up to 6.12 also when the thief is gone.
#[test]
fn a_stolen_port_is_missing_as_long_as_the_kernel_says() {
    if !is_root() {
        return;
    }
    in_new_namespace(|| {
        let at = Addresses::new(AddressFamily::INET);
        if !knows_buckets(at) {
            eprintln!("SKIP: stolen ports: the kernel cannot be asked for them");
            return;
        }
        let _a = narrow(at, NARROW);
        let b: TcpListener = at.listener(at.b.port()).into();
        let victim = at.socket();
        set_socket_reuseaddr(&victim, true).expect("SO_REUSEADDR");
        rustix::net::connect(&victim, &at.b).expect("connect");
        let (_child, _) = b.accept().expect("accept");
        let port = local_port(&victim);
        let to = at.a.to_string();
        let look = || {
            let report = ports(&["--to", &to]);
            let room = connect_all(at, at.a).len();
            assert_eq!(report["to"]["free"], room, "{report}");
            room
        };
        assert_eq!(look(), 10, "B's connection is not in the way to A");
        let thief = at.socket();
        set_socket_reuseaddr(&thief, true).expect("SO_REUSEADDR");
        rustix::net::bind(&thief, &SocketAddr::new(at.own, port)).expect("bind");
        assert_eq!(look(), 9);
        drop(thief);
        let after = look();
        eprintln!("when the thief is gone, {after} of 10 ports are there");
    });
}

/// tcp_tw_reuse lets connect() take over what is old enough.
#[test]
fn time_wait_is_taken_over_as_often_as_the_report_says() {
    if !is_root() {
        return;
    }
    in_new_namespace(|| {
        let mut scene = Scene {
            at: Addresses::new(AddressFamily::INET),
            truth: Truth::default(),
            kept: Vec::new(),
            a: narrow(Addresses::new(AddressFamily::INET), NARROW),
            b: Addresses::new(AddressFamily::INET).listener(81).into(),
        };
        let (at, to) = (scene.at, scene.at.a.to_string());
        for _ in 0..6 {
            scene.leave_waiting(at.a);
        }
        for (reuse, timestamps, expected) in [("0", "1", 0), ("1", "0", 0), ("2", "1", 6)] {
            set("tcp_tw_reuse", reuse);
            set("tcp_timestamps", timestamps);
            // By their own clock they are old enough at some time.
            let report = loop {
                let report = ports(&["--to", &to]);
                assert_eq!(report["to"]["time_wait"], 6, "they are over");
                let reusable = report["to"]["time_wait_reusable"].as_u64().expect("known");
                if reusable >= expected {
                    break report;
                }
            };
            let towards = &report["to"];
            assert_eq!(
                (&towards["time_wait"], &towards["free"]),
                (&json!(6), &json!(4))
            );
            assert_eq!(towards["time_wait_reusable"], expected);
            if timestamps == "1" {
                let room = connect_all(at, at.a).len();
                assert_eq!(room as u64, 4 + expected, "tcp_tw_reuse={reuse}");
            }
        }
    });
}

/// Ports of sockets without a descriptor: closed with data on the way.
#[test]
fn ports_that_nobody_holds_are_counted_as_such() {
    if !is_root() {
        return;
    }
    in_new_namespace(|| {
        let at = Addresses::new(AddressFamily::INET6);
        let a = narrow(at, NARROW);
        let mut orphans: Vec<_> = (0..3)
            .map(|_| TcpStream::connect(at.a).expect("connect"))
            .collect();
        let children: Vec<_> = (0..3).map(|_| a.accept().expect("accept")).collect();
        let waiting = TcpStream::connect(at.a).expect("connect");
        let to = at.a.to_string();
        let look = || {
            let report = ports(&["--to", &to]);
            let counts =
                ["unowned", "connected", "time_wait", "free"].map(|name| report[name].clone());
            assert_eq!(report["to"]["connected"], 4, "{report}");
            (counts, report["holders"][0]["connected"].clone())
        };
        assert_eq!(look(), ([0, 4, 0, 6].map(|n| json!(n)), json!(4)));
        // The peer does not read, so the rest of it cannot be sent when they are closed.
        for client in &mut orphans {
            client.set_nonblocking(true).expect("O_NONBLOCK");
            while client.write(&[0; 1 << 16]).is_ok() {}
        }
        drop(orphans);
        assert_eq!(look(), ([3, 4, 0, 6].map(|n| json!(n)), json!(1)));
        drop((children, waiting));
    });
}

/// One search of a range with an odd number of ports leaves out its first or its last port.
#[test]
fn the_ends_of_an_odd_range_come_with_a_warning() {
    if !is_root() {
        return;
    }
    in_new_namespace(|| {
        let at = Addresses::new(AddressFamily::INET);
        let (low, high) = (43_000, 43_004);
        let _a = narrow(at, (low, high));
        for (left, warns) in [(low, true), (high, true), (low + 1, false)] {
            let others = (low..=high).filter(|port| *port != left);
            let held: Vec<_> = others.map(|port| at.bound(at.any, port)).collect();
            let report = ports(&["--to", &at.a.to_string()]);
            assert_eq!(report["to"]["free"], 1);
            let warned = report["limits"].to_string().contains("odd number of ports");
            assert_eq!(warned, warns, "{report}");
            let got = connect_all(at, at.a).len();
            assert!(got == 1 || got == 0 && warns, "port {left}: {got}");
            drop(held);
        }
    });
}

/// INCIDENTS A: 12,036 ports in use where the range has 12,001, and nobody knew which the others
/// were.
#[test]
fn more_ports_than_the_range_has() {
    if !is_root() {
        return;
    }
    let _alone = alone();
    let launcher = Launcher::program(Path::new(env!("CARGO_BIN_EXE_workload")));
    let scenario = find("bound-leak").expect("known");
    let mut running = scenario.start(&launcher).expect("start");
    let truth = running.freeze().expect("freeze");
    let of = |comm: &str| {
        let process = truth.processes.iter().find(|process| process.comm == comm);
        process.expect("it takes part")
    };
    let (app, inetd, ftpd) = (of("app"), of("inetd"), of("ftpd"));
    let netns = app.pid.to_string();
    for how in [&[][..], &["--no-bpf"]] {
        let arguments = [&["--netns", &netns, "--to", "127.0.0.1:21"], how].concat();
        let report = ports(&arguments);
        let size = 12_001;
        let outside = inetd.held.listen + ftpd.held.listen;
        assert_eq!(outside, 36);
        assert_eq!(report["netns"], truth.netns);
        for (field, expected) in [
            ("size", size),
            ("bound", app.held.bound),
            ("bound_closed", app.held.bound),
            ("bound_listening", 0),
            ("free", 0),
            ("in_use", app.held.bound + outside),
            ("unowned", 0),
            ("bind_free", 0),
        ] {
            assert_eq!(report[field], expected, "{how:?}: {field}");
        }
        let found = &report["outside"];
        assert_eq!(found["count"], outside, "{found}");
        let rows = found["holders"].as_array().expect("a list");
        let rows: Vec<_> = (rows.iter())
            .map(|row| (&row["pid"], &row["listening"], &row["ports"]))
            .collect();
        let expected = [
            (&json!(inetd.pid), &json!(35), &json!([[2100, 2134]])),
            (&json!(ftpd.pid), &json!(1), &json!([[21, 21]])),
        ];
        assert_eq!(rows, expected, "{found}");
        assert_eq!(report["to"]["free"], 0);
        assert_eq!(report["to"]["holders"][0]["pid"], app.pid);
        assert_eq!(report["to"]["holders"][0]["ports"], size);
        let said = report["conclusion"].as_str().expect("text");
        for part in [
            "fails with EADDRNOTAVAIL",
            "12,037 ports are in use although the range holds 12,001: 36 lie outside of it",
            &format!("inetd[{}]: 35 listening", inetd.pid),
            &format!("app[{}] has 12,001 of the range", app.pid),
        ] {
            assert!(said.contains(part), "{part:?} is not in {said:?}");
        }
    }
    running.stop();
}
