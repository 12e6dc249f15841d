//! `sockleak ports` against scenes whose every port is known, in private network namespaces.
//! Needs root (CAP_SYS_ADMIN) for the namespaces.
//!
//! The classes that a scene expects are computed here from the addresses of its own sockets. That
//! they mean what they say is then tried out: connect() and bind() are called until they fail.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::io::Errno;
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_linger};
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

/// Runs `inside` on a thread with a network namespace of its own.
fn in_new_namespace(inside: impl FnOnce() + Send + 'static) {
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

/// bind() and connect() until they fail: the room was what the report said.
fn try_out(scene: &Scene, report: &Value, to: SocketAddr) {
    let at = scene.at;
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
                break;
            }
        }
    }
    assert_eq!(report["bind_free"], bound.len(), "bind() to port 0");
    drop(bound);
    let mut clients = Vec::new();
    loop {
        let socket = at.socket();
        // So that closing leaves nothing behind.
        set_socket_linger(&socket, Some(std::time::Duration::ZERO)).expect("SO_LINGER");
        match rustix::net::connect(&socket, &to) {
            Ok(()) => clients.push(socket),
            Err(error) => {
                assert_eq!(error, Errno::ADDRNOTAVAIL);
                break;
            }
        }
    }
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

/// INCIDENTS A: 12,036 ports in use where the range has 12,001, and nobody knew which the others
/// were.
#[test]
fn more_ports_than_the_range_has() {
    if !is_root() {
        return;
    }
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
