//! A model of sockets, descriptors and the kernel side's counters, driven at random, with what
//! can go wrong between the kernel and us: full maps, programs that the kernel skips (told or
//! not), records that outlive their socket, pids and addresses that are used again, readings
//! with holes.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::testing::{NETNS, S, born, process, socket};
use crate::model::{Counters, HeldSocket, ProcessCounters, ProcessId, SocketClass, Sockstat};

/// Pids of a random course.
pub(super) const PIDS: u32 = 6;

#[derive(Clone, Debug)]
pub(super) enum Op {
    Create {
        pid: u32,
        recorded: bool,
    },
    /// The same, and the kernel skips the program that should see it.
    CreateUnseen {
        pid: u32,
        told: bool,
    },
    /// The next destruction is not seen.
    SkipDestroy {
        told: bool,
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
    /// A sample without an inventory, of which some of the processes are missing.
    Sample {
        missing: usize,
    },
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    let pid = || 1..=PIDS;
    let class = proptest::sample::select(&SocketClass::ALL[..]);
    prop_oneof![
        4 => (pid(), prop::bool::weighted(0.8)).prop_map(|(pid, recorded)| Op::Create { pid, recorded }),
        1 => (pid(), any::<bool>()).prop_map(|(pid, told)| Op::CreateUnseen { pid, told }),
        1 => any::<bool>().prop_map(|told| Op::SkipDestroy { told }),
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
        1 => (0..4_usize).prop_map(|missing| Op::Sample { missing }),
    ]
}

#[derive(Clone, Debug)]
pub(super) struct Sock {
    pub(super) sk: u64,
    pub(super) inode: u64,
    pub(super) class: SocketClass,
    pub(super) port: u16,
    /// In an accept queue, or closed by everybody but not finished.
    pub(super) queued: bool,
    pub(super) orphan: bool,
}

#[derive(Default)]
pub(super) struct World {
    pub(super) now: u64,
    pub(super) socks: BTreeMap<u64, Sock>,
    /// Freed addresses, used again last in, first out, as the slab does.
    free: Vec<u64>,
    next: u64,
    /// The kernel side's map of sockets, by address.
    records: HashMap<u64, (ProcessId, u64)>,
    /// How often each pid has been used before.
    generations: HashMap<u32, u64>,
    /// The next destruction is not seen; whether the kernel counts that.
    skip: Option<bool>,
    /// What the kernel says it has skipped: births and deaths.
    told: [u64; 2],
    /// Births less deaths that nobody tells of.
    pub(super) untold: i64,
    /// Descriptors: holder and socket inode.
    pub(super) fds: Vec<(ProcessId, u64)>,
    pub(super) counters: Counters,
    pub(super) processes: HashMap<ProcessId, ProcessCounters>,
}

impl World {
    /// The process that has this pid now.
    pub(super) fn process(&self, pid: u32) -> ProcessId {
        let reused = self.generations.get(&pid).copied().unwrap_or(0);
        let first = process(pid);
        ProcessId {
            start_ticks: first.start_ticks + 100 * reused,
            ..first
        }
    }

    fn is_gone(&self, other: ProcessId) -> bool {
        self.process(other.pid) != other
    }

    /// Counters as user space has them: with what the kernel says it has skipped.
    pub(super) fn counted(&self) -> Counters {
        let [births, deaths] = self.told;
        Counters {
            allocated: self.counters.allocated + births,
            destroyed_unknown: self.counters.destroyed_unknown + deaths,
            ..self.counters
        }
    }

    /// The kernel side's record of a socket. After a destruction that was not seen it is that of
    /// the socket which had the address before.
    pub(super) fn record(&self, sock: &Sock) -> Option<(ProcessId, u64)> {
        self.records.get(&sock.sk).copied()
    }

    /// Takes processes out of the kernel side's map as the engine does, those that were read.
    pub(super) fn forget(&mut self, read: &[ProcessCounters]) {
        for process in read {
            if process.allocated == process.destroyed && self.is_gone(process.process) {
                self.processes.remove(&process.process);
            }
        }
    }

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
            })
    }

    pub(super) fn make(&mut self, record: Option<(ProcessId, u64)>, queued: bool) -> u64 {
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
        if let Some(record) = record
            && self.records.insert(sk, record).is_some()
        {
            self.counters.sockets_stale += 1;
        }
        self.socks.insert(
            inode,
            Sock {
                sk,
                inode,
                class,
                port,
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
        if let Some(told) = self.skip.take() {
            // The record stays, and whoever gets the address next has it.
            match told {
                true => self.told[1] += 1,
                false => self.untold -= 1,
            }
            return;
        }
        match self.records.remove(&sock.sk) {
            Some((creator, _)) => {
                self.counters.destroyed_known += 1;
                if let Some(counters) = self.processes.get_mut(&creator) {
                    counters.destroyed += 1;
                }
            }
            None => self.counters.destroyed_unknown += 1,
        }
    }

    /// A descriptor goes; with the last one the socket is let go.
    fn close(&mut self, index: usize, orphaned: bool) {
        let (_, inode) = self.fds.swap_remove(index);
        if self.fds.iter().any(|(_, other)| *other == inode) {
            return;
        }
        let Some(sock) = self.socks.get_mut(&inode) else {
            return;
        };
        sock.orphan = true;
        if !orphaned {
            self.destroy(inode);
        }
    }

    fn pick(&self, pid: u32, n: usize) -> Option<usize> {
        let own: Vec<usize> = (0..self.fds.len())
            .filter(|i| self.fds[*i].0 == self.process(pid))
            .collect();
        own.get(n % own.len().max(1)).copied()
    }

    pub(super) fn apply(&mut self, op: &Op) {
        self.now += S;
        let now = self.now;
        match *op {
            Op::Create { pid, recorded } => {
                let process = self.process(pid);
                // A full map still takes an address that it has already.
                let stale = self
                    .free
                    .last()
                    .is_some_and(|sk| self.records.contains_key(sk));
                let recorded = recorded || stale;
                let inode = self.make(recorded.then_some((process, now)), false);
                self.counters.allocated += 1;
                if recorded {
                    self.counters_of(process).allocated += 1;
                } else {
                    self.counters.sockets_full += 1;
                }
                self.fds.push((process, inode));
            }
            Op::CreateUnseen { pid, told } => {
                let inode = self.make(None, false);
                match told {
                    true => self.told[0] += 1,
                    false => self.untold += 1,
                }
                self.fds.push((self.process(pid), inode));
            }
            Op::SkipDestroy { told } => self.skip = Some(told),
            Op::Child => {
                self.make(None, true);
                self.counters.children += 1;
            }
            Op::Accept { pid } => {
                let Some(sock) = self.socks.values_mut().find(|sock| sock.queued) else {
                    return;
                };
                sock.queued = false;
                let (sk, inode) = (sock.sk, sock.inode);
                let process = self.process(pid);
                self.fds.push((process, inode));
                if self.records.insert(sk, (process, self.now)).is_some() {
                    self.counters.sockets_stale += 1;
                }
                self.counters.accepted += 1;
                self.counters_of(process).accepted += 1;
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
                let (parent, child) = (self.process(pid), self.process(child));
                let own: Vec<_> = self
                    .fds
                    .iter()
                    .filter(|fd| fd.0 == parent)
                    .copied()
                    .collect();
                if self.fds.len() < 300 {
                    self.fds
                        .extend(own.into_iter().map(|(_, inode)| (child, inode)));
                }
            }
            Op::Pass { from, to, n } => {
                let Some(fd) = self.pick(from, n).map(|i| self.fds[i]) else {
                    return;
                };
                self.fds.push((self.process(to), fd.1));
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
                // Another process gets the pid.
                *self.generations.entry(pid).or_default() += 1;
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
            Op::Inventory { .. } | Op::Sample { .. } => {}
        }
    }

    /// Every descriptor, in an order that `seed` decides.
    pub(super) fn descriptors(&self, seed: u64) -> Vec<HeldSocket> {
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
                match self.records.get(&sock.sk) {
                    Some((creator, at_ns)) => born(held, *creator, *at_ns),
                    None => held,
                }
            })
            .collect();
        all.sort_by_key(|held| super::hash::mix(seed, u64::from(held.fd)));
        all
    }

    pub(super) fn sockstat(&self) -> Sockstat {
        Sockstat {
            alloc: self.socks.len() as u64,
            orphan: self.socks.values().filter(|sock| sock.orphan).count() as u64,
            ..Sockstat::default()
        }
    }
}
