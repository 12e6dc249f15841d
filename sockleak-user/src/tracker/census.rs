//! One inventory, counted while it streams in: who holds which sockets, each socket once.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::hash::{FastMap, FastSet, mix};
use super::origins::{Far, Origin, Origins};
use super::ports::NamespaceUse;
use crate::model::{HeldSocket, ProcessId, SocketClass, Stack, TcpState};

/// "No process" in an [`Entry`].
const NOBODY: u32 = u32::MAX;
/// "No namespace" in an [`Entry`].
const NOWHERE: u16 = u16::MAX;

/// Most listeners that one census remembers.
const LISTENS: usize = 1 << 16;
/// Most peers of CLOSE_WAIT and CLOSED sockets that one census tells apart.
const SERVERS: usize = 1 << 10;

/// Bounds on what one census remembers. What does not fit is counted, not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CensusLimits {
    /// Distinct sockets, and separately further holders of shared sockets.
    pub sockets: usize,
    /// Processes that hold or created sockets.
    pub processes: usize,
    /// Network namespaces; more than 65,535 are not possible.
    pub namespaces: usize,
}

impl Default for CensusLimits {
    /// Room for 1.8 million sockets: 86 MB when full, 5.4 MB for 100,000.
    fn default() -> Self {
        Self {
            sockets: 7 << 18,
            processes: 1 << 16,
            namespaces: 1 << 14,
        }
    }
}

/// A socket of the census, as small as can be: there may be a hundred thousand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Creation, ns of `CLOCK_MONOTONIC`; meaningless when `creator` is [`NOBODY`].
    birth_ns: u64,
    /// Oldest process that holds it; the others are in `Census::sharers`.
    pub(super) holder: u32,
    creator: u32,
    pub(super) port: u16,
    pub(super) class: SocketClass,
    shared: bool,
    /// Scratch for whoever walks the census: counted as leaked.
    pub(super) marked: bool,
    pub(super) space: u16,
    pub(super) origin: u16,
}

impl Entry {
    /// When it was created and by whom, if that was seen.
    pub(super) fn birth(&self) -> Option<(u64, u32)> {
        (self.creator != NOBODY).then_some((self.birth_ns, self.creator))
    }
}

/// What one process holds. Every count is of distinct sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The process.
    pub process: ProcessId,
    /// Sockets by class, in the order of [`SocketClass::ALL`].
    classes: [u64; SocketClass::ALL.len()],
    /// Of them, those that other processes hold too.
    pub shared: u64,
    /// Of them, those whose creation was seen.
    pub births_known: u64,
    /// Creation of the oldest unbound and the oldest bound socket among those seen, ns.
    oldest: [Option<u64>; 2],
    /// How many each other process created.
    pub created_by: BTreeMap<ProcessId, u64>,
}

impl Holding {
    fn new(process: ProcessId) -> Self {
        Self {
            process,
            classes: [0; SocketClass::ALL.len()],
            shared: 0,
            births_known: 0,
            oldest: [None; 2],
            created_by: BTreeMap::new(),
        }
    }

    /// Sockets of a class.
    pub fn count(&self, class: SocketClass) -> u64 {
        self.classes.get(class as usize).copied().unwrap_or(0)
    }

    /// All sockets.
    pub fn total(&self) -> u64 {
        self.classes.iter().sum()
    }

    /// CLOSED sockets, with and without a port.
    pub fn closed(&self) -> u64 {
        self.count(SocketClass::Unbound) + self.count(SocketClass::Bound)
    }

    /// Creation of the oldest socket of a CLOSED class, ns of `CLOCK_MONOTONIC`; `None` when
    /// there is none whose creation was seen, and for other classes.
    pub fn oldest_birth(&self, class: SocketClass) -> Option<u64> {
        self.oldest.get(class as usize).copied().flatten()
    }

    fn count_one(&mut self, class: SocketClass, birth: Option<u64>) {
        if let Some(count) = self.classes.get_mut(class as usize) {
            *count += 1;
        }
        self.births_known += u64::from(birth.is_some());
        if let (Some(birth), Some(oldest)) = (birth, self.oldest.get_mut(class as usize)) {
            *oldest = Some(oldest.map_or(birth, |old| old.min(birth)));
        }
    }
}

/// Host-wide figures of an inventory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Distinct sockets behind descriptors.
    pub seen: u64,
    /// Connections in accept queues.
    pub accept_queue: u64,
    /// Of `seen`, first subflows of MPTCP sockets.
    pub mptcp: u64,
}

/// Streaming count of one inventory.
///
/// The order of descriptors does not matter. A socket is recognised by its identity (`sk`, or
/// the inode where `sk` is not visible) together with its inode, because sock memory is used
/// again at once: two sockets that had the same address during one walk stay two. Identities
/// are kept as a 64-bit hash; two of a million sockets meet by chance once in 10^7 censuses.
#[derive(Clone, Debug, Default)]
pub struct Census {
    limits: CensusLimits,
    pub(super) sockets: FastMap<u64, Entry>,
    /// Holders of a shared socket other than `Entry::holder`.
    pub(super) sharers: FastSet<(u64, u32)>,
    seen: u64,
    unidentified: u64,
    uncounted: u64,
    accept_queue: u64,
    mptcp: u64,
    /// Holders and creators; indexed by the `u32`s in entries.
    holdings: Vec<Holding>,
    index: FastMap<ProcessId, u32>,
    /// Inventories walk process by process: the last answer is nearly always the next.
    last: Option<(ProcessId, u32)>,
    pub(super) origins: Origins,
    /// Processes and the ports on which they listen.
    listens: FastSet<(u32, u16)>,
    /// Peers of sockets in CLOSE_WAIT and CLOSED that are told apart; port 0 where none is known.
    servers: FastSet<SocketAddr>,
    spaces: Vec<NamespaceUse>,
    space_index: FastMap<Option<u32>, u16>,
    last_space: Option<(Option<u32>, u16)>,
}

impl Census {
    /// Empty, with default limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Empty, with other limits.
    pub fn with_limits(limits: CensusLimits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// Empty, with room for about `sockets`: saves the growing. `alloc` of sockstat is a good
    /// guess.
    pub fn expecting(sockets: u64) -> Self {
        let mut census = Self::default();
        let room = usize::try_from(sockets).unwrap_or(usize::MAX);
        census.sockets.reserve(room.min(census.limits.sockets));
        census
    }

    /// Counts one descriptor.
    pub fn add(&mut self, socket: &HeldSocket) {
        let Some(holder) = self.process(socket.holder) else {
            self.uncounted += 1;
            return;
        };
        if socket.identity() == 0 {
            // Nothing to recognise it by: taken for a socket of its own.
            self.unidentified += 1;
            self.count_new(socket, holder, None);
            return;
        }
        let key = mix(mix(0, socket.inode), socket.sk);
        let Some(entry) = self.sockets.get_mut(&key) else {
            if self.sockets.len() >= self.limits.sockets {
                self.uncounted += 1;
            } else {
                self.count_new(socket, holder, Some(key));
            }
            return;
        };
        if entry.holder == holder {
            return;
        }
        if entry.shared && self.sharers.contains(&(key, holder)) {
            return;
        }
        if self.sharers.len() >= self.limits.sockets {
            self.uncounted += 1;
            return;
        }
        let first = entry.holder;
        let newly_shared = !entry.shared;
        entry.shared = true;
        // The oldest holder stays in the entry, so that the one who answers for a socket of
        // unknown creator does not depend on the order of descriptors.
        if seniority(&self.holdings, holder) < seniority(&self.holdings, first) {
            entry.holder = holder;
            self.sharers.insert((key, first));
        } else {
            self.sharers.insert((key, holder));
        }
        let entry = *entry;
        self.credit(holder, &entry);
        for process in newly_shared.then_some(first).into_iter().chain([holder]) {
            if let Some(holding) = self.holdings.get_mut(process as usize) {
                holding.shared += 1;
            }
        }
    }

    fn count_new(&mut self, socket: &HeldSocket, holder: u32, key: Option<u64>) {
        self.seen += 1;
        self.accept_queue += u64::from(socket.accept_queue);
        self.mptcp += u64::from(socket.mptcp);
        let port = socket.local.port();
        let space = self.space(socket.netns).unwrap_or(NOWHERE);
        if let Some(space) = self.spaces.get_mut(usize::from(space)) {
            space.add(socket.class, port);
        }
        let birth = socket
            .birth
            .and_then(|birth| Some((birth.at_ns, self.process(birth.creator)?)));
        let far = self.far(socket, holder);
        let entry = Entry {
            birth_ns: birth.map_or(0, |(at_ns, _)| at_ns),
            creator: birth.map_or(NOBODY, |(_, creator)| creator),
            holder,
            port,
            class: socket.class,
            shared: false,
            marked: false,
            space,
            origin: self.origins.index(Origin {
                seen: socket.birth.is_some(),
                past: socket.past,
                far,
            }),
        };
        self.credit(holder, &entry);
        if let Some(key) = key {
            self.sockets.insert(key, entry);
        }
    }

    /// The other end of a socket in CLOSE_WAIT. One that a process created has connected; one of unknown
    /// birth was accepted if its holder listens on its port, and it has the listener's descriptor
    /// first. Of a CLOSED one whose end was not seen, what it still says about a connection.
    fn far(&mut self, socket: &HeldSocket, holder: u32) -> Option<Far> {
        let port = socket.local.port();
        match socket.class {
            SocketClass::Listen if self.listens.len() < LISTENS => {
                self.listens.insert((holder, port));
                None
            }
            SocketClass::CloseWait if socket.birth.is_some_and(|birth| birth.accepted) => {
                Some(Far::ClientOf(port))
            }
            SocketClass::CloseWait if socket.birth.is_some() => {
                let peer = socket.peer?;
                self.is_told(peer).then_some(Far::Server(peer))
            }
            SocketClass::Unbound | SocketClass::Bound if socket.past.ending == 0 => {
                let former = socket.peer.filter(|_| socket.state == TcpState::Close);
                match (former, socket.attempted) {
                    (Some(peer), _) => self.is_told(peer).then_some(Far::Former(peer)),
                    (None, Some(ip)) => {
                        let told = self.is_told(SocketAddr::new(ip, 0));
                        told.then_some(Far::Attempt(ip))
                    }
                    (None, None) => None,
                }
            }
            SocketClass::CloseWait if self.listens.contains(&(holder, port)) => {
                Some(Far::ClientOf(port))
            }
            _ => None,
        }
    }

    /// Whether this peer is one that is told apart: too many would take the room of other origins.
    fn is_told(&mut self, peer: SocketAddr) -> bool {
        let told = self.servers.len() < SERVERS || self.servers.contains(&peer);
        if told {
            self.servers.insert(peer);
        }
        told
    }

    /// Counts a socket for one of its holders.
    fn credit(&mut self, holder: u32, entry: &Entry) {
        let creator = entry
            .birth()
            .filter(|(_, creator)| *creator != holder)
            .and_then(|(_, creator)| Some(self.holdings.get(creator as usize)?.process));
        let Some(holding) = self.holdings.get_mut(holder as usize) else {
            return;
        };
        holding.count_one(entry.class, entry.birth().map(|(at_ns, _)| at_ns));
        if let Some(creator) = creator {
            *holding.created_by.entry(creator).or_default() += 1;
        }
    }

    fn process(&mut self, id: ProcessId) -> Option<u32> {
        if let Some((last, index)) = self.last
            && last == id
        {
            return Some(index);
        }
        let index = match self.index.get(&id) {
            Some(index) => *index,
            None if self.holdings.len() >= self.limits.processes => return None,
            None => {
                let index = u32::try_from(self.holdings.len()).ok()?;
                self.holdings.push(Holding::new(id));
                self.index.insert(id, index);
                index
            }
        };
        self.last = Some((id, index));
        Some(index)
    }

    fn space(&mut self, netns: Option<u32>) -> Option<u16> {
        if let Some((last, index)) = self.last_space
            && last == netns
        {
            return Some(index);
        }
        let index = match self.space_index.get(&netns) {
            Some(index) => *index,
            None if self.spaces.len() >= self.limits.namespaces => return None,
            None => {
                let index = u16::try_from(self.spaces.len()).ok()?;
                if index == NOWHERE {
                    return None;
                }
                self.spaces.push(NamespaceUse {
                    netns,
                    ..NamespaceUse::default()
                });
                self.space_index.insert(netns, index);
                index
            }
        };
        self.last_space = Some((netns, index));
        Some(index)
    }

    /// Distinct sockets.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Sockets without any identity, each counted as distinct.
    pub fn unidentified(&self) -> u64 {
        self.unidentified
    }

    /// Descriptors that did not fit into [`CensusLimits`]; the counts are too low when not 0.
    pub fn uncounted(&self) -> u64 {
        self.uncounted
    }

    /// Connections that wait in the accept queues of all distinct listeners.
    pub fn accept_queue(&self) -> u64 {
        self.accept_queue
    }

    /// The figures that sockstat is held against.
    pub fn totals(&self) -> Totals {
        Totals {
            seen: self.seen(),
            accept_queue: self.accept_queue(),
            mptcp: self.mptcp(),
        }
    }

    /// Distinct sockets that are the first subflow of an MPTCP socket.
    pub fn mptcp(&self) -> u64 {
        self.mptcp
    }

    /// What each process holds, in no particular order; only processes that hold something.
    pub fn holdings(&self) -> impl Iterator<Item = &Holding> {
        self.holdings.iter().filter(|holding| holding.total() > 0)
    }

    /// What one process holds; `None` when it holds nothing.
    pub fn holding(&self, process: ProcessId) -> Option<&Holding> {
        let index = *self.index.get(&process)?;
        self.holdings
            .get(index as usize)
            .filter(|holding| holding.total() > 0)
    }

    /// Ports that descriptors hold, per network namespace.
    pub fn namespaces(&self) -> &[NamespaceUse] {
        &self.spaces
    }

    /// The process behind the index in an entry.
    pub(super) fn process_at(&self, index: u32) -> Option<ProcessId> {
        Some(self.holdings.get(index as usize)?.process)
    }

    /// The namespace behind the index in an entry.
    pub(super) fn netns_at(&self, index: u16) -> Option<u32> {
        self.spaces.get(usize::from(index))?.netns
    }

    /// What the index in an entry stands for.
    pub(super) fn origin_at(&self, index: u16) -> Origin {
        self.origins.at(index)
    }

    /// Whether the past of any socket refers to this ending.
    pub fn refers_to(&self, ending: u32) -> bool {
        self.origins.any(|origin| origin.past.ending == ending)
    }

    /// Whether any socket was created where this stack was taken.
    pub fn refers_to_stack(&self, stack: u32) -> bool {
        (self.origins).any(|origin| origin.past.stack == Stack::Id(stack))
    }

    /// Drops what is only needed while descriptors come in; every read-out stays.
    pub(super) fn seal(&mut self) {
        self.sockets = FastMap::default();
        self.sharers = FastSet::default();
    }
}

/// Order in which processes answer for a socket that they share: the oldest first.
fn seniority(holdings: &[Holding], index: u32) -> (u64, u32) {
    holdings
        .get(index as usize)
        .map_or((u64::MAX, u32::MAX), |holding| {
            let ProcessId { pid, start_ticks } = holding.process;
            // An unknown start is not an early one.
            (
                if start_ticks == 0 {
                    u64::MAX
                } else {
                    start_ticks
                },
                pid,
            )
        })
}
