//! How long sockets have been of no use, and who answers for them.

use std::collections::HashMap;

use super::census::{Census, Entry};
use super::hash::FastMap;
use super::origins::Origin;
use crate::model::Arrange as _;
use crate::model::{ProcessId, SocketClass};
use crate::report::LeakClass;

/// Sockets that leaks are made of; `None` for sockets that are in use.
pub fn leak_class(class: SocketClass) -> Option<LeakClass> {
    match class {
        SocketClass::Unbound => Some(LeakClass::Unbound),
        SocketClass::Bound => Some(LeakClass::Bound),
        SocketClass::CloseWait => Some(LeakClass::CloseWait),
        SocketClass::Listen
        | SocketClass::Connecting
        | SocketClass::Established
        | SocketClass::Closing => None,
    }
}

/// Who answers for a group of idle sockets, and their class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupKey {
    /// Creator of the sockets; the oldest holder where the creation was not seen.
    pub process: ProcessId,
    /// Class.
    pub class: LeakClass,
}

/// Idle sockets of one creator and class in one census.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// All of them.
    pub total: u64,
    /// Since when the longest idle one is, ns.
    pub since_ns: Option<u64>,
    /// That one may be idle for longer.
    pub since_is_bound: bool,
    /// Those idle for `--older` or longer; everything below is about these.
    pub aged: u64,
    /// Creation seen.
    pub births_known: u64,
    /// Already idle in an earlier census.
    pub confirmed: u64,
    /// Holders, those with most first.
    pub holders: Vec<(ProcessId, u64)>,
    /// Distinct local ports per namespace, both sorted.
    pub ports: Vec<(Option<u32>, Vec<u16>)>,
    /// Age of the middle one of them, ns: half are idle for longer.
    pub median_ns: Option<u64>,
    /// All of them (not only the aged) by what had happened to them, most first.
    pub origins: Vec<(Origin, OriginTally)>,
    /// Not in `aged`, because there was no room to remember when they were first seen.
    pub unremembered: u64,
}

/// Idle sockets of a [`Tally`] with the same origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OriginTally {
    /// All of them.
    pub total: u64,
    /// Those idle for `--older` or longer.
    pub aged: u64,
    /// Since when the longest idle one is, ns.
    pub since_ns: Option<u64>,
}

/// Since when a socket is idle, with three flags in the lowest bits (8 ns are neither here nor
/// there): 16 bytes per socket in the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Since(u64);

impl Since {
    const CLOSE_WAIT: u64 = 1;
    const LOWER_BOUND: u64 = 2;
    const ROUND: u64 = 4;
    const FLAGS: u64 = 7;

    fn new(at_ns: u64, flags: u64) -> Self {
        Self(at_ns & !Self::FLAGS | flags)
    }

    fn at_ns(self) -> u64 {
        self.0 & !Self::FLAGS
    }

    fn has(self, flag: u64) -> bool {
        self.0 & flag != 0
    }
}

/// Remembers between censuses which sockets were idle already.
///
/// A socket's age alone would accuse a client whose long-lived connections have all been reset
/// a moment ago. So a socket counts as idle since its creation only if no earlier census can
/// have seen it at work; since the earlier census, if that one found it in use; and since it was
/// first found idle, if its creation was not seen (then it may be idle for longer).
#[derive(Debug)]
pub struct IdleTable {
    limit: usize,
    since: FastMap<u64, Since>,
    round: u64,
    previous_ns: Option<u64>,
}

impl IdleTable {
    /// Empty; remembers at most `limit` sockets at 17 to 34 bytes each.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            since: FastMap::default(),
            round: 0,
            previous_ns: None,
        }
    }

    /// Sockets remembered.
    pub fn len(&self) -> usize {
        self.since.len()
    }

    /// What the table can take before it grows.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.since.capacity()
    }

    /// Nothing remembered.
    pub fn is_empty(&self) -> bool {
        self.since.is_empty()
    }

    /// Takes in a census made at `now_ns` and groups its idle sockets.
    pub(super) fn advance(
        &mut self,
        now_ns: u64,
        older_ns: u64,
        census: &mut Census,
    ) -> HashMap<GroupKey, Tally> {
        self.round ^= Since::ROUND;
        let mut groups: FastMap<(u32, SocketClass), Gathering> = FastMap::default();
        let mut sockets = std::mem::take(&mut census.sockets);
        for (key, entry) in &mut sockets {
            let Some(class) = leak_class(entry.class) else {
                continue;
            };
            let gathering = groups.entry((accused(entry), entry.class)).or_default();
            gathering.tally.total += 1;
            let origin = gathering.origins.entry(entry.origin).or_default();
            origin.total += 1;
            let Some((since, confirmed)) = self.since(*key, entry, class, now_ns) else {
                gathering.tally.unremembered += 1;
                continue;
            };
            gathering.tally.note_since(since);
            let since_ns = since.at_ns();
            origin.since_ns = Some(origin.since_ns.map_or(since_ns, |old| old.min(since_ns)));
            if now_ns.saturating_sub(since.at_ns()) < older_ns {
                continue;
            }
            entry.marked = true;
            origin.aged += 1;
            gathering.count_aged(entry, confirmed, now_ns.saturating_sub(since_ns));
        }
        for (key, holder) in &census.sharers {
            if let Some(entry) = sockets.get(key)
                && entry.marked
                && let Some(gathering) = groups.get_mut(&(accused(entry), entry.class))
            {
                *gathering.holders.entry(*holder).or_default() += 1;
            }
        }
        census.sockets = sockets;
        let round = self.round;
        self.since
            .retain(|_, since| since.0 & Since::ROUND == round);
        // A table in which elements come and go doubles when it is half full. A quarter of room is left for those to
        // come.
        let idle = self.since.len();
        self.since.shrink_to(idle.saturating_add(idle / 4));
        self.previous_ns = Some(now_ns);
        groups
            .into_iter()
            .filter_map(|((process, class), gathering)| {
                let key = GroupKey {
                    process: census.process_at(process)?,
                    class: leak_class(class)?,
                };
                Some((key, gathering.finish(census)))
            })
            .collect()
    }

    /// Since when a socket is idle, and whether an earlier census saw it so; `None` when that
    /// would have to be remembered and there is no room.
    fn since(
        &mut self,
        key: u64,
        entry: &Entry,
        class: LeakClass,
        now_ns: u64,
    ) -> Option<(Since, bool)> {
        let kind = if class == LeakClass::CloseWait {
            Since::CLOSE_WAIT
        } else {
            0
        };
        if let Some(known) = self.since.get_mut(&key)
            && known.0 & Since::CLOSE_WAIT == kind
        {
            known.0 = known.0 & !Since::ROUND | self.round;
            return Some((*known, true));
        }
        let birth = entry.birth().map(|(at_ns, _)| at_ns.min(now_ns));
        let since = match (class, birth, self.previous_ns) {
            // The peer's FIN is never older than the first time that we see its effect, but how
            // much the creation is older than that says nothing.
            (LeakClass::CloseWait, _, _) | (_, None, _) => {
                Since::new(now_ns, kind | Since::LOWER_BOUND | self.round)
            }
            (_, Some(birth), previous) => {
                Since::new(birth.max(previous.unwrap_or(0)), kind | self.round)
            }
        };
        if self.since.len() < self.limit || self.since.contains_key(&key) {
            self.since.insert(key, since);
            return Some((since, false));
        }
        // Without a memory of it, the creation is the best that is known.
        birth
            .filter(|_| kind == 0)
            .map(|birth| (Since::new(birth, self.round), false))
    }
}

impl Tally {
    fn note_since(&mut self, since: Since) {
        let is_bound = since.has(Since::LOWER_BOUND);
        let at_ns = since.at_ns();
        match self.since_ns {
            Some(oldest) if oldest < at_ns => {}
            Some(oldest) if oldest == at_ns => self.since_is_bound |= is_bound,
            _ => {
                self.since_ns = Some(at_ns);
                self.since_is_bound = is_bound;
            }
        }
    }
}

/// Index of the process that answers for a socket.
fn accused(entry: &Entry) -> u32 {
    entry.birth().map_or(entry.holder, |(_, creator)| creator)
}

#[derive(Default)]
struct Gathering {
    tally: Tally,
    holders: FastMap<u32, u64>,
    ports: Vec<(u16, u16)>,
    origins: FastMap<u16, OriginTally>,
    ages_ns: Vec<u64>,
}

impl Gathering {
    fn count_aged(&mut self, entry: &Entry, confirmed: bool, age_ns: u64) {
        self.ages_ns.push(age_ns);
        let tally = &mut self.tally;
        tally.aged += 1;
        tally.births_known += u64::from(entry.birth().is_some());
        tally.confirmed += u64::from(confirmed);
        *self.holders.entry(entry.holder).or_default() += 1;
        if entry.class == SocketClass::Bound && entry.port != 0 {
            self.ports.push((entry.space, entry.port));
        }
    }

    fn finish(mut self, census: &Census) -> Tally {
        self.tally.holders = self
            .holders
            .into_iter()
            .filter_map(|(holder, count)| Some((census.process_at(holder)?, count)))
            .collect();
        self.tally
            .holders
            .arrange_by_key(|(process, count)| (std::cmp::Reverse(*count), *process));
        self.tally.median_ns = median(&mut self.ages_ns);
        self.tally.origins = (self.origins.into_iter())
            .map(|(index, tally)| (census.origin_at(index), tally))
            .collect();
        (self.tally.origins).arrange_by_key(|(origin, tally)| {
            (std::cmp::Reverse((tally.aged, tally.total)), *origin)
        });
        self.ports.sort_unstable();
        self.ports.dedup();
        for chunk in self.ports.chunk_by(|a, b| a.0 == b.0) {
            let netns = chunk.first().and_then(|(space, _)| census.netns_at(*space));
            let ports = chunk.iter().map(|(_, port)| *port).collect();
            self.tally.ports.push((netns, ports));
        }
        self.tally.ports.sort_unstable();
        self.tally
    }
}

/// The upper one of two middle ones.
fn median(ages: &mut [u64]) -> Option<u64> {
    let middle = ages.len() / 2;
    (!ages.is_empty()).then(|| *ages.select_nth_unstable(middle).1)
}
