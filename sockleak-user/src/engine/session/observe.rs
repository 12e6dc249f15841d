//! One sample: what is read, and in which order.

use std::collections::{BTreeMap, HashSet};

use anyhow::{Context as _, Result};

use super::{
    Session,
    reading::{Reading, read, settled},
};
use crate::report::words::counted;
use crate::{
    engine::{
        calls,
        hidden::{Shown, TOO_MANY},
        look::{Look, Way, look},
        names, namespaces,
    },
    model::{Filter, ProcessCounters, ProcessId},
    source::kernel_maps::Processes as KernelProcesses,
    tracker::{self, CallsReading, PortHolders, ProcessInfos, Sample},
};

/// Searches and failures of a process that is over stay in the kernel's maps for this long after
/// the last one: its connections may be in TIME_WAIT for 60 s.
const SILENT_NS: u64 = 120_000_000_000;

impl Session {
    pub(super) fn observe(&mut self, with_inventory: bool, patient: bool) -> Result<ProcessInfos> {
        // Before the reading: what these have done is in it, and they will do no more.
        let over = self.over();
        let reading = if patient {
            settled(&self.maps, &self.attached)?
        } else {
            read(&self.maps, &self.attached)?
        };
        let KernelProcesses {
            counters,
            undecodable,
        } = self.maps.processes()?;
        self.undecodable += undecodable;
        self.observe_calls(&reading)?;
        let mut shown = patient.then(Shown::default);
        let inventory = if with_inventory {
            Some(self.take_inventory(shown.as_mut())?)
        } else {
            None
        };
        if let (Some(shown), Some(inventory)) = (shown, &inventory)
            && reading.sockstat.alloc > inventory.totals.seen
        {
            self.hidden = shown.hidden();
        }
        let census = match &inventory {
            Some(inventory) => Some(&inventory.census),
            None => self.tracker.inventory().map(|inventory| &inventory.census),
        };
        let mut infos = names::infos(&mut self.processes, census, &counters, reading.at_ns);
        names::callers(&mut self.processes, self.tracker.calls(), &mut infos);
        self.shortage.look(self.tracker.calls(), &infos);
        if let Some(census) = census
            && with_inventory
        {
            let (ports, gaps) = namespaces::ports(census);
            self.ports = ports;
            self.inventory_gaps.extend(gaps);
        }
        self.tracker.observe(Sample {
            at_ns: reading.at_ns,
            before: reading.before,
            sockstat: reading.sockstat,
            counters: reading.after,
            processes: &counters,
            inventory,
            infos: &infos,
        });
        if with_inventory {
            let collided = reading.after.stacks_collided;
            self.origins.look(&self.tracker, &mut self.maps, collided);
            self.orphans
                .look(&mut self.attached, reading.sockstat.orphan, patient);
        }
        self.make_room(&counters);
        if !over.is_empty() {
            self.maps.forget_searches(|process| over.contains(&process));
            let calls = self.tracker.calls_mut();
            calls.forget(|process| over.contains(&process));
        }
        Ok(infos)
    }

    /// Processes that have ended and whose searches and failures need not be kept.
    fn over(&self) -> HashSet<ProcessId> {
        let crowded = self.options.searches as usize / 2;
        let leaving = self.tracker.calls().may_leave(SILENT_NS, crowded);
        leaving
            .into_iter()
            .filter(|process| names::is_gone(*process))
            .collect()
    }

    /// Reads what was searched and what failed, and finds out what the kernel side cannot tell.
    fn observe_calls(&mut self, reading: &Reading) -> Result<()> {
        let calls = self.tracker.calls_mut();
        if !calls.visible().any() {
            return Ok(());
        }
        let (searches, undecodable) = self.maps.searches()?;
        self.undecodable += undecodable;
        let (failures, undecodable) = self.maps.failures();
        self.undecodable += undecodable;
        calls.advance(CallsReading {
            at_ns: reading.at_ns,
            before: reading.before,
            searches,
            failures,
        });
        let owners = calls::owners(calls);
        calls.resolve(&owners);
        Ok(())
    }

    pub(super) fn take_inventory(
        &mut self,
        mut shown: Option<&mut Shown>,
    ) -> Result<tracker::Inventory> {
        let filter = Filter {
            family: self.settings.filter.family,
            netns: self.settings.filter.netns,
            ..Filter::default()
        };
        let wanted = self.tracker.calls().visible().any();
        let mut holders = PortHolders::default();
        let Look {
            inventory,
            incomplete,
            undecodable,
            took_ns,
            ..
        } = look(Way::best(&mut self.attached), &filter, |socket, _| {
            if wanted {
                holders.add(socket);
            }
            if let Some(shown) = &mut shown {
                shown.add(socket);
            }
        })
        .context("taking the inventory of all descriptors")?;
        self.cadence.took(inventory.at_ns, took_ns);
        self.undecodable += undecodable;
        self.inventory_gaps = incomplete;
        if holders.dropped() > 0 {
            self.inventory_gaps.push(format!(
                "{} did not fit into what is remembered about who holds which port",
                counted(holders.dropped(), "descriptor")
            ));
        }
        if shown.is_some_and(|shown| shown.is_full()) {
            self.inventory_gaps.push(TOO_MANY.to_owned());
        }
        self.shortage.see(holders);
        Ok(inventory)
    }

    /// Takes processes that are over out of the kernel side's map: those whose sockets are all
    /// gone, and when the map fills up all that have ended.
    fn make_room(&mut self, counters: &[ProcessCounters]) {
        let crowded = counters.len() * 4 > self.options.processes as usize * 3;
        let over: BTreeMap<ProcessId, ()> = counters
            .iter()
            .filter(|process| crowded || process.allocated + process.accepted <= process.destroyed)
            .map(|process| process.process)
            .filter(|process| names::is_gone(*process))
            .map(|process| (process, ()))
            .collect();
        if !over.is_empty() {
            self.maps.forget(|process| over.contains_key(&process));
        }
    }
}
