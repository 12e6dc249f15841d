//! The model of a world, against which census, accounts, balance and verdicts are compared.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::testing::{NETNS, S};
use super::world::{Op, PIDS, Sock, World, op};
use super::{
    Balance, Baseline, Census, Config, Inventory, ProcessInfos, Sample, Surroundings, Totals,
    Tracker, residue,
};
use crate::model::{Counters, FileLimits, NamespacePorts, ProcessCounters, ProcessId, SocketClass};
use crate::report::LeakClass;

/// The census as one would write it without a thought for speed.
fn check_census(census: &Census, world: &World) -> Result<(), TestCaseError> {
    let pairs: BTreeSet<(ProcessId, u64)> = world.fds.iter().copied().collect();
    let distinct: BTreeSet<u64> = pairs.iter().map(|(_, inode)| *inode).collect();
    prop_assert_eq!(census.seen(), distinct.len() as u64);
    prop_assert_eq!(census.uncounted() + census.unidentified(), 0);
    let holders: BTreeSet<ProcessId> = pairs.iter().map(|(holder, _)| *holder).collect();
    prop_assert_eq!(census.holdings().count(), holders.len());
    for holder in holders {
        let own: Vec<&Sock> = pairs
            .iter()
            .filter(|pair| pair.0 == holder)
            .map(|(_, inode)| &world.socks[inode])
            .collect();
        let holding = census.holding(holder).expect("a holder has a holding");
        prop_assert_eq!(holding.total(), own.len() as u64);
        for class in SocketClass::ALL {
            let of_class = own.iter().filter(|sock| sock.class == class);
            prop_assert_eq!(holding.count(class), of_class.clone().count() as u64);
            if matches!(class, SocketClass::Unbound | SocketClass::Bound) {
                let oldest = of_class
                    .filter_map(|sock| world.record(sock))
                    .map(|r| r.1)
                    .min();
                prop_assert_eq!(holding.oldest_birth(class), oldest);
            }
        }
        let shared = own.iter().filter(|sock| {
            pairs
                .iter()
                .any(|(other, inode)| *other != holder && *inode == sock.inode)
        });
        prop_assert_eq!(holding.shared, shared.count() as u64);
        let mut creators: BTreeMap<ProcessId, u64> = BTreeMap::new();
        for (creator, _) in own.iter().filter_map(|sock| world.record(sock)) {
            if creator != holder {
                *creators.entry(creator).or_default() += 1;
            }
        }
        prop_assert_eq!(&holding.created_by, &creators);
        let births = own
            .iter()
            .filter(|sock| world.record(sock).is_some())
            .count();
        prop_assert_eq!(holding.births_known, births as u64);
    }
    let ports = |wanted: fn(SocketClass) -> bool| -> BTreeSet<u16> {
        distinct
            .iter()
            .map(|inode| &world.socks[inode])
            .filter(|sock| wanted(sock.class) && sock.port != 0)
            .map(|sock| sock.port)
            .collect()
    };
    if let Some(space) = census.namespaces().first() {
        use SocketClass::{Bound, Listen, Unbound};
        prop_assert!(
            space
                .bound
                .iter()
                .eq(ports(|c| matches!(c, Unbound | Bound)))
        );
        prop_assert!(space.listening.iter().eq(ports(|c| c == Listen)));
        prop_assert!(
            space
                .connected
                .iter()
                .eq(ports(|c| !matches!(c, Unbound | Bound | Listen)))
        );
    }
    Ok(())
}

/// Groups of idle sockets against the same world; `older` is 0, so all of them count.
fn check_groups(tracker: &Tracker, world: &World) -> Result<(), TestCaseError> {
    let mut expected: BTreeMap<(ProcessId, LeakClass), BTreeSet<u64>> = BTreeMap::new();
    let mut holders: BTreeMap<(ProcessId, LeakClass), BTreeSet<(ProcessId, u64)>> = BTreeMap::new();
    for (holder, inode) in &world.fds {
        let sock = &world.socks[inode];
        let Some(class) = super::leak_class(sock.class) else {
            continue;
        };
        let all = world.fds.iter().filter(|fd| fd.1 == *inode).map(|fd| fd.0);
        let oldest = all
            .min_by_key(|p| (p.start_ticks, p.pid))
            .expect("it has a holder");
        let accused = world.record(sock).map_or(oldest, |record| record.0);
        expected.entry((accused, class)).or_default().insert(*inode);
        holders
            .entry((accused, class))
            .or_default()
            .insert((*holder, *inode));
    }
    let mut found = 0;
    for group in tracker
        .groups()
        .iter()
        .filter(|group| group.tally.total > 0)
    {
        found += 1;
        let key = (group.key.process, group.key.class);
        let sockets = expected.get(&key).expect("a group has sockets");
        prop_assert_eq!(group.tally.total, sockets.len() as u64);
        prop_assert_eq!(group.tally.aged, sockets.len() as u64);
        let mut counts: BTreeMap<ProcessId, u64> = BTreeMap::new();
        for (holder, _) in &holders[&key] {
            *counts.entry(*holder).or_default() += 1;
        }
        let listed: BTreeMap<ProcessId, u64> = group.tally.holders.iter().copied().collect();
        prop_assert_eq!(listed, counts);
    }
    prop_assert_eq!(found, expected.len());
    Ok(())
}

/// Whatever happens, reports add up and verdicts stay within their own rules.
fn check_reports(tracker: &Tracker, world: &World) -> Result<(), TestCaseError> {
    let infos = ProcessInfos::new();
    let namespaces = [NamespacePorts {
        netns: NETNS,
        range: (1000, 1031),
        ..NamespacePorts::default()
    }];
    let leaks = tracker.leaks(&Surroundings {
        infos: &infos,
        namespaces: &namespaces,
        files: Some(FileLimits { used: 9, max: 10 }),
        tcp_mem: None,
        lost: world.counters.sockets_full,
        pasts: super::Pasts::default(),
        coverage: &[],
    });
    for leak in &leaks {
        prop_assert!(leak.count >= tracker.config().rules.min_count);
        prop_assert!((0.05..=0.99).contains(&leak.confidence));
        prop_assert!(!leak.evidence.is_empty() && !leak.remedy.is_empty());
        let most = leak.held_by.iter().map(|holder| holder.count).max();
        prop_assert!(most.is_some_and(|most| most <= leak.count));
        let held: u64 = leak.held_by.iter().map(|holder| holder.count).sum();
        prop_assert!(held >= leak.count);
        let eta = leak.limit.as_ref().and_then(|limit| limit.eta_s);
        prop_assert!(eta.is_none_or(|eta| eta.is_finite() && eta >= 0.0));
    }
    let report = super::end(
        tracker,
        super::EndInput {
            pressures: Vec::new(),
            calls: super::testing::all_calls(),
            infos: &infos,
            boot_unix_ns: 0,
            selection: super::Selection::default(),
            namespaces: &namespaces,
            kernel_sockets: None,
            hidden: None,
            accept_visible: true,
            leaks,
            coverage: Vec::new(),
            orphans: None,
            loss: crate::report::Loss::default(),
            self_cost: crate::report::SelfCost::default(),
        },
    );
    let born = (report.baseline + report.allocated + report.children) as i64;
    prop_assert_eq!(report.live, born - report.destroyed as i64);
    prop_assert_eq!(report.difference, world.untold);
    let shown: u64 = report.processes.iter().map(|row| row.held.total).sum();
    let pairs: BTreeSet<_> = world.fds.iter().collect();
    prop_assert_eq!(shown, pairs.len() as u64);
    for ports in &report.ports {
        prop_assert!(
            ports.free + ports.bound.max(ports.connected).max(ports.listening) <= ports.size
        );
    }
    Ok(())
}

/// What the tests below go through.
struct Course {
    world: World,
    tracker: Tracker,
    baseline: Baseline,
    infos: ProcessInfos,
    /// Accepted connections in all intervals so far.
    accepted: u64,
}

impl Course {
    /// Starts with so many sockets that are older than the hooks.
    fn new(older: u32) -> Self {
        let mut world = World::default();
        for pid in 1..=older {
            let inode = world.make(None, false);
            world.fds.push((world.process(pid), inode));
        }
        let none = Counters::default();
        let baseline = Baseline::new(0, none, &world.sockstat(), none);
        let config = Config {
            older_ns: 0,
            rules: super::fuzz::small_rules(),
            ..Config::default()
        };
        Self {
            world,
            tracker: Tracker::new(config, baseline),
            baseline,
            infos: ProcessInfos::new(),
            accepted: 0,
        }
    }

    fn observe(&mut self, processes: &[ProcessCounters], census: Option<Census>) {
        let world = &self.world;
        let at_ns = world.now;
        self.tracker.observe(Sample {
            at_ns,
            before: world.counted(),
            sockstat: world.sockstat(),
            counters: world.counted(),
            processes,
            inventory: census.map(|census| Inventory {
                at_ns,
                totals: census.totals(),
                census,
                complete: true,
            }),
            infos: &self.infos,
        });
        let accounts = self.tracker.accounts();
        self.accepted += accounts.iter().map(|a| a.interval.accepted).sum::<u64>();
        self.world.forget(processes);
    }

    fn step(&mut self, op: &Op) -> Result<(), TestCaseError> {
        let before = self.world.counted();
        self.world.apply(op);
        let world = &self.world;
        let after = world.counted();
        // alloc == baseline + created + accepted - destroyed + difference, and the difference is
        // what nobody could know of.
        let balance = Balance::new(&self.baseline, &before, &world.sockstat(), &after);
        prop_assert_eq!(balance.difference, world.untold);
        let mut processes: Vec<ProcessCounters> = world.processes.values().cloned().collect();
        match op {
            Op::Sample { missing } => {
                processes.sort_by_key(|counters| counters.process);
                let len = processes.len().saturating_sub(*missing);
                processes.truncate(len);
                // A walk that begins again gives what it gave before.
                processes.extend(processes.first().cloned());
                self.observe(&processes, None);
            }
            Op::Inventory { seed } => {
                let mut census = Census::new();
                for held in world.descriptors(*seed) {
                    census.add(&held);
                }
                check_census(&census, world)?;
                let queued = world.socks.values().filter(|sock| sock.queued).count() as u64;
                let totals = Totals {
                    accept_queue: queued,
                    ..census.totals()
                };
                let residue = residue(&world.sockstat(), totals, Some(0), None);
                prop_assert_eq!(residue.kinds.unknown, 0);
                self.observe(&processes, Some(census));
                self.check(&processes)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// After an inventory everything is right again, whatever was lost before.
    fn check(&self, processes: &[ProcessCounters]) -> Result<(), TestCaseError> {
        let (tracker, world) = (&self.tracker, &self.world);
        check_groups(tracker, world)?;
        check_reports(tracker, world)?;
        let live = world.socks.len() as i64 - world.untold;
        prop_assert_eq!(tracker.balance().live, live);
        for counted in processes {
            let account = tracker.accounts().get(counted.process);
            let account = account.expect("it is in the sample");
            prop_assert_eq!(account.total.allocated, counted.allocated);
            prop_assert_eq!(account.total.accepted, counted.accepted);
            prop_assert_eq!(account.total.destroyed, counted.destroyed);
        }
        prop_assert_eq!(self.accepted, world.counters.accepted);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_course_of_events_is_accounted_for(ops in proptest::collection::vec(op(), 1..160), older in 0_u32..5) {
        let mut course = Course::new(older);
        for op in &ops {
            course.step(op)?;
        }
        course.step(&Op::Inventory { seed: 0 })?;
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Clients, servers, pools and prefork servers, whatever is lost on the way: only who
    /// creates sockets and forgets them is accused.
    #[test]
    fn only_who_leaks_is_accused(
        noise in proptest::collection::vec(op(), 0..60),
        pool in 3_usize..40,
        leaks in 0_u64..4,
        lost in any::<bool>(),
    ) {
        const LEAKER: u32 = PIDS + 1;
        const OWNER: u32 = PIDS + 2;
        let mut course = Course::new(0);
        course.tracker = Tracker::new(Config::default(), course.baseline);
        let mut noise = noise.into_iter().cycle();
        for _ in 0..pool {
            course.step(&Op::Create { pid: OWNER, recorded: !lost })?;
        }
        for round in 0..40 {
            // Whatever others do, they close it before the next look.
            for op in noise.by_ref().take(8) {
                match op {
                    Op::Class { .. } | Op::Fork { .. } | Op::Pass { .. } => {}
                    op => course.world.apply(&op),
                }
            }
            for pid in 1..=PIDS {
                course.world.apply(&Op::Exit { pid });
            }
            for _ in 0..leaks {
                course.world.apply(&Op::Create { pid: LEAKER, recorded: !lost });
            }
            course.world.now += 10 * S;
            let mut census = Census::new();
            for held in course.world.descriptors(round) {
                census.add(&held);
            }
            let processes: Vec<_> = course.world.processes.values().cloned().collect();
            course.observe(&processes, Some(census));
        }
        let infos = ProcessInfos::new();
        let found = course.tracker.leaks(&Surroundings {
            infos: &infos,
            namespaces: &[],
            files: None,
            tcp_mem: None,
            lost: course.world.counters.sockets_full,
            pasts: super::Pasts::default(),
            coverage: &[],
        });
        let accused: BTreeSet<u32> = found.iter().map(|leak| leak.pid).collect();
        let expected = if leaks > 0 { BTreeSet::from([LEAKER]) } else { BTreeSet::new() };
        prop_assert_eq!(accused, expected, "{:#?}", found);
    }
}
