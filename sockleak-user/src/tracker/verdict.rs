//! Which idle sockets are a leak, and how sure that is.

use super::assemble::port_reports;
use super::census::Holding;
use super::confidence::{Signs, confidence};
use super::groups::Group;
use super::provenance::{Pasts, Provenance};
use super::window::Rise;
use super::wording::{self, Reason};
use super::{ProcessInfos, Tracker};
use crate::model::Arrange as _;
use crate::model::{FileLimits, NamespacePorts, ProcessId, ProcessInfo};
use crate::report::{Holder, Leak, LeakClass, Limit, LimitName, PortsReport};

/// Thresholds of the verdicts.
///
/// Only sockets that have idled for `--older` count, in groups of one creator and class. Such a
/// group is a leak when it grows, or when it is large by itself or against a limit. A pool
/// that is stable and small is none, nor is a burst that goes away again before it is old.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// Fewer sockets than this are never a leak.
    pub min_count: u64,
    /// Growing: by at least this many idle sockets,
    pub min_growth: u64,
    /// in at least this many censuses, without a fall in between, and still going on.
    pub min_steps: u64,
    /// Large even when it does not grow: this many.
    pub large: u64,
    /// Large against a limit: this share of a holder's RLIMIT_NOFILE or of a port range,
    pub share: f64,
    /// if it is at least this many.
    pub share_min_count: u64,
    /// A limit that growth reaches later than this is not in sight, s.
    pub horizon_s: f64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            min_count: 8,
            min_growth: 8,
            min_steps: 3,
            large: 1000,
            share: 0.25,
            share_min_count: 16,
            horizon_s: 30.0 * 86_400.0,
        }
    }
}

/// What a verdict needs to know besides the accounts.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// What is known about processes now.
    pub infos: &'a ProcessInfos,
    /// Port settings of the network namespaces.
    pub namespaces: &'a [NamespacePorts],
    /// Host-wide limits on open files.
    pub files: Option<FileLimits>,
    /// Pages of memory that TCP may take, host-wide: the last of net.ipv4.tcp_mem.
    pub tcp_mem: Option<u64>,
    /// Events and records lost since attach.
    pub lost: u64,
    /// What is known about where sockets come from.
    pub pasts: Pasts<'a>,
    /// What the hooks cannot see, in words; becomes part of every verdict.
    pub coverage: &'a [String],
}

/// Groups of leaked sockets, largest first.
pub(super) fn leaks(tracker: &Tracker, surroundings: &Surroundings<'_>) -> Vec<Leak> {
    let Some(inventory) = tracker.inventory() else {
        return Vec::new();
    };
    let judge = Judge {
        tracker,
        rules: &tracker.config().rules,
        surroundings,
        at_ns: inventory.at_ns,
        inventory_complete: inventory.complete && inventory.census.uncounted() == 0,
        ports: port_reports(&inventory.census, surroundings.namespaces),
    };
    let mut leaks: Vec<Leak> = tracker
        .groups()
        .iter()
        .filter_map(|group| judge.leak(group))
        .collect();
    leaks.arrange_by_key(|leak| (std::cmp::Reverse(leak.count), leak.pid, leak.class));
    leaks
}

pub(super) struct Judge<'a> {
    pub(super) tracker: &'a Tracker,
    rules: &'a Rules,
    pub(super) surroundings: &'a Surroundings<'a>,
    pub(super) at_ns: u64,
    pub(super) inventory_complete: bool,
    ports: Vec<PortsReport>,
}

impl Judge<'_> {
    fn leak(&self, group: &Group) -> Option<Leak> {
        let reasons = self.reasons(group);
        if reasons.is_empty() {
            return None;
        }
        let tally = &group.tally;
        let process = group.key.process;
        let held_by: Vec<Holder> = tally
            .holders
            .iter()
            .map(|(holder, count)| Holder {
                pid: holder.pid,
                comm: self.comm(*holder).to_owned(),
                count: *count,
            })
            .collect();
        let provenance = Provenance::of(group, self.surroundings.pasts, self.at_ns);
        let (after, errno, peer) = provenance.mostly();
        Some(Leak {
            pid: process.pid,
            comm: self.comm(process).to_owned(),
            container: self.info(process).and_then(|info| info.container.clone()),
            class: group.key.class,
            after,
            errno,
            peer,
            count: tally.aged,
            oldest_age_s: tally
                .since_ns
                .map(|since| self.at_ns.saturating_sub(since) as f64 / 1e9),
            age_is_lower_bound: tally.since_is_bound,
            median_age_s: tally.median_ns.map(|age| age as f64 / 1e9),
            rate_per_min: group.window.rate_per_min(),
            stack: provenance.stack(),
            stacked: provenance.stacked,
            limit: self.limit(group),
            holders: held_by.iter().map(|holder| holder.pid).collect(),
            held_by,
            confidence: self.confidence(group, &reasons),
            evidence: wording::evidence(self, group, &reasons, &provenance),
            remedy: wording::remedy(self, group),
            coverage: wording::coverage(self, group, &provenance),
            origins: provenance.origins,
            other_origins: provenance.others,
        })
    }

    /// Every rule that the group breaks.
    fn reasons(&self, group: &Group) -> Vec<Reason> {
        let rules = self.rules;
        let tally = &group.tally;
        let mut reasons = Vec::new();
        if tally.aged < rules.min_count {
            return reasons;
        }
        let rise = group.window.rise(|point| point.aged);
        if rise.growth >= rules.min_growth
            && rise.steps >= rules.min_steps
            && self.goes_on(group, &rise)
        {
            reasons.push(Reason::Growing(rise));
        }
        if tally.aged >= rules.large {
            reasons.push(Reason::Large);
        }
        for (holder, count) in &tally.holders {
            if let Some(limit) = self.info(*holder).and_then(|info| info.fd_limit)
                && self.is_large_share(*count, limit)
            {
                reasons.push(Reason::FdShare {
                    holder: *holder,
                    count: *count,
                    limit,
                });
                // One holder is enough to say it; a prefork server may have hundreds.
                break;
            }
        }
        for (netns, ports) in &tally.ports {
            if let Some((report, held)) = self.range_use(*netns, ports)
                && self.is_large_share(held, report.size)
            {
                reasons.push(Reason::PortShare { netns: *netns });
            }
        }
        reasons
    }

    /// Whether new sockets keep coming while the idle ones become more. A pool that was filled
    /// within `--older` is full by the time its first socket counts as idle; and some time
    /// after a leak has ended no more sockets become idle. (Their number is free of the noise
    /// of sockets on their way.) A slow leak gets the time in which it makes three.
    fn goes_on(&self, group: &Group, rise: &Rise) -> bool {
        let meanwhile = group
            .window
            .growth_within(rise.lasting_ns, |point| point.total);
        let half_older = self.tracker.config().older_ns / 2;
        let slow = rise.lasting_ns.saturating_mul(3) / rise.growth.max(1);
        let lately = group
            .window
            .growth_within(half_older.max(slow), |point| point.aged);
        meanwhile >= i128::from(rise.growth / 2) && lately > 0
    }

    fn is_large_share(&self, count: u64, of: u64) -> bool {
        of > 0
            && count >= self.rules.share_min_count
            && count as f64 >= self.rules.share * of as f64
    }

    /// The limit that is reached first: the nearest in time when the group grows, else one that
    /// is reached or of which it takes a large share.
    fn limit(&self, group: &Group) -> Option<Limit> {
        let groups = self.tracker.groups();
        let own_rate = group.window.rate_per_min().unwrap_or(0.0);
        let mut limits = Vec::new();
        for (holder, count) in &group.tally.holders {
            let Some(info) = self.info(*holder) else {
                continue;
            };
            if let (Some(used), Some(value)) = (self.fd_used(*holder), info.fd_limit) {
                // The larger of two counts, of which one may be younger.
                let at_ns = match (info.fd_used, info.fd_at_ns) {
                    (Some(counted), Some(at_ns)) if counted == used => at_ns,
                    _ => self.at_ns,
                };
                // Other groups of the same process fill the same table.
                let account = self.tracker.accounts().get(*holder);
                let rate = account
                    .and_then(|account| account.closed_per_min())
                    .unwrap_or(0.0);
                limits.push((
                    self.is_large_share(*count, value),
                    self.forecast(LimitName::FdLimit, value, (used, at_ns), rate.max(own_rate)),
                ));
            }
        }
        for (netns, ports) in &group.tally.ports {
            if let Some((report, held)) = self.range_use(*netns, ports)
                && held > 0
            {
                let used = report.size.saturating_sub(report.free);
                limits.push((
                    self.is_large_share(held, report.size),
                    self.forecast(
                        LimitName::PortRange,
                        report.size,
                        (used, self.at_ns),
                        own_rate,
                    ),
                ));
            }
        }
        if let Some(files) = self.surroundings.files {
            limits.push((
                self.is_large_share(group.tally.aged, files.max),
                self.forecast(
                    LimitName::FileMax,
                    files.max,
                    (files.used, self.tracker.now.at_ns),
                    groups.total_rise_per_min(),
                ),
            ));
        }
        if group.key.class == LeakClass::CloseWait
            && let Some(high) = self.surroundings.tcp_mem
        {
            // What the peer has sent and nobody reads stays in memory. Whose pages they are the
            // kernel does not say, so what counts is that they grow.
            let now = self.tracker.now;
            let pages = now.sockstat.mem_pages;
            let rise = self.tracker.memory.rise(|point| point.total);
            let grows = rise.growth >= pages / 10 && rise.steps >= self.rules.min_steps;
            let rate = self.tracker.memory.rate_per_min().filter(|_| grows);
            let rate = rate.unwrap_or(0.0);
            limits.push((
                self.is_large_share(pages, high),
                self.forecast(LimitName::TcpMem, high, (pages, now.at_ns), rate),
            ));
        }
        limits
            .into_iter()
            .filter(|(is_large, limit)| match limit.eta_s {
                // Reached, but hardly by these sockets: not their limit.
                Some(eta) if eta <= 0.0 => *is_large,
                Some(eta) => eta <= self.rules.horizon_s,
                None => *is_large,
            })
            .map(|(_, limit)| limit)
            .min_by(|a, b| {
                let key = |limit: &Limit| limit.eta_s.unwrap_or(f64::INFINITY);
                key(a).total_cmp(&key(b))
            })
    }

    /// How sure it is that these sockets are forgotten, 0 to 1. Documented at [`confidence`].
    fn confidence(&self, group: &Group, reasons: &[Reason]) -> f64 {
        let tally = &group.tally;
        let share = |part: u64| part as f64 / tally.aged.max(1) as f64;
        confidence(&Signs {
            growing: reasons.iter().any(|r| matches!(r, Reason::Growing(_))),
            large: reasons.iter().any(|r| matches!(r, Reason::Large)),
            against_limit: reasons
                .iter()
                .any(|r| matches!(r, Reason::FdShare { .. } | Reason::PortShare { .. })),
            births_known: share(tally.births_known),
            confirmed: share(tally.confirmed),
            half_closed: group.key.class == LeakClass::CloseWait,
            incomplete: !self.inventory_complete,
            lost: self.surroundings.lost > 0,
        })
    }

    /// What is known about a process: now, or while it lived.
    pub(super) fn info(&self, process: ProcessId) -> Option<&ProcessInfo> {
        let account = self.tracker.accounts().get(process);
        self.surroundings
            .infos
            .get(&process)
            .filter(|info| !info.exited)
            .or_else(|| account.map(|account| &account.info))
    }

    /// Open descriptors of a process. They are counted less often than sockets, and there are
    /// at least as many as it holds sockets.
    pub(super) fn fd_used(&self, process: ProcessId) -> Option<u64> {
        let counted = self.info(process)?.fd_used?;
        let census = &self.tracker.inventory()?.census;
        let sockets = census.holding(process).map_or(0, Holding::total);
        Some(counted.max(sockets))
    }

    pub(super) fn comm(&self, process: ProcessId) -> &str {
        match self.tracker.comm(process) {
            "" => self
                .surroundings
                .infos
                .get(&process)
                .map_or("", |info| info.comm.as_str()),
            comm => comm,
        }
    }

    /// The namespace's ports, and how many of `ports` lie in its range.
    pub(super) fn range_use(
        &self,
        netns: Option<u32>,
        ports: &[u16],
    ) -> Option<(&PortsReport, u64)> {
        let report = self
            .ports
            .iter()
            .find(|report| Some(report.netns) == netns)?;
        let [lo, hi] = report.range?;
        let held = ports.iter().filter(|port| (lo..=hi).contains(port)).count();
        Some((report, held as u64))
    }

    /// When a limit is reached at `rate` per minute, of which so much was used at a time that may
    /// be a minute ago. The time left counts from now; that the limit is reached only a count can
    /// tell.
    fn forecast(&self, name: LimitName, value: u64, (used, at_ns): (u64, u64), rate: f64) -> Limit {
        const SOON_S: f64 = 0.1;
        let left = value.saturating_sub(used);
        let age_s = self.tracker.now.at_ns.saturating_sub(at_ns) as f64 / 1e9;
        let eta_s = if left == 0 {
            Some(0.0)
        } else if rate > 0.0 {
            Some((left as f64 / rate * 60.0 - age_s).max(SOON_S))
        } else {
            None
        };
        Limit {
            name,
            value,
            used: Some(used),
            eta_s,
        }
    }
}
