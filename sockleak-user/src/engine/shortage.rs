//! What else has to be found out when ports run short: who has them, and how much room is left.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
};

use super::{cadence::Cadence, calls, clock};
use crate::{
    kernel::Facts,
    model::{Cause, FailureId, Op},
    source::netns::{self, Namespaces, NetnsError, NetnsHandle, listing, source_address},
    tracker::{
        CallsInput, HeldPorts, KeepCall, Occupancy, PortCalls, PortFeatures, PortHolders,
        PortOwners, Pressures, ProcessInfos, Range, RangeUse, Room, RoomLook, Route,
    },
};

/// Questions answered per sample.
const QUESTIONS: usize = 16;
/// Exhausted ranges, and ports that were refused, remembered for the last report.
const RANGES: usize = 1024;
/// Processes named as holders.
const HOLDERS: usize = 5;

/// A network namespace, and the socket's own range within that of the namespace, if it has one.
type Place = (u32, Option<(u16, u16)>);

/// Follows shortages of ports.
pub struct Shortage {
    features: PortFeatures,
    holders: PortHolders,
    /// Of looks for failures, and for warnings: a warning is no reason to know nothing about the
    /// first failure.
    cadences: [Cadence; 2],
    ranges: HashMap<FailureId, RangeUse>,
    owners: HashMap<FailureId, PortOwners>,
    pressures: Pressures,
}

/// Something to be looked up.
enum Question {
    Failure(FailureId),
    Port(FailureId, u16),
    Route(Route),
}

impl Shortage {
    /// Nothing yet.
    pub fn new(facts: &Facts) -> Self {
        Self {
            features: calls::features(facts),
            holders: PortHolders::default(),
            cadences: [Cadence::default(); 2],
            // Room that is not used is no memory; tables that grow are in steps, long after the start.
            ranges: HashMap::with_capacity(RANGES),
            owners: HashMap::with_capacity(RANGES),
            pressures: Pressures::default(),
        }
    }

    /// Takes who holds which ports from the newest inventory.
    pub fn see(&mut self, holders: PortHolders) {
        self.holders = holders;
    }

    /// Who holds which ports, as of the newest inventory.
    pub fn holders(&self) -> &PortHolders {
        &self.holders
    }

    /// Warnings.
    pub fn pressures(&self) -> &Pressures {
        &self.pressures
    }

    /// What reports need.
    pub fn input<'a>(&'a self, infos: &'a ProcessInfos, keep: &'a KeepCall<'a>) -> CallsInput<'a> {
        CallsInput {
            infos,
            keep,
            features: &self.features,
            ranges: &self.ranges,
            owners: &self.owners,
        }
    }

    /// Looks at the ports that the newest interval has found used up or used most, at a bounded
    /// cost: after a look of the time t there is none for 200 t, and the last ones stand.
    pub fn look(&mut self, calls: &PortCalls, infos: &ProcessInfos) {
        let newest = || calls.failures().iter().map(|failure| failure.id);
        make_room(&mut self.ranges, newest);
        make_room(&mut self.owners, newest);
        let [for_failures, for_warnings] = self.cadences;
        let mut looks = Vec::new();
        self.cadences = [
            self.paced(for_failures, missed(calls), (calls, infos), &mut looks),
            self.paced(for_warnings, busy(calls), (calls, infos), &mut looks),
        ];
        self.pressures.advance(calls, looks);
        self.borrow(calls);
    }

    fn paced(
        &mut self,
        mut cadence: Cadence,
        questions: BTreeMap<Place, Vec<Question>>,
        (calls, infos): (&PortCalls, &ProcessInfos),
        looks: &mut Vec<(Route, RoomLook)>,
    ) -> Cadence {
        let began_ns = clock::monotonic_ns();
        if !questions.is_empty() && cadence.is_due(began_ns) {
            for (place, questions) in questions {
                match self.answer(place, &questions, calls, infos) {
                    Ok(found) => looks.extend(found),
                    Err(error) => log::debug!("looking at ports: {error}"),
                }
            }
            let took_ns = clock::monotonic_ns().saturating_sub(began_ns);
            cadence.took(began_ns, took_ns);
        }
        cadence
    }

    /// A failure that was not looked at has the last look at its destination.
    fn borrow(&mut self, calls: &PortCalls) {
        for failure in calls.failures() {
            let id = failure.id;
            let Some(dst) = id.search.dst else {
                continue;
            };
            let route = Route {
                netns: id.search.netns,
                dst,
            };
            if id.cause == Cause::EphemeralExhausted
                && let Some(look) = self.pressures.newest(route)
                && look.serves(&id)
                && match self.ranges.get(&id) {
                    Some(own) => own.at_ns < look.at_ns,
                    None => self.ranges.len() < RANGES,
                }
            {
                self.ranges.insert(
                    id,
                    range_use(&look.room, look.at_ns, look.tw_reuse, look.timestamps),
                );
            }
        }
    }

    fn answer(
        &mut self,
        (inode, own_range): Place,
        questions: &[Question],
        calls: &PortCalls,
        infos: &ProcessInfos,
    ) -> Result<Vec<(Route, RoomLook)>, NetnsError> {
        let netns = open(inode, calls, infos)?;
        let at_ns = clock::monotonic_ns();
        let listing = listing(&netns, own_range)?;
        let occupancy = Occupancy::new(&listing.sockets, &self.holders);
        let range = own_range.map_or(occupancy.range(), Range::from);
        let mut looks = Vec::new();
        for question in questions {
            match question {
                Question::Failure(id) => {
                    let room = match (id.search.op, id.search.dst) {
                        (Op::Connect, Some(dst)) => {
                            let src = known(id.src).or_else(|| source_address(&netns, dst));
                            occupancy.towards_in(range, src, dst)
                        }
                        _ => occupancy.for_bind_in(range, known(id.src)),
                    };
                    let is_known = self.ranges.contains_key(id);
                    if let Some(room) = room
                        && (is_known || self.ranges.len() < RANGES)
                    {
                        let settings = occupancy.settings();
                        self.ranges.insert(
                            *id,
                            range_use(&room, at_ns, settings.tw_reuse, settings.timestamps),
                        );
                    }
                }
                Question::Port(id, port) => {
                    let has = |held: &HeldPorts| {
                        let sets = [&held.bound, &held.connected, &held.listening];
                        sets.iter().any(|set| set.contains(*port))
                    };
                    let owners = occupancy.held().filter(|(_, held)| has(held));
                    let owners = PortOwners {
                        port: *port,
                        processes: owners.map(|(process, _)| process).take(HOLDERS).collect(),
                    };
                    if self.owners.contains_key(id) || self.owners.len() < RANGES {
                        self.owners.insert(*id, owners);
                    }
                }
                Question::Route(route) => {
                    let src = source_address(&netns, route.dst);
                    if let Some(room) = occupancy.towards_in(range, src, route.dst) {
                        let settings = occupancy.settings();
                        let look = RoomLook {
                            at_ns,
                            src,
                            room,
                            tw_reuse: settings.tw_reuse,
                            timestamps: settings.timestamps,
                        };
                        looks.push((*route, look));
                    }
                }
            }
        }
        Ok(looks)
    }
}

/// Of what is full, only the failures of the newest interval stay: processes that have ended would have the room of
/// those that fail now.
fn make_room<T, I: Iterator<Item = FailureId>>(
    found: &mut HashMap<FailureId, T>,
    newest: impl Fn() -> I,
) {
    if found.len() >= RANGES {
        let newest: HashSet<FailureId> = newest().collect();
        found.retain(|id, _| newest.contains(id));
    }
}

/// Ranges that failures have found exhausted and ports that were refused, most failures first.
fn missed(calls: &PortCalls) -> BTreeMap<Place, Vec<Question>> {
    by_place(calls.failures().iter().filter_map(|failure| {
        let id = failure.id;
        let (own_range, question) = match id.cause {
            Cause::EphemeralExhausted => (None, Question::Failure(id)),
            Cause::LocalRangeExhausted => (Some(id.range?), Question::Failure(id)),
            Cause::PortConflict => (None, Question::Port(id, failure.port?)),
            _ => return None,
        };
        Some(((id.search.netns, own_range), question))
    }))
}

/// The destinations with most calls.
fn busy(calls: &PortCalls) -> BTreeMap<Place, Vec<Question>> {
    let wanted = Pressures::wanted(calls).into_iter();
    by_place(wanted.map(|route| ((route.netns, None), Question::Route(route))))
}

fn by_place(questions: impl Iterator<Item = (Place, Question)>) -> BTreeMap<Place, Vec<Question>> {
    let mut by_place: BTreeMap<Place, Vec<Question>> = BTreeMap::new();
    for (place, question) in questions.take(QUESTIONS) {
        by_place.entry(place).or_default().push(question);
    }
    by_place
}

/// A namespace, by whatever process or mount leads there.
fn open(inode: u32, calls: &PortCalls, infos: &ProcessInfos) -> Result<NetnsHandle, NetnsError> {
    if netns::current().is_ok_and(|here| here == inode)
        && let Ok(here) = NetnsHandle::current()
    {
        return Ok(here);
    }
    let mut namespaces = Namespaces::default();
    namespaces.add_mounts();
    let callers = calls.searches().iter().map(|search| &search.id);
    let callers = callers.chain(calls.failures().iter().map(|failure| &failure.id.search));
    for id in callers.filter(|id| id.netns == inode) {
        namespaces.add_process(inode, id.process.pid);
    }
    let living = infos.iter().filter(|(_, info)| !info.exited);
    for (process, _) in living.filter(|(_, info)| info.netns == Some(inode)) {
        namespaces.add_process(inode, process.pid);
    }
    namespaces.open(inode)
}

fn known(address: Option<IpAddr>) -> Option<IpAddr> {
    address.filter(|address| !address.is_unspecified())
}

fn range_use(room: &Room, at_ns: u64, tw_reuse: Option<u8>, timestamps: Option<u8>) -> RangeUse {
    RangeUse {
        connected: room.connected,
        time_wait: room.time_wait,
        bound: room.bound,
        reserved: room.reserved,
        other: room.usable(),
        tw_reuse,
        timestamps,
        holders: room
            .blockers
            .iter()
            .take(HOLDERS)
            .map(|blocker| (blocker.process, blocker.ports))
            .collect(),
        at_ns,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Family, PortOptions, ProcessId, SearchId};

    fn refused(pid: u32) -> FailureId {
        FailureId {
            search: SearchId {
                process: ProcessId {
                    pid,
                    start_ticks: 1,
                },
                op: Op::Bind,
                netns: 1,
                family: Family::V4,
                dst: None,
            },
            cause: Cause::PortConflict,
            errno: 98,
            src: None,
            range: None,
            options: PortOptions::default(),
        }
    }

    #[test]
    fn failures_of_the_past_make_room_for_those_of_now() {
        let mut found: HashMap<_, _> = (1..RANGES as u32).map(|pid| (refused(pid), ())).collect();
        make_room(&mut found, std::iter::empty);
        assert_eq!(found.len(), RANGES - 1, "there is room");
        found.insert(refused(0), ());
        make_room(&mut found, || [3, 5000].map(refused).into_iter());
        assert_eq!(found, HashMap::from([(refused(3), ())]));
    }
}
