//! The report of one namespace's ports.

use std::cmp::Reverse;
use std::net::{IpAddr, SocketAddr};

use super::Selection;
use super::{conclusion, port_map};
use crate::model::Arrange as _;
use crate::model::{ProcessId, ProcessInfo};
use crate::report::{
    AddressReport, BlockerReport, DestinationReport, DrainReport, ElsewhereReport, OccupancyReport,
    OutsideHolderReport, OutsideReport, PortHolderReport, TowardsReport,
};
use crate::tracker::{
    BoundBy, Census, Destination, HeldPorts, Occupancy, PortClass, PortSet, ProcessInfos, Room,
};

/// TIME_WAIT lasts this long (`TCP_TIMEWAIT_LEN` of include/net/tcp.h), seconds.
const TIME_WAIT_S: f64 = 60.0;
/// Runs of ports that are listed for one holder.
const RUNS: usize = 16;
/// Local addresses that are asked about; each question walks the namespace's sockets.
const ADDRESSES: usize = 16;

/// The parts of an [`OccupancyReport`].
#[derive(Clone, Copy)]
pub struct OccupancyInput<'a> {
    /// The ports.
    pub occupancy: &'a Occupancy<'a>,
    /// `bpf` or `proc`.
    pub method: &'static str,
    /// What could not be seen.
    pub incomplete: &'a [String],
    /// All namespaces, as the same inventory saw them.
    pub census: &'a Census,
    /// `tw` of the namespace's sockstat.
    pub time_wait_count: Option<u64>,
    /// What is known about the holders.
    pub infos: &'a ProcessInfos,
    /// Holders to show, and how many rows of each kind.
    pub selection: Selection<'a>,
    /// The destination that was asked for, and the source address if it is known.
    pub to: Option<(Option<IpAddr>, SocketAddr)>,
    /// How long the look took, ns.
    pub took_ns: u64,
}

/// The report of one namespace's ports.
pub fn port_use(input: &OccupancyInput<'_>) -> OccupancyReport {
    let all = input.occupancy;
    let (range, settings) = (all.range(), all.settings());
    let top = input.selection.top.unwrap_or(usize::MAX);
    let ports =
        |keep: &dyn Fn(u16) -> bool| range.ports().filter(|port| keep(*port)).count() as u64;
    let class = |wanted| ports(&|port| all.class(port) == wanted);
    let bound_by =
        |by| ports(&|port| all.class(port) == PortClass::Bound && all.bound_by(port) == Some(by));
    let half = |first: bool, used: bool| {
        ports(&|port| {
            let class = all.class(port);
            range.is_first_parity(port) == first
                && class != PortClass::Reserved
                && (!used || class != PortClass::Free)
        })
    };
    let asked = all.buckets_are_known();
    let (reserved, bound) = (class(PortClass::Reserved), class(PortClass::Bound));
    let (holders, holders_omitted) = cut(holders(input, asked), top);
    let (elsewhere, _) = cut(elsewhere(input.census, settings.netns), top);
    let mut destinations = all.destinations(usize::MAX);
    let sources = |dst: SocketAddr| destinations.iter().filter(move |row| row.dst == dst);
    let to = input.to.and_then(|(src, dst)| {
        let room = all.towards(src, dst)?;
        Some(towards(input, src, dst, &room, sources(dst), top))
    });
    let destinations_omitted = destinations.len().saturating_sub(top) as u64;
    destinations.truncate(top);
    let addresses = all.addresses();
    let address_rows = addresses.iter().take(top.min(ADDRESSES));
    let address_rows: Vec<_> = address_rows
        .filter_map(|(address, in_use)| {
            let address = *address;
            Some(AddressReport {
                address,
                in_use: *in_use,
                bind_free: all.for_bind(Some(address))?.usable(),
            })
        })
        .collect();
    let in_use = (1..=u16::MAX).filter(|port| all.is_in_use(*port)).count() as u64;
    let mut report = OccupancyReport {
        netns: settings.netns,
        method: input.method,
        complete: input.incomplete.is_empty(),
        incomplete: input.incomplete.to_vec(),
        range: [range.low, range.high],
        size: range.size(),
        reserved,
        bound,
        connected: class(PortClass::Connected),
        time_wait: class(PortClass::TimeWait),
        free: class(PortClass::Free),
        bound_listening: bound_by(BoundBy::Listener),
        bound_closed: bound_by(BoundBy::Closed),
        bound_connected: asked.then(|| bound_by(BoundBy::Connection)),
        first_parity_size: half(true, false),
        first_parity_used: half(true, true),
        second_parity_size: half(false, false),
        second_parity_used: half(false, true),
        in_use,
        reserved_used: ports(&|port| all.class(port) == PortClass::Reserved && all.is_in_use(port)),
        holders,
        holders_omitted,
        unowned: ports(&|port| all.is_unowned(port)),
        outside: outside(input, top),
        elsewhere,
        time_wait_sockets: input.time_wait_count,
        drain: drain(all),
        tw_reuse: settings.tw_reuse,
        sustained_per_s: range.size().saturating_sub(reserved + bound) as f64 / TIME_WAIT_S,
        bind_free: all.for_bind(None).map(|room| room.usable()),
        addresses_omitted: (addresses.len() - address_rows.len()) as u64,
        addresses: address_rows,
        destinations: destinations.iter().map(destination).collect(),
        destinations_omitted,
        to,
        map: port_map::map(all),
        limits: Vec::new(),
        conclusion: String::new(),
        took_s: input.took_ns as f64 / 1e9,
    };
    report.limits = conclusion::limits(&report, all);
    report.conclusion = conclusion::conclusion(&report);
    report
}

fn cut<T>(mut rows: Vec<T>, top: usize) -> (Vec<T>, u64) {
    let omitted = rows.len().saturating_sub(top) as u64;
    rows.truncate(top);
    (rows, omitted)
}

fn name<'a>(input: &OccupancyInput<'a>, process: ProcessId) -> Option<&'a str> {
    static NOTHING: ProcessInfo = ProcessInfo {
        comm: String::new(),
        cgroup: None,
        container: None,
        pod: None,
        ns_pid: None,
        netns: None,
        fd_used: None,
        fd_at_ns: None,
        fd_limit: None,
        exited: false,
    };
    let info = input.infos.get(&process).unwrap_or(&NOTHING);
    let is_shown = input.selection.keeps(process, info);
    is_shown.then_some(info.comm.as_str())
}

fn holders(input: &OccupancyInput<'_>, asked: bool) -> Vec<PortHolderReport> {
    let all = input.occupancy;
    let range = (all.range().low, all.range().high);
    let bound_by_connection = |ports: &PortSet| {
        let bound = |port: &u16| {
            all.range().contains(*port) && all.bound_by(*port) == Some(BoundBy::Connection)
        };
        ports.iter().filter(bound).count() as u64
    };
    let mut rows: Vec<(Reverse<usize>, ProcessId, PortHolderReport)> = all
        .held()
        .filter_map(|(process, held)| {
            let union = union(held);
            let row = PortHolderReport {
                pid: process.pid,
                comm: name(input, process)?.to_owned(),
                bound: held.bound.count_in(range),
                connected: held.connected.count_in(range),
                connected_bound: asked.then(|| bound_by_connection(&held.connected)),
                listening: held.listening.count_in(range),
                outside: union.len() as u64 - union.count_in(range),
            };
            Some((Reverse(union.len()), process, row))
        })
        .collect();
    let inside = |row: &PortHolderReport| row.bound + row.connected + row.listening;
    rows.arrange_by_key(|(ports, process, row)| (Reverse(inside(row)), *ports, *process));
    rows.into_iter().map(|(_, _, row)| row).collect()
}

fn union(held: &HeldPorts) -> PortSet {
    let mut all = held.bound.clone();
    all.union_with(&held.connected);
    all.union_with(&held.listening);
    all
}

fn outside(input: &OccupancyInput<'_>, top: usize) -> OutsideReport {
    let all = input.occupancy;
    let is_outside = |port: &u16| !all.range().contains(*port);
    let count = |keep: &dyn Fn(u16) -> bool| {
        let ports = (1..=u16::MAX).filter(is_outside);
        ports.filter(|port| keep(*port)).count() as u64
    };
    let mut holders: Vec<(Reverse<usize>, ProcessId, OutsideHolderReport)> = all
        .held()
        .filter_map(|(process, held)| {
            let ports: Vec<u16> = union(held).iter().filter(is_outside).collect();
            let comm = name(input, process).filter(|_| !ports.is_empty())?;
            let of = |set: &PortSet| set.iter().filter(is_outside).count() as u64;
            let (runs, ports_omitted) = cut(runs(&ports), RUNS);
            let row = OutsideHolderReport {
                pid: process.pid,
                comm: comm.to_owned(),
                bound: of(&held.bound),
                connected: of(&held.connected),
                listening: of(&held.listening),
                ports: runs,
                ports_omitted,
            };
            Some((Reverse(ports.len()), process, row))
        })
        .collect();
    holders.arrange_by_key(|(ports, process, _)| (*ports, *process));
    let (holders, holders_omitted) = cut(holders, top);
    OutsideReport {
        count: count(&|port| all.is_in_use(port)),
        time_wait: count(&|port| all.is_time_wait_only(port)),
        unowned: count(&|port| all.is_unowned(port)),
        holders: holders.into_iter().map(|(_, _, row)| row).collect(),
        holders_omitted,
    }
}

/// Runs of consecutive ports in an ascending list.
fn runs(ports: &[u16]) -> Vec<[u16; 2]> {
    let mut runs: Vec<[u16; 2]> = Vec::new();
    for port in ports {
        match runs.last_mut() {
            Some([_, last]) if last.checked_add(1) == Some(*port) => *last = *port,
            _ => runs.push([*port, *port]),
        }
    }
    runs
}

fn elsewhere(census: &Census, here: u32) -> Vec<ElsewhereReport> {
    let mut rows: Vec<ElsewhereReport> = (census.namespaces().iter())
        .filter_map(|space| {
            let netns = space.netns.filter(|netns| *netns != here)?;
            let mut ports = space.bound.clone();
            ports.union_with(&space.connected);
            ports.union_with(&space.listening);
            let in_use = ports.len() as u64;
            (in_use > 0).then_some(ElsewhereReport { netns, in_use })
        })
        .collect();
    rows.arrange_by_key(|row| (Reverse(row.in_use), row.netns));
    rows
}

fn drain(all: &Occupancy<'_>) -> Option<DrainReport> {
    let mut drain = DrainReport::default();
    for left in all.time_waits() {
        let left = left?;
        for (within, ms) in [
            (&mut drain.within_1_s, 1_000),
            (&mut drain.within_10_s, 10_000),
            (&mut drain.within_30_s, 30_000),
            (&mut drain.within_60_s, 60_000),
        ] {
            *within += u64::from(left <= ms);
        }
        drain.last_s = drain.last_s.max(f64::from(left) / 1e3);
    }
    Some(drain)
}

fn destination(row: &Destination) -> DestinationReport {
    DestinationReport {
        src: row.src,
        dst: row.dst,
        connected: row.connected,
        connected_bound: row.connected_bound,
        time_wait: row.time_wait,
        free: row.usable,
    }
}

fn towards<'a>(
    input: &OccupancyInput<'_>,
    src: Option<IpAddr>,
    dst: SocketAddr,
    room: &Room,
    sources: impl Iterator<Item = &'a Destination>,
    top: usize,
) -> TowardsReport {
    let holders = (room.blockers.iter())
        .filter_map(|blocker| {
            Some(BlockerReport {
                pid: blocker.process.pid,
                comm: name(input, blocker.process)?.to_owned(),
                ports: blocker.ports,
                bound: blocker.bound,
            })
        })
        .collect();
    let (holders, holders_omitted) = cut(holders, top);
    TowardsReport {
        dst,
        src,
        used: room.used(),
        bound: room.bound,
        connected: room.connected,
        time_wait: room.time_wait,
        time_wait_reusable: room.time_wait_reusable,
        free: room.usable(),
        other: room.other,
        unused: room.free,
        first_parity_size: room.first.size,
        first_parity_used: room.first.used,
        second_parity_size: room.second.size,
        second_parity_used: room.second.used,
        holders,
        holders_omitted,
        sources: sources.take(top).map(destination).collect(),
    }
}
