//! What is gathered about the running kernel, against what is known about it.

use std::collections::BTreeSet;
use std::io::Write;

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use sockleak::kernel::{Facts, FieldSpec, Support, Wanted, problems};

/// Says past the capture of the test harness why a test did not run.
fn skip(test: &str, reason: &str) {
    // The message is lost only if stderr is closed.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {reason}");
}

/// `struct.path`, byte offset, first bit and width of a bitfield (0 and 0 for none), size.
type Row = (&'static str, u32, u32, u32, u32);

/// The same in every kernel from 5.10 to 7.2, taken from the BTF of five of them with another
/// reader.
const EVERYWHERE: [Row; 14] = [
    ("sock.__sk_common.skc_daddr", 0, 0, 0, 4),
    ("sock.__sk_common.skc_rcv_saddr", 4, 0, 0, 4),
    ("sock.__sk_common.skc_dport", 12, 0, 0, 2),
    ("sock.__sk_common.skc_num", 14, 0, 0, 2),
    ("sock.__sk_common.skc_family", 16, 0, 0, 2),
    ("sock.__sk_common.skc_state", 18, 0, 0, 1),
    ("sock.__sk_common.skc_reuse", 19, 0, 4, 1),
    ("sock.__sk_common.skc_reuseport", 19, 4, 1, 1),
    ("sock.__sk_common.skc_net_refcnt", 19, 6, 1, 1),
    ("sock.__sk_common.skc_net", 48, 0, 0, 8),
    ("sock.__sk_common.skc_v6_daddr", 56, 0, 0, 16),
    ("inet_bind_bucket.fastreuse", 14, 0, 0, 1),
    ("socket.file", 16, 0, 0, 8),
    ("socket.sk", 24, 0, 0, 8),
];

/// One hardened 6.18.44 build, whose layout differs from that of distribution kernels of the same
/// series.
const HARDENED: [Row; 20] = [
    ("sock.sk_socket", 288, 0, 0, 8),
    ("sock.sk_uid", 528, 0, 0, 4),
    ("sock.sk_protocol", 532, 0, 0, 2),
    ("sock.sk_type", 534, 0, 0, 2),
    ("sock.sk_kern_sock", 574, 1, 1, 1),
    ("sock.sk_userlocks", 243, 0, 0, 1),
    ("sock.sk_ino", 608, 0, 0, 8),
    ("inet_sock.inet_sport", 814, 0, 0, 2),
    ("inet_sock.inet_flags", 800, 0, 0, 8),
    ("inet_sock.local_port_range", 848, 0, 0, 4),
    ("inet_connection_sock.icsk_bind_hash", 1088, 0, 0, 8),
    ("inet_connection_sock.icsk_bind2_hash", 1096, 0, 0, 8),
    ("inet_connection_sock.icsk_ulp_ops", 1224, 0, 0, 8),
    ("tcp_sock.is_mptcp", 2252, 0, 0, 1),
    ("net.ns.inum", 176, 0, 0, 4),
    ("net.net_cookie", 4160, 0, 0, 8),
    ("net.ipv4.ip_local_ports.range", 1292, 0, 0, 4),
    ("net.ipv4.sysctl_local_reserved_ports", 1552, 0, 0, 8),
    ("net.ipv4.sysctl_tcp_tw_reuse", 1351, 0, 0, 1),
    ("proto.sockets_allocated", 272, 0, 0, 8),
];

fn gather(rows: &[Row]) -> Facts {
    let fields: Vec<_> = rows
        .iter()
        .map(|(path, ..)| FieldSpec {
            global: path,
            path,
            size: 0,
        })
        .collect();
    Facts::gather(&Wanted {
        fields: &fields,
        functions: &[
            "tcp_v4_init_sock",
            "tcp_create_openreq_child",
            "inet_csk_get_port",
            "inet_hash_connect",
        ],
        tracepoints: &[
            "tcp_destroy_sock",
            "inet_sock_set_state",
            "no_such_tracepoint",
        ],
        enumerators: &["TCP_CLOSE"],
        symbols: &[
            "tcp_init_sock",
            "socket_file_ops",
            "table_perturb",
            "no_such_symbol",
        ],
    })
}

fn assert_rows(facts: &Facts, rows: &[Row]) {
    let btf = facts.btf.as_ref().unwrap();
    assert!(btf.missing_fields.is_empty(), "{:#?}", btf.missing_fields);
    for (path, byte, bit, width, size) in rows {
        let member = facts.field(path).unwrap();
        let found = (
            member.byte_offset(),
            member.bit_shift(),
            member.bit_size,
            member.byte_size,
        );
        assert_eq!(found, (*byte, *bit, *width, *size), "{path}");
    }
}

#[test]
fn what_no_kernel_changes_is_found_here_too() {
    let facts = gather(&EVERYWHERE);
    let Ok(btf) = &facts.btf else {
        return skip(
            "what_no_kernel_changes_is_found_here_too",
            "this kernel has no BTF",
        );
    };
    assert_rows(&facts, &EVERYWHERE);
    assert_eq!(btf.enumerators["TCP_CLOSE"], 7);
    let proto = |name: &str| facts.function(name).unwrap().to_string();
    assert_eq!(proto("tcp_v4_init_sock"), "int (struct sock *sk)");
    assert_eq!(
        proto("tcp_create_openreq_child"),
        "struct sock * (const struct sock *sk, struct request_sock *req, struct sk_buff *skb)"
    );
    assert!(
        facts
            .function("inet_csk_get_port")
            .unwrap()
            .takes(&["struct sock *", "short unsigned int"])
    );
    assert_eq!(facts.function("inet_hash_connect").unwrap().nargs(), 2);
    let point = |name: &str| facts.tracepoint(name).map(|proto| proto.nargs());
    assert_eq!(point("tcp_destroy_sock"), Some(1));
    assert_eq!(point("inet_sock_set_state"), Some(3));
    assert_eq!(point("no_such_tracepoint"), None);
    let symbols = facts.symbols.as_ref().unwrap();
    assert!(symbols.contains("tcp_init_sock") && !symbols.contains("no_such_symbol"));
}

#[test]
fn the_hardened_kernel_is_read_and_refuses_as_known() {
    let facts = gather(&HARDENED);
    if !facts.release.starts_with("6.18.44-fc") {
        return skip(
            "the_hardened_kernel_is_read_and_refuses_as_known",
            &format!(
                "the offsets are those of another build than {}",
                facts.release
            ),
        );
    }
    assert_rows(&facts, &HARDENED);
    if !facts.privileges.may_trace() {
        return skip(
            "the_hardened_kernel_is_read_and_refuses_as_known (features)",
            "needs CAP_BPF and CAP_PERFMON",
        );
    }
    let features = &facts.features;
    assert!(
        matches!(features.fentry, Support::Blocked(_)),
        "{features:#?}"
    );
    assert!(matches!(features.kprobe, Support::No(_)), "{features:#?}");
    for works in [
        &features.tp_btf,
        &features.iter_task_file,
        &features.cgroup_sock_create,
        &features.cgroup_sock_release,
        &features.ringbuf,
    ] {
        assert_eq!(*works, Support::Yes, "{features:#?}");
    }
    assert!(features.helper("sock_from_file") && !features.helper("no_such_helper"));
    assert!(!facts.can_hook_functions());
    let found = problems(&facts);
    assert!(found.iter().all(|problem| !problem.fatal), "{found:#?}");
    assert!(
        found
            .iter()
            .any(|problem| problem.costs.contains("tracepoint backend"))
    );
}

#[test]
fn a_thread_without_capabilities_is_told_so() {
    let test = "a_thread_without_capabilities_is_told_so";
    // Capabilities belong to the thread, so that dropping them here leaves the other tests alone.
    let facts = std::thread::spawn(|| {
        let none = CapabilitySets {
            effective: CapabilitySet::empty(),
            permitted: CapabilitySet::empty(),
            inheritable: CapabilitySet::empty(),
        };
        set_capabilities(None, none).map(|()| gather(&EVERYWHERE))
    });
    let facts = facts.join().unwrap().unwrap();
    assert_eq!(facts.privileges.capabilities, BTreeSet::new());
    if facts.privileges.unprivileged_bpf_disabled == Some(0) {
        return skip(
            test,
            "kernel.unprivileged_bpf_disabled=0 lets everybody load programs",
        );
    }
    let reason = facts.features.tp_btf.reason().unwrap();
    assert!(
        reason.contains("CAP_BPF and CAP_PERFMON are missing"),
        "{reason}"
    );
    let found = problems(&facts);
    assert!(
        found[0].fatal && found[0].fix.contains("setcap"),
        "{found:#?}"
    );
}

#[test]
fn gathering_twice_gives_the_same_answers() {
    let facts = || serde_json::to_value(gather(&EVERYWHERE)).unwrap();
    assert_eq!(facts(), facts());
}

#[test]
fn a_distribution_kernel_offers_every_backend() {
    let test = "a_distribution_kernel_offers_every_backend";
    if std::env::var_os("SOCKLEAK_GUEST").is_none() {
        return skip(
            test,
            "is for the guests: cargo xtask vm 6.12 -- TEST_BINARY",
        );
    }
    let facts = gather(&EVERYWHERE);
    let features = &facts.features;
    println!("{}: {features:#?} {:#?}", facts.release, facts.privileges);
    let lockdown = facts.privileges.lockdown;
    for works in [
        &features.fentry,
        &features.tp_btf,
        &features.iter_task_file,
        &features.cgroup_sock_create,
        &features.cgroup_sock_release,
        &features.ringbuf,
    ] {
        assert_eq!(*works, Support::Yes);
    }
    let found = problems(&facts);
    if lockdown == sockleak::kernel::privileges::Lockdown::Confidentiality {
        assert!(matches!(features.kprobe, Support::Blocked(_)));
        assert!(
            found
                .iter()
                .any(|problem| problem.what.contains("confidentiality"))
        );
    } else {
        assert_eq!(features.kprobe, Support::Yes);
        assert_eq!(found, []);
    }
    let symbols = facts.symbols.as_ref().unwrap();
    for (symbol, kind) in [
        ("tcp_init_sock", 'T'),
        ("socket_file_ops", 'd'),
        ("table_perturb", 'b'),
    ] {
        let found = &symbols.found[symbol];
        let read_only = kind == 'd' && found.kind == 'r';
        assert!(found.kind == kind || read_only, "{symbol}: {found:?}");
        assert!(
            found.address.is_some_and(|address| address >> 63 == 1),
            "{symbol}: {found:?}"
        );
    }
    // 5.11, 5.11 and 5.17.
    let newer = facts.version() >= Some((6, 1));
    for helper in ["sock_from_file", "get_current_task_btf", "get_func_ret"] {
        assert_eq!(features.helper(helper), newer, "{helper}");
    }
    assert_eq!(features.sk_storage_in_tracing, newer);
    assert!(features.helper("ringbuf_reserve"));
}
