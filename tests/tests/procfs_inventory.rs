//! The inventory without BPF against real sockets in processes and network namespaces of their
//! own: exact classes, ports, holders and namespaces. Needs root (CAP_SYS_ADMIN) for the
//! namespaces and CAP_SYS_PTRACE to look into the processes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdout, Command, Stdio};

use sockleak::model::{Family, HeldSocket, SocketClass, TcpState};
use sockleak::source::inventory::procfs::{self, Outcome};

use SocketClass::{Bound, CloseWait, Closing, Connecting, Established, Listen, Unbound};

/// One line of the holder.
#[derive(Clone, Debug)]
struct Line {
    name: String,
    pid: u32,
    fd: u32,
    port: u16,
}

/// A running holder. It ends with its standard input.
struct Holder {
    child: Child,
    out: BufReader<ChildStdout>,
    lines: Vec<Line>,
}

impl Holder {
    fn start(scenario: &str) -> Self {
        Self::start_as(scenario, None)
    }

    fn start_as(scenario: &str, uid: Option<u32>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holder"));
        command
            .arg(scenario)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if let Some(uid) = uid {
            command.uid(uid).gid(uid);
        }
        let mut child = command.spawn().expect("the holder starts");
        let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut lines = Vec::new();
        loop {
            let line = read_line(&mut out);
            if line == "ready" {
                break;
            }
            let words: Vec<&str> = line.split(' ').collect();
            let [name, pid, fd, port] = words[..] else {
                panic!("holder {scenario} failed: {line:?}");
            };
            lines.push(Line {
                name: name.to_owned(),
                pid: pid.parse().unwrap(),
                fd: fd.parse().unwrap(),
                port: port.parse().unwrap(),
            });
        }
        Self { child, out, lines }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn named(&self, name: &str) -> Vec<&Line> {
        self.lines.iter().filter(|line| line.name == name).collect()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn read_line(out: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    out.read_line(&mut line).expect("the holder answers");
    line.trim_end().to_owned()
}

/// Says loudly that a test could not be done.
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: makes network namespaces; run as root");
    }
    root
}

/// What a look finds, by holder and descriptor.
struct Look {
    outcome: Outcome,
    held: BTreeMap<(u32, u32), HeldSocket>,
}

impl Look {
    fn now() -> Self {
        let mut held = BTreeMap::new();
        let outcome = procfs::scan(|socket| {
            let key = (socket.holder.pid, socket.fd);
            let before = held.insert(key, socket);
            assert_eq!(before, None, "reported twice");
        })
        .expect("/proc is there");
        assert_eq!(outcome.descriptors, held.len() as u64);
        Self { outcome, held }
    }

    fn of(&self, line: &Line) -> &HeldSocket {
        self.held
            .get(&(line.pid, line.fd))
            .unwrap_or_else(|| panic!("{line:?} is not found"))
    }

    fn count(&self, pid: u32) -> usize {
        self.held.range((pid, 0)..=(pid, u32::MAX)).count()
    }

    /// Nothing is missing or guessed that concerns these processes.
    fn must_be_exact(&self) {
        // Processes outside of this sandbox may be out of reach.
        let gaps: Vec<&String> = self
            .outcome
            .incomplete
            .iter()
            .filter(|gap| !gap.contains("may not be read"))
            .collect();
        assert_eq!(gaps, Vec::<&String>::new());
    }
}

fn netns_of(pid: u32) -> u32 {
    sockleak::demo::namespace_inode(pid).expect("the process lives")
}

/// The kernel tells which CLOSED sockets own a port (6.8+), or not.
fn kernel_lists_bound_sockets() -> bool {
    let listed = sockleak::source::sock_diag::shows_bound_inactive().expect("a free port");
    if !listed {
        eprintln!("NOTE: this kernel does not list bound CLOSED sockets; expecting guesses");
    }
    listed
}

#[test]
fn every_state_is_classified() {
    if !is_root() {
        return;
    }
    let exact = kernel_lists_bound_sockets();
    let holder = Holder::start("zoo");
    let look = Look::now();
    let v4 = (Family::V4, false);
    let v6 = (Family::V6, false);
    let mptcp = (Family::V4, true);
    // A port that outlived a connection although it was bound explicitly: only the kernel knows.
    let kept_port = if exact { Bound } else { Unbound };
    let expected = [
        ("unbound4", v4, Unbound, TcpState::Close, 1),
        ("unbound6", v6, Unbound, TcpState::Close, 1),
        ("bound4", v4, Bound, TcpState::Close, 1),
        ("bound4-any", v4, Bound, TcpState::Close, 1),
        ("bound6", v6, Bound, TcpState::Close, 1),
        ("bound-no-port", v4, Unbound, TcpState::Close, 1),
        ("dup", v4, Bound, TcpState::Close, 2),
        ("listen6", v6, Listen, TcpState::Listen, 1),
        ("listen4-queue1", v4, Listen, TcpState::Listen, 1),
        ("listen4-queue2", v4, Listen, TcpState::Listen, 1),
        (
            "established-unaccepted",
            v4,
            Established,
            TcpState::Established,
            3,
        ),
        ("syn-sent", v4, Connecting, TcpState::SynSent, 1),
        ("established4", v4, Established, TcpState::Established, 2),
        ("established6", v6, Established, TcpState::Established, 2),
        ("mapped-server", v6, Established, TcpState::Established, 1),
        ("mapped-client", v4, Established, TcpState::Established, 1),
        ("fin-wait2", v4, Closing, TcpState::FinWait2, 1),
        ("close-wait", v4, CloseWait, TcpState::CloseWait, 1),
        ("refused", v4, Unbound, TcpState::Close, 1),
        ("refused-nonblocking", v4, Unbound, TcpState::Close, 1),
        ("refused-after-bind-0", v4, Unbound, TcpState::Close, 1),
        ("refused-after-bind-port", v4, kept_port, TcpState::Close, 1),
        ("reset-client", v4, Unbound, TcpState::Close, 1),
        ("reset-server", v6, Unbound, TcpState::Close, 1),
        ("reset-after-bind-port", v4, kept_port, TcpState::Close, 1),
        ("finished", v4, Unbound, TcpState::Close, 1),
        // Without the kernel's list a socket that never connected counts as bound.
        (
            "spent-listener",
            v4,
            if exact { Unbound } else { Bound },
            TcpState::Close,
            1,
        ),
        ("mptcp-listen", mptcp, Listen, TcpState::Listen, 1),
        (
            "mptcp-established",
            mptcp,
            Established,
            TcpState::Established,
            2,
        ),
        (
            "plain-client-of-mptcp",
            v4,
            Established,
            TcpState::Established,
            1,
        ),
        (
            "plain-server-of-mptcp",
            v4,
            Established,
            TcpState::Established,
            1,
        ),
    ];
    let netns = netns_of(holder.pid());
    let has_mptcp = !holder.named("mptcp-closed").is_empty();
    if !has_mptcp {
        eprintln!("SKIPPED: the MPTCP part; the kernel has no MPTCP or it is off");
    }
    let mut total = 0;
    for (name, (family, is_mptcp), class, state, count) in expected {
        let lines = holder.named(name);
        if !has_mptcp && name.contains("mptcp") {
            continue;
        }
        assert_eq!(lines.len(), count, "{name}");
        total += count;
        for line in lines {
            let held = look.of(line);
            assert_eq!(
                (held.family, held.mptcp, held.class, held.state),
                (family, is_mptcp, class, state),
                "{name}: {held:?}"
            );
            assert_eq!(held.netns, Some(netns), "{name}");
            let guessed = !exact && (class != Bound || name == "spent-listener");
            if !(guessed && state == TcpState::Close) {
                assert_eq!(held.local.port(), line.port, "{name}: {held:?}");
            }
            assert_eq!(held.local.port() != 0, class != Unbound, "{name}: {held:?}");
            let has_peer = !matches!(state, TcpState::Close | TcpState::Listen);
            assert_eq!(held.peer.is_some(), has_peer, "{name}: {held:?}");
            let queue = match name {
                "listen4-queue2" => 2,
                "listen4-queue1" => 1,
                _ => 0,
            };
            assert_eq!(held.accept_queue, queue, "{name}");
        }
    }
    // No other descriptor is taken for TCP: not UDP, Unix sockets, pipes, or idle MPTCP.
    assert_eq!(look.count(holder.pid()), total);
    assert_eq!(look.outcome.mptcp_hidden >= 1, has_mptcp);
    let twice: BTreeSet<u64> = holder
        .named("dup")
        .iter()
        .map(|l| look.of(l).inode)
        .collect();
    assert_eq!(twice.len(), 1, "both descriptors are the same socket");
    if exact {
        look.must_be_exact();
    } else {
        let gaps = look.outcome.incomplete.join("\n");
        assert!(gaps.contains("may still hold a port"), "{gaps}");
    }
}

#[test]
fn sockets_shared_by_fork_appear_in_both() {
    if !is_root() {
        return;
    }
    let holder = Holder::start("shared");
    let look = Look::now();
    for (name, class) in [("forked-listen", Listen), ("forked-unbound", Unbound)] {
        let lines = holder.named(name);
        let pids: BTreeSet<u32> = lines.iter().map(|line| line.pid).collect();
        assert_eq!(pids.len(), 2, "{lines:?}");
        let inodes: BTreeSet<u64> = lines.iter().map(|line| look.of(line).inode).collect();
        assert_eq!(inodes.len(), 1, "{name} is one socket");
        for line in lines {
            assert_eq!(
                (look.of(line).class, look.of(line).local.port()),
                (class, line.port)
            );
            assert_eq!(look.count(line.pid), 2);
        }
    }
    look.must_be_exact();
}

#[test]
fn sockets_passed_on_belong_to_the_receiver() {
    if !is_root() {
        return;
    }
    let holder = Holder::start("passed");
    let look = Look::now();
    for (name, class, family) in [
        ("passed-bound", Bound, Family::V4),
        ("passed-unbound", Unbound, Family::V6),
    ] {
        let lines = holder.named(name);
        assert_eq!(lines.len(), 1);
        let held = look.of(lines[0]);
        assert_eq!((held.class, held.family), (class, family), "{held:?}");
        assert_eq!(held.local.port(), lines[0].port);
        assert_ne!(held.holder.pid, holder.pid());
        assert_eq!(look.count(lines[0].pid), 2);
    }
    assert_eq!(look.count(holder.pid()), 0, "the sender has closed them");
    look.must_be_exact();
}

#[test]
fn a_threads_own_descriptors_are_found() {
    if !is_root() {
        return;
    }
    let holder = Holder::start("thread");
    let look = Look::now();
    let listen = look.of(holder.named("thread-listen")[0]);
    assert_eq!((listen.class, listen.holder.pid), (Listen, holder.pid()));
    let unbound = look.of(holder.named("thread-unbound")[0]);
    assert_eq!((unbound.class, unbound.holder.pid), (Unbound, holder.pid()));
    assert_eq!(look.count(holder.pid()), 2);
}

#[test]
fn a_namespace_without_a_process_is_seen_through_its_sockets() {
    if !is_root() {
        return;
    }
    let exact = kernel_lists_bound_sockets();
    let holder = Holder::start("stray");
    let look = Look::now();
    let mut namespaces = BTreeSet::new();
    for (name, class) in [
        ("stray-listen", Listen),
        ("stray-client", Established),
        ("stray-bound", Bound),
        ("stray-refused", Unbound),
    ] {
        let line = holder.named(name)[0];
        let held = look.of(line);
        assert_eq!(
            (held.class, held.local.port()),
            (class, line.port),
            "{name}"
        );
        namespaces.insert(held.netns);
        assert_eq!(
            held.accept_queue,
            u32::from(name == "stray-listen"),
            "{name}"
        );
    }
    assert_eq!(namespaces.len(), 1, "{namespaces:?}");
    let stray = namespaces.pop_first().flatten().expect("SIOCGSKNS tells");
    assert_ne!(stray, netns_of(holder.pid()));
    if exact {
        look.must_be_exact();
    }
}

#[test]
fn others_comings_and_goings_disturb_nothing() {
    if !is_root() {
        return;
    }
    let steady = Holder::start("own");
    let _churn = [Holder::start("churn"), Holder::start("churn")];
    for _ in 0..10 {
        let look = Look::now();
        assert_eq!(look.count(steady.pid()), steady.lines.len());
        for line in &steady.lines {
            let class = if line.port == 0 { Unbound } else { Bound };
            assert_eq!(
                (look.of(line).class, look.of(line).local.port()),
                (class, line.port)
            );
        }
    }
}

#[test]
fn without_rights_one_sees_ones_own_and_says_so() {
    if !is_root() {
        return;
    }
    const NOBODY: u32 = 65534;
    let theirs = Holder::start("own");
    let own = Holder::start_as("own", Some(NOBODY));
    let mut scan = Holder::start_as("scan", Some(NOBODY));
    let outcome: serde_json::Value = serde_json::from_str(&read_line(&mut scan.out)).unwrap();
    let found: Vec<&Line> = scan
        .lines
        .iter()
        .filter(|line| line.pid == own.pid())
        .collect();
    assert_eq!(found.len(), own.lines.len(), "{:?}", scan.lines);
    for line in &own.lines {
        let same = |found: &&&Line| found.fd == line.fd;
        let found = found
            .iter()
            .find(same)
            .unwrap_or_else(|| panic!("no {line:?}"));
        // The scan's lines have the class for a name.
        let class = if line.port == 0 { "Unbound" } else { "Bound" };
        assert_eq!(
            (found.name.as_str(), found.port),
            (class, line.port),
            "{line:?}"
        );
    }
    assert!(scan.lines.iter().all(|line| line.pid != theirs.pid()));
    assert!(outcome["denied"].as_u64() >= Some(1), "{outcome}");
    let incomplete = outcome["incomplete"].to_string();
    assert!(incomplete.contains("may not be read"), "{outcome}");
}

#[test]
fn inside_a_namespace_ports_are_those_of_the_namespace() {
    if !is_root() {
        return;
    }
    use sockleak::source::netns::{self, NetnsHandle, in_netns};
    let holder = Holder::start("zoo");
    let outside = netns::current().unwrap();
    let handle = NetnsHandle::of_process(holder.pid()).unwrap();
    assert_ne!(handle.inode(), outside);
    assert_eq!(
        in_netns(&handle, netns::current).unwrap().unwrap(),
        handle.inode()
    );
    assert_eq!(
        netns::current().unwrap(),
        outside,
        "the caller stays where it was"
    );

    // Every second port: a list longer than a page, which the kernel hands out in one read.
    let reserved: Vec<u16> = (1025..=u16::MAX).step_by(2).collect();
    let list = reserved.iter().map(u16::to_string).collect::<Vec<_>>();
    let some = &list[..8000].join(",");
    in_netns(&handle, || {
        std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "20000 30001")?;
        std::fs::write("/proc/sys/net/ipv4/ip_local_reserved_ports", some)
    })
    .unwrap()
    .unwrap();
    let ports = netns::ports(&handle).unwrap();
    assert_eq!((ports.netns, ports.range), (handle.inode(), (20000, 30001)));
    assert!(ports.reserved.iter().eq(reserved[..8000].iter().copied()));
    // The server that closed first in "finished" waits.
    assert_eq!((ports.time_wait_count, ports.time_wait.len()), (1, 1));
    assert!(!ports.time_wait.contains(0));
    let here = netns::ports(&NetnsHandle::current().unwrap()).unwrap();
    assert_ne!(here.range, (20000, 30001));
}
