//! Small scenes, each about one rule of the kernel: what the report says is what connect() gets.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};

use rustix::net::AddressFamily;
use rustix::net::sockopt::set_socket_reuseaddr;
use serde_json::json;

use super::known::{Scene, Truth};
use super::place::{Addresses, connect_all, local_port};
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
