//! Bytes of the kernel side, whatever they are: every one is decoded or refused.

use std::mem::size_of;

use sockleak_ebpf::{Ending, EventRecord, FailureKey, InventoryRecord, LeftKey, Site};

use crate::sanitize::is_harmless;

/// The first byte says which record; key and value follow each other.
pub fn records(data: &[u8]) {
    let Some((which, rest)) = data.split_first() else {
        return;
    };
    let split = |key: usize| rest.split_at_checked(key).unwrap_or((rest, &[]));
    match which % 12 {
        0 => {
            let decoded = super::event(rest);
            assert!(decoded.is_err() || rest.len() == size_of::<EventRecord>());
            if let Ok(event) = decoded {
                printable(&event.comm);
                assert!(!event.kind.name().is_empty());
            }
        }
        1 => {
            let decoded = super::held_socket(rest);
            assert!(decoded.is_err() || rest.len() == size_of::<InventoryRecord>());
            if let Ok(socket) = decoded {
                let v4 = socket.family == crate::model::Family::V4;
                assert_eq!(socket.local.is_ipv4(), v4);
                assert!(socket.peer.is_none_or(|peer| peer.port() != 0));
            }
        }
        2 => {
            if let Ok(Some(process)) = super::process_slot(rest) {
                printable(&process.comm);
                assert_ne!(process.netns, Some(0));
                assert_eq!(super::process_id_of(rest), Ok(process.process));
            }
        }
        3 => {
            if let Ok(Some(search)) = super::search_slot(rest) {
                assert_eq!(super::search_process(rest), Ok(search.id.process));
            }
        }
        4 => {
            let (key, value) = split(size_of::<FailureKey>());
            if let Ok(failure) = super::failure_counters(key, value) {
                assert_eq!(super::search_process(key), Ok(failure.id.search.process));
            }
        }
        5 => {
            let one = super::counters([rest]);
            // As on a machine with three CPUs; nothing may overflow.
            if let (Ok(one), Ok(three)) = (one, super::counters([rest; 3])) {
                assert!(three.allocated >= one.allocated && three.born() >= one.born());
                assert!(three.destroyed() >= one.destroyed());
            }
        }
        6 => {
            let _ = super::ending(rest);
            assert!(super::ending(rest).is_err() || rest.len() == size_of::<Ending>());
        }
        7 => assert!(super::site(rest).is_err() || rest.len() == size_of::<Site>()),
        8 => {
            let (key, value) = split(size_of::<LeftKey>());
            if let Ok(left) = super::left(key, value) {
                printable(&left.comm);
            }
        }
        9 => {
            let _ = super::code(rest);
        }
        10 => {
            let _ = super::run_event(rest);
            if let Ok((_, path)) = super::executable(rest) {
                assert!(!path.contains(&0));
            }
        }
        _ => {
            let _ = super::run_totals(rest);
        }
    }
}

fn printable(text: &str) {
    assert!(text.chars().all(is_harmless), "{text:?}");
}
