//! Who is warned, and who must not be.

use proptest::prelude::*;

use super::calls::{CallsReading, PortCalls};
use super::occupancy::Room;
use super::pressure::{Pressures, RoomLook, Route, size, used};
use super::searches_tests::{counters, failure_id, search, search_id};
use super::testing::{NETNS, S};
use crate::model::{Counters, SearchCounters};

const RANGE: u64 = 28_232;

/// A client, the kernel side's counters about it and what a look at its range would find.
struct Client {
    calls: PortCalls,
    pressures: Pressures,
    counters: SearchCounters,
    at_s: u64,
}

impl Client {
    fn new() -> Self {
        Self {
            calls: PortCalls::new(0, 16),
            pressures: Pressures::default(),
            counters: counters(search_id(1)),
            at_s: 0,
        }
    }

    fn route() -> Route {
        Route {
            netns: NETNS,
            dst: search_id(1).dst.unwrap(),
        }
    }

    /// A second in which `new` connections are made while `used` ports are taken. A search
    /// comes to the second parity when the first half is taken.
    fn second(&mut self, new: u64, used: u64, failed: u64) -> usize {
        for _ in 0..new {
            let is_second = used >= RANGE / 2;
            let (ns, candidates) = if is_second {
                (200_000, RANGE / 2 + 1)
            } else {
                (1_000, 1)
            };
            search(&mut self.counters, ns, candidates, is_second);
        }
        self.counters.failed += failed;
        self.at_s += 1;
        let at_ns = self.at_s * S;
        self.calls.advance(CallsReading {
            at_ns,
            before: Counters::default(),
            searches: vec![self.counters.clone()],
            failures: Vec::new(),
        });
        let looks = Pressures::wanted(&self.calls)
            .into_iter()
            .map(|route| {
                let look = RoomLook {
                    at_ns,
                    src: None,
                    room: room(used),
                    tw_reuse: None,
                    timestamps: None,
                };
                (route, look)
            })
            .collect();
        self.pressures.advance(&self.calls, looks);
        self.pressures.warnings().len()
    }
}

fn room(used: u64) -> Room {
    Room {
        range: (32_768, 60_999),
        size: RANGE,
        connected: used.min(RANGE),
        free: RANGE.saturating_sub(used),
        ..Room::default()
    }
}

#[test]
fn growth_is_warned_of_before_the_wall_with_the_time_left() {
    let mut client = Client::new();
    let mut warned_at = None;
    for second in 1.. {
        let used = second * 470;
        if used >= RANGE {
            break;
        }
        if client.second(470, used, 0) > 0 && warned_at.is_none() {
            warned_at = Some(used);
            let warning = &client.pressures.warnings()[0];
            assert_eq!(warning.route, Client::route());
            assert!((warning.rate_per_s.unwrap() - 470.0).abs() < 1e-6);
            let left = (RANGE - used) as f64;
            assert!((warning.eta_s.unwrap() - left / 470.0).abs() < 1e-6);
            assert_eq!(warning.look.as_ref().unwrap().room.connected, used);
        }
    }
    // The knee, give or take the seconds between two looks.
    let warned_at = warned_at.expect("a warning");
    assert!(
        (RANGE / 2..RANGE / 2 + 1_000).contains(&warned_at),
        "{warned_at}"
    );
}

#[test]
fn the_flip_to_the_second_parity_has_its_price() {
    let mut client = Client::new();
    client.second(50, 1_000, 0);
    assert_eq!(client.second(0, 1_000, 0), 0);
    // Two thirds of an interval's searches before the flip, one third behind it.
    for n in 0..90 {
        let slow = n % 3 == 0;
        search(
            &mut client.counters,
            if slow { 200_000 } else { 1_000 },
            1,
            slow,
        );
    }
    assert_eq!(client.second(0, RANGE / 2, 0), 1);
    let warning = &client.pressures.warnings()[0];
    assert!((warning.traffic.second_parity_share() - 1.0 / 3.0).abs() < 1e-9);
    let (first, second) = warning.traffic.medians_ns();
    assert!((896..=1_024).contains(&first.unwrap()), "{first:?}");
    assert!((163_840..=200_000).contains(&second.unwrap()), "{second:?}");
    assert_eq!(warning.traffic.who, [(search_id(1), 90)]);
}

#[test]
fn after_the_first_error_it_is_no_warning_any_more() {
    let mut client = Client::new();
    assert_eq!(client.second(100, RANGE - 10, 0), 1);
    assert_eq!(client.second(100, RANGE, 3), 0);
}

#[test]
fn upper_bounds_are_no_price() {
    let mut client = Client::new();
    client.counters.upper_bounds = 1;
    client.counters.timed = 1;
    assert_eq!(client.second(100, RANGE / 2, 0), 1);
    let mut upper = Client::new();
    upper.counters.upper_bounds = 100;
    assert_eq!(upper.second(100, RANGE / 2, 0), 1);
    let medians = upper.pressures.warnings()[0].traffic.medians_ns();
    assert_eq!(medians, (None, None));
}

#[test]
fn a_time_wait_that_can_be_taken_over_is_room() {
    let waiting = Room {
        time_wait: 20_000,
        connected: 10,
        time_wait_reusable: Some(19_000),
        reserved: 100,
        ..room(0)
    };
    assert_eq!((size(&waiting), used(&waiting)), (RANGE - 100, 1_010));
}

proptest! {
    /// A pool fills, turns over and shrinks within half of the range: nobody is warned.
    #[test]
    fn a_pool_within_half_of_the_range_is_left_alone(
        sizes in proptest::collection::vec((0_u64..2_000, 0_u64..RANGE / 2), 1..40),
    ) {
        let mut client = Client::new();
        for (new, used) in sizes {
            prop_assert_eq!(client.second(new, used, 0), 0);
        }
    }

    /// A pool of any size that stands still, with an occasional reconnect: nobody is warned.
    #[test]
    fn a_large_pool_that_stands_still_is_left_alone(
        used in 0_u64..RANGE, reconnects in proptest::collection::vec(0_u64..10, 1..40),
    ) {
        let mut client = Client::new();
        for new in reconnects {
            prop_assert_eq!(client.second(new, used, 0), 0);
        }
    }

    /// Steady growth that lasts 20 s or more is always warned of before the wall.
    #[test]
    fn growth_never_comes_as_a_surprise(rate in 50_u64..1_400) {
        let mut client = Client::new();
        let mut warned = 0;
        let mut used = 0;
        while used + rate < RANGE {
            used += rate;
            warned += client.second(rate, used, 0);
        }
        prop_assert!(warned > 0);
    }
}

#[test]
fn a_look_serves_only_who_was_there_when_it_was_made() {
    let look = |at_ns| RoomLook {
        at_ns,
        src: Some("10.0.0.9".parse().unwrap()),
        room: room(10),
        tw_reuse: None,
        timestamps: None,
    };
    let mut failed = failure_id(1);
    failed.search.process.start_ticks = 500;
    assert!(look(5 * S).serves(&failed), "the source is not known");
    assert!(
        !look(5 * S - 1).serves(&failed),
        "another namespace may have had the number"
    );
    failed.src = Some("10.0.0.9".parse().unwrap());
    assert!(look(6 * S).serves(&failed));
    failed.src = Some("10.0.0.8".parse().unwrap());
    assert!(!look(6 * S).serves(&failed));
}
