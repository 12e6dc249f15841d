use std::collections::HashMap;

use proptest::prelude::*;

use super::testing::{S, Watched, process, socket};
use super::{Accounts, Activity, Config};
use crate::model::{ProcessCounters, ProcessInfo, SocketClass};

fn counters(pid: u32, allocated: u64, accepted: u64, destroyed: u64) -> ProcessCounters {
    ProcessCounters {
        process: process(pid),
        comm: format!("p{pid}"),
        netns: Some(7),
        cgroup_id: None,
        allocated,
        destroyed,
        accepted,
    }
}

fn activity(allocated: u64, accepted: u64, destroyed: u64) -> Activity {
    Activity {
        allocated,
        accepted,
        destroyed,
    }
}

#[test]
fn an_interval_is_what_came_on_top() {
    let mut accounts = Accounts::new(10, 60 * S);
    accounts.advance(&[counters(1, 10, 5, 3)]);
    accounts.advance(&[counters(1, 12, 5, 9)]);
    let account = accounts.get(process(1)).expect("it is known");
    assert_eq!(account.interval, activity(2, 0, 6));
    assert_eq!(account.total, activity(12, 5, 9));
    assert_eq!(
        (account.info.comm.as_str(), account.info.netns),
        ("p1", Some(7))
    );
}

#[test]
fn a_record_made_anew_counts_from_zero() {
    let mut accounts = Accounts::new(10, 60 * S);
    accounts.advance(&[counters(1, 1000, 0, 900)]);
    accounts.advance(&[counters(1, 3, 1, 0)]);
    let account = accounts.get(process(1)).expect("it is known");
    assert_eq!(account.interval, activity(3, 1, 0));
    assert_eq!(account.total, activity(1003, 1, 900));
}

#[test]
fn a_record_that_one_walk_missed_or_saw_twice_counts_once() {
    let mut accounts = Accounts::new(10, 60 * S);
    accounts.advance(&[counters(1, 1000, 0, 0)]);
    accounts.advance(&[]);
    accounts.advance(&[counters(1, 1005, 0, 0), counters(1, 1005, 0, 0)]);
    let account = accounts.get(process(1)).expect("it is known");
    assert_eq!(account.interval, activity(5, 0, 0));
    assert_eq!(account.total.allocated, 1005);
}

#[test]
fn memory_is_bounded_and_the_gone_make_room() {
    let mut accounts = Accounts::new(4, 60 * S);
    let all: Vec<_> = (1..=6).map(|pid| counters(pid, 10, 0, 0)).collect();
    accounts.advance(&all);
    assert_eq!((accounts.iter().count(), accounts.omitted()), (4, 2));
    // Processes 5 and 6 stay; their old counts must not appear as new ones.
    for _ in 0..4 {
        accounts.advance(&all[4..]);
        assert!(accounts.iter().count() <= 4);
    }
    let late = accounts.get(process(5)).expect("there is room now");
    assert_eq!(late.total.allocated, 0);
    accounts.advance(&[
        counters(5, 12, 0, 0),
        counters(6, 10, 0, 0),
        counters(9, 4, 0, 0),
    ]);
    assert_eq!(
        accounts.get(process(5)).map(|a| a.interval.allocated),
        Some(2)
    );
    assert_eq!(accounts.omitted(), 0);
    let (gone, did) = accounts.forgotten();
    assert_eq!(did.allocated, gone * 10);
    assert!(gone >= 2);
}

#[test]
fn of_processes_that_are_over_those_with_most_sockets_are_remembered() {
    let mut accounts = Accounts::new(1 << 14, 60 * S);
    let ended = 3_000_u32;
    for first in (1..=ended).step_by(100) {
        let some: Vec<_> = (first..first + 100)
            .map(|pid| counters(pid, u64::from(pid), 0, 0))
            .collect();
        accounts.advance(&some);
    }
    for _ in 0..4 {
        accounts.advance(&[]);
    }
    let remembered = accounts.iter().count();
    assert!((900..=1024).contains(&remembered), "{remembered}");
    assert!(accounts.get(process(ended)).is_some());
    assert!(accounts.get(process(1)).is_none());
    let kept: u64 = accounts.iter().map(|one| one.total.allocated).sum();
    let (gone, did) = accounts.forgotten();
    assert_eq!(gone, u64::from(ended) - remembered as u64);
    assert_eq!(
        kept + did.allocated,
        u64::from(ended) * (u64::from(ended) + 1) / 2
    );
}

#[test]
fn a_process_that_is_gone_leaves_no_course_behind() {
    let mut watched = Watched::new();
    for turn in 1..=40 {
        let held =
            (0..20).map(|n| socket(turn * 100 + n, process(turn as u32), SocketClass::Unbound));
        watched.inventory(turn * 5, held);
        let groups = watched.tracker.groups().iter().count();
        assert!(groups <= 3, "{groups} after {turn}");
    }
    let course = |pid| {
        let account = watched.tracker.accounts().get(process(pid));
        account.expect("it is remembered").closed_per_min()
    };
    assert!(course(40).is_some());
    assert_eq!(course(20), None);
}

#[test]
fn a_process_that_the_kernel_side_knows_is_not_gone() {
    let mut accounts = Accounts::new(10, 60 * S);
    for _ in 0..5 {
        accounts.advance(&[counters(1, 10, 0, 10)]);
    }
    assert!(!accounts.is_gone(process(1)));
    for gone in [false, false, true] {
        accounts.advance(&[]);
        assert_eq!(accounts.is_gone(process(1)), gone);
    }
    assert!(accounts.is_gone(process(2)), "never heard of");
}

#[test]
fn a_process_that_holds_sockets_is_not_forgotten() {
    let mut watched = Watched::with(Config {
        processes: 2,
        ..Config::default()
    });
    watched.name(process(1), "keeper");
    for at_s in 1..20 {
        let one_off = process(100 + at_s as u32);
        let held = [
            socket(1, process(1), SocketClass::Listen),
            socket(at_s + 1, one_off, SocketClass::Established),
        ];
        watched.inventory(at_s, held);
        assert_eq!(watched.tracker.comm(process(1)), "keeper");
        assert!(watched.tracker.accounts().iter().count() <= 2);
    }
}

#[test]
fn a_process_that_has_exited_keeps_what_was_known() {
    let mut accounts = Accounts::new(10, 60 * S);
    accounts.advance(&[counters(1, 10, 5, 3)]);
    let alive = ProcessInfo {
        comm: "java".into(),
        cgroup: Some("/app.service".into()),
        fd_limit: Some(1024),
        ..ProcessInfo::default()
    };
    let gone = ProcessInfo {
        exited: true,
        ..ProcessInfo::default()
    };
    for info in [alive, gone] {
        accounts.learn(HashMap::from([(process(1), info)]).iter());
    }
    let info = &accounts.get(process(1)).expect("it is known").info;
    assert!(info.exited);
    assert_eq!(info.comm, "java");
    assert_eq!(
        (info.cgroup.as_deref(), info.fd_limit, info.netns),
        (Some("/app.service"), Some(1024), Some(7))
    );
}

#[test]
fn growth_starts_where_the_process_held_nothing() {
    let mut watched = Watched::new();
    let held = |n: u64| (0..n).map(|n| socket(n, process(1), SocketClass::Unbound));
    let rate = |watched: &Watched| {
        let account = watched.tracker.accounts().get(process(1));
        account.and_then(|account| account.closed_per_min())
    };
    watched.inventory(10, held(5));
    assert_eq!(rate(&watched), None);
    let mut watched = Watched::new();
    watched.inventory(10, []);
    watched.inventory(20, held(100));
    assert_eq!(rate(&watched), Some(600.0));
    watched.inventory(30, held(200));
    assert_eq!(rate(&watched), Some(600.0));
    watched.inventory(40, []);
    assert_eq!(rate(&watched), Some(0.0));
}

proptest! {
    #[test]
    fn totals_are_exact_whatever_is_remembered(
        limit in 1usize..6,
        samples in proptest::collection::vec(proptest::collection::vec((1u32..9, 0u64..50), 0..6), 1..20),
    ) {
        // Records only grow; a process that is not in a sample for a while has exited.
        let mut accounts = Accounts::new(limit, 60 * S);
        let mut raw: HashMap<u32, u64> = HashMap::new();
        let mut ever_omitted = false;
        for sample in &samples {
            for (pid, more) in sample {
                *raw.entry(*pid).or_default() += more;
            }
            let records: Vec<_> = raw.iter().map(|(pid, n)| counters(*pid, *n, 0, 0)).collect();
            accounts.advance(&records);
            ever_omitted |= accounts.omitted() > 0;
            prop_assert!(accounts.iter().count() <= limit);
            let counted: u64 = accounts.iter().map(|a| a.total.allocated).sum::<u64>()
                + accounts.forgotten().1.allocated;
            let truth: u64 = raw.values().sum();
            prop_assert!(counted <= truth);
            if !ever_omitted {
                prop_assert_eq!(counted, truth);
            }
        }
    }
}
