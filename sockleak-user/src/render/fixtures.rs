//! Reports written by hand. `tests/tests/schema.rs` includes this file too, so that what the
//! goldens show is also what the schemas describe.

use std::collections::BTreeMap;

use crate::model::{Family, SocketClass};
use crate::report::*;
use crate::sanitize::printable;

pub const TS: &str = "2026-08-01T03:14:15.926Z";

/// A name that tries everything: colour, cursor, title, bell, C1, bidi, zero width, line breaks.
pub const HOSTILE: &str =
    "\x1b[31m\x1b[2J\x1b]0;x\x07\u{9b}1m\u{202e}gpj\u{200b}\u{feff}\r\n\t\u{7f}\u{2028}\\x";

pub fn report(body: Body) -> Report {
    Report::new(TS, body)
}

/// Every kind of report, ordinary and extreme.
pub fn all() -> Vec<(&'static str, Report)> {
    [
        ("snapshot_incident", Body::Snapshot(snapshot_incident())),
        ("snapshot_sockets", Body::Snapshot(snapshot_sockets())),
        ("snapshot_empty", Body::Snapshot(snapshot_empty())),
        ("snapshot_extreme", Body::Snapshot(snapshot_extreme())),
        ("probes_hardened", Body::Probes(probes_hardened())),
        ("probes_unprivileged", Body::Probes(probes_unprivileged())),
        ("probes_perfect", Body::Probes(probes_perfect())),
        ("start", Body::Start(start())),
        ("interval", Body::Interval(interval())),
        ("interval_first", Body::Interval(interval_first())),
        ("leak_bound", Body::Leak(leak_bound())),
        ("leak_unknown", Body::Leak(leak_unknown())),
        ("leak_stack", Body::Leak(leak_stack())),
        ("event_alloc", Body::Event(event_alloc())),
        ("event_destroy", Body::Event(event_destroy())),
        ("event_hostile", Body::Event(event_hostile())),
        ("end_leaks", Body::End(end_leaks())),
        ("end_healthy", Body::End(end_healthy())),
        ("end_losses", Body::End(end_losses())),
    ]
    .map(|(name, body)| (name, report(body)))
    .into()
}

fn sockstat() -> SockstatReport {
    SockstatReport {
        alloc: 41_019,
        inuse: 81,
        orphan: 0,
        tw: 6,
        mem_pages: 286,
    }
}

fn java() -> ProcessReport {
    ProcessReport {
        pid: 4684,
        comm: "java".to_owned(),
        start_time: Some("2026-07-30T10:00:00.000Z".to_owned()),
        netns: Some(4_026_531_840),
        cgroup: Some("/system.slice/app.service".to_owned()),
        container: None,
        total: 41_000,
        unbound: 28_983,
        bound: 12_001,
        listen: 1,
        connecting: 0,
        established: 15,
        close_wait: 0,
        closing: 0,
        shared: 0,
        fd_used: Some(41_100),
        fd_limit: Some(65_536),
        created_by: BTreeMap::new(),
    }
}

fn nginx() -> ProcessReport {
    ProcessReport {
        pid: 912,
        comm: "nginx".to_owned(),
        netns: Some(4_026_531_840),
        total: 17,
        listen: 2,
        established: 15,
        shared: 2,
        fd_used: Some(40),
        fd_limit: Some(1024),
        created_by: BTreeMap::from([(911, 2)]),
        ..ProcessReport::default()
    }
}

fn ports_exhausted() -> PortsReport {
    PortsReport {
        netns: 4_026_531_840,
        range: Some([50_000, 62_000]),
        size: 12_001,
        reserved: 0,
        bound: 12_001,
        connected: 0,
        listening: 0,
        time_wait: 0,
        free: 0,
        outside: 36,
    }
}

fn snapshot_incident() -> SnapshotReport {
    SnapshotReport {
        method: "bpf",
        complete: true,
        incomplete: vec![],
        sockstat: sockstat(),
        seen: 41_015,
        unattributed: 4,
        unattributed_kinds: Unattributed {
            accept_queue: 3,
            orphan: 0,
            kernel: Some(1),
            unknown: 0,
        },
        processes: vec![java(), nginx()],
        ports: vec![ports_exhausted()],
        sockets: None,
        took_s: 0.0395,
    }
}

fn snapshot_sockets() -> SnapshotReport {
    let socket = |fd, class, src: &str, dst: Option<&str>| SocketReport {
        pid: 4684,
        comm: "Web Content".to_owned(),
        fd,
        inode: 123_456,
        class,
        family: Family::V4,
        netns: Some(4_026_531_840),
        src: src.to_owned(),
        dst: dst.map(str::to_owned),
        mptcp: false,
    };
    let every = SocketClass::ALL.iter().zip(3_u32..);
    let mut sockets: Vec<_> = every
        .map(|(class, fd)| socket(fd, *class, "0.0.0.0:0", None))
        .collect();
    sockets.push(SocketReport {
        family: Family::V6,
        mptcp: true,
        netns: None,
        ..socket(
            70_000,
            SocketClass::Established,
            "[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
            Some("[2001:db8:ffff:ffff:ffff:ffff:ffff:fffe]:65535"),
        )
    });
    SnapshotReport {
        sockets: Some(sockets),
        processes: vec![
            ProcessReport {
                comm: "Web Content".to_owned(),
                ..java()
            },
            ProcessReport {
                netns: Some(4_026_532_500),
                ..nginx()
            },
            ProcessReport {
                pid: 7,
                comm: "gone".to_owned(),
                total: 1,
                close_wait: 1,
                ..ProcessReport::default()
            },
        ],
        ports: vec![
            ports_exhausted(),
            PortsReport {
                netns: 4_026_532_500,
                range: Some([32_768, 60_999]),
                size: 28_232,
                reserved: 2,
                connected: 14_116,
                time_wait: 100,
                listening: 1,
                bound: 0,
                free: 14_013,
                outside: 2,
            },
            PortsReport {
                netns: 4_026_532_600,
                range: None,
                ..PortsReport::default()
            },
        ],
        ..snapshot_incident()
    }
}

fn snapshot_empty() -> SnapshotReport {
    SnapshotReport {
        method: "proc",
        complete: true,
        incomplete: vec![],
        sockstat: SockstatReport::default(),
        seen: 0,
        unattributed: 0,
        unattributed_kinds: Unattributed {
            kernel: None,
            ..Unattributed::default()
        },
        processes: vec![],
        ports: vec![],
        sockets: None,
        took_s: 0.000_7,
    }
}

/// Largest numbers, hostile names, everything unknown.
fn snapshot_extreme() -> SnapshotReport {
    SnapshotReport {
        method: "proc",
        complete: false,
        incomplete: vec![
            "3 processes of other users could not be read; run it as root".to_owned(),
            format!("one that calls itself {}", printable(HOSTILE.as_bytes())),
        ],
        sockstat: SockstatReport {
            alloc: u64::MAX,
            inuse: u64::MAX,
            orphan: u64::MAX,
            tw: u64::MAX,
            mem_pages: u64::MAX,
        },
        seen: u64::MAX,
        unattributed: i64::MIN,
        unattributed_kinds: Unattributed {
            accept_queue: u64::MAX,
            orphan: u64::MAX,
            kernel: None,
            unknown: i64::MIN,
        },
        processes: vec![
            ProcessReport {
                pid: u32::MAX,
                comm: printable(HOSTILE.as_bytes()),
                total: u64::MAX,
                unbound: u64::MAX,
                bound: u64::MAX,
                listen: u64::MAX,
                connecting: u64::MAX,
                established: u64::MAX,
                close_wait: u64::MAX,
                closing: u64::MAX,
                shared: u64::MAX,
                fd_used: Some(u64::MAX),
                fd_limit: Some(u64::MAX),
                ..ProcessReport::default()
            },
            ProcessReport {
                pid: 1,
                comm: String::new(),
                total: 1,
                ..ProcessReport::default()
            },
        ],
        ports: vec![],
        sockets: Some(vec![]),
        took_s: 1e300,
    }
}

fn hook(hook: &str, gives: &str, backend: Option<&str>, attach_to: &[&str]) -> HookReport {
    HookReport {
        hook: hook.to_owned(),
        gives: gives.to_owned(),
        backend: backend.map(str::to_owned),
        attach_to: attach_to.iter().map(|&point| point.to_owned()).collect(),
        reason: None,
        limits: None,
    }
}

fn probes_hardened() -> ProbesReport {
    let blocked = "fentry: the kernel refuses BPF trampolines (EPERM); kprobe: this kernel has no \
                   kprobes (CONFIG_KPROBE_EVENTS)";
    ProbesReport {
        kernel: "6.18.44".to_owned(),
        machine: "x86_64".to_owned(),
        hooks: vec![
            HookReport {
                reason: Some(blocked.to_owned()),
                ..hook(
                    "destroy",
                    "every TCP socket that ceases to exist",
                    Some("tracepoint"),
                    &["tp_btf/tcp_destroy_sock"],
                )
            },
            HookReport {
                reason: Some(blocked.to_owned()),
                limits: Some("sockets that the kernel makes for itself".to_owned()),
                ..hook(
                    "alloc",
                    "every TCP socket created, with its process",
                    Some("tracepoint"),
                    &["cgroup/sock_create"],
                )
            },
            HookReport {
                reason: Some(blocked.to_owned()),
                ..hook(
                    "accept_owner",
                    "which process accepts a connection",
                    None,
                    &[],
                )
            },
            hook(
                "inventory",
                "every TCP socket behind a descriptor, also older ones",
                Some("iterator"),
                &["iter/task_file"],
            ),
        ],
        problems: vec![ProblemReport {
            what: "no backend sees kernel functions".to_owned(),
            costs: "the tracepoint backend serves instead".to_owned(),
            fix: "boot a kernel with CONFIG_KPROBES=y".to_owned(),
            fatal: false,
        }],
    }
}

fn probes_unprivileged() -> ProbesReport {
    let missing = "CAP_BPF is missing";
    ProbesReport {
        kernel: "5.10.0-39-cloud-amd64".to_owned(),
        machine: "x86_64".to_owned(),
        hooks: vec![HookReport {
            reason: Some(missing.to_owned()),
            ..hook(
                "alloc",
                "every TCP socket created, with its process",
                None,
                &[],
            )
        }],
        problems: vec![
            ProblemReport {
                what: "kernel.kptr_restrict hides addresses".to_owned(),
                costs: "the inventory".to_owned(),
                fix: "sudo sysctl kernel.kptr_restrict=1".to_owned(),
                fatal: false,
            },
            ProblemReport {
                what: "CAP_BPF and CAP_PERFMON missing".to_owned(),
                costs: "nothing can be traced; only `sockleak snapshot --no-bpf` works, for the \
                        processes of this user"
                    .to_owned(),
                fix: "run it with sudo".to_owned(),
                fatal: true,
            },
        ],
    }
}

fn probes_perfect() -> ProbesReport {
    ProbesReport {
        kernel: "7.2.3".to_owned(),
        machine: "aarch64".to_owned(),
        hooks: vec![hook(
            "alloc",
            "every TCP socket created, with its process",
            Some("fentry"),
            &["tcp_v4_init_sock", "tcp_v6_init_sock"],
        )],
        problems: vec![],
    }
}

fn start() -> StartReport {
    let state = |backend: Option<&str>, reason: Option<&str>, limits: Option<&str>| HookState {
        backend: backend.map(str::to_owned),
        reason: reason.map(str::to_owned),
        limits: limits.map(str::to_owned),
    };
    StartReport {
        kernel: "6.12.107+deb13-cloud-amd64".to_owned(),
        hooks: BTreeMap::from([
            ("alloc".to_owned(), state(Some("fentry"), None, None)),
            (
                "destroy".to_owned(),
                state(
                    Some("kprobe"),
                    Some("fentry: the kernel refused to load it"),
                    Some("a kprobe is skipped while another BPF program runs on the same CPU"),
                ),
            ),
            (
                "release".to_owned(),
                state(None, Some("no cgroup2 hierarchy is mounted"), None),
            ),
        ]),
        baseline: 41_019,
        seen: Some(41_015),
        attach_ns: 38_400_000,
    }
}

fn self_cost() -> SelfCost {
    SelfCost {
        cpu_ns: 48_000_000,
        rss_bytes: 9 << 20,
        bpf_ns: Some(1_500_000),
    }
}

fn interval() -> IntervalReport {
    IntervalReport {
        interval_s: 5.0,
        sockstat: sockstat(),
        allocated: 61_700,
        children: 3,
        destroyed: 60_000,
        live: 41_019,
        inventory_age_s: Some(0.2),
        processes: vec![
            IntervalProcess {
                held: java(),
                allocated: 61_000,
                accepted: 0,
                destroyed: 60_000,
                oldest_closed_s: Some(192.3),
                closed_per_min: Some(12_000.0),
            },
            IntervalProcess {
                held: nginx(),
                allocated: 0,
                accepted: 3,
                destroyed: 0,
                oldest_closed_s: None,
                closed_per_min: Some(-0.4),
            },
        ],
        processes_omitted: 12,
        loss: Loss::default(),
        self_cost: self_cost(),
    }
}

fn interval_first() -> IntervalReport {
    IntervalReport {
        inventory_age_s: None,
        processes: vec![IntervalProcess {
            held: ProcessReport {
                comm: printable(HOSTILE.as_bytes()),
                fd_used: Some(65_535),
                fd_limit: Some(65_536),
                ..java()
            },
            allocated: u64::MAX,
            accepted: u64::MAX,
            destroyed: u64::MAX,
            oldest_closed_s: None,
            closed_per_min: None,
        }],
        processes_omitted: 0,
        loss: losses(),
        self_cost: SelfCost::default(),
        ..interval()
    }
}

fn losses() -> Loss {
    Loss {
        sockets_full: 1_234,
        events_dropped: BTreeMap::from([("accept".to_owned(), 0), ("alloc".to_owned(), 7)]),
        programs_missed: BTreeMap::from([("kprobe_destroy".to_owned(), 2)]),
        ..Loss::default()
    }
}

fn leak_bound() -> Leak {
    Leak {
        pid: 4684,
        comm: "java".to_owned(),
        class: LeakClass::Bound,
        after: After::BoundOnly,
        count: 12_001,
        oldest_age_s: Some(192.0),
        age_is_lower_bound: true,
        rate_per_min: Some(412.0),
        stack: None,
        stacked: 0,
        limit: Some(Limit {
            name: LimitName::PortRange,
            value: 12_001,
            used: Some(12_001),
            eta_s: Some(0.0),
        }),
        holders: vec![4684, 4690],
        held_by: vec![
            Holder {
                pid: 4684,
                comm: "java".to_owned(),
                count: 12_001,
            },
            Holder {
                pid: 4690,
                comm: "java".to_owned(),
                count: 3,
            },
        ],
        confidence: 0.9,
        evidence: vec![
            "12,001 CLOSED sockets hold a local port, 12,001 of them for longer than 30 s"
                .to_owned(),
            "they grew in 14 of 14 intervals".to_owned(),
        ],
        remedy: vec![
            "close() the socket on every path that leaves the function which created it, also \
             when bind() or connect() fails"
                .to_owned(),
        ],
        coverage: vec!["4 sockets of the host have no descriptor".to_owned()],
    }
}

fn leak_unknown() -> Leak {
    Leak {
        pid: 1,
        comm: printable(HOSTILE.as_bytes()),
        class: LeakClass::Unbound,
        after: After::Unknown,
        count: 1,
        oldest_age_s: None,
        age_is_lower_bound: false,
        rate_per_min: None,
        limit: None,
        holders: vec![],
        held_by: vec![],
        confidence: 0.25,
        evidence: vec![],
        remedy: vec![],
        coverage: vec![],
        ..leak_bound()
    }
}

fn leak_stack() -> Leak {
    Leak {
        class: LeakClass::CloseWait,
        after: After::ConnectRefused,
        rate_per_min: Some(0.4),
        age_is_lower_bound: false,
        oldest_age_s: Some(273_600.0),
        stack: Some(vec![
            "socket+0x7 [libc.so.6]".to_owned(),
            "collector::connect+0x41 [collector]".to_owned(),
        ]),
        stacked: 120,
        limit: Some(Limit {
            name: LimitName::FdLimit,
            value: 65_536,
            used: None,
            eta_s: Some(3_540.0),
        }),
        ..leak_bound()
    }
}

fn event_alloc() -> EventReport {
    EventReport {
        event: "alloc",
        pid: 4684,
        tid: 4690,
        comm: "java".to_owned(),
        sk: "0xffff888104a5b000".to_owned(),
        netns: Some(4_026_531_840),
        src: None,
        dst: None,
        age_s: None,
    }
}

fn event_destroy() -> EventReport {
    EventReport {
        event: "destroy",
        src: Some("127.0.0.1:50000".to_owned()),
        dst: Some("127.0.0.1:80".to_owned()),
        age_s: Some(12.25),
        ..event_alloc()
    }
}

fn event_hostile() -> EventReport {
    EventReport {
        comm: printable(HOSTILE.as_bytes()),
        netns: None,
        ..event_alloc()
    }
}

fn end_leaks() -> EndReport {
    EndReport {
        duration_s: 192.0,
        baseline: 12,
        allocated: 42_000,
        children: 3_000,
        accepted: Some(2_990),
        destroyed: 3_993,
        live: 41_019,
        sockstat_alloc: 41_019,
        difference: 0,
        difference_uncertainty: 0,
        seen: Some(41_015),
        unattributed_kinds: Some(Unattributed {
            accept_queue: 3,
            orphan: 1,
            kernel: Some(0),
            unknown: 0,
        }),
        processes: interval().processes,
        ports: vec![ports_exhausted()],
        leaks: vec![leak_bound(), leak_stack()],
        coverage: vec!["which process accepts a connection is not visible".to_owned()],
        loss: Loss::default(),
        self_cost: self_cost(),
    }
}

fn end_healthy() -> EndReport {
    EndReport {
        accepted: None,
        difference: -2,
        difference_uncertainty: 5,
        sockstat_alloc: 41_017,
        seen: None,
        unattributed_kinds: None,
        processes: vec![],
        ports: vec![],
        leaks: vec![],
        coverage: vec![],
        ..end_leaks()
    }
}

fn end_losses() -> EndReport {
    EndReport {
        duration_s: 0.0,
        difference: 1_234,
        loss: losses(),
        self_cost: SelfCost {
            bpf_ns: None,
            ..self_cost()
        },
        ..end_healthy()
    }
}
