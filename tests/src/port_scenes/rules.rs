//! Small scenes, each about one rule of the kernel: what the report says is what connect() gets.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::net::AddressFamily;
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr};
use serde_json::{Value, json};

use super::known::{Scene, Truth};
use super::place::{Addresses, bind_all, connect_all, local_port};
use super::{Looker, in_new_namespace, knows_buckets, set};

const NARROW: (u16, u16) = (43_000, 43_009);

fn narrow(at: Addresses, range: (u16, u16)) -> TcpListener {
    set("ip_local_port_range", &format!("{} {}", range.0, range.1));
    at.listener(at.a.port()).into()
}

/// INCIDENTS D: bind() with SO_REUSEADDR of a port that a connection uses takes the port from
/// every connect(), on kernels up to 6.12 also when the thief is gone.
pub(super) fn a_stolen_port_is_missing_as_long_as_the_kernel_says(looker: &Looker) {
    in_new_namespace(|| {
        let at = Addresses::new(AddressFamily::INET);
        if !knows_buckets(looker, at) {
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
            let report = looker.ports(&["--to", &to]);
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
pub(super) fn time_wait_is_taken_over_as_often_as_the_report_says(looker: &Looker) {
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
                let report = looker.ports(&["--to", &to]);
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
pub(super) fn ports_that_nobody_holds_are_counted_as_such(looker: &Looker) {
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
            let report = looker.ports(&["--to", &to]);
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
pub(super) fn the_ends_of_an_odd_range_come_with_a_warning(looker: &Looker) {
    in_new_namespace(|| {
        let at = Addresses::new(AddressFamily::INET);
        let (low, high) = (43_000, 43_004);
        let _a = narrow(at, (low, high));
        for (left, warns) in [(low, true), (high, true), (low + 1, false)] {
            let others = (low..=high).filter(|port| *port != left);
            let held: Vec<_> = others.map(|port| at.bound(at.any, port)).collect();
            let report = looker.ports(&["--to", &at.a.to_string()]);
            assert_eq!(report["to"]["free"], 1);
            let warned = report["limits"].to_string().contains("odd number of ports");
            assert_eq!(warned, warns, "{report}");
            let got = connect_all(at, at.a).len();
            assert!(got == 1 || got == 0 && warns, "port {left}: {got}");
            drop(held);
        }
    });
}

/// IPv6 sockets that speak IPv4, and wildcards of both families.
pub(super) fn families_share_ports_where_the_kernel_shares_them(looker: &Looker) {
    in_new_namespace(|| {
        let at = Addresses::new(AddressFamily::INET);
        let _a = narrow(at, NARROW);
        let v6 = Addresses::new(AddressFamily::INET6);
        // Through an IPv6 socket to the IPv4 destination.
        let mapped = SocketAddr::new("::ffff:127.0.0.1".parse().expect("an address"), 80);
        let clients: Vec<_> = (0..2)
            .map(|_| {
                let socket = v6.socket();
                rustix::net::connect(&socket, &mapped).expect("connect");
                socket
            })
            .collect();
        let free: Vec<u16> = {
            let taken: Vec<u16> = clients.iter().map(local_port).collect();
            (NARROW.0..=NARROW.1)
                .filter(|port| !taken.contains(port))
                .collect()
        };
        let wildcard = |port, v6only| {
            let socket = v6.socket();
            set_ipv6_v6only(&socket, v6only).expect("IPV6_V6ONLY");
            rustix::net::bind(&socket, &SocketAddr::new(v6.any, port)).expect("bind");
            rustix::net::listen(&socket, 1).expect("listen");
            socket
        };
        let listeners = [wildcard(free[0], false), wildcard(free[1], true)];
        let report = looker.ports(&["--to", &at.a.to_string()]);
        let to = &report["to"];
        assert_eq!(
            (&to["connected"], &to["bound"], &to["free"]),
            (&json!(2), &json!(2), &json!(6))
        );
        let again = looker.ports(&["--to", &mapped.to_string()]);
        assert_eq!(again["to"]["free"], to["free"], "the same destination");
        assert_eq!(connect_all(at, at.a).len(), 6);

        // bind() of an IPv4 address: the one for IPv6 only is not in the way.
        let row = |address: &str| {
            let rows = report["addresses"].as_array().expect("a list");
            let row = rows.iter().find(|row| row["address"] == address);
            row.unwrap_or_else(|| panic!("no {address} in {report}"))["bind_free"].clone()
        };
        assert_eq!(row("127.0.0.1"), bind_all(at, at.own).len());
        assert_eq!(row("127.0.0.1"), 7);
        assert_eq!(row("::"), bind_all(v6, v6.any).len());
        drop(listeners);
    });
}

/// INCIDENTS D: a range is per source address, for connect() and for bind().
pub(super) fn every_source_address_has_a_range_of_its_own(looker: &Looker) {
    in_new_namespace(|| {
        let at = Addresses::new(AddressFamily::INET);
        let _a = narrow(at, NARROW);
        let second: IpAddr = "127.0.0.2".parse().expect("an address");
        let from_second = |_| {
            let socket = at.socket();
            set_ip_bind_address_no_port(&socket);
            rustix::net::bind(&socket, &SocketAddr::new(second, 0)).expect("bind");
            rustix::net::connect(&socket, &at.a).expect("connect");
            socket
        };
        let clients: Vec<_> = (0..4).map(from_second).collect();
        let to = at.a.to_string();
        let first = looker.ports(&["--to", &to]);
        assert_eq!(first["to"]["src"], "127.0.0.1", "the kernel's choice");
        let towards =
            |report: &Value| ["connected", "other", "free"].map(|name| report["to"][name].clone());
        assert_eq!(towards(&first), [0, 4, 10].map(|n| json!(n)));
        assert_eq!(first["to"]["sources"][0]["src"], "127.0.0.2");
        assert_eq!(first["to"]["sources"][0]["free"], 6);
        let other = looker.ports(&["--to", &to, "--from", "127.0.0.2"]);
        assert_eq!(towards(&other), [4, 0, 6].map(|n| json!(n)));
        assert_eq!(connect_all(at, at.a).len(), 10);

        let row = &first["addresses"][0];
        assert_eq!(
            (&row["address"], &row["in_use"]),
            (&json!("127.0.0.2"), &json!(4))
        );
        assert_eq!(
            (&row["bind_free"], &first["bind_free"]),
            (&json!(6), &json!(6))
        );
        assert_eq!(bind_all(at, second).len(), 6);
        assert_eq!(bind_all(at, at.any).len(), 6);
        // On kernels up to 6.12 this took the others' ports away for good, so it comes last.
        assert_eq!(bind_all(at, at.own).len(), 10);
        drop(clients);
    });
}

/// IP_BIND_ADDRESS_NO_PORT (ip(7)), which rustix does not have.
fn set_ip_bind_address_no_port(socket: &OwnedFd) {
    let on: libc::c_int = 1;
    // SAFETY: the pointer is to an int, whose size is given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    assert_eq!(result, 0, "IP_BIND_ADDRESS_NO_PORT");
}
