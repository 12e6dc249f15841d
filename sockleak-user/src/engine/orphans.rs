//! Looks at orphans when there are many: a bounded share of time, whatever their number.

use std::collections::{BTreeMap, BTreeSet};

use super::clock;
use crate::model::Arrange as _;
use crate::{
    model::{ProcessId, TcpState},
    probe::Attached,
    report::OrphansReport,
    source::{
        limits,
        netns::{Namespaces, in_netns},
        orphans::{Aborts, Creators, aborts},
        sock_diag::{self, DiagSocket, States},
    },
    tracker::{self, Orphan, OrphanLook, OrphanRules, OrphanTally, Tracker},
};

/// After a look of the time t there is none for this many t.
const REST: u64 = 200;
/// Namespaces that are asked at most.
const NAMESPACES: usize = 256;
/// Listening ports of a namespace that are remembered.
const LISTENERS: usize = 1 << 14;

/// Looks at orphans, and keeps the last look.
#[derive(Debug, Default)]
pub struct Orphans {
    rules: OrphanRules,
    due_ns: u64,
    /// First readings, by namespace.
    aborts: BTreeMap<u32, Aborts>,
    since_ns: u64,
    look: Option<OrphanLook>,
    undecodable: u64,
}

/// One namespace.
#[derive(Default)]
struct Listed {
    tally: OrphanTally,
    listeners: BTreeSet<u16>,
}

impl Orphans {
    /// Looks, if there are many of them and the last look is long enough ago, or `patient`.
    /// `count` is the kernel's count of them.
    pub fn look(&mut self, attached: &mut Attached, count: u64, patient: bool) {
        let max = limits::read().max_orphans;
        if !self.rules.are_many(count, max) {
            self.look = None;
            return;
        }
        let begin_ns = clock::monotonic_ns();
        if begin_ns < self.due_ns && !patient {
            return;
        }
        let mut look = OrphanLook {
            at_ns: begin_ns,
            count,
            max,
            ..OrphanLook::default()
        };
        self.list(attached, &mut look);
        if self.since_ns == 0 {
            self.since_ns = begin_ns;
        }
        look.since_ns = self.since_ns;
        self.look = Some(look);
        let now_ns = clock::monotonic_ns();
        self.due_ns = now_ns + now_ns.saturating_sub(begin_ns).saturating_mul(REST);
    }

    /// What is known about them now; `None` when there are not many.
    pub fn report(&self, tracker: &Tracker) -> Option<Box<OrphansReport>> {
        let look = self.look.as_ref()?;
        let comm = |process: ProcessId| tracker.comm(process).to_owned();
        let now_ns = clock::monotonic_ns();
        Some(Box::new(tracker::orphans(look, now_ns, &self.rules, comm)))
    }

    /// Elements that made no sense.
    pub fn undecodable(&self) -> u64 {
        self.undecodable
    }

    /// Asks every namespace for its orphans, and how many connections it had to give up.
    fn list(&mut self, attached: &mut Attached, look: &mut OrphanLook) {
        let namespaces = match Namespaces::enumerate() {
            Ok(namespaces) => namespaces,
            Err(error) => {
                log::warn!("orphans cannot be listed: {error}");
                look.unread = 1;
                return;
            }
        };
        let mut creators = attached.sees_orphans().then(Creators::default);
        for (n, inode) in namespaces.inodes().enumerate() {
            if n >= NAMESPACES {
                look.unread += 1;
                continue;
            }
            let walk = match creators {
                Some(_) => attached.orphan_walk().map(Some),
                None => Ok(None),
            };
            let walk = walk.unwrap_or_else(|error| {
                log::warn!("whose the orphans are is not known: {error}");
                creators = None;
                None
            });
            let seen = namespaces.open(inode).and_then(|handle| {
                in_netns(&handle, || {
                    let walked = match (walk, &mut creators) {
                        // The walk is over the namespace of who begins it.
                        (Some(walk), Some(creators)) => walk
                            .into_file()
                            .map_err(std::io::Error::other)
                            .and_then(|file| creators.read(file)),
                        _ => Ok(()),
                    };
                    if let Err(error) = walked {
                        log::warn!("whose the orphans are is not known: {error}");
                        creators = None;
                    }
                    let listed = sock_diag::dump(States::ORPHANS, |listed: &mut Listed, socket| {
                        note(listed, &socket, inode);
                    });
                    (listed, aborts(), slow_fin())
                })
            });
            let Ok((Ok((listed, _)), aborted, slow)) = seen else {
                look.unread += 1;
                continue;
            };
            look.tally.merge(listed.tally);
            look.slow_fin |= slow;
            if let Ok(now) = aborted {
                let first = *self.aborts.entry(inode).or_insert(now);
                let (memory, timeout) = look.aborted.get_or_insert_default();
                *memory += now.memory.saturating_sub(first.memory);
                *timeout += now.timeout.saturating_sub(first.timeout);
            }
        }
        look.creators = creators.map(|found| {
            self.undecodable += found.undecodable;
            let mut all: Vec<_> = found.by_process.into_iter().collect();
            all.arrange_by_key(|(process, count)| (std::cmp::Reverse(*count), *process));
            all
        });
        self.aborts
            .retain(|inode, _| namespaces.inodes().any(|known| known == *inode));
    }
}

/// A dump begins with listeners, so that the connections behind them can be told from those
/// that were made from here.
fn note(listed: &mut Listed, socket: &DiagSocket, netns: u32) {
    if socket.state == TcpState::Listen {
        if listed.listeners.len() < LISTENERS {
            listed.listeners.insert(socket.local.port());
        }
        return;
    }
    let Some(peer) = socket.peer else { return };
    if socket.inode != 0 || socket.is_time_wait {
        return;
    }
    listed.tally.add(
        netns,
        &Orphan {
            state: socket.state,
            local: socket.local,
            peer,
            unacknowledged: socket.wqueue,
            probing: socket.is_probing,
            accepted: listed.listeners.contains(&socket.local.port()),
        },
    );
}

/// Above 60 s FIN_WAIT2 is not left to a small TIME_WAIT socket (net/ipv4/tcp.c `__tcp_close`).
fn slow_fin() -> bool {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_fin_timeout");
    text.ok()
        .and_then(|text| text.trim().parse::<u64>().ok())
        .is_some_and(|seconds| seconds > 60)
}
