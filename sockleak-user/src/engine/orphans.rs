//! Looks at orphans when there are many: a bounded share of time, whatever their number.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::clock;
use crate::model::Arrange as _;
use crate::{
    model::{ProcessId, TcpState},
    probe::Attached,
    report::OrphansReport,
    source::{
        limits,
        netns::{Namespaces, in_netns},
        orphans::{Aborts, Sockets, aborts},
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
#[derive(Debug)]
pub struct Orphans {
    sockets: Sockets,
    sees_release: bool,
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
    /// Takes the map of sockets out of the loaded object.
    ///
    /// # Errors
    /// When the object lacks it.
    pub fn take(attached: &mut Attached, sees_release: bool) -> Result<Self> {
        Ok(Self {
            sockets: Sockets::take(attached)?,
            sees_release,
            rules: OrphanRules::default(),
            due_ns: 0,
            aborts: BTreeMap::new(),
            since_ns: 0,
            look: None,
            undecodable: 0,
        })
    }

    /// Looks, if there are many of them and the last look is long enough ago, or `patient`.
    /// `count` is the kernel's count of them.
    pub fn look(&mut self, count: u64, patient: bool) {
        let max = limits::read().max_orphans;
        if !self.rules.are_many(count, max) {
            self.look = None;
            return;
        }
        let begin_ns = clock::monotonic_ns();
        if begin_ns < self.due_ns && !patient {
            return;
        }
        let creators = self.creators();
        let mut look = OrphanLook {
            at_ns: begin_ns,
            count,
            max,
            creators,
            ..OrphanLook::default()
        };
        self.list(&mut look);
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

    fn creators(&mut self) -> Option<Vec<(ProcessId, u64)>> {
        if !self.sees_release {
            return None;
        }
        match self.sockets.creators() {
            Ok(found) => {
                self.undecodable += found.undecodable;
                let mut all: Vec<_> = found.by_process.into_iter().collect();
                all.arrange_by_key(|(process, count)| (std::cmp::Reverse(*count), *process));
                Some(all)
            }
            Err(error) => {
                log::warn!("who closed the orphans is not known: {error:#}");
                None
            }
        }
    }

    /// Asks every namespace for its orphans, and how many connections it had to give up.
    fn list(&mut self, look: &mut OrphanLook) {
        let namespaces = match Namespaces::enumerate() {
            Ok(namespaces) => namespaces,
            Err(error) => {
                log::warn!("orphans cannot be listed: {error}");
                look.unread = 1;
                return;
            }
        };
        for (n, inode) in namespaces.inodes().enumerate() {
            if n >= NAMESPACES {
                look.unread += 1;
                continue;
            }
            let seen = namespaces.open(inode).and_then(|handle| {
                in_netns(&handle, || {
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
