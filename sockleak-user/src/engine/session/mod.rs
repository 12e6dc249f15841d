//! `watch` without its output: attach, sample, finish.
//!
//! What is read, and in which order, is in `observe`; what it comes to, in `judge`.

mod judge;
mod look;
mod observe;
mod reading;

use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::{
    cadence::Cadence, calls, clock, cost, names, origins::Origins, orphans::Orphans,
    shortage::Shortage, snapshot::shows,
};
use crate::{
    enrich::{boot, processes::Processes},
    kernel::Facts,
    memory,
    model::{Filter, NamespacePorts, ProcessId, ProcessInfo, SearchId, Sockstat},
    probe::{Attached, Hook, LoadOptions, Plan, Stacks, coverage},
    report::{
        EndReport, FailureReport, HotLoop, IntervalReport, Leak, PressureReport, StartReport,
    },
    source::{kernel_maps::KernelMaps, netns, ring::EventReader, sockstat},
    tracker::{
        self, Baseline, Config, EndInput, Hidden, IntervalInput, PortHolders, Selection, Tracker,
        VisibleCalls,
    },
};
use reading::settled;

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

/// Details of a process are looked up again after this time.
const REFRESH: Duration = Duration::from_secs(2);
/// Processes whose names are remembered.
const NAMES: usize = 1 << 10;
/// How long the final reports wait for the names of stacks.
const NAMES_WITHIN: Duration = Duration::from_millis(800);

/// Attached hooks and everything known since.
pub struct Session {
    settings: Settings,
    attached: Attached,
    maps: KernelMaps,
    options: LoadOptions,
    tracker: Tracker,
    processes: Processes,
    cadence: Cadence,
    /// Of looks at ports that were asked for.
    looks: Cadence,
    looked_at: Option<u32>,
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
        let maps = KernelMaps::take(&mut attached, options.searches)?;
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
        let origins = Origins::take(&mut attached, &options, endings, connects)?;
        let orphans = Orphans::default();
        let mut session = Self {
            settings,
            attached,
            maps,
            options,
            tracker: Tracker::new(config, baseline),
            processes: Processes::new(NAMES, REFRESH),
            cadence: Cadence::default(),
            looks: Cadence::default(),
            looked_at: None,
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
        session.origins.look(&session.tracker, &mut session.maps, 0);
        memory::give_back();
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
        self.cadence.lost(self.loss().of_sockets());
        let due = self.cadence.is_due(clock::monotonic_ns());
        let infos = self.observe(due, false)?;
        let leaks = self.leaks(&infos, Duration::ZERO);
        let settings = self.settings.clone();
        let keep = |process: ProcessId, info: &ProcessInfo| shows(&settings.filter, process, info);
        let keep_call =
            |id: &SearchId, info: &ProcessInfo| calls::passes(&settings.filter, id, info);
        let calls = self.shortage.input(&infos, &keep_call);
        let input = IntervalInput {
            namespaces: &self.ports,
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

    /// Who holds which port, as of the newest inventory.
    pub fn port_holders(&self) -> &PortHolders {
        self.shortage.holders()
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
        self.cadence.demand();
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
}

/// Room for twice the sockets there are, within 32 MiB to 512 MiB of kernel memory.
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

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
