//! What is known now, and what was not visible.

use std::time::Duration;

use super::Session;
use crate::report::words::counted;
use crate::{
    engine::{losses, snapshot::shows},
    model::Counters,
    probe::{Backend, Hook, LoadOptions, catalog::Variant},
    report::{Leak, Loss},
    source::{limits, ring::EventReader},
    tracker::{ProcessInfos, Surroundings},
};

impl Session {
    pub(super) fn leaks(&mut self, infos: &ProcessInfos, patience: Duration) -> Vec<Leak> {
        self.origins.take_names(patience);
        let coverage = self.coverage();
        let limits = limits::read();
        let surroundings = Surroundings {
            infos,
            namespaces: &self.ports,
            files: limits.files,
            tcp_mem: limits.tcp_mem.map(|pages| pages.high),
            lost: self.loss().total(),
            pasts: self.origins.pasts(),
            coverage: &coverage,
        };
        let mut leaks = self.tracker.leaks(&surroundings);
        leaks.retain(|leak| {
            let pids = std::iter::once(leak.pid).chain(leak.holders.iter().copied());
            let known = |pid: u32| infos.iter().find(|(process, _)| process.pid == pid);
            pids.filter_map(known)
                .any(|(process, info)| shows(&self.settings.filter, *process, info))
                || self.settings.filter.is_empty()
        });
        leaks
    }

    pub(super) fn loss(&self) -> Loss {
        losses::loss(
            self.tracker.counters(),
            self.events.as_ref().map(EventReader::overflow),
            self.attached.missed_runs(),
            self.undecodable + self.origins.undecodable() + self.orphans.undecodable(),
        )
    }

    pub(super) fn serves(&self, hook: Hook) -> Option<&'static Variant> {
        let outcome = self
            .attached
            .outcomes()
            .iter()
            .find(|outcome| outcome.hook == hook);
        outcome.and_then(|outcome| outcome.served)
    }

    /// Live sockets that the kernel made for itself since attach and that no descriptor shows.
    pub(super) fn kernel_sockets(&self) -> Option<u64> {
        let sees_them = self
            .serves(Hook::Alloc)
            .is_some_and(|variant| variant.backend != Backend::Tracepoint);
        let counters = self.tracker.counters();
        let mptcp = self
            .tracker
            .inventory()
            .map_or(0, |inventory| inventory.totals.mptcp);
        sees_them.then(|| {
            let live = counters
                .allocated_kernel
                .saturating_sub(counters.destroyed_kernel);
            live.saturating_sub(mptcp)
        })
    }

    pub(super) fn coverage(&self) -> Vec<String> {
        let mut gaps = self.attached.gaps();
        gaps.extend(self.inventory_gaps.iter().cloned());
        gaps.extend(shortfalls(self.tracker.counters(), &self.options));
        gaps
    }
}

/// What a full map costs, in words. Totals never depend on it.
fn shortfalls(counters: &Counters, options: &LoadOptions) -> Vec<String> {
    let mut lines = Vec::new();
    if counters.sockets_full > 0 {
        lines.push(format!(
            "{} created while the map of {} was full: totals are exact, but their ages and creators \
             are not known; raise --max-sockets",
            counted(counters.sockets_full, "socket"),
            counted(options.sockets.into(), "socket")
        ));
    }
    if counters.processes_full > 0 {
        lines.push(format!(
            "the map of {} was full {}: totals are exact, but not every process has its own counts",
            counted(options.processes.into(), "process"),
            counted(counters.processes_full, "time")
        ));
    }
    if counters.searches_full > 0 {
        lines.push(format!(
            "{} found no room in the map of {} of process and destination: they are in no table",
            counted(counters.searches_full, "port search"),
            counted(options.searches.into(), "pair")
        ));
    }
    if counters.failures_full > 0 {
        lines.push(format!(
            "{} found no room in the map of {} of failure: they are counted, but not shown",
            counted(counters.failures_full, "failure"),
            counted(options.searches.into(), "kind")
        ));
    }
    lines
}
