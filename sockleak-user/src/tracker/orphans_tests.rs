//! Orphans: thresholds, tallies and what is said about them.

use proptest::prelude::*;

use super::orphans::{Orphan, OrphanLook, OrphanRules, OrphanTally, orphans};
use super::testing::{NETNS, S, process};
use crate::model::TcpState;
use crate::report::OrphansReport;

fn orphan(state: TcpState, unacknowledged: u32) -> Orphan {
    Orphan {
        state,
        local: "10.0.0.1:40000".parse().unwrap(),
        peer: "10.0.0.9:9981".parse().unwrap(),
        unacknowledged,
        probing: false,
        accepted: false,
    }
}

fn said(look: &OrphanLook) -> OrphansReport {
    orphans(look, look.at_ns + S, &OrphanRules::default(), |one| {
        format!("p{}", one.pid)
    })
}

/// 600 whose peers do not read, of a limit of 4,096.
fn unread() -> OrphanLook {
    let mut tally = OrphanTally::default();
    for _ in 0..600 {
        tally.add(
            NETNS,
            &Orphan {
                probing: true,
                ..orphan(TcpState::FinWait1, 10_001)
            },
        );
    }
    OrphanLook {
        at_ns: 5 * S,
        count: 600,
        max: Some(4_096),
        tally,
        creators: Some(vec![(process(7), 590), (process(8), 2)]),
        aborted: Some((3, 0)),
        since_ns: 2 * S,
        ..OrphanLook::default()
    }
}

#[test]
fn few_are_no_matter_and_many_or_a_large_share_are() {
    let rules = OrphanRules::default();
    assert!(!rules.are_many(255, Some(131_072)));
    assert!(rules.are_many(256, Some(131_072)));
    assert!(rules.are_many(256, None));
    assert!(rules.are_many(64, Some(1_024)));
    assert!(!rules.are_many(63, Some(1_024)));
    assert!(!rules.are_many(15, Some(16)), "hardly a load on anybody");
    assert!(!rules.are_many(0, Some(0)));
}

#[test]
fn whose_they_are_and_to_whom() {
    let report = said(&unread());
    assert_eq!(
        (report.count, report.listed, report.fin_wait1),
        (600, 600, 600)
    );
    let who: Vec<_> = (report.processes.iter())
        .map(|one| (one.pid, one.comm.as_str(), one.count))
        .collect();
    assert_eq!(who, [(7, "p7", 590), (8, "p8", 2)]);
    assert_eq!(report.unattributed, 8);
    let [peer] = &report.peers[..] else {
        panic!("{:?}", report.peers)
    };
    assert_eq!((peer.peer.as_str(), &peer.local), ("10.0.0.9:9981", &None));
    // The FIN takes a sequence number, but it is no byte.
    assert_eq!((peer.count, peer.unsent_bytes), (600, 6_000_000));
    assert_eq!(
        (report.unsent_bytes, report.window_closed),
        (6_000_000, 600)
    );
    assert_eq!((report.since_s, report.age_s), (3.0, 1.0));
}

#[test]
fn accepted_connections_are_told_by_the_port_they_came_to() {
    let mut tally = OrphanTally::default();
    for port in 1000..1100 {
        tally.add(
            NETNS,
            &Orphan {
                local: "10.0.0.1:443".parse().unwrap(),
                peer: format!("10.0.0.7:{port}").parse().unwrap(),
                accepted: true,
                ..orphan(TcpState::LastAck, 1)
            },
        );
    }
    let look = OrphanLook {
        count: 100,
        tally,
        creators: None,
        ..OrphanLook::default()
    };
    let report = said(&look);
    let [peer] = &report.peers[..] else {
        panic!("{:?}", report.peers)
    };
    assert_eq!(
        (peer.peer.as_str(), peer.local.as_deref(), peer.count),
        ("10.0.0.7", Some("10.0.0.1:443"), 100)
    );
    assert_eq!((report.closing, report.with_unsent), (100, 0));
    assert_eq!(report.unattributed, 100);
    assert!(report.coverage.iter().any(|line| line.contains("no hook")));
}

#[test]
fn the_penalty_halves_the_limit_where_data_is_left() {
    let with_data = said(&unread());
    assert_eq!(with_data.effective_max, Some(2_048));
    let evidence = with_data.evidence.join("\n");
    assert!(
        evidence.contains("from 2,048 on, after an ICMP error from 1,024 on"),
        "{evidence}"
    );
    assert!(evidence.contains("reset 3 connections"), "{evidence}");

    let mut tally = OrphanTally::default();
    tally.add(NETNS, &orphan(TcpState::LastAck, 1));
    let look = OrphanLook { tally, ..unread() };
    assert_eq!(said(&look).effective_max, Some(4_096));
    let look = OrphanLook {
        max: None,
        ..unread()
    };
    assert_eq!(said(&look).effective_max, None);
}

#[test]
fn remedies_fit_what_is_seen() {
    let all = |look: &OrphanLook| said(look).remedy.join("\n");
    let unread_peers = all(&unread());
    for wanted in [
        "shutdown(SHUT_WR)",
        "TCP_USER_TIMEOUT",
        "SO_LINGER {1, 0}",
        "tcp_max_orphans=8192",
    ] {
        assert!(unread_peers.contains(wanted), "{wanted}: {unread_peers}");
    }
    // A peer that answers the probes resets the count of retries.
    assert!(
        !unread_peers.contains("tcp_orphan_retries"),
        "{unread_peers}"
    );

    let mut tally = OrphanTally::default();
    tally.add(NETNS, &orphan(TcpState::FinWait1, 500));
    let silent = OrphanLook { tally, ..unread() };
    assert!(all(&silent).contains("tcp_orphan_retries"));

    let far = OrphanLook {
        max: Some(131_072),
        ..unread()
    };
    assert!(!all(&far).contains("tcp_max_orphans="), "{}", all(&far));

    let mut tally = OrphanTally::default();
    tally.add(NETNS, &orphan(TcpState::FinWait2, 0));
    let mut look = OrphanLook { tally, ..unread() };
    assert!(!all(&look).contains("tcp_fin_timeout"));
    look.slow_fin = true;
    assert!(all(&look).contains("tcp_fin_timeout"));
    assert!(!all(&look).contains("SO_LINGER"));
}

proptest! {
    /// Bounded, and nothing gets lost: what is not listed singly is counted.
    #[test]
    fn all_are_counted(
        peers in proptest::collection::vec((0_u32..9_000, 1_u8..12, any::<u32>(), any::<bool>()), 0..300),
        split in 0_usize..300,
    ) {
        let mut parts = [OrphanTally::default(), OrphanTally::default()];
        for (n, (peer, state, unacknowledged, accepted)) in peers.iter().enumerate() {
            let ip = std::net::Ipv4Addr::from(0x0a00_0000 + peer);
            let one = Orphan {
                peer: (ip, 80).into(),
                accepted: *accepted,
                ..orphan(TcpState::try_from(*state).unwrap(), *unacknowledged)
            };
            let part = usize::from(n >= split);
            parts[part].add(part as u32, &one);
        }
        let [mut tally, other] = parts;
        tally.merge(other);
        let count = peers.len() as u64;
        let report = said(&OrphanLook { count, tally, ..OrphanLook::default() });
        prop_assert_eq!(report.listed, count);
        prop_assert_eq!(report.fin_wait1 + report.fin_wait2 + report.closing, count);
        let shown: u64 = report.peers.iter().map(|peer| peer.count).sum();
        prop_assert_eq!(shown + report.other_peers, count);
        prop_assert!(report.peers.len() <= 10);
        let unsent: u64 = report.peers.iter().map(|peer| peer.unsent_bytes).sum();
        prop_assert!(unsent <= report.unsent_bytes);
    }
}
