//! The interval and end lines of `watch`.

use std::collections::HashSet;

use super::calls::{self, CallsInput};
use super::{Selection, held, port_reports, sockstat_report};
use crate::model::Arrange as _;
use crate::model::{Counters, NamespacePorts, ProcessId, ProcessInfo, SocketClass};
use crate::report::words::{count, counted};
use crate::report::{
    EndReport, IntervalProcess, IntervalReport, Leak, LeakClass, Loss, OrphansReport, PortsReport,
    PressureReport, SelfCost, order,
};
use crate::tracker::accounts::{Account, Activity};
use crate::tracker::census::Holding;
use crate::tracker::groups::Groups;
use crate::tracker::idle::GroupKey;
use crate::tracker::reconcile::{Hidden, residue};
use crate::tracker::{Inventory, ProcessInfos, Tracker};

/// The parts of an [`IntervalReport`] that the tracker does not have.
#[derive(Clone)]
pub struct IntervalInput<'a> {
    /// What is known about the processes now.
    pub infos: &'a ProcessInfos,
    /// Wall clock minus `CLOCK_BOOTTIME`, ns.
    pub boot_unix_ns: u64,
    /// Which processes to show.
    pub selection: Selection<'a>,
    /// Port settings of the network namespaces.
    pub namespaces: &'a [NamespacePorts],
    /// What to say about connect(), bind() and listen().
    pub calls: CallsInput<'a>,
    /// Orphans, when there are many.
    pub orphans: Option<Box<OrphansReport>>,
    /// Losses since attach.
    pub loss: Loss,
    /// Own cost since start.
    pub self_cost: SelfCost,
}

/// The interval that ended with the newest sample.
pub fn interval(tracker: &Tracker, input: IntervalInput<'_>) -> IntervalReport {
    let now = &tracker.now;
    let previous = &tracker.previous;
    let rows = Rows {
        tracker,
        infos: input.infos,
        boot_unix_ns: input.boot_unix_ns,
        activity: |account: &Account| account.interval,
    };
    let mut processes = rows.collect(&input.selection);
    let shown = input.selection.top.unwrap_or(usize::MAX);
    let omitted = processes.len().saturating_sub(shown);
    processes.truncate(shown);
    let mut searches = calls::searches(tracker.calls(), &input.calls);
    let all = searches.as_ref().map_or(0, Vec::len);
    if let Some(searches) = &mut searches {
        searches.truncate(shown);
    }
    let visible = tracker.calls().visible();
    let (counted, before) = tracker.calls().counters();
    let (ports, ports_omitted) = namespaces(tracker, input.namespaces, shown);
    IntervalReport {
        interval_s: tracker.interval_ns as f64 / 1e9,
        sockstat: sockstat_report(&now.sockstat),
        allocated: now.counters.allocated.saturating_sub(previous.allocated),
        children: now.counters.children.saturating_sub(previous.children),
        destroyed: now
            .counters
            .destroyed()
            .saturating_sub(previous.destroyed()),
        live: u64::try_from(now.balance.live).unwrap_or(0),
        inventory_age_s: tracker
            .inventory()
            .map(|inventory| now.at_ns.saturating_sub(inventory.at_ns) as f64 / 1e9),
        processes,
        processes_omitted: omitted as u64,
        searches,
        searches_omitted: all.saturating_sub(shown) as u64,
        failed: calls::failed(visible, counted, before),
        failed_unlisted: tracker.calls().newly_unlisted(),
        orphans: input.orphans,
        ports,
        ports_omitted,
        loss: input.loss,
        self_cost: input.self_cost,
    }
}

/// Namespaces by what is left of their ranges, the smallest share first.
fn namespaces(
    tracker: &Tracker,
    settings: &[NamespacePorts],
    shown: usize,
) -> (Vec<PortsReport>, u64) {
    let Some(inventory) = tracker.inventory() else {
        return (Vec::new(), 0);
    };
    let ports = port_reports(&inventory.census, settings);
    let left = |ports: &PortsReport| match (ports.range, ports.size) {
        (Some(_), size @ 1..) => ports.free as f64 / size as f64,
        _ => 1.0,
    };
    let least_left = order::order(ports.iter().map(|ports| order::key(left(ports))));
    let mut ports = order::arrange(ports, &least_left);
    let omitted = ports.len().saturating_sub(shown);
    ports.truncate(shown);
    (ports, omitted as u64)
}

/// The parts of an [`EndReport`] that the tracker does not have.
#[derive(Clone)]
pub struct EndInput<'a> {
    /// What is known about the processes now.
    pub infos: &'a ProcessInfos,
    /// Wall clock minus `CLOCK_BOOTTIME`, ns.
    pub boot_unix_ns: u64,
    /// Which processes to show.
    pub selection: Selection<'a>,
    /// Port settings of the network namespaces.
    pub namespaces: &'a [NamespacePorts],
    /// Live sockets that the kernel made for itself and no descriptor shows, if known.
    pub kernel_sockets: Option<u64>,
    /// What sock_diag lists beyond that, if it was asked.
    pub hidden: Option<&'a Hidden>,
    /// There is a hook that sees accept().
    pub accept_visible: bool,
    /// What to say about connect(), bind() and listen().
    pub calls: CallsInput<'a>,
    /// Warnings of the last interval.
    pub pressures: Vec<PressureReport>,
    /// Leaks found.
    pub leaks: Vec<Leak>,
    /// What was not visible.
    pub coverage: Vec<String>,
    /// Orphans, when there are many.
    pub orphans: Option<Box<OrphansReport>>,
    /// Losses since attach.
    pub loss: Loss,
    /// Own cost since start.
    pub self_cost: SelfCost,
}

/// Totals since the baseline, as of the newest sample. The activity of processes is since
/// attach, not of the last interval.
pub fn end(tracker: &Tracker, input: EndInput<'_>) -> EndReport {
    let now = &tracker.now;
    let base = &tracker.baseline;
    let since = |now: u64, then: u64| now.saturating_sub(then);
    let rows = Rows {
        tracker,
        infos: input.infos,
        boot_unix_ns: input.boot_unix_ns,
        activity: |account: &Account| account.total,
    };
    let mut processes = rows.collect(&input.selection);
    processes.truncate(input.selection.top.unwrap_or(usize::MAX));
    let census = tracker.inventory().map(|inventory| &inventory.census);
    let totals = tracker.inventory().map(|inventory| inventory.totals);
    let mut coverage = input.coverage;
    coverage.extend(bounds_reached(tracker));
    let visible = tracker.calls().visible();
    let (counted, zero) = (tracker.calls().counters().0, Counters::default());
    let failures = calls::failures_since_attach(tracker.calls(), &input.calls);
    EndReport {
        duration_s: since(now.at_ns, base.at_ns) as f64 / 1e9,
        baseline: base.alloc,
        allocated: since(now.counters.allocated, base.counters.allocated),
        children: since(now.counters.children, base.counters.children),
        accepted: input
            .accept_visible
            .then(|| since(now.counters.accepted, base.counters.accepted)),
        destroyed: since(now.counters.destroyed(), base.counters.destroyed()),
        live: now.balance.live,
        sockstat_alloc: now.sockstat.alloc,
        difference: now.balance.difference,
        difference_uncertainty: now.balance.uncertainty,
        seen: totals.map(|totals| totals.seen),
        unattributed_kinds: totals
            .map(|totals| residue(&now.sockstat, totals, input.kernel_sockets, input.hidden).kinds),
        processes,
        ports: census.map_or_else(Vec::new, |census| port_reports(census, input.namespaces)),
        leaks: input.leaks,
        searched: calls::searched(visible, counted, &zero),
        failed: calls::failed(visible, counted, &zero),
        failed_unlisted: tracker.calls().unlisted(),
        failures_by_cause: calls::by_cause(&failures),
        failures,
        hot_loops: calls::hot_loops_since_attach(tracker.calls(), &input.calls),
        pressures: input.pressures,
        coverage,
        orphans: input.orphans,
        loss: input.loss,
        self_cost: input.self_cost,
    }
}

/// What the bounds on memory have cost.
fn bounds_reached(tracker: &Tracker) -> Vec<String> {
    let (forgotten, activity) = tracker.accounts().forgotten();
    let mut lines = Vec::new();
    if forgotten > 0 {
        lines.push(format!(
            "{} that are gone were forgotten to bound memory: {} created, {} accepted, {} destroyed",
            counted(forgotten, "process"),
            counted(activity.allocated, "socket"),
            count(activity.accepted),
            count(activity.destroyed)
        ));
    }
    let omitted = tracker.accounts().omitted();
    if omitted > 0 {
        lines.push(format!(
            "{} not listed singly: too many to remember",
            counted(omitted, "process")
        ));
    }
    let groups = tracker.groups().omitted();
    if groups > 0 {
        lines.push(format!(
            "{} of idle sockets not followed: too many",
            counted(groups, "small group")
        ));
    }
    let inventory = tracker.inventory();
    let uncounted = inventory.map_or(0, |inventory| inventory.census.uncounted());
    if uncounted > 0 {
        lines.push(format!(
            "{} did not fit into the inventory's bounds on memory",
            counted(uncounted, "descriptor")
        ));
    }
    lines
}

/// Rows of a table of processes.
struct Rows<'a, F> {
    tracker: &'a Tracker,
    infos: &'a ProcessInfos,
    boot_unix_ns: u64,
    activity: F,
}

impl<F: Fn(&Account) -> Activity> Rows<'_, F> {
    /// Selected processes that hold or did something, the most interesting first: those with
    /// most CLOSED sockets, then the busiest, then those that hold most.
    fn collect(&self, selection: &Selection<'_>) -> Vec<IntervalProcess> {
        let inventory = self.tracker.inventory();
        let holding = |process| inventory?.census.holding(process);
        let mut rows: Vec<(ProcessId, IntervalProcess)> = Vec::new();
        let mut listed = HashSet::new();
        for account in self.tracker.accounts().iter() {
            listed.insert(account.process);
            let activity = (self.activity)(account);
            let holding = holding(account.process);
            if (holding.is_some() || !activity.is_zero())
                && selection.keeps(account.process, &account.info)
            {
                rows.push((
                    account.process,
                    self.row(account.process, Some(account), holding),
                ));
            }
        }
        for holding in inventory.iter().flat_map(|inv| inv.census.holdings()) {
            // Processes that the accounts had no room for.
            let process = holding.process;
            if listed.contains(&process) {
                continue;
            }
            let nothing = ProcessInfo::default();
            if selection.keeps(process, self.infos.get(&process).unwrap_or(&nothing)) {
                rows.push((process, self.row(process, None, Some(holding))));
            }
        }
        rows.arrange_by_key(|(process, row)| {
            let closed = row.held.unbound + row.held.bound;
            let busy = row.allocated.saturating_add(row.accepted);
            (std::cmp::Reverse((closed, busy, row.held.total)), *process)
        });
        rows.into_iter().map(|(_, row)| row).collect()
    }

    fn row(
        &self,
        process: ProcessId,
        account: Option<&Account>,
        holding: Option<&Holding>,
    ) -> IntervalProcess {
        let nothing = ProcessInfo::default();
        let info = account
            .map(|account| &account.info)
            .or_else(|| self.infos.get(&process))
            .unwrap_or(&nothing);
        let activity = account.map_or(Activity::default(), &self.activity);
        IntervalProcess {
            held: held(process, holding, info, self.boot_unix_ns),
            allocated: activity.allocated,
            accepted: activity.accepted,
            destroyed: activity.destroyed,
            oldest_closed_s: holding.and_then(|holding| self.oldest_closed_s(holding)),
            closed_per_min: account.and_then(Account::closed_per_min),
        }
    }

    /// Age of the oldest CLOSED socket: from its creation where that was seen, else since it
    /// was first found so.
    fn oldest_closed_s(&self, holding: &Holding) -> Option<f64> {
        let inventory: &Inventory = self.tracker.inventory()?;
        let groups: &Groups = self.tracker.groups();
        [
            (SocketClass::Unbound, LeakClass::Unbound),
            (SocketClass::Bound, LeakClass::Bound),
        ]
        .into_iter()
        .filter(|(class, _)| holding.count(*class) > 0)
        .flat_map(|(class, leak_class)| {
            let key = GroupKey {
                process: holding.process,
                class: leak_class,
            };
            let found = groups.get(key).and_then(|group| group.tally.since_ns);
            [holding.oldest_birth(class), found]
        })
        .flatten()
        .min()
        .map(|oldest| inventory.at_ns.saturating_sub(oldest) as f64 / 1e9)
    }
}
