use super::*;
use crate::model::{Ending, Family, TcpState};
use crate::report::After;

fn left(pid: u32, class: SocketClass) -> Left {
    Left {
        process: ProcessId {
            pid,
            start_ticks: 7,
        },
        comm: format!("test{pid}"),
        stack: Stack::Id(1),
        ending: 0,
        class,
        family: Family::V4,
        tried: false,
        seen: true,
        count: 1,
        age_ns: Some(u64::from(pid) * 1_000_000_000),
        creator: Some(pid),
    }
}

fn stacks(lines: &[(u32, &str)]) -> HashMap<u32, NamedCode> {
    lines
        .iter()
        .map(|(id, line)| {
            let named = NamedCode {
                lines: vec![(*line).to_owned()],
                ..NamedCode::default()
            };
            (*id, named)
        })
        .collect()
}

fn seeing(endings: &HashMap<u32, Ending>) -> Pasts<'_> {
    Pasts {
        endings: Some(endings),
        connects: true,
        stacks: None,
    }
}

fn refused(errno: u16, state: TcpState) -> HashMap<u32, Ending> {
    let peer = Some("10.0.0.9:2280".parse().unwrap());
    [(5, Ending { peer, errno, state })].into()
}

#[test]
fn processes_with_the_same_stack_are_one_group() {
    let mut leftover = Leftover::default();
    for pid in 1..=300 {
        leftover.add(&left(pid, SocketClass::Unbound));
        leftover.add(&Left {
            family: Family::V6,
            ..left(pid, SocketClass::Unbound)
        });
    }
    let (leaked, in_use) = leftover.groups(seeing(&HashMap::new()), &stacks(&[(1, "leak")]));
    let [group] = &leaked[..] else {
        panic!("{leaked:?}");
    };
    assert_eq!((group.count, group.processes), (600, 300));
    assert_eq!((group.pid, group.comm.as_str()), (1, "test1"));
    assert_eq!(group.after, Some(After::NeverUsed));
    assert_eq!(group.oldest_age_s, Some(300.0));
    assert_eq!(group.stack.as_deref(), Some(&["leak".to_owned()][..]));
    assert!(in_use.is_empty());
}

#[test]
fn stacks_that_read_the_same_are_one_group_and_others_are_not() {
    let mut leftover = Leftover::default();
    for (pid, stack) in [(1, 1), (2, 2), (3, 3)] {
        leftover.add(&Left {
            stack: Stack::Id(stack),
            ..left(pid, SocketClass::Bound)
        });
    }
    assert_eq!(leftover.stacks(), [1, 2, 3].into());
    let named = stacks(&[(1, "same"), (2, "same"), (3, "other")]);
    let (leaked, _) = leftover.groups(seeing(&HashMap::new()), &named);
    let counts: Vec<_> = leaked
        .iter()
        .map(|group| (group.count, group.processes))
        .collect();
    assert_eq!(counts, [(2, 2), (1, 1)]);
    assert_eq!(leaked[0].after, Some(After::BoundOnly));
}

#[test]
fn listeners_and_connections_are_in_use() {
    let mut leftover = Leftover::default();
    for class in SocketClass::ALL {
        leftover.add(&left(1, class));
    }
    let (leaked, in_use) = leftover.groups(seeing(&HashMap::new()), &stacks(&[(1, "x")]));
    let classes = |groups: &[OpenSockets]| groups.iter().map(|g| g.class).collect::<Vec<_>>();
    use SocketClass::*;
    assert_eq!(classes(&leaked), [Unbound, Bound, CloseWait]);
    assert_eq!(classes(&in_use), [Listen, Connecting, Established, Closing]);
    assert!(in_use.iter().all(|group| group.after.is_none()));
}

#[test]
fn what_had_happened_is_told_from_the_ending() {
    let told = |errno, state, tried| {
        let mut leftover = Leftover::default();
        leftover.add(&Left {
            ending: 5,
            tried,
            ..left(1, SocketClass::Unbound)
        });
        let (leaked, _) = leftover.groups(seeing(&refused(errno, state)), &HashMap::new());
        (leaked[0].after.unwrap(), leaked[0].errno.clone().unwrap())
    };
    assert_eq!(
        told(111, TcpState::SynSent, true),
        (After::ConnectRefused, "ECONNREFUSED".to_owned())
    );
    assert_eq!(told(110, TcpState::SynSent, true).0, After::ConnectTimedOut);
    assert_eq!(told(99, TcpState::SynSent, true).0, After::ConnectFailed);
    assert_eq!(told(104, TcpState::Established, true).0, After::PeerReset);
    assert_eq!(
        told(110, TcpState::Established, true).0,
        After::ConnectionFailed
    );
}

#[test]
fn what_is_not_known_is_not_guessed() {
    let mut leftover = Leftover::default();
    leftover.add(&Left {
        ending: 77,
        ..left(1, SocketClass::Unbound)
    });
    leftover.add(&Left {
        seen: false,
        age_ns: None,
        stack: Stack::None,
        ..left(2, SocketClass::CloseWait)
    });
    leftover.add(&Left {
        tried: true,
        stack: Stack::Failed,
        ..left(3, SocketClass::Unbound)
    });
    let (leaked, _) = leftover.groups(seeing(&HashMap::new()), &HashMap::new());
    let told: Vec<_> = leaked
        .iter()
        .map(|group| (group.pid, group.after))
        .collect();
    for expected in [
        (1, Some(After::Unknown)),
        (2, Some(After::PeerClosed)),
        (3, Some(After::ConnectionEnded)),
    ] {
        assert!(told.contains(&expected), "{told:?}");
    }
    for group in &leaked {
        assert_eq!(group.stack, None);
        assert!(group.stack_incomplete.is_some());
    }
    let accepted: Vec<_> = leaked.iter().filter(|group| group.accepted).collect();
    assert_eq!((accepted.len(), accepted[0].oldest_age_s), (1, None));
}
