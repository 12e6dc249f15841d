//! Elements of the search map and the failure map.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use sockleak_ebpf::{
    FailureKey, FailureStats, OPTION_NO_PORT, OPTION_REUSEADDR, OPTION_REUSEPORT, SearchKey,
    SearchSlot,
};

use super::{DecodeError, address, exactly, family};
use crate::model::{
    Cause, FailureCounters, FailureId, Op, PortOptions, ProcessId, SearchCounters, SearchId,
};

fn search_id(key: &SearchKey) -> Result<SearchId, DecodeError> {
    let op = match key.op {
        0 => Op::Connect,
        1 => Op::Bind,
        2 => Op::Listen,
        other => return Err(DecodeError::Kind(other.into())),
    };
    let family = family(key.family.into())?;
    let dst = (op == Op::Connect).then(|| {
        let dst = address(family, key.dst, u16::from_be(key.dst_port_be));
        unmapped(dst)
    });
    Ok(SearchId {
        process: ProcessId::from_kernel(key.process.tgid, key.process.start_boottime_ns),
        op,
        netns: key.netns,
        family,
        dst,
    })
}

/// `::ffff:a.b.c.d` is the IPv4 destination a.b.c.d.
fn unmapped(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Decodes one element of the search map; `None` for one that is just being filled or cleared.
///
/// # Errors
/// When it does not have the agreed size, or holds a value that is not sent.
pub fn search_slot(bytes: &[u8]) -> Result<Option<SearchCounters>, DecodeError> {
    let slot: SearchSlot = exactly("search element", bytes)?;
    if slot.ready != 1 {
        return Ok(None);
    }
    let SearchSlot { key, stats, .. } = slot;
    Ok(Some(SearchCounters {
        id: search_id(&key)?,
        calls: stats.calls,
        failed: stats.failed,
        timed: stats.calls.saturating_sub(stats.untimed),
        upper_bounds: stats.upper_bounds,
        total_ns: stats.total_ns,
        max_ns: stats.max_ns,
        measured: stats.calls.saturating_sub(stats.unmeasured),
        cpu_ns: stats.cpu_ns,
        counted: stats.calls.saturating_sub(stats.uncounted),
        candidates: stats.candidates,
        candidates_max: stats.candidates_max,
        second_parity: stats.second_parity,
        time_waits: stats.time_waits,
        last_ns: stats.last_ns,
        latency: Box::new(stats.latency),
    }))
}

/// The process of an element of the search map or a key of the failure map: both begin with one.
///
/// # Errors
/// When the key is too short.
pub fn search_process(key: &[u8]) -> Result<ProcessId, DecodeError> {
    let size = size_of::<sockleak_ebpf::ProcessKey>();
    super::process_id(key.get(..size).unwrap_or(key))
}

/// Decodes one element of the failure map.
///
/// # Errors
/// As [`search_counters`].
pub fn failure_counters(key: &[u8], value: &[u8]) -> Result<FailureCounters, DecodeError> {
    let key: FailureKey = exactly("failure key", key)?;
    let stats: FailureStats = exactly("failure value", value)?;
    let search = search_id(&key.search)?;
    let cause = match key.cause {
        0 => Cause::Other,
        1 => Cause::EphemeralExhausted,
        2 => Cause::LocalRangeExhausted,
        3 => Cause::DuplicateTuple,
        4 => Cause::NoSourceAddress,
        5 => Cause::Denied,
        6 => Cause::OutOfMemory,
        7 => Cause::PortConflict,
        8 => Cause::AddressNotLocal,
        other => return Err(DecodeError::Kind(other.into())),
    };
    let src = address(search.family, key.src, 0).ip().to_canonical();
    let any = src.is_unspecified() || src == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let (low, high) = ((key.range & 0xffff) as u16, (key.range >> 16) as u16);
    Ok(FailureCounters {
        id: FailureId {
            search,
            cause,
            errno: key.errno,
            src: (!any).then_some(src),
            range: (key.range != 0).then_some((low, high)),
            options: PortOptions {
                reuse_addr: key.options & OPTION_REUSEADDR != 0,
                reuse_port: key.options & OPTION_REUSEPORT != 0,
                no_port: key.options & OPTION_NO_PORT != 0,
            },
        },
        count: stats.count,
        timed: stats.timed,
        total_ns: stats.total_ns,
        counted: stats.counted,
        candidates: stats.candidates,
        tid: (stats.latest >> 32) as u32,
        port: Some(stats.latest as u16).filter(|port| *port != 0),
        last_ns: stats.last_ns,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sockleak_ebpf::{AF_INET, AF_INET6, ProcessKey};
    use zerocopy::IntoBytes;

    use super::*;

    fn key(family: u16, dst: [u8; 16]) -> FailureKey {
        let word = |half: &[u8]| u64::from_ne_bytes(half.try_into().unwrap());
        FailureKey {
            search: SearchKey {
                process: ProcessKey {
                    start_boottime_ns: 120_000_000,
                    tgid: 77,
                    pad: 0,
                },
                dst: [word(&dst[..8]), word(&dst[8..])],
                netns: 9,
                dst_port_be: 6379u16.to_be(),
                op: 0,
                family: family as u8,
            },
            src: [0; 2],
            errno: 99,
            cause: 1,
            options: OPTION_REUSEADDR,
            range: 32768 | 60999 << 16,
        }
    }

    #[test]
    fn latencies_are_read_by_parity() {
        let mut dst = [0; 16];
        dst[..4].copy_from_slice(&[10, 0, 0, 5]);
        let mut bytes = key(AF_INET, dst).search.as_bytes().to_vec();
        bytes.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        bytes.resize(size_of::<SearchSlot>(), 0);
        let words = bytes.len() - 2 * 96 * 4;
        bytes[words + 7 * 4] = 3;
        bytes[words + (96 + 9) * 4] = 5;
        let search = search_slot(&bytes).unwrap().unwrap();
        let [first, second] = &*search.latency;
        assert_eq!((first[7], second[9]), (3, 5));
        assert_eq!(first.iter().chain(second).sum::<u32>(), 8);
        bytes[40] = 0;
        assert_eq!(search_slot(&bytes), Ok(None), "not there yet");
        bytes.pop();
        assert!(search_slot(&bytes).is_err());
    }

    fn value(words: [u64; 7]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn a_failure_is_read_field_by_field() {
        let mut dst = [0; 16];
        dst[..4].copy_from_slice(&[10, 0, 0, 5]);
        let key = key(AF_INET, dst);
        let value = value([4, 3, 900, 2, 28_232, 11 << 32 | 8080, 5]);
        let failure = failure_counters(key.as_bytes(), &value).unwrap();
        assert_eq!(
            failure.id.search.dst,
            Some("10.0.0.5:6379".parse().unwrap())
        );
        assert_eq!(failure.id.cause, Cause::EphemeralExhausted);
        assert_eq!((failure.id.errno, failure.id.src), (99, None));
        assert_eq!(failure.id.range, Some((32768, 60999)));
        assert!(failure.id.options.reuse_addr && !failure.id.options.no_port);
        assert_eq!(
            (failure.count, failure.timed, failure.total_ns),
            (4, 3, 900)
        );
        assert_eq!((failure.counted, failure.candidates), (2, 28_232));
        assert_eq!((failure.tid, failure.port), (11, Some(8080)));
        assert_eq!(search_process(key.as_bytes()).unwrap().pid, 77);
    }

    #[test]
    fn a_mapped_destination_is_ipv4() {
        let dst = "::ffff:10.0.0.5".parse::<Ipv6Addr>().unwrap().octets();
        let failure = failure_counters(key(AF_INET6, dst).as_bytes(), &value([1; 7])).unwrap();
        assert_eq!(
            failure.id.search.dst,
            Some("10.0.0.5:6379".parse().unwrap())
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(key in proptest::collection::vec(any::<u8>(), 64),
                                            value in proptest::collection::vec(any::<u8>(), 0..600),
                                            slot in proptest::collection::vec(any::<u8>(), size_of::<SearchSlot>())) {
            let _ = failure_counters(&key, &value);
            let _ = search_slot(&slot);
            let _ = search_slot(&value);
            let _ = search_process(&value);
        }
    }
}
