//! `diagnose`: a short watch, the ports of every namespace, the limits, and what it all comes to.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{
    Session, Settings, calls, clock,
    look::{Look, Way, look},
    snapshot::shows,
};
use crate::model::Arrange as _;
use crate::{
    enrich::{process::identify, processes::Processes},
    kernel::Facts,
    model::{Filter, ProcessId},
    probe::{Plan, Stacks},
    report::{
        ChecksReport, DiagnosisReport, FailureReport, HotLoop, Leak, OpCounts, OrphansReport,
        PressureReport,
    },
    rights,
    source::{
        limits,
        netns::{self, Namespaces, NetnsHandle, listing, port_settings},
        orphans::{Overflows, overflows},
        sockstat,
    },
    tracker::{
        Baseline, Config, PortHolders, ProcessInfos, Sample, Surroundings, Tracker,
        diagnosis::{self, DiagnosisFacts, DiagnosisRules, Space},
        wider_range,
    },
};

/// Looks at all sockets while it watches.
const LOOKS: u32 = 5;
/// Network namespaces whose ports are looked at, those with most ports in use first.
const NAMESPACES: usize = 32;
/// Processes whose names are remembered.
const NAMES: usize = 1 << 15;

/// What to look at and how.
#[derive(Clone, Debug)]
pub struct DiagnoseSettings {
    /// Whom to show.
    pub filter: Filter,
    /// How long to watch.
    pub duration: Duration,
    /// Idle time after which a CLOSED socket counts as leaked.
    pub older: Duration,
    /// When to take stacks.
    pub stacks: Stacks,
    /// Say what changes would come to.
    pub what_if: bool,
}

/// What was seen, by whatever means.
#[derive(Default)]
struct Seen {
    method: &'static str,
    lasted: Duration,
    leaks: Vec<Leak>,
    failures: Vec<FailureReport>,
    hot_loops: Vec<HotLoop>,
    pressures: Vec<PressureReport>,
    orphans: Option<Box<OrphansReport>>,
    failed: OpCounts,
    sockets: Option<u64>,
    /// Processes with sockets that are to be shown.
    processes: Vec<ProcessId>,
    /// Namespaces with sockets, and the ports in use there.
    namespaces: BTreeMap<u32, u64>,
    holders: PortHolders,
    coverage: Vec<String>,
}

/// Watches, and says what is wrong. `plan` is `None` when nothing is to be attached. Where the
/// hooks cannot be attached and `may_go_without`, it looks twice at /proc instead.
///
/// # Errors
/// When the hooks cannot be attached and must be, or descriptors cannot be read at all.
pub fn diagnose(
    facts: &Facts,
    plan: Option<&Plan>,
    may_go_without: bool,
    settings: &DiagnoseSettings,
) -> Result<DiagnosisReport> {
    let before = overflows();
    let attached = plan.map(|plan| Session::start(facts, plan, session_settings(settings)));
    let seen = match attached {
        Some(Ok((session, ..))) => {
            rights::keep_for_watching();
            traced(session, settings)?
        }
        Some(Err(error)) if !may_go_without => return Err(error),
        Some(Err(error)) => untraced(settings, format!("without BPF: {error:#}"))?,
        None => untraced(settings, "without BPF (--no-bpf)".to_owned())?,
    };
    Ok(conclude(facts, seen, settings, before))
}

fn session_settings(settings: &DiagnoseSettings) -> Settings {
    Settings {
        filter: settings.filter.clone(),
        older: settings.older,
        top: None,
        stacks: settings.stacks,
        events: false,
        max_sockets: None,
    }
}

/// Time between two looks. What a look costs is known when it is over: where it is dear, there
/// are fewer.
fn pause(settings: &DiagnoseSettings, began: Instant, last: Duration) -> Option<Duration> {
    let left = settings.duration.checked_sub(began.elapsed())?;
    let pause = (settings.duration / LOOKS).max(last * 4).min(left);
    (!pause.is_zero()).then_some(pause)
}

fn traced(mut session: Session, settings: &DiagnoseSettings) -> Result<Seen> {
    // The first look is over: what idles until the last one has idled for that long.
    let began = Instant::now();
    let mut pressures: BTreeMap<(u32, String), PressureReport> = BTreeMap::new();
    let mut last = Duration::ZERO;
    while let Some(pause) = pause(settings, began, last) {
        thread::sleep(pause);
        let begin = Instant::now();
        session.demand_inventory();
        let sampled = session.sample()?;
        last = begin.elapsed();
        let warned = sampled.pressures.into_iter();
        pressures.extend(warned.map(|one| ((one.netns, one.dst.clone()), one)));
    }
    let end = session.finish()?;
    let warned = end.pressures.into_iter();
    pressures.extend(warned.map(|one| ((one.netns, one.dst.clone()), one)));
    let in_use =
        |ports: &crate::report::PortsReport| ports.size.saturating_sub(ports.free) + ports.outside;
    Ok(Seen {
        method: "bpf",
        namespaces: (end.ports.iter())
            .map(|ports| (ports.netns, in_use(ports)))
            .collect(),
        // Whoever holds nothing here has sockets elsewhere, or none any more.
        processes: (end.processes.iter())
            .filter(|process| process.held.total > 0)
            .filter_map(|process| identify(process.held.pid))
            .collect(),
        leaks: end.leaks,
        failures: end.failures,
        hot_loops: end.hot_loops,
        pressures: pressures.into_values().collect(),
        orphans: end.orphans,
        failed: end.failed,
        sockets: end.seen,
        holders: session.port_holders().clone(),
        coverage: end.coverage,
        lasted: began.elapsed(),
    })
}

/// Two looks at /proc: what stands still, and what idles in between.
fn untraced(settings: &DiagnoseSettings, why: String) -> Result<Seen> {
    let config = Config {
        older_ns: u64::try_from(settings.older.as_nanos()).unwrap_or(u64::MAX),
        ..Config::default()
    };
    let sockstat = sockstat::read()?;
    let at_ns = clock::monotonic_ns();
    let nothing = crate::model::Counters::default();
    let mut tracker = Tracker::new(config, Baseline::new(at_ns, nothing, &sockstat, nothing));
    let mut processes = Processes::new(NAMES, Duration::from_secs(1));
    let filter = Filter {
        family: settings.filter.family,
        netns: settings.filter.netns,
        ..Filter::default()
    };
    let mut began = None;
    let mut last = Duration::ZERO;
    loop {
        let next = pause(settings, began.unwrap_or_else(Instant::now), last);
        let begin = Instant::now();
        let mut holders = PortHolders::default();
        let Look {
            inventory,
            incomplete,
            ..
        } = look(Way::Proc, &filter, |socket, _| holders.add(socket))?;
        let at_ns = clock::monotonic_ns();
        let infos = super::names::infos(&mut processes, Some(&inventory.census), &[], at_ns);
        tracker.observe(Sample {
            at_ns,
            before: nothing,
            sockstat: sockstat::read()?,
            counters: nothing,
            processes: &[],
            inventory: Some(inventory),
            infos: &infos,
        });
        last = begin.elapsed();
        let first = *began.get_or_insert_with(Instant::now);
        if let Some(pause) = next {
            thread::sleep(pause);
            continue;
        }
        let (ports, gaps) = match tracker.inventory() {
            Some(inventory) => super::namespaces::ports(&inventory.census),
            None => (Vec::new(), Vec::new()),
        };
        let mut coverage = vec![format!(
            "{why}: failed calls and port searches are not seen, nor what had happened to sockets \
             before"
        )];
        coverage.extend(incomplete);
        coverage.extend(gaps);
        let limits = limits::read();
        let mut leaks = tracker.leaks(&Surroundings {
            infos: &infos,
            namespaces: &ports,
            files: limits.files,
            tcp_mem: limits.tcp_mem.map(|pages| pages.high),
            lost: 0,
            pasts: Default::default(),
            coverage: &[],
        });
        leaks.retain(|leak| {
            let of_it = infos.iter().filter(|(process, _)| process.pid == leak.pid);
            settings.filter.is_empty() || { of_it }
                .any(|(process, info)| shows(&settings.filter, *process, info))
        });
        let census = tracker.inventory().map(|inventory| &inventory.census);
        let used = census.into_iter().flat_map(|census| census.namespaces());
        return Ok(Seen {
            method: "proc",
            processes: (infos.keys().copied())
                .filter(|process| census.is_some_and(|census| census.holding(*process).is_some()))
                .collect(),
            namespaces: used
                .filter_map(|space| Some((space.netns?, space.connected.len() as u64)))
                .collect(),
            leaks,
            sockets: tracker.inventory().map(|inventory| inventory.totals.seen),
            holders,
            coverage,
            lasted: first.elapsed(),
            ..Seen::default()
        });
    }
}

fn conclude(
    facts: &Facts,
    mut seen: Seen,
    settings: &DiagnoseSettings,
    before: Option<Overflows>,
) -> DiagnosisReport {
    let filter = &settings.filter;
    let spaces = spaces(&mut seen, filter);
    let processes = processes(&seen, &spaces);
    let infos = names(&processes);
    let features = calls::features(facts);
    let limits = limits::read();
    let sockstat = sockstat::read().ok();
    // What is of the host is nobody's that a filter could name.
    let about_all = filter.pids.is_empty() && filter.comm.is_none() && filter.cgroup.is_none();
    let tcp_mem = limits.tcp_mem.map(|mem| [mem.low, mem.pressure, mem.high]);
    let rules = DiagnosisRules::default();
    let is_shown = |process: &ProcessId| {
        let info = infos.get(process);
        info.is_some_and(|info| shows(filter, *process, info))
    };
    let shown: Vec<ProcessId> = seen.processes.iter().copied().filter(is_shown).collect();
    let orphans = seen.orphans.as_deref().filter(|orphans| {
        let here = |netns| orphans.peers.iter().any(|peer| peer.netns == netns);
        about_all && filter.netns.is_none_or(here)
    });
    let input = DiagnosisFacts {
        rules: &rules,
        leaks: &seen.leaks,
        spaces: &spaces,
        failures: &seen.failures,
        hot_loops: &seen.hot_loops,
        pressures: &seen.pressures,
        orphans,
        infos: &infos,
        processes: &shown,
        files: limits.files.filter(|_| about_all),
        tcp_mem: tcp_mem.filter(|_| about_all),
        mem_pages: sockstat.map_or(0, |sockstat| sockstat.mem_pages),
        features: &features,
        traced: seen.method == "bpf",
    };
    let mut findings = diagnosis::diagnose(&input);
    findings.retain(|finding| {
        let known = |pid| {
            infos
                .keys()
                .any(|process| process.pid == pid && is_shown(process))
        };
        about_all || finding.pid.is_some_and(known)
    });
    let after = overflows();
    let grown = |part: fn(Overflows) -> u64| {
        let (before, after) = (part(before?), part(after?));
        Some(after.saturating_sub(before))
    };
    let checks = ChecksReport {
        seen: seen.sockets,
        namespaces: spaces.len() as u64,
        conntrack: limits::conntrack(),
        listen_overflows: grown(|now| now.listen),
        time_wait_overflows: grown(|now| now.time_wait),
        orphans: sockstat.map(|sockstat| sockstat.orphan),
        tcp_mem: tcp_mem
            .zip(sockstat)
            .map(|([.., high], sockstat)| [sockstat.mem_pages, high]),
    };
    let busiest = diagnosis::busiest(&spaces);
    let traced_s = input.traced.then_some(seen.lasted.as_secs_f64());
    let shown_failures = seen.failures.iter().map(|one| one.count).sum();
    let conclusion = match findings.first() {
        Some(first) => first.title.clone(),
        None => diagnosis::healthy(busiest.as_ref(), shown_failures, &checks, traced_s),
    };
    let what_if = settings.what_if.then(|| {
        let wanted: BTreeSet<u32> = findings.iter().filter_map(|one| one.netns).collect();
        diagnosis::what_if(&input, &wanted.into_iter().collect::<Vec<_>>())
    });
    DiagnosisReport {
        healthy: findings.is_empty(),
        conclusion,
        findings,
        what_if,
        busiest,
        failed: seen.failed,
        checks,
        method: seen.method,
        coverage: seen.coverage,
        duration_s: seen.lasted.as_secs_f64(),
    }
}

/// The ports of sockleak's namespace and of those with most ports in use.
fn spaces(seen: &mut Seen, filter: &Filter) -> Vec<Space> {
    let here = netns::current().ok();
    let mut wanted: Vec<(u64, u32)> = (seen.namespaces.iter())
        .map(|(netns, ports)| (*ports, *netns))
        .collect();
    for netns in seen.failures.iter().map(|one| one.netns).chain(here) {
        if !wanted.iter().any(|(_, known)| *known == netns) {
            wanted.push((0, netns));
        }
    }
    wanted.retain(|(_, netns)| filter.netns.is_none_or(|only| *netns == only));
    wanted.arrange_by_key(|(ports, netns)| (std::cmp::Reverse(*ports), *netns));
    if wanted.len() > NAMESPACES {
        seen.coverage.push(format!(
            "of {} network namespaces with sockets, the ports of {NAMESPACES} were looked at",
            wanted.len()
        ));
        wanted.truncate(NAMESPACES);
    }
    let namespaces = match Namespaces::enumerate() {
        Ok(namespaces) => namespaces,
        Err(error) => {
            log::info!("listing network namespaces: {error}");
            Namespaces::default()
        }
    };
    let mut spaces = Vec::new();
    for (_, netns) in wanted {
        let handle = match NetnsHandle::current() {
            Ok(current) if Some(netns) == here => Ok(current),
            _ => namespaces.open(netns),
        };
        // Destinations are remembered for the ports that questions will be about.
        let list = |handle: &NetnsHandle| {
            let range = port_settings(handle)?.range;
            listing(handle, wider_range(Some(range)))
        };
        match handle.and_then(|handle| list(&handle)) {
            Ok(listing) => {
                seen.coverage.extend(listing.incomplete);
                spaces.push(Space::new(&listing.sockets, &seen.holders));
            }
            Err(error) => seen.coverage.push(error.to_string()),
        }
    }
    seen.coverage.dedup();
    spaces
}

/// Everybody who may have to be named.
fn processes(seen: &Seen, spaces: &[Space]) -> BTreeSet<ProcessId> {
    let mut all: BTreeSet<ProcessId> = seen.processes.iter().copied().collect();
    for space in spaces {
        all.extend(space.closed.iter().map(|(process, _)| *process));
        all.extend(space.binders.iter().map(|(process, _)| *process));
        let blockers = space.routes.iter().flat_map(|route| &route.room.blockers);
        all.extend(blockers.map(|blocker| blocker.process));
    }
    all
}

fn names(wanted: &BTreeSet<ProcessId>) -> ProcessInfos {
    let now_ns = clock::monotonic_ns();
    let mut processes = Processes::new(NAMES, Duration::MAX);
    let named = wanted.iter().take(NAMES);
    named
        .map(|process| (*process, processes.get(*process, now_ns).clone()))
        .collect()
}
