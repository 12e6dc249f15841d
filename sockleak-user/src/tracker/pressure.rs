//! A warning before the first error: ports towards a destination get scarce.
//!
//! There are two signs. The ports of the first parity are used up: every connect() then walks
//! half of the range before it finds a port. Or the range is half used, the use grows, and at
//! this pace nothing is left within minutes. A pool, however large, that stands still shows
//! neither; nor does one that turns over within half of the range.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use super::calls::PortCalls;
use super::latencies::Latencies;
use super::occupancy::Room;
use crate::model::Arrange as _;
use crate::model::{FailureId, NS_PER_TICK, Op, ProcessId, SearchId};

/// Thresholds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PressureRules {
    /// Share of the searches that came to the second parity,
    pub second_parity: f64,
    /// and their number in an interval.
    pub second_parity_calls: u64,
    /// Share of the range that is used,
    pub used: f64,
    /// and time until all of it is, at the present pace, s.
    pub eta_s: f64,
}

impl Default for PressureRules {
    fn default() -> Self {
        Self {
            second_parity: 0.1,
            second_parity_calls: 10,
            used: 0.5,
            eta_s: 600.0,
        }
    }
}

/// Where connections go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Route {
    /// Network namespace.
    pub netns: u32,
    /// Destination.
    pub dst: SocketAddr,
}

/// What was found out about the room towards a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomLook {
    /// `CLOCK_MONOTONIC` time, ns.
    pub at_ns: u64,
    /// Source address that it is about, if one.
    pub src: Option<IpAddr>,
    /// The room.
    pub room: Room,
    /// `net.ipv4.tcp_tw_reuse`; `None` when not known.
    pub tw_reuse: Option<u8>,
    /// `net.ipv4.tcp_timestamps`; `None` when not known.
    pub timestamps: Option<u8>,
}

impl RoomLook {
    /// Whether this look tells who has the ports that `failed` did not get: it is about the same
    /// source, and no older than the process. The inode number of a namespace is used again as
    /// soon as the namespace is gone, so a process that began later may live in another one.
    pub fn serves(&self, failed: &FailureId) -> bool {
        let src = failed.src.filter(|src| !src.is_unspecified());
        // Since boot with suspended time, the other without: at worst a look is passed over.
        let began_ns = failed
            .search
            .process
            .start_ticks
            .saturating_mul(NS_PER_TICK);
        src.is_none_or(|src| self.src == Some(src)) && began_ns <= self.at_ns
    }
}

/// Connections to one destination in an interval, of all processes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Traffic {
    /// connect() calls.
    pub calls: u64,
    /// Of those, failed for want of a port.
    pub failed: u64,
    /// Of those, came to the second parity.
    pub second_parity: u64,
    /// Calls whose time is known exactly.
    pub exact: u64,
    /// Their times, by parity.
    by_parity: [Latencies; 2],
    longest_ns: u64,
    /// Who, and how many calls; most first.
    pub who: Vec<(SearchId, u64)>,
}

impl Traffic {
    /// Share of the calls, 0 to 1, that came to the second parity.
    pub fn second_parity_share(&self) -> f64 {
        (self.second_parity as f64 / self.calls.max(1) as f64).min(1.0)
    }

    /// Median times of the searches that stayed in the first parity and of those that came to
    /// the second, ns. `None` for the first when searches have failed: they are among them.
    pub fn medians_ns(&self) -> (Option<u64>, Option<u64>) {
        if self.exact < self.calls {
            return (None, None);
        }
        let [first, second] = &self.by_parity;
        let median = |of: &Latencies| of.percentile_ns(0.5, self.longest_ns);
        let first = (self.failed == 0).then(|| median(first)).flatten();
        (first, median(second))
    }
}

/// A warning.
#[derive(Clone, Debug, PartialEq)]
pub struct Warning {
    /// Where to.
    pub route: Route,
    /// What happened in the interval.
    pub traffic: Traffic,
    /// The newest look, if there was one.
    pub look: Option<RoomLook>,
    /// How the use grows, ports per second.
    pub rate_per_s: Option<f64>,
    /// Seconds until nothing is left at that rate.
    pub eta_s: Option<f64>,
    /// Age of the look, s.
    pub age_s: Option<f64>,
}

/// Most destinations remembered.
const ROUTES: usize = 64;
/// Most destinations looked at per interval.
const LOOKS: usize = 8;
/// With fewer calls in an interval a destination is not looked at.
const FEWEST_CALLS: u64 = 16;
/// How long the use is followed, ns.
const WINDOW_NS: u64 = 120_000_000_000;
/// Most points in that time.
const POINTS: usize = 64;
/// A pace needs as many looks.
const FEWEST_POINTS: usize = 3;

/// Follows the destinations with most connections.
#[derive(Debug, Default)]
pub struct Pressures {
    rules: PressureRules,
    routes: HashMap<Route, Followed>,
    warnings: Vec<Warning>,
}

#[derive(Debug)]
struct Followed {
    /// Time and ports used.
    points: Vec<(u64, u64)>,
    look: RoomLook,
}

impl Pressures {
    /// Destinations whose room should be looked at, most calls first.
    pub fn wanted(calls: &PortCalls) -> Vec<Route> {
        let mut routes: Vec<_> = traffic(calls)
            .into_iter()
            .filter(|(_, traffic)| traffic.calls >= FEWEST_CALLS)
            .collect();
        routes.arrange_by_key(|(route, traffic)| (std::cmp::Reverse(traffic.calls), *route));
        routes
            .into_iter()
            .map(|(route, _)| route)
            .take(LOOKS)
            .collect()
    }

    /// Takes in the newest interval and the looks that were made for it.
    pub fn advance(&mut self, calls: &PortCalls, looks: Vec<(Route, RoomLook)>) {
        for (route, look) in looks {
            self.look(route, look);
        }
        let oldest = calls.at_ns().saturating_sub(WINDOW_NS);
        self.routes
            .retain(|_, followed| followed.look.at_ns >= oldest);
        let mut warnings: Vec<_> = traffic(calls)
            .into_iter()
            .filter_map(|(route, traffic)| self.judge(route, traffic, calls.at_ns()))
            .collect();
        warnings
            .arrange_by_key(|warning| (std::cmp::Reverse(warning.traffic.calls), warning.route));
        self.warnings = warnings;
    }

    /// The newest look at a destination.
    pub fn newest(&self, route: Route) -> Option<&RoomLook> {
        self.routes.get(&route).map(|followed| &followed.look)
    }

    /// Warnings of the newest interval, most calls first.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    fn look(&mut self, route: Route, look: RoomLook) {
        if !self.routes.contains_key(&route) && self.routes.len() >= ROUTES {
            return;
        }
        let point = (look.at_ns, used(&look.room));
        let followed = self.routes.entry(route).or_insert_with(|| Followed {
            points: Vec::new(),
            look: look.clone(),
        });
        if followed.points.last().is_some_and(|last| last.0 >= point.0) {
            return;
        }
        followed.look = look;
        followed.points.push(point);
        let oldest = point.0.saturating_sub(WINDOW_NS);
        followed.points.retain(|(at_ns, _)| *at_ns >= oldest);
        if followed.points.len() > POINTS {
            followed.points.remove(0);
        }
    }

    fn judge(&self, route: Route, traffic: Traffic, now_ns: u64) -> Option<Warning> {
        if traffic.failed > 0 {
            // It is too late for a warning; the failure has its own line.
            return None;
        }
        let rules = &self.rules;
        let followed = self.routes.get(&route);
        let rate_per_s = followed.and_then(|followed| rate(&followed.points));
        let age_s =
            followed.map(|followed| now_ns.saturating_sub(followed.look.at_ns) as f64 / 1e9);
        let eta_s = followed.zip(rate_per_s).map(|(followed, rate)| {
            let room = &followed.look.room;
            let left_s = size(room).saturating_sub(used(room)) as f64 / rate;
            (left_s - age_s.unwrap_or(0.0)).max(0.0)
        });
        let flipped = traffic.second_parity >= rules.second_parity_calls
            && traffic.second_parity_share() >= rules.second_parity;
        let is_half_used = followed.is_some_and(|followed| {
            let room = &followed.look.room;
            used(room) as f64 >= size(room) as f64 * rules.used
        });
        let shrinks = is_half_used && eta_s.is_some_and(|eta| eta <= rules.eta_s);
        (flipped || shrinks).then(|| Warning {
            route,
            traffic,
            look: followed.map(|followed| followed.look.clone()),
            rate_per_s,
            eta_s,
            age_s,
        })
    }
}

/// Ports of the range that connect() could use.
pub fn size(room: &Room) -> u64 {
    room.size.saturating_sub(room.reserved)
}

/// Of those, not usable, nor to be taken over from a TIME_WAIT.
pub fn used(room: &Room) -> u64 {
    room.used()
        .saturating_sub(room.time_wait_reusable.unwrap_or(0))
}

/// Growth per second of what has risen over the window, in most of its steps.
fn rate(points: &[(u64, u64)]) -> Option<f64> {
    let (first, last) = (points.first()?, points.last()?);
    let steps = || points.iter().zip(points.iter().skip(1));
    let rises = steps().filter(|(before, after)| after.1 > before.1).count();
    let elapsed_s = last.0.saturating_sub(first.0) as f64 / 1e9;
    let grows = points.len() >= FEWEST_POINTS
        && last.1 > first.1
        && rises * 3 >= steps().count() * 2
        && elapsed_s > 0.0;
    grows.then(|| (last.1 - first.1) as f64 / elapsed_s)
}

fn traffic(calls: &PortCalls) -> HashMap<Route, Traffic> {
    let mut routes: HashMap<Route, Traffic> = HashMap::new();
    for activity in calls.searches() {
        let (Op::Connect, Some(dst)) = (activity.id.op, activity.id.dst) else {
            continue;
        };
        let route = Route {
            netns: activity.id.netns,
            dst,
        };
        let traffic = routes.entry(route).or_default();
        traffic.calls += activity.calls;
        traffic.failed += activity.failed;
        traffic.second_parity += activity.second_parity;
        traffic.exact += activity.timed.saturating_sub(activity.upper_bounds);
        for (all, more) in traffic.by_parity.iter_mut().zip(&activity.by_parity) {
            all.add(more);
        }
        traffic.longest_ns = traffic.longest_ns.max(activity.max_ns.unwrap_or(0));
        traffic.who.push((activity.id, activity.calls));
    }
    for traffic in routes.values_mut() {
        traffic
            .who
            .arrange_by_key(|(id, calls)| (std::cmp::Reverse(*calls), *id));
    }
    routes
}

/// Processes of a warning.
pub fn processes(warning: &Warning) -> impl Iterator<Item = (ProcessId, u64)> {
    let who = warning.traffic.who.iter();
    who.map(|(id, calls)| (id.process, *calls))
}
