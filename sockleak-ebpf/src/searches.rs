//! What the kernel side keeps about port searches and failures: aggregates, so that user space
//! has as much to read after a million calls as after one.

use crate::ProcessKey;

/// What a process asked for; [`SearchKey::op`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Op {
    /// connect(), and what sends with MSG_FASTOPEN.
    Connect = 0,
    /// bind().
    Bind = 1,
    /// listen() on a socket without a port, and its check of a port it has.
    Listen = 2,
}

/// Why a call failed, as far as the kernel side can tell; [`FailureKey::cause`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Cause {
    /// None of the below.
    Other = 0,
    /// No port of the namespace's range was usable.
    EphemeralExhausted = 1,
    /// No port of the socket's own IP_LOCAL_PORT_RANGE was usable.
    LocalRangeExhausted = 2,
    /// The socket has a port, and a connection or TIME_WAIT has the same addresses and ports.
    TupleTaken = 3,
    /// No source address fits (before any port search).
    NoSourceAddress = 4,
    /// A cgroup program, a security module or a missing capability said no.
    Denied = 5,
    /// No memory.
    OutOfMemory = 6,
    /// Somebody else has the port.
    PortConflict = 7,
    /// The address belongs to no interface.
    AddressNotLocal = 8,
}

/// Key of the search map: who searched what. All of a process's bind() calls in a namespace
/// share one, as do its listen() calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(
        zerocopy::FromBytes,
        zerocopy::IntoBytes,
        zerocopy::Immutable,
        zerocopy::KnownLayout
    )
)]
#[repr(C)]
pub struct SearchKey {
    /// Who.
    pub process: ProcessKey,
    /// connect: destination, 4 or 16 bytes in network order, the rest zero. Others: zero.
    pub dst: [u64; 2],
    /// Inode number of the socket's network namespace.
    pub netns: u32,
    /// connect: destination port, network order. Others: zero.
    pub dst_port_be: u16,
    /// [`Op`] as an integer.
    pub op: u8,
    /// `AF_INET` or `AF_INET6`, of `dst` for connect, of the socket otherwise. An IPv6 socket
    /// that connects to an IPv4-mapped address searches as IPv4 with the mapped address here.
    pub family: u8,
}

/// Buckets of [`SearchStats::latency`].
pub const LATENCY_BUCKETS: usize = 96;
/// log2 of the first bucket's upper end in ns, and of the buckets per power of two.
const FIRST_OCTAVE: u32 = 8;
const PER_OCTAVE_LOG2: u32 = 2;

/// Bucket of a latency: four per power of two from 256 ns on; the first holds everything below,
/// the last everything from 2^32 ns (4.3 s) on. BPF has no instruction for the place of the highest bit, so the highest
/// ten bits are looked up.
#[inline(always)]
pub const fn latency_bucket(ns: u64) -> usize {
    const EIGHT_OCTAVES: usize = 8 << PER_OCTAVE_LOG2;
    let (shift, octaves) = if ns >> 16 == 0 {
        (FIRST_OCTAVE - PER_OCTAVE_LOG2, 0)
    } else if ns >> 24 == 0 {
        (FIRST_OCTAVE - PER_OCTAVE_LOG2 + 8, EIGHT_OCTAVES)
    } else if ns >> 32 == 0 {
        (FIRST_OCTAVE - PER_OCTAVE_LOG2 + 16, 2 * EIGHT_OCTAVES)
    } else {
        return LATENCY_BUCKETS - 1;
    };
    octaves + BUCKETS[(ns >> shift) as usize & (BUCKETS.len() - 1)] as usize
}

/// Bucket of as many quarters of the first power of two, of the first eight ones.
static BUCKETS: [u8; 1024] = {
    let mut table = [0; 1024];
    let mut quarters = 4;
    while quarters < table.len() {
        let octave = quarters.ilog2() - PER_OCTAVE_LOG2;
        table[quarters] =
            ((octave as usize) << PER_OCTAVE_LOG2) as u8 + (quarters >> octave) as u8 - 4;
        quarters += 1;
    }
    table
};

/// Smallest latency of a bucket, ns; the first starts at 0.
pub const fn latency_bucket_start(bucket: usize) -> u64 {
    if bucket == 0 {
        return 0;
    }
    let octave = FIRST_OCTAVE + (bucket >> PER_OCTAVE_LOG2) as u32;
    (4 + (bucket as u64 & 3)) << (octave - PER_OCTAVE_LOG2)
}

/// Value of the search map. All count since the element was inserted; user space removes
/// elements of processes that are over.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
#[repr(C)]
pub struct SearchStats {
    /// Calls.
    pub calls: u64,
    /// Of those, failed for want of a port.
    pub failed: u64,
    /// Calls whose latency is not known; the others are in `total_ns`, `max_ns` and `latency`.
    pub untimed: u64,
    /// Of the others, those whose latency is only an upper bound (tracepoint backend, success).
    pub upper_bounds: u64,
    /// Sum of latencies, ns.
    pub total_ns: u64,
    /// Longest, ns. Of two calls that end at once on two CPUs one may be missed.
    pub max_ns: u64,
    /// Calls whose CPU time is not known.
    pub unmeasured: u64,
    /// Sum of the others', ns: `total_ns` without the time in which the thread did not run.
    pub cpu_ns: u64,
    /// Calls whose number of examined candidates is not known exactly.
    pub uncounted: u64,
    /// Ports examined in the others.
    pub candidates: u64,
    /// Most in one call, as `max_ns`.
    pub candidates_max: u64,
    /// Calls that came to the second parity of the range: they have examined at least half of
    /// it. Failures that walk the whole range are not among them.
    pub second_parity: u64,
    /// Connections of this key that entered TIME_WAIT.
    pub time_waits: u64,
    /// `bpf_ktime_get_ns()` at the last call.
    pub last_ns: u64,
    /// Calls by [`latency_bucket`]: first those that are not in `second_parity`, then those that
    /// are. So the first has the walks that ended in the parity tried first, calls that named
    /// their port, and failures, even those that have walked the whole range.
    pub latency: [[u32; LATENCY_BUCKETS]; 2],
}

/// Key of the failure map: equal failures are one element with a count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(
        zerocopy::FromBytes,
        zerocopy::IntoBytes,
        zerocopy::Immutable,
        zerocopy::KnownLayout
    )
)]
#[repr(C)]
pub struct FailureKey {
    /// Who, what, whereto.
    pub search: SearchKey,
    /// Source address, as [`SearchKey::dst`]: the one asked for by bind(), the one chosen for
    /// connect(); zero unknown or any.
    pub src: [u64; 2],
    /// errno, positive.
    pub errno: u16,
    /// [`Cause`] as an integer.
    pub cause: u8,
    /// 1: the socket has SO_REUSEADDR, 2: SO_REUSEPORT, 4: IP_BIND_ADDRESS_NO_PORT.
    pub options: u8,
    /// The range that was searched, `low | high << 16`; 0 unknown or not searched.
    pub range: u32,
}

/// [`FailureKey::options`]: SO_REUSEADDR.
pub const OPTION_REUSEADDR: u8 = 1;
/// [`FailureKey::options`]: SO_REUSEPORT.
pub const OPTION_REUSEPORT: u8 = 2;
/// [`FailureKey::options`]: IP_BIND_ADDRESS_NO_PORT.
pub const OPTION_NO_PORT: u8 = 4;

/// Value of the failure map. All count since the element was inserted.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
#[repr(C)]
pub struct FailureStats {
    /// Failures.
    pub count: u64,
    /// Of those, with a known time spent in the port search.
    pub timed: u64,
    /// Sum of those times, ns.
    pub total_ns: u64,
    /// Failures whose number of examined candidates is known exactly.
    pub counted: u64,
    /// Sum of those numbers.
    pub candidates: u64,
    /// The last one, written at once: thread id in the upper half, local port (asked for, or
    /// bound before connect(); 0 any) in the lower.
    pub latest: u64,
    /// `bpf_ktime_get_ns()` at the last one.
    pub last_ns: u64,
}

const _: () = {
    assert!(size_of::<SearchKey>() == 40);
    assert!(size_of::<SearchStats>() == 14 * 8 + 2 * 4 * LATENCY_BUCKETS);
    assert!(size_of::<FailureKey>() == 64);
    assert!(size_of::<FailureStats>() == 56);
    assert!(latency_bucket(255) == 0 && latency_bucket(256) == 0 && latency_bucket(320) == 1);
    let mut bucket = 1;
    while bucket < LATENCY_BUCKETS {
        let start = latency_bucket_start(bucket);
        assert!(latency_bucket(start) == bucket && latency_bucket(start - 1) == bucket - 1);
        bucket += 1;
    }
    assert!(latency_bucket(u64::MAX) == LATENCY_BUCKETS - 1);
    assert!(latency_bucket_start(latency_bucket(1 << 20)) == 1 << 20);
};
