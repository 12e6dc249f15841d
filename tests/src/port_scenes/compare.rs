//! A report against a known scene, and against what the kernel then allows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;

use rustix::net::AddressFamily;
use serde_json::{Value, json};

use super::known::{Scene, WAITING_FOR_A, WAITING_FOR_B};
use super::place::{Addresses, bind_all, connect_all};
use super::{Looker, in_new_namespace, knows_buckets};

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

/// The room is what the report says.
fn try_out(scene: &Scene, report: &Value, to: SocketAddr) {
    let bound = bind_all(scene.at, scene.at.any);
    assert_eq!(report["bind_free"], bound.len(), "bind() to port 0");
    drop(bound);
    let clients = connect_all(scene.at, to);
    assert_eq!(report["to"]["free"], clients.len(), "connect() to {to}");
}

/// The whole scene.
pub(super) fn play(looker: &Looker, family: AddressFamily, range: (u16, u16)) {
    in_new_namespace(|| {
        let known = knows_buckets(looker, Addresses::new(family));
        if !known {
            eprintln!("SKIP: ports bound before connect(): the kernel cannot be asked for them");
        }
        let scene = Scene::new(family, range, if known { 5 } else { 0 });
        let (a, b) = (scene.at.a.to_string(), scene.at.b.to_string());
        let report = looker.ports(&["--to", &a]);
        compare(&report, &scene, scene.at.a, known);
        compare(&looker.ports(&["--to", &b]), &scene, scene.at.b, known);
        let without_bpf = looker.ports(&["--no-bpf", "--to", &a]);
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
                rustix::thread::move_into_link_name_space(own.as_fd(), network).expect("setns");
                looker.ports(&["--netns", &path, "--to", &a])
            });
            elsewhere.join().expect("no panic")
        });
        compare(&outside, &scene, scene.at.a, known);
        try_out(&scene, &report, scene.at.a);
    });
}
