use super::testing::{NETNS, S, Watched, all_calls, born, process, socket};
use super::{
    Baseline, Census, EndInput, IntervalInput, ProcessInfos, Sample, Selection, SnapshotInput,
    Tracker, end, interval, port_reports, snapshot,
};
use crate::model::{
    Counters, HeldSocket, NamespacePorts, ProcessCounters, ProcessInfo, SocketClass, Sockstat,
};
use crate::report::{Loss, PortsReport, SelfCost};

use SocketClass::{Bound, CloseWait, Established, Listen, Unbound};

fn on_port(n: u64, class: SocketClass, port: u16) -> HeldSocket {
    let mut socket = socket(n, process(1), class);
    socket.local.set_port(port);
    socket
}

fn census(sockets: impl IntoIterator<Item = HeldSocket>) -> Census {
    let mut census = Census::new();
    for socket in sockets {
        census.add(&socket);
    }
    census
}

#[test]
fn ports_are_counted_once_per_class_and_free_ones_are_nobodys() {
    let census = census([
        on_port(1, Bound, 100),
        on_port(2, Bound, 100),
        on_port(3, Established, 100),
        on_port(4, Established, 101),
        on_port(5, Listen, 80),
        on_port(6, Listen, 109),
        on_port(7, CloseWait, 110),
        on_port(8, Unbound, 0),
    ]);
    let settings = NamespacePorts {
        netns: NETNS,
        range: (100, 109),
        reserved: [99, 101, 105].into_iter().collect(),
        time_wait: [101, 102, 102, 200].into_iter().collect(),
        time_wait_count: 4,
    };
    let expected = PortsReport {
        netns: NETNS,
        range: Some([100, 109]),
        size: 10,
        reserved: 2,
        bound: 1,
        connected: 2,
        listening: 1,
        time_wait: 2,
        free: 5,
        // 100 and 102; 109. The reserved 101 is nobody's.
        first_parity_used: Some(2),
        second_parity_used: Some(1),
        outside: 3,
    };
    assert_eq!(
        port_reports(&census, std::slice::from_ref(&settings)),
        std::slice::from_ref(&expected)
    );

    // TIME_WAIT could not be listed: its number stands in.
    let unlisted = NamespacePorts {
        time_wait: crate::model::PortSet::default(),
        ..settings
    };
    let expected = PortsReport {
        time_wait: 4,
        free: 2,
        first_parity_used: None,
        second_parity_used: None,
        outside: 2,
        ..expected
    };
    assert_eq!(port_reports(&census, &[unlisted]), [expected]);
}

#[test]
fn every_namespace_is_reported_even_without_settings_or_sockets() {
    let elsewhere = NamespacePorts {
        netns: 5,
        range: (1, u16::MAX),
        ..NamespacePorts::default()
    };
    let mut unknown = on_port(2, Bound, 7);
    unknown.netns = None;
    let reports = port_reports(&census([on_port(1, Bound, 7), unknown]), &[elsewhere]);
    let rows: Vec<_> = reports
        .iter()
        .map(|r| (r.netns, r.range, r.size, r.free))
        .collect();
    assert_eq!(
        rows,
        [(5, Some([1, 65_535]), 65_535, 65_535), (NETNS, None, 0, 0)]
    );
}

#[test]
fn a_range_upside_down_is_empty() {
    let settings = NamespacePorts {
        netns: NETNS,
        range: (10, 5),
        ..NamespacePorts::default()
    };
    let reports = port_reports(&census([on_port(1, Bound, 7)]), &[settings]);
    assert_eq!(
        (reports[0].size, reports[0].free, reports[0].outside),
        (0, 0, 1)
    );
}

#[test]
fn a_snapshot_reconciles_selects_and_sorts() {
    let mut held = vec![socket(1, process(3), Listen)];
    held[0].accept_queue = 2;
    held.extend((10..15).map(|n| born(socket(n, process(2), Unbound), process(9), S)));
    held.extend((20..24).map(|n| socket(n, process(1), Established)));
    let census = census(held);
    let mut infos = ProcessInfos::new();
    for pid in 1..=3 {
        let comm = format!("p{pid}");
        infos.insert(
            process(pid),
            ProcessInfo {
                comm,
                ..ProcessInfo::default()
            },
        );
    }
    let keep = |_, info: &ProcessInfo| info.comm != "p1";
    let sockstat = Sockstat {
        alloc: 15,
        orphan: 1,
        ..Sockstat::default()
    };
    let input = SnapshotInput {
        method: "bpf",
        census: &census,
        totals: census.totals(),
        incomplete: &[],
        sockstat: &sockstat,
        kernel_sockets: None,
        hidden: None,
        infos: &infos,
        namespaces: &[],
        boot_unix_ns: 1_700_000_000 * S,
        selection: Selection {
            top: None,
            keep: Some(&keep),
        },
        took_ns: S / 4,
    };
    let report = snapshot(&input, None);
    assert!(report.complete);
    assert_eq!(
        (report.seen, report.unattributed, report.took_s),
        (10, 5, 0.25)
    );
    let kinds = &report.unattributed_kinds;
    assert_eq!((kinds.accept_queue, kinds.orphan, kinds.unknown), (2, 1, 2));
    let rows: Vec<_> = report
        .processes
        .iter()
        .map(|p| (p.comm.as_str(), p.total))
        .collect();
    assert_eq!(rows, [("p2", 5), ("p3", 1)]);
    let first = &report.processes[0];
    assert_eq!(first.created_by.iter().collect::<Vec<_>>(), [(&9, &5)]);
    assert_eq!(
        first.start_time.as_deref(),
        Some("2023-11-14T22:13:30.020Z")
    );
    let incomplete = ["pid 7: permission denied".to_owned()];
    let top = Selection {
        top: Some(1),
        keep: None,
    };
    let report = snapshot(
        &SnapshotInput {
            incomplete: &incomplete,
            selection: top,
            ..input
        },
        None,
    );
    assert_eq!((report.complete, report.processes.len()), (false, 1));
}

#[test]
fn interval_and_end_add_up() {
    let at = |allocated, children, known| Counters {
        allocated,
        children,
        accepted: children,
        destroyed_known: known,
        ..Counters::default()
    };
    let sockstat = |alloc| Sockstat {
        alloc,
        ..Sockstat::default()
    };
    let start = at(3, 1, 2);
    let baseline = Baseline::new(10 * S, start, &sockstat(50), start);
    let mut tracker = Tracker::new(super::Config::default(), baseline);
    let mut infos = ProcessInfos::new();
    for (pid, comm) in [(1, "leaky"), (2, "busy"), (3, "idle")] {
        infos.insert(
            process(pid),
            ProcessInfo {
                comm: comm.into(),
                ..ProcessInfo::default()
            },
        );
    }
    let record = |pid, allocated, destroyed| ProcessCounters {
        process: process(pid),
        comm: "seen".into(),
        netns: None,
        cgroup_id: None,
        allocated,
        destroyed,
        accepted: 0,
    };
    let leaked = (0..10).map(|n| born(socket(n, process(1), Unbound), process(1), 11 * S));
    let resting = (20..22).map(|n| socket(n, process(3), Established));
    let found = census(leaked.chain(resting));
    let inventory = super::Inventory {
        at_ns: 14 * S,
        totals: found.totals(),
        census: found,
        complete: true,
    };
    tracker.observe(Sample {
        at_ns: 15 * S,
        before: at(23, 5, 12),
        sockstat: sockstat(65),
        counters: at(23, 6, 12),
        processes: &[record(1, 10, 0), record(2, 10, 10)],
        inventory: Some(inventory),
        infos: &infos,
    });
    let line = |tracker: &Tracker, top| {
        let input = IntervalInput {
            namespaces: &[],
            calls: all_calls(),
            infos: &infos,
            boot_unix_ns: 0,
            selection: Selection { top, keep: None },
            orphans: None,
            loss: Loss::default(),
            self_cost: SelfCost::default(),
        };
        interval(tracker, input)
    };
    let report = line(&tracker, Some(2));
    assert_eq!(
        (report.interval_s, report.inventory_age_s),
        (5.0, Some(1.0))
    );
    assert_eq!(
        (report.allocated, report.children, report.destroyed),
        (20, 5, 10)
    );
    assert_eq!(report.live, 50 + 25 - 10);
    assert_eq!(report.processes_omitted, 1);
    let rows: Vec<_> = report
        .processes
        .iter()
        .map(|p| {
            (
                p.held.comm.as_str(),
                p.held.unbound,
                p.allocated,
                p.destroyed,
                p.oldest_closed_s,
            )
        })
        .collect();
    assert_eq!(
        rows,
        [("leaky", 10, 10, 0, Some(3.0)), ("busy", 0, 10, 10, None)]
    );

    // Nothing more happens, and the busy one exits.
    tracker.observe(Sample {
        at_ns: 16 * S,
        before: at(23, 6, 12),
        sockstat: sockstat(66),
        counters: at(23, 6, 12),
        processes: &[record(1, 10, 0)],
        inventory: None,
        infos: &infos,
    });
    let report = line(&tracker, None);
    assert_eq!(
        (report.allocated, report.destroyed, report.interval_s),
        (0, 0, 1.0)
    );
    assert_eq!(
        report.processes.len(),
        2,
        "only those that hold or do something"
    );

    let report = end(
        &tracker,
        EndInput {
            pressures: Vec::new(),
            calls: all_calls(),
            infos: &infos,
            boot_unix_ns: 0,
            selection: Selection::default(),
            namespaces: &[],
            kernel_sockets: Some(0),
            hidden: None,
            accept_visible: true,
            leaks: Vec::new(),
            coverage: vec!["no hook for x".into()],
            orphans: None,
            loss: Loss::default(),
            self_cost: SelfCost::default(),
        },
    );
    assert_eq!((report.duration_s, report.baseline), (6.0, 50));
    assert_eq!(
        (report.allocated, report.children, report.destroyed),
        (20, 5, 10)
    );
    assert_eq!(
        (report.live, report.sockstat_alloc, report.difference),
        (65, 66, 1)
    );
    assert_eq!(
        (report.accepted, report.seen, report.difference_uncertainty),
        (Some(5), Some(12), 0)
    );
    assert_eq!(report.coverage, ["no hook for x"]);
    let rows: Vec<_> = report
        .processes
        .iter()
        .map(|p| (p.held.comm.as_str(), p.held.total, p.allocated, p.destroyed))
        .collect();
    assert_eq!(
        rows,
        [("leaky", 10, 10, 0), ("busy", 0, 10, 10), ("idle", 2, 0, 0)]
    );
}

#[test]
fn the_age_of_sockets_without_birth_is_since_first_found() {
    let mut watched = Watched::new();
    for at_s in [100, 107] {
        watched.inventory(at_s, (0..3).map(|n| socket(n, process(1), Unbound)));
    }
    let input = IntervalInput {
        namespaces: &[],
        calls: all_calls(),
        infos: &watched.infos,
        boot_unix_ns: 0,
        selection: Selection::default(),
        orphans: None,
        loss: Loss::default(),
        self_cost: SelfCost::default(),
    };
    let report = interval(&watched.tracker, input);
    assert_eq!(report.processes[0].oldest_closed_s, Some(7.0));
}
