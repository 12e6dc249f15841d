//! Map values.

use sockleak_ebpf::{ProcessKey, ProcessSlot};

use super::{DecodeError, bytes16, exactly};
use crate::{
    model::{Counters, ProcessCounters, ProcessId},
    sanitize::printable_c,
};

/// Sums the per-CPU copies of the host-wide counters.
///
/// # Errors
/// When a copy does not have the agreed size.
pub fn counters<'b>(copies: impl IntoIterator<Item = &'b [u8]>) -> Result<Counters, DecodeError> {
    let mut sum = Counters::default();
    for copy in copies {
        let copy: sockleak_ebpf::Counters = exactly("counters value", copy)?;
        let [alloc, accept, destroy, release, connect, bind] = copy.dropped;
        for (total, part) in [
            (&mut sum.allocated, copy.allocated),
            (&mut sum.allocated_kernel, copy.allocated_kernel),
            (&mut sum.children, copy.children),
            (&mut sum.accepted, copy.accepted),
            (&mut sum.destroyed_known, copy.destroyed_known),
            (&mut sum.destroyed_kernel, copy.destroyed_kernel),
            (&mut sum.destroyed_unknown, copy.destroyed_unknown),
            (&mut sum.sockets_full, copy.sockets_full),
            (&mut sum.sockets_failed, copy.sockets_failed),
            (&mut sum.sockets_stale, copy.sockets_stale),
            (&mut sum.sockets_undeleted, copy.sockets_undeleted),
            (&mut sum.processes_full, copy.processes_full),
            (&mut sum.processes_failed, copy.processes_failed),
            (&mut sum.dropped_alloc, alloc),
            (&mut sum.dropped_accept, accept),
            (&mut sum.dropped_destroy, destroy),
            (&mut sum.dropped_release, release),
            (&mut sum.dropped_connect, connect),
            (&mut sum.dropped_bind, bind),
            (&mut sum.searches_full, copy.searches_full),
            (&mut sum.failures_full, copy.failures_full),
            (&mut sum.searches_unmatched, copy.searches_unmatched),
            (&mut sum.endings_full, copy.endings_full),
            (&mut sum.stacks_collided, copy.stacks_collided),
            (&mut sum.stacks_faulted, copy.stacks_faulted),
            (&mut sum.stacks_failed, copy.stacks_failed),
        ] {
            *total = total.saturating_add(part);
        }
        for (totals, parts) in [
            (&mut sum.searches, copy.searches),
            (&mut sum.failures, copy.failures),
        ] {
            for (total, part) in totals.iter_mut().zip(parts) {
                *total = total.saturating_add(part);
            }
        }
    }
    Ok(sum)
}

/// The process behind a key of the process map.
///
/// # Errors
/// When the key does not have the agreed size.
pub fn process_id(key: &[u8]) -> Result<ProcessId, DecodeError> {
    let key: ProcessKey = exactly("process key", key)?;
    Ok(ProcessId::from_kernel(key.tgid, key.start_boottime_ns))
}

/// The process of an element of the process map.
///
/// # Errors
/// When it is too short.
pub fn process_id_of(bytes: &[u8]) -> Result<ProcessId, DecodeError> {
    process_id(bytes.get(..size_of::<ProcessKey>()).unwrap_or(bytes))
}

/// Decodes one element of the process map; `None` for one that is just being filled or cleared.
///
/// # Errors
/// When it does not have the agreed size.
pub fn process_slot(bytes: &[u8]) -> Result<Option<ProcessCounters>, DecodeError> {
    let slot: ProcessSlot = exactly("process element", bytes)?;
    if slot.ready != 1 {
        return Ok(None);
    }
    let ProcessSlot { key, stats, .. } = slot;
    Ok(Some(ProcessCounters {
        process: ProcessId::from_kernel(key.tgid, key.start_boottime_ns),
        comm: printable_c(&bytes16(stats.comm)),
        netns: (stats.netns != 0).then_some(stats.netns),
        cgroup_id: (stats.cgroup_id != 0).then_some(stats.cgroup_id),
        allocated: stats.allocated,
        destroyed: stats.destroyed,
        accepted: stats.accepted,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_summed() {
        let copy = |allocated: u64, last: u64| {
            let mut words = [0u64; 32];
            words[0] = allocated;
            words[29] = last;
            words
                .iter()
                .flat_map(|word| word.to_ne_bytes())
                .collect::<Vec<u8>>()
        };
        let (a, b) = (copy(3, 1), copy(u64::MAX, 2));
        let sum = counters([a.as_slice(), b.as_slice()]).unwrap();
        assert_eq!(sum.allocated, u64::MAX, "saturates");
        assert_eq!(sum.dropped_release, 3);
        assert!(counters([&a[1..]]).is_err());
    }

    #[test]
    fn a_process_is_read_field_by_field() {
        let mut bytes = 120_000_000u64.to_ne_bytes().to_vec();
        for word in [77_u32, 0, 1, 0] {
            bytes.extend(word.to_ne_bytes());
        }
        for word in [5u64, 4, 3, 99] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(4_026_531_840u32.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(*b"java\0\0\0\0\0\0\0\0\0\0\0\0");
        let process = process_slot(&bytes).unwrap().unwrap();
        assert_eq!(
            process.process,
            ProcessId {
                pid: 77,
                start_ticks: 12
            }
        );
        assert_eq!(process.comm, "java");
        assert_eq!((process.allocated, process.destroyed), (5, 4));
        assert_eq!(process.accepted, 3);
        assert_eq!(process.cgroup_id, Some(99));
        assert!(process_slot(&bytes[1..]).is_err());
        bytes[16] = 0;
        assert_eq!(process_slot(&bytes), Ok(None), "not there yet");
    }
}
