//! The course of each creator's idle sockets over the censuses.

use std::collections::HashMap;

use super::idle::{GroupKey, OriginTally, Tally};
use super::origins::Origin;
use super::window::{Point, Window};
use crate::model::Arrange as _;
use crate::model::ProcessId;

/// Idle sockets of one creator and class.
#[derive(Clone, Debug)]
pub struct Group {
    /// Creator and class.
    pub key: GroupKey,
    /// As of the newest census.
    pub tally: Tally,
    /// How it came to that.
    pub window: Window,
    /// The same for the most frequent origins of its sockets.
    pub origins: HashMap<Origin, Course>,
}

/// Sockets of one origin in a group.
#[derive(Clone, Debug)]
pub struct Course {
    /// As of the newest census.
    pub tally: OriginTally,
    /// How it came to that.
    pub window: Window,
}

/// Origins that are followed in a group.
const ORIGINS: usize = 8;

/// All groups that the newest censuses found, bounded.
#[derive(Clone, Debug)]
pub struct Groups {
    limit: usize,
    span_ns: u64,
    groups: HashMap<GroupKey, Group>,
    previous_ns: Option<u64>,
    omitted: u64,
}

impl Groups {
    /// None yet; keeps at most `limit` and a history of `span_ns` for each.
    pub fn new(limit: usize, span_ns: u64) -> Self {
        Self {
            limit,
            span_ns,
            groups: HashMap::new(),
            previous_ns: None,
            omitted: 0,
        }
    }

    /// Takes in the idle sockets of a census made at `now_ns`.
    pub fn advance(&mut self, now_ns: u64, tallies: HashMap<GroupKey, Tally>) {
        let mut tallies = tallies;
        for group in self.groups.values_mut() {
            group.tally = tallies.remove(&group.key).unwrap_or_default();
            group.window.push(Point {
                at_ns: now_ns,
                total: group.tally.total,
                aged: group.tally.aged,
            });
            group.follow(now_ns, self.previous_ns, self.span_ns);
        }
        self.groups.retain(|_, group| !group.window.is_idle());
        let mut new: Vec<_> = tallies.into_iter().collect();
        new.arrange_by_key(|(key, tally)| (std::cmp::Reverse((tally.aged, tally.total)), *key));
        self.omitted = 0;
        for (key, tally) in new {
            if self.groups.len() >= self.limit && !self.displace(&tally) {
                self.omitted += 1;
                continue;
            }
            let mut window = Window::new(self.span_ns);
            if let Some(at_ns) = self.previous_ns {
                // The census before did not have it: it began at nothing.
                window.push(Point {
                    at_ns,
                    total: 0,
                    aged: 0,
                });
            }
            window.push(Point {
                at_ns: now_ns,
                total: tally.total,
                aged: tally.aged,
            });
            let mut group = Group {
                key,
                tally,
                window,
                origins: HashMap::new(),
            };
            group.follow(now_ns, self.previous_ns, self.span_ns);
            self.groups.insert(key, group);
        }
        self.previous_ns = Some(now_ns);
    }

    /// Drops the groups of processes that are over and of whose sockets none is left: nothing can follow on their
    /// course.
    pub fn forget(&mut self, is_over: impl Fn(ProcessId) -> bool) {
        self.groups
            .retain(|key, group| group.tally.total > 0 || !is_over(key.process));
    }

    /// Makes room for a group that is larger than the smallest one.
    fn displace(&mut self, tally: &Tally) -> bool {
        let smallest = self
            .groups
            .values()
            .min_by_key(|group| (group.tally.aged, group.tally.total, group.key));
        match smallest {
            Some(group) if (group.tally.aged, group.tally.total) < (tally.aged, tally.total) => {
                let key = group.key;
                self.omitted += 1;
                self.groups.remove(&key);
                true
            }
            _ => false,
        }
    }

    /// The groups, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Group> {
        self.groups.values()
    }

    /// One group.
    pub fn get(&self, key: GroupKey) -> Option<&Group> {
        self.groups.get(&key)
    }

    /// Groups of the newest census for which there was no room.
    pub fn omitted(&self) -> u64 {
        self.omitted
    }

    /// Growth per minute of all idle sockets that a process answers for; only what rises.
    pub fn rise_per_min(&self, process: ProcessId) -> f64 {
        self.iter()
            .filter(|group| group.key.process == process)
            .map(Group::rise_per_min)
            .sum()
    }

    /// The same over all processes.
    pub fn total_rise_per_min(&self) -> f64 {
        self.iter().map(Group::rise_per_min).sum()
    }
}

impl Group {
    /// Brings the courses of the origins up to the census at `now_ns`, which followed the one at
    /// `previous_ns`.
    fn follow(&mut self, now_ns: u64, previous_ns: Option<u64>, span_ns: u64) {
        let of: HashMap<Origin, OriginTally> = self.tally.origins.iter().copied().collect();
        for (origin, course) in &mut self.origins {
            course.tally = of.get(origin).copied().unwrap_or_default();
            course.window.push(course.tally.point(now_ns));
        }
        self.origins.retain(|_, course| !course.window.is_idle());
        let newest = std::mem::take(&mut self.tally.origins);
        for (origin, tally) in &newest {
            if self.origins.contains_key(origin) {
                continue;
            }
            if self.origins.len() >= ORIGINS && !self.displace(tally) {
                break;
            }
            let mut window = Window::new(span_ns);
            if let Some(at_ns) = previous_ns {
                window.push(OriginTally::default().point(at_ns));
            }
            window.push(tally.point(now_ns));
            let course = Course {
                tally: *tally,
                window,
            };
            self.origins.insert(*origin, course);
        }
        self.tally.origins = newest;
    }

    /// Makes room for an origin with more sockets than the one with fewest.
    fn displace(&mut self, tally: &OriginTally) -> bool {
        let smallest = (self.origins.iter())
            .min_by_key(|(origin, course)| (course.tally.aged, course.tally.total, **origin));
        match smallest {
            Some((origin, course))
                if (course.tally.aged, course.tally.total) < (tally.aged, tally.total) =>
            {
                let origin = *origin;
                self.origins.remove(&origin).is_some()
            }
            _ => false,
        }
    }

    fn rise_per_min(&self) -> f64 {
        self.window.rate_per_min().unwrap_or(0.0).max(0.0)
    }
}

impl OriginTally {
    fn point(&self, at_ns: u64) -> Point {
        Point {
            at_ns,
            total: self.total,
            aged: self.aged,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::LeakClass;

    fn tallies(totals: &[(u32, u64)]) -> HashMap<GroupKey, Tally> {
        let of = |(pid, total): &(u32, u64)| {
            let process = ProcessId {
                pid: *pid,
                start_ticks: 1,
            };
            let key = GroupKey {
                process,
                class: LeakClass::Unbound,
            };
            let tally = Tally {
                total: *total,
                aged: *total,
                ..Tally::default()
            };
            (key, tally)
        };
        totals.iter().map(of).collect()
    }

    #[test]
    fn the_largest_groups_have_the_room_and_the_others_are_counted() {
        let mut groups = Groups::new(2, 300);
        groups.advance(10, tallies(&[(1, 5), (2, 70), (3, 60), (4, 1)]));
        let pids = |groups: &Groups| {
            let mut pids: Vec<u32> = groups.iter().map(|group| group.key.process.pid).collect();
            pids.sort_unstable();
            pids
        };
        assert_eq!((pids(&groups), groups.omitted()), (vec![2, 3], 2));
        // One that has grown beyond the smallest takes its place.
        groups.advance(20, tallies(&[(1, 500), (2, 70), (3, 60)]));
        assert_eq!((pids(&groups), groups.omitted()), (vec![1, 2], 1));
    }
}
