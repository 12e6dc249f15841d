//! Reports from accounts: nothing is decided here, only put together.

mod calls;
pub(super) mod conclusion;
mod occupancy;
mod port_map;
mod ports;
mod pressure;
mod watch;

use std::collections::BTreeMap;

pub use calls::{CallsInput, KeepCall, PortOwners, RangeUse, by_cause, failures, hot_loops};
pub use occupancy::{OccupancyInput, port_use};
pub use ports::port_reports;
pub use pressure::pressures;
pub use watch::{EndInput, IntervalInput, end, interval};

use super::ProcessInfos;
use super::census::{Census, Holding, Totals};
use super::reconcile::{Hidden, residue};
use crate::model::Arrange as _;
use crate::model::{NamespacePorts, ProcessId, ProcessInfo, SocketClass, Sockstat};
use crate::report::words::counted;
use crate::report::{ProcessReport, SnapshotReport, SocketReport, SockstatReport, start_time};

/// Whether a process is to be shown.
pub type Keep<'a> = dyn Fn(ProcessId, &ProcessInfo) -> bool + 'a;

/// Which processes a report shows.
#[derive(Clone, Copy, Default)]
pub struct Selection<'a> {
    /// At most this many; `None` for all.
    pub top: Option<usize>,
    /// Only those for which this is true.
    pub keep: Option<&'a Keep<'a>>,
}

impl Selection<'_> {
    fn keeps(&self, process: ProcessId, info: &ProcessInfo) -> bool {
        self.keep.is_none_or(|keep| keep(process, info))
    }
}

/// The parts of a [`SnapshotReport`].
#[derive(Clone, Copy)]
pub struct SnapshotInput<'a> {
    /// `bpf` or `proc`.
    pub method: &'static str,
    /// What the look found, of what was asked for.
    pub census: &'a Census,
    /// Figures of the whole host.
    pub totals: Totals,
    /// Why it is not complete, if it is not.
    pub incomplete: &'a [String],
    /// The kernel's own counts, read right after.
    pub sockstat: &'a Sockstat,
    /// Live sockets that the kernel made for itself and no descriptor shows, if known.
    pub kernel_sockets: Option<u64>,
    /// What sock_diag lists beyond that, if it was asked.
    pub hidden: Option<&'a Hidden>,
    /// What is known about the processes.
    pub infos: &'a ProcessInfos,
    /// Port settings of the network namespaces.
    pub namespaces: &'a [NamespacePorts],
    /// Wall clock minus `CLOCK_BOOTTIME`, ns.
    pub boot_unix_ns: u64,
    /// Which processes to show.
    pub selection: Selection<'a>,
    /// How long the look took, ns.
    pub took_ns: u64,
}

/// One look, without its list of sockets.
pub fn snapshot(input: &SnapshotInput<'_>, sockets: Option<Vec<SocketReport>>) -> SnapshotReport {
    let census = input.census;
    let residue = residue(
        input.sockstat,
        input.totals,
        input.kernel_sockets,
        input.hidden,
    );
    let mut incomplete = input.incomplete.to_vec();
    if census.uncounted() > 0 {
        incomplete.push(format!(
            "{} did not fit into the bounds on memory",
            counted(census.uncounted(), "descriptor")
        ));
    }
    let mut processes = process_reports(census, input.infos, input.boot_unix_ns, &input.selection);
    processes.truncate(input.selection.top.unwrap_or(usize::MAX));
    SnapshotReport {
        method: input.method,
        complete: incomplete.is_empty(),
        incomplete,
        sockstat: sockstat_report(input.sockstat),
        seen: input.totals.seen,
        unattributed: residue.unattributed,
        unattributed_kinds: residue.kinds,
        processes,
        ports: port_reports(census, input.namespaces),
        sockets,
        took_s: input.took_ns as f64 / 1e9,
    }
}

/// The sockstat line as reports show it.
pub fn sockstat_report(sockstat: &Sockstat) -> SockstatReport {
    SockstatReport {
        alloc: sockstat.alloc,
        inuse: sockstat.inuse,
        orphan: sockstat.orphan,
        tw: sockstat.tw,
        mem_pages: sockstat.mem_pages,
    }
}

/// What each selected process holds, most first; `top` is not applied.
pub fn process_reports(
    census: &Census,
    infos: &ProcessInfos,
    boot_unix_ns: u64,
    selection: &Selection<'_>,
) -> Vec<ProcessReport> {
    let nothing = ProcessInfo::default();
    let mut rows: Vec<(ProcessId, ProcessReport)> = census
        .holdings()
        .map(|holding| {
            let info = infos.get(&holding.process).unwrap_or(&nothing);
            (holding.process, info, holding)
        })
        .filter(|(process, info, _)| selection.keeps(*process, info))
        .map(|(process, info, holding)| (process, held(process, Some(holding), info, boot_unix_ns)))
        .collect();
    rows.arrange_by_key(|(process, row)| (std::cmp::Reverse(row.total), *process));
    rows.into_iter().map(|(_, row)| row).collect()
}

fn held(
    process: ProcessId,
    holding: Option<&Holding>,
    info: &ProcessInfo,
    boot_unix_ns: u64,
) -> ProcessReport {
    let total = holding.map_or(0, Holding::total);
    let count = |class| holding.map_or(0, |holding| holding.count(class));
    let mut created_by: BTreeMap<u32, u64> = BTreeMap::new();
    for (creator, count) in holding.iter().flat_map(|holding| &holding.created_by) {
        *created_by.entry(creator.pid).or_default() += count;
    }
    ProcessReport {
        pid: process.pid,
        comm: info.comm.clone(),
        start_time: start_time(process, boot_unix_ns),
        netns: info.netns,
        cgroup: info.cgroup.clone(),
        container: info.container.clone(),
        pod: info.pod.clone(),
        ns_pid: info.ns_pid,
        total,
        unbound: count(SocketClass::Unbound),
        bound: count(SocketClass::Bound),
        listen: count(SocketClass::Listen),
        connecting: count(SocketClass::Connecting),
        established: count(SocketClass::Established),
        close_wait: count(SocketClass::CloseWait),
        closing: count(SocketClass::Closing),
        shared: holding.map_or(0, |holding| holding.shared),
        // Counted less often than sockets, of which it cannot have more than descriptors.
        fd_used: info.fd_used.map(|counted| counted.max(total)),
        fd_limit: info.fd_limit,
        created_by,
    }
}
