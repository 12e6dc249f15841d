//! `watch` without its output: attach, sample, finish.

use std::{
    collections::{BTreeMap, HashSet},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use tokio::sync::mpsc;

use super::{
    cadence::Cadence,
    calls, clock, cost,
    hidden::Shown,
    look::{Look, Way, look},
    losses, names, namespaces,
    origins::Origins,
    orphans::Orphans,
    shortage::Shortage,
    snapshot::shows,
};
use crate::{
    enrich::{boot, processes::Processes},
    kernel::Facts,
    model::{Counters, Filter, NamespacePorts, ProcessId, ProcessInfo, SearchId, Sockstat},
    probe::{Attached, Hook, LoadOptions, Plan, Stacks, coverage},
    report::{
        EndReport, FailureReport, HotLoop, IntervalReport, Leak, Loss, PressureReport, StartReport,
    },
    source::{
        kernel_maps::{KernelMaps, Processes as KernelProcesses},
        limits, netns,
        ring::EventReader,
        sockstat,
    },
    tracker::{
        self, Baseline, CallsReading, Config, EndInput, Hidden, IntervalInput, PortHolders,
        ProcessInfos, Sample, Selection, Surroundings, Tracker, VisibleCalls,
    },
};

/// Whom to watch and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whom to show. Accounting is always of the whole host.
    pub filter: Filter,
    /// Idle time after which a CLOSED socket counts as leaked.
    pub older: Duration,
    /// Processes to show in an interval; `None` shows all.
    pub top: Option<usize>,
    /// When to take stacks.
    pub stacks: Stacks,
    /// Emit events.
    pub events: bool,
    /// Sockets recorded at a time; `None` follows the number there are.
    pub max_sockets: Option<u32>,
}

/// How often the counters are read again when sockets come and go meanwhile.
const ATTEMPTS: u32 = 50;
/// Pause between such attempts.
const PAUSE: Duration = Duration::from_millis(2);
/// Details of a process are looked up again after this time.
const REFRESH: Duration = Duration::from_secs(2);
/// Processes whose names are remembered.
const NAMES: usize = 1 << 15;
/// How long the final reports wait for the names of stacks.
const NAMES_WITHIN: Duration = Duration::from_millis(800);
/// Searches and failures of a process that is over stay in the kernel's maps for this long after
/// the last one: its connections may be in TIME_WAIT for 60 s.
const SILENT_NS: u64 = 120_000_000_000;

/// Attached hooks and everything known since.
pub struct Session {
    settings: Settings,
    attached: Attached,
    maps: KernelMaps,
    options: LoadOptions,
    tracker: Tracker,
    processes: Processes,
    cadence: Cadence,
    events: Option<EventReader>,
    undecodable: u64,
    inventory_gaps: Vec<String>,
    ports: Vec<NamespacePorts>,
    hidden: Option<Hidden>,
    shortage: Shortage,
    origins: Origins,
    orphans: Orphans,
    boot_unix_ns: u64,
    #[cfg(feature = "bpf-log")]
    _bpf_log: Option<super::bpf_log::BpfLog>,
}

/// What one sample has to say.
#[derive(Debug)]
pub struct Sampled {
    /// The interval.
    pub interval: IntervalReport,
    /// Calls that failed in it, most frequent first.
    pub failures: Vec<FailureReport>,
    /// Who spends CPU time in the port search, dearest first.
    pub hot_loops: Vec<HotLoop>,
    /// Destinations towards which ports get scarce, most calls first.
    pub pressures: Vec<PressureReport>,
    /// Leaks that are known now, worst first.
    pub leaks: Vec<Leak>,
}

/// Counters, then sockstat, then the counters again.
struct Reading {
    at_ns: u64,
    before: Counters,
    sockstat: Sockstat,
    after: Counters,
}

impl Session {
    /// Attaches what `plan` says, takes the baseline, then the first inventory: in this order
    /// no socket falls between them.
    ///
    /// # Errors
    /// When the hooks cannot be attached, or the kernel's own counts cannot be read.
    pub fn start(
        facts: &Facts,
        plan: &Plan,
        settings: Settings,
    ) -> Result<(Self, StartReport, Option<mpsc::Receiver<Bytes>>)> {
        let began_ns = clock::monotonic_ns();
        // Takes a socket of our own, which is not to be among those that are counted.
        netns::lists_closed();
        let options = LoadOptions {
            sockets: settings
                .max_sockets
                .unwrap_or_else(|| room_for(sockstat::read().ok())),
            events: settings.events,
            stacks: settings.stacks,
            ..LoadOptions::default()
        };
        let mut attached = Attached::load(facts, plan, &options)?;
        let attach_ns = clock::monotonic_ns().saturating_sub(began_ns);
        #[cfg(feature = "bpf-log")]
        let bpf_log = super::bpf_log::BpfLog::start(&mut attached);
        let maps = KernelMaps::take(&mut attached, options.processes, options.searches)?;
        let (events, receiver) = if settings.events {
            let (reader, receiver) = EventReader::start(&mut attached)?;
            (Some(reader), Some(receiver))
        } else {
            (None, None)
        };
        let reading = settled(&maps, &attached)?;
        let baseline = Baseline::new(
            reading.at_ns,
            reading.before,
            &reading.sockstat,
            reading.after,
        );
        let config = Config {
            older_ns: ns(settings.older),
            ..Config::default()
        };
        let serves = |hook| {
            let mut outcomes = attached.outcomes().iter();
            outcomes.any(|outcome| outcome.hook == hook && outcome.served.is_some())
        };
        let (endings, connects) = (serves(Hook::Ending), serves(Hook::Connect));
        let releases = serves(Hook::Release);
        let origins = Origins::take(
            &mut attached,
            settings.stacks,
            options.searches,
            endings,
            connects,
        )?;
        let orphans = Orphans::take(&mut attached, releases)?;
        let mut session = Self {
            settings,
            attached,
            maps,
            options,
            tracker: Tracker::new(config, baseline),
            processes: Processes::new(NAMES, REFRESH),
            cadence: Cadence::default(),
            events,
            undecodable: 0,
            inventory_gaps: Vec::new(),
            ports: Vec::new(),
            hidden: None,
            shortage: Shortage::new(facts),
            origins,
            orphans,
            boot_unix_ns: u64::try_from(boot::boot_unix_ns()).unwrap_or(0),
            #[cfg(feature = "bpf-log")]
            _bpf_log: bpf_log,
        };
        let visible = calls::visible(&session.attached);
        session.tracker.calls_mut().see(visible);
        let inventory = session.take_inventory(None)?;
        session.tracker.take_inventory(inventory);
        session.origins.look(&session.tracker);
        let start = StartReport {
            kernel: facts.release.clone(),
            hooks: coverage::states(session.attached.outcomes()),
            baseline: baseline.alloc,
            seen: session
                .tracker
                .inventory()
                .map(|inventory| inventory.totals.seen),
            attach_ns,
        };
        Ok((session, start, receiver))
    }

    /// What has happened since the last sample, and what is known now.
    ///
    /// # Errors
    /// When the counters, sockstat or the descriptors cannot be read.
    pub fn sample(&mut self) -> Result<Sampled> {
        let due = self.cadence.is_due(clock::monotonic_ns());
        let infos = self.observe(due, false)?;
        let leaks = self.leaks(&infos, Duration::ZERO);
        let settings = self.settings.clone();
        let keep = |process: ProcessId, info: &ProcessInfo| shows(&settings.filter, process, info);
        let keep_call =
            |id: &SearchId, info: &ProcessInfo| calls::passes(&settings.filter, id, info);
        let calls = self.shortage.input(&infos, &keep_call);
        let input = IntervalInput {
            infos: &infos,
            boot_unix_ns: self.boot_unix_ns,
            selection: Selection {
                top: self.settings.top,
                keep: Some(&keep),
            },
            calls,
            orphans: self.orphans.report(&self.tracker),
            loss: self.loss(),
            self_cost: cost::so_far(&self.attached),
        };
        Ok(Sampled {
            interval: tracker::interval(&self.tracker, input),
            failures: tracker::failures(self.tracker.calls(), &calls),
            hot_loops: tracker::hot_loops(self.tracker.calls(), &calls),
            pressures: tracker::pressures(self.shortage.pressures(), &calls),
            leaks,
        })
    }

    /// Which calls are visible, and how exactly.
    pub fn visible(&self) -> VisibleCalls {
        self.tracker.calls().visible()
    }

    /// Events that were still on their way when the session was finished.
    pub fn take_last_events(&mut self) -> Bytes {
        self.events
            .as_mut()
            .map(EventReader::take_rest)
            .unwrap_or_default()
    }

    /// Makes the next sample look at all descriptors, however dear the last look was.
    pub fn demand_inventory(&mut self) {
        self.cadence = Cadence::default();
    }

    /// The last sample, with an inventory of its own, and the totals.
    ///
    /// # Errors
    /// As [`Session::sample`].
    pub fn finish(&mut self) -> Result<EndReport> {
        if let Some(events) = &mut self.events {
            events.stop();
        }
        let mut infos = self.observe(true, true)?;
        names::past_callers(&self.processes, self.tracker.calls(), &mut infos);
        let leaks = self.leaks(&infos, NAMES_WITHIN);
        let settings = self.settings.clone();
        let keep = |process: ProcessId, info: &ProcessInfo| shows(&settings.filter, process, info);
        let keep_call =
            |id: &SearchId, info: &ProcessInfo| calls::passes(&settings.filter, id, info);
        let calls = self.shortage.input(&infos, &keep_call);
        let input = EndInput {
            calls,
            pressures: tracker::pressures(self.shortage.pressures(), &calls),
            infos: &infos,
            boot_unix_ns: self.boot_unix_ns,
            selection: Selection {
                top: None,
                keep: Some(&keep),
            },
            namespaces: &self.ports,
            kernel_sockets: self.kernel_sockets(),
            hidden: self.hidden.as_ref(),
            accept_visible: self.serves(Hook::AcceptOwner).is_some(),
            leaks,
            coverage: self.coverage(),
            orphans: self.orphans.report(&self.tracker),
            loss: self.loss(),
            self_cost: cost::so_far(&self.attached),
        };
        Ok(tracker::end(&self.tracker, input))
    }

    fn observe(&mut self, with_inventory: bool, patient: bool) -> Result<ProcessInfos> {
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
        } = self.maps.processes();
        self.undecodable += undecodable;
        self.observe_calls(&reading);
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
            self.origins.look(&self.tracker);
            self.orphans.look(reading.sockstat.orphan, patient);
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
    fn observe_calls(&mut self, reading: &Reading) {
        let calls = self.tracker.calls_mut();
        if !calls.visible().any() {
            return;
        }
        let (searches, undecodable) = self.maps.searches();
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
    }

    fn take_inventory(&mut self, mut shown: Option<&mut Shown>) -> Result<tracker::Inventory> {
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
        self.shortage.see(holders);
        Ok(inventory)
    }

    fn leaks(&mut self, infos: &ProcessInfos, patience: Duration) -> Vec<Leak> {
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

    /// Takes processes that are over out of the kernel side's map: those whose sockets are all
    /// gone, and when the map fills up all that have ended.
    fn make_room(&mut self, counters: &[crate::model::ProcessCounters]) {
        let crowded = counters.len() * 4 > self.options.processes as usize * 3;
        let over: BTreeMap<ProcessId, ()> = counters
            .iter()
            .filter(|process| crowded || process.allocated == process.destroyed)
            .map(|process| process.process)
            .filter(|process| names::is_gone(*process))
            .map(|process| (process, ()))
            .collect();
        if !over.is_empty() {
            self.maps.forget(|process| over.contains_key(&process));
        }
    }

    fn loss(&self) -> Loss {
        losses::loss(
            self.tracker.counters(),
            self.events.as_ref().map(EventReader::overflow),
            self.attached.missed_runs(),
            self.undecodable + self.origins.undecodable() + self.orphans.undecodable(),
        )
    }

    fn serves(&self, hook: Hook) -> Option<&'static crate::probe::catalog::Variant> {
        let outcome = self
            .attached
            .outcomes()
            .iter()
            .find(|outcome| outcome.hook == hook);
        outcome.and_then(|outcome| outcome.served)
    }

    /// Live sockets that the kernel made for itself since attach and that no descriptor shows.
    fn kernel_sockets(&self) -> Option<u64> {
        let sees_them = self
            .serves(Hook::Alloc)
            .is_some_and(|variant| variant.backend != crate::probe::Backend::Tracepoint);
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

    fn coverage(&self) -> Vec<String> {
        let mut gaps = self.attached.gaps();
        gaps.extend(self.inventory_gaps.iter().cloned());
        gaps.extend(shortfalls(self.tracker.counters(), &self.options));
        gaps
    }
}

/// Room for twice the sockets there are, within 24 MiB to 384 MiB of kernel memory.
fn room_for(sockstat: Option<Sockstat>) -> u32 {
    const LEAST: u32 = LoadOptions::DEFAULT_SOCKETS;
    const MOST: u32 = 1 << 22;
    let alloc = sockstat.map_or(0, |sockstat| sockstat.alloc);
    let wanted = u32::try_from(alloc.saturating_mul(2)).unwrap_or(MOST);
    wanted
        .checked_next_power_of_two()
        .unwrap_or(MOST)
        .clamp(LEAST, MOST)
}

/// What a full map costs, in words. Totals never depend on it.
fn shortfalls(counters: &Counters, options: &LoadOptions) -> Vec<String> {
    let mut lines = Vec::new();
    if counters.sockets_full > 0 {
        lines.push(format!(
            "{} sockets were created while the map of {} sockets was full: totals are exact, but \
             their ages and creators are not known; raise --max-sockets",
            counters.sockets_full, options.sockets
        ));
    }
    if counters.processes_full > 0 {
        lines.push(format!(
            "the map of {} processes was full {} times: totals are exact, but not every process \
             has its own counts",
            options.processes, counters.processes_full
        ));
    }
    if counters.searches_full > 0 {
        lines.push(format!(
            "{} port searches found no room in the map of {} pairs of process and destination: \
             they are in no table",
            counters.searches_full, options.searches
        ));
    }
    if counters.failures_full > 0 {
        lines.push(format!(
            "{} failures found no room in the map of {} kinds of failure: they are counted, but \
             not shown",
            counters.failures_full, options.searches
        ));
    }
    lines
}

fn read(maps: &KernelMaps, attached: &Attached) -> Result<Reading> {
    let before = counted(maps, attached)?;
    let sockstat = sockstat::read()?;
    let after = counted(maps, attached)?;
    Ok(Reading {
        at_ns: clock::monotonic_ns(),
        before,
        sockstat,
        after,
    })
}

/// What the programs have counted, and what they would have if the kernel had let them run.
fn counted(maps: &KernelMaps, attached: &Attached) -> Result<Counters> {
    let mut counters = maps.counters()?;
    let unseen = attached.unseen();
    counters.allocated += unseen.created;
    counters.children += unseen.children;
    counters.destroyed_unknown += unseen.destroyed;
    Ok(counters)
}

/// Reads until nothing moves while reading, or patience ends; then the calmest of the readings.
fn settled(maps: &KernelMaps, attached: &Attached) -> Result<Reading> {
    let mut calmest = read(maps, attached)?;
    for _ in 0..ATTEMPTS {
        let moved = tracker::moved(&calmest.before, &calmest.after);
        if moved == 0 {
            break;
        }
        thread::sleep(PAUSE);
        let next = read(maps, attached)?;
        if tracker::moved(&next.before, &next.after) <= moved {
            calmest = next;
        }
    }
    Ok(calmest)
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
