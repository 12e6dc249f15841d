//! A model of sockets, descriptors and the kernel side's counters, driven at random, against
//! which census, accounts and balance are compared.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::prelude::*;

use super::testing::{NETNS, S, born, process, socket};
use super::{
    Balance, Baseline, Census, Config, Inventory, ProcessInfos, Rules, Sample, Surroundings,
    Totals, Tracker, residue,
};
use crate::model::{
    Counters, FileLimits, HeldSocket, NamespacePorts, ProcessCounters, ProcessId, SocketClass,
    Sockstat,
};
use crate::report::LeakClass;

const PIDS: u32 = 6;

#[derive(Clone, Debug)]
enum Op {
    Create {
        pid: u32,
        recorded: bool,
    },
    /// A handshake ends: a child in the accept queue of somebody's listener.
    Child,
    Accept {
        pid: u32,
    },
    Class {
        n: usize,
        class: SocketClass,
    },
    Dup {
        pid: u32,
        n: usize,
    },
    Fork {
        pid: u32,
        child: u32,
    },
    Pass {
        from: u32,
        to: u32,
        n: usize,
    },
    Close {
        pid: u32,
        n: usize,
        orphaned: bool,
    },
    Exit {
        pid: u32,
    },
    /// TCP is done with an orphan.
    Finish {
        n: usize,
    },
    Inventory {
        seed: u64,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let pid = || 1..=PIDS;
    let class = proptest::sample::select(&SocketClass::ALL[..]);
    prop_oneof![
        4 => (pid(), prop::bool::weighted(0.8)).prop_map(|(pid, recorded)| Op::Create { pid, recorded }),
        2 => Just(Op::Child),
        2 => pid().prop_map(|pid| Op::Accept { pid }),
        3 => (any::<usize>(), class).prop_map(|(n, class)| Op::Class { n, class }),
        1 => (pid(), any::<usize>()).prop_map(|(pid, n)| Op::Dup { pid, n }),
        1 => (pid(), pid()).prop_map(|(pid, child)| Op::Fork { pid, child }),
        2 => (pid(), pid(), any::<usize>()).prop_map(|(from, to, n)| Op::Pass { from, to, n }),
        3 => (pid(), any::<usize>(), any::<bool>()).prop_map(|(pid, n, orphaned)| Op::Close { pid, n, orphaned }),
        1 => pid().prop_map(|pid| Op::Exit { pid }),
        1 => any::<usize>().prop_map(|n| Op::Finish { n }),
        2 => any::<u64>().prop_map(|seed| Op::Inventory { seed }),
    ]
}

#[derive(Clone, Debug)]
struct Sock {
    sk: u64,
    inode: u64,
    class: SocketClass,
    port: u16,
    /// The kernel side's record, if it has one.
    record: Option<(ProcessId, u64)>,
    /// In an accept queue, or closed by everybody but not finished.
    queued: bool,
    orphan: bool,
}

#[derive(Default)]
struct World {
    now: u64,
    socks: BTreeMap<u64, Sock>,
    /// Freed addresses, used again last in, first out, as the slab does.
    free: Vec<u64>,
    next: u64,
    /// Descriptors: holder and socket inode.
    fds: Vec<(ProcessId, u64)>,
    counters: Counters,
    processes: HashMap<ProcessId, ProcessCounters>,
}

impl World {
    fn counters_of(&mut self, process: ProcessId) -> &mut ProcessCounters {
        self.processes
            .entry(process)
            .or_insert_with(|| ProcessCounters {
                process,
                comm: format!("p{}", process.pid),
                netns: Some(NETNS),
                cgroup_id: None,
                allocated: 0,
                destroyed: 0,
                accepted: 0,
                released: 0,
            })
    }

    fn make(&mut self, record: Option<(ProcessId, u64)>, queued: bool) -> u64 {
        self.next += 1;
        let inode = self.next;
        let sk = self
            .free
            .pop()
            .unwrap_or(0xffff_8880_0000_0000 + inode * 2432);
        let class = if queued {
            SocketClass::Established
        } else {
            SocketClass::Unbound
        };
        let port = if queued { 80 } else { 0 };
        let orphan = false;
        self.socks.insert(
            inode,
            Sock {
                sk,
                inode,
                class,
                port,
                record,
                queued,
                orphan,
            },
        );
        inode
    }

    fn destroy(&mut self, inode: u64) {
        let Some(sock) = self.socks.remove(&inode) else {
            return;
        };
        self.free.push(sock.sk);
        match sock.record {
            Some((creator, _)) => {
                self.counters.destroyed_known += 1;
                self.counters_of(creator).destroyed += 1;
            }
            None => self.counters.destroyed_unknown += 1,
        }
    }

    /// A descriptor goes; with the last one the socket is let go.
    fn close(&mut self, index: usize, orphaned: bool) {
        let (holder, inode) = self.fds.swap_remove(index);
        if self.fds.iter().any(|(_, other)| *other == inode) {
            return;
        }
        self.counters.released += 1;
        let Some(sock) = self.socks.get_mut(&inode) else {
            return;
        };
        let had_record = sock.record.is_some();
        sock.orphan = true;
        if !had_record {
            self.counters_of(holder).released += 1;
        }
        if !orphaned {
            self.destroy(inode);
        }
    }

    fn pick(&self, pid: u32, n: usize) -> Option<usize> {
        let own: Vec<usize> = (0..self.fds.len())
            .filter(|i| self.fds[*i].0 == process(pid))
            .collect();
        own.get(n % own.len().max(1)).copied()
    }

    fn apply(&mut self, op: &Op) {
        self.now += S;
        let now = self.now;
        match *op {
            Op::Create { pid, recorded } => {
                let record = recorded.then_some((process(pid), now));
                let inode = self.make(record, false);
                self.counters.allocated += 1;
                if recorded {
                    self.counters_of(process(pid)).allocated += 1;
                } else {
                    self.counters.sockets_full += 1;
                }
                self.fds.push((process(pid), inode));
            }
            Op::Child => {
                self.make(None, true);
                self.counters.children += 1;
            }
            Op::Accept { pid } => {
                let Some(sock) = self.socks.values_mut().find(|sock| sock.queued) else {
                    return;
                };
                sock.queued = false;
                let inode = sock.inode;
                self.fds.push((process(pid), inode));
                self.counters.accepted += 1;
                self.counters_of(process(pid)).accepted += 1;
            }
            Op::Class { n, class } => {
                let held: Vec<u64> = self.fds.iter().map(|(_, inode)| *inode).collect();
                let Some(inode) = held.get(n % held.len().max(1)) else {
                    return;
                };
                let Some(sock) = self.socks.get_mut(inode) else {
                    return;
                };
                sock.class = class;
                sock.port = if class == SocketClass::Unbound {
                    0
                } else {
                    1000 + (n % 900) as u16
                };
            }
            Op::Dup { pid, n } => {
                let Some(fd) = self.pick(pid, n).map(|i| self.fds[i]) else {
                    return;
                };
                self.fds.push(fd);
            }
            Op::Fork { pid, child } => {
                let own: Vec<_> = self
                    .fds
                    .iter()
                    .filter(|fd| fd.0 == process(pid))
                    .copied()
                    .collect();
                if self.fds.len() < 300 {
                    self.fds
                        .extend(own.into_iter().map(|(_, inode)| (process(child), inode)));
                }
            }
            Op::Pass { from, to, n } => {
                let Some(fd) = self.pick(from, n).map(|i| self.fds[i]) else {
                    return;
                };
                self.fds.push((process(to), fd.1));
            }
            Op::Close { pid, n, orphaned } => {
                if let Some(index) = self.pick(pid, n) {
                    self.close(index, orphaned);
                }
            }
            Op::Exit { pid } => {
                while let Some(index) = self.pick(pid, 0) {
                    self.close(index, false);
                }
            }
            Op::Finish { n } => {
                let orphans: Vec<u64> = self
                    .socks
                    .values()
                    .filter(|s| s.orphan)
                    .map(|s| s.inode)
                    .collect();
                if let Some(inode) = orphans.get(n % orphans.len().max(1)) {
                    self.destroy(*inode);
                }
            }
            Op::Inventory { .. } => {}
        }
    }

    /// Every descriptor, in an order that `seed` decides.
    fn descriptors(&self, seed: u64) -> Vec<HeldSocket> {
        let mut all: Vec<HeldSocket> = self
            .fds
            .iter()
            .enumerate()
            .map(|(fd, (holder, inode))| {
                let sock = &self.socks[inode];
                let mut held = socket(0, *holder, sock.class);
                held.sk = sock.sk;
                held.inode = sock.inode;
                held.fd = fd as u32;
                held.local.set_port(sock.port);
                match sock.record {
                    Some((creator, at_ns)) => born(held, creator, at_ns),
                    None => held,
                }
            })
            .collect();
        all.sort_by_key(|held| super::hash::mix(seed, u64::from(held.fd)));
        all
    }

    fn sockstat(&self) -> Sockstat {
        Sockstat {
            alloc: self.socks.len() as u64,
            orphan: self.socks.values().filter(|sock| sock.orphan).count() as u64,
            ..Sockstat::default()
        }
    }
}

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
                let oldest = of_class.filter_map(|sock| sock.record).map(|r| r.1).min();
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
        for (creator, _) in own.iter().filter_map(|sock| sock.record) {
            if creator != holder {
                *creators.entry(creator).or_default() += 1;
            }
        }
        prop_assert_eq!(&holding.created_by, &creators);
        let births = own.iter().filter(|sock| sock.record.is_some()).count();
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
        let accused = sock.record.map_or(oldest, |record| record.0);
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
    prop_assert_eq!(report.difference, 0);
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_course_of_events_is_accounted_for(ops in proptest::collection::vec(op(), 1..160), base in 0usize..5) {
        let mut world = World::default();
        for pid in 1..=base as u32 {
            // Older than the hooks: no record.
            let inode = world.make(None, false);
            world.fds.push((process(pid), inode));
        }
        let none = Counters::default();
        let baseline = Baseline::new(0, none, &world.sockstat(), none);
        // Small thresholds: the world is small.
        let rules = Rules { min_count: 2, min_growth: 2, min_steps: 2, large: 5, share_min_count: 2, ..Rules::default() };
        let config = Config { older_ns: 0, rules, ..Config::default() };
        let mut tracker = Tracker::new(config, baseline);
        let infos = ProcessInfos::new();
        let mut previous = none;
        for op in &ops {
            let before = world.counters;
            world.apply(op);
            let balance = Balance::new(&baseline, &before, &world.sockstat(), &world.counters);
            prop_assert_eq!(balance.difference, 0);
            let Op::Inventory { seed } = op else { continue };
            let mut census = Census::new();
            for held in world.descriptors(*seed) {
                census.add(&held);
            }
            check_census(&census, &world)?;
            let queued = world.socks.values().filter(|sock| sock.queued).count() as u64;
            let residue = residue(&world.sockstat(), Totals { accept_queue: queued, ..census.totals() }, Some(0), None);
            prop_assert_eq!(residue.kinds.unknown, 0);
            let processes: Vec<ProcessCounters> = world.processes.values().cloned().collect();
            tracker.observe(Sample {
                at_ns: world.now,
                before: world.counters,
                sockstat: world.sockstat(),
                counters: world.counters,
                processes: &processes,
                inventory: Some(Inventory { at_ns: world.now, totals: census.totals(), census, complete: true }),
                infos: &infos,
            });
            check_groups(&tracker, &world)?;
            check_reports(&tracker, &world)?;
            prop_assert_eq!(tracker.balance().live, world.socks.len() as i64);
            for counted in &processes {
                let account = tracker.accounts().get(counted.process).expect("it is in the sample");
                prop_assert_eq!(account.total.allocated, counted.allocated);
                prop_assert_eq!(account.total.accepted, counted.accepted);
                prop_assert_eq!(account.total.destroyed, counted.destroyed + counted.released);
            }
            let interval: u64 = tracker.accounts().iter().map(|a| a.interval.accepted).sum();
            prop_assert_eq!(interval, world.counters.accepted - previous.accepted);
            previous = world.counters;
        }
    }
}
