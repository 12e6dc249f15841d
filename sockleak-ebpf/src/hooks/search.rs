//! search: what connect(), bind() and listen() have in common when they look for a port.
//!
//! While a search goes on, its beginning is kept in the socket's entry: the socket is locked,
//! so there is one at a time. What came of it goes into one element per (process, op,
//! destination).

use aya_ebpf::helpers::bpf_ktime_get_ns;
use sockleak_ebpf::{
    EventKind, LATENCY_BUCKETS, Op, ProcessKey, SEARCH_BOUND, SEARCH_FAILED, SEARCH_OPEN,
    SEARCH_TOLD, SOCKET_ADOPTED, SearchKey, SearchStats, SocketEntry, UNKNOWN, latency_bucket,
};

use crate::{
    emit,
    kernel::{Reader, Sock},
    maps::{NO_SEARCHES, SEARCHES, SOCKETS, add, add32, count},
    process,
};

const BPF_NOEXIST: u64 = 1;
const EEXIST: i32 = 17;

/// Ports examined: not known.
pub const UNCOUNTED: u32 = u32::MAX;

const STATE: u32 = SEARCH_OPEN | SEARCH_BOUND | SEARCH_FAILED | SEARCH_TOLD;

/// What a search came to.
pub struct Outcome {
    /// Who searched what.
    pub op: Op,
    /// 0, or a positive errno.
    pub errno: u32,
    /// How long it took, ns, or [`UNKNOWN`].
    pub search_ns: u64,
    /// CPU time of it, ns, or [`UNKNOWN`].
    pub cpu_ns: u64,
    /// `search_ns` is only an upper bound.
    pub upper_bound: bool,
    /// Ports examined, or [`UNCOUNTED`].
    pub candidates: u32,
    /// The chosen port is of the parity that is tried second.
    pub second_parity: bool,
    /// Offset at which the walk began, or [`UNCOUNTED`].
    pub start: u32,
    /// The range, `low | high << 16`.
    pub range: u32,
    /// connect: port of the destination, network order, when the socket may not have it any
    /// more; 0 ask the socket.
    pub dst_port_be: u16,
}

/// Nanoseconds of `CLOCK_MONOTONIC`.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_ns() }
}

/// A search for `sk` begins: marks its entry with `mark` ([`SEARCH_OPEN`] or [`SEARCH_BOUND`]).
/// `sport` is what `inet_sport` still holds of an earlier connection. Returns the entry.
#[inline(always)]
pub fn begin(sk: u64, mark: u32, perturb: u32, sport: u16) -> Option<*mut SocketEntry> {
    let entry = entry(sk)?;
    // SAFETY: a live value of the socket map; the socket is locked by the caller.
    unsafe {
        (*entry).flags = (*entry).flags & !STATE | mark;
        (*entry).perturb = perturb;
        (*entry).errno = sport;
        let ran = process::current_run();
        (*entry).ran_ns = ran.ran_ns;
        (*entry).switches = ran.switches;
        (*entry).search_ns = now();
    }
    Some(entry)
}

/// CPU time of the search of `entry` that has taken `took` ns and ends now.
///
/// A thread that was not switched out has run all the time. One that was has run as long as the
/// scheduler says, which it updates at its ticks: wrong by up to one each time (1 to 10 ms), right
/// in the sum of many.
///
/// # Safety
/// `entry` is a live value of the socket map.
#[inline(always)]
pub unsafe fn cpu_ns(entry: *const SocketEntry, took: u64) -> u64 {
    let ran = process::current_run();
    // SAFETY: passed on to the caller.
    let (switches, ran_ns) = unsafe { ((*entry).switches, (*entry).ran_ns) };
    if switches == ran.switches {
        return took;
    }
    let cpu_ns = ran.ran_ns.wrapping_sub(ran_ns);
    if cpu_ns < took { cpu_ns } else { took }
}

/// The entry of the socket at `sk`; an adopted one for a socket that was not seen when it was
/// made. `None` when the map is full, which is counted.
#[inline(always)]
pub fn entry(sk: u64) -> Option<*mut SocketEntry> {
    if let Some(entry) = SOCKETS.get_ptr_mut(sk) {
        return Some(entry);
    }
    adopt(sk);
    SOCKETS.get_ptr_mut(sk)
}

/// A function of its own, so that the object has it once and not in every hook.
#[inline(never)]
fn adopt(sk: u64) {
    let adopted = SocketEntry::with_flags(SOCKET_ADOPTED);
    if SOCKETS.insert(sk, adopted, BPF_NOEXIST).is_err() {
        count!(searches_unmatched);
    }
}

/// Key of what the current process searches with `sk`.
#[inline(always)]
pub fn key<R: Reader>(op: Op, sk: &Sock<R>, process: ProcessKey) -> SearchKey {
    let (dst, dst_port_be) = match op {
        Op::Connect => (sk.addresses().1, sk.dport_be()),
        Op::Bind | Op::Listen => ([0; 2], 0),
    };
    SearchKey {
        process,
        dst,
        netns: sk.netns(),
        dst_port_be,
        op: op as u8,
        family: sk.family() as u8,
    }
}

/// Adds a search by the current process to what is known.
#[inline(always)]
pub fn account<R: Reader>(sk: &Sock<R>, outcome: &Outcome) {
    // The index need not be a constant, and the verifier must see its bound.
    match outcome.op {
        Op::Connect => count!(searches[0]),
        Op::Bind => count!(searches[1]),
        Op::Listen => count!(searches[2]),
    }
    let mut key = key(outcome.op, sk, process::current_key());
    if outcome.dst_port_be != 0 {
        key.dst_port_be = outcome.dst_port_be;
    }
    if let Some(stats) = stats(&key) {
        // SAFETY: a live value of the search map.
        unsafe { take_in(stats, outcome) }
    }
    let kind = match outcome.op {
        Op::Connect => EventKind::Connect,
        Op::Bind | Op::Listen => EventKind::Bind,
    };
    emit::search(kind, sk, outcome);
}

#[inline(always)]
fn stats(key: &SearchKey) -> Option<*mut SearchStats> {
    if let Some(stats) = SEARCHES.get_ptr_mut(key) {
        return Some(stats);
    }
    first_search(key);
    SEARCHES.get_ptr_mut(key)
}

/// As [`adopt`].
#[inline(never)]
fn first_search(key: &SearchKey) {
    // Makes the process known, should this be its first socket that we meet.
    let _ = process::record(&key.process);
    if let Some(nothing) = NO_SEARCHES.get(0) {
        match SEARCHES.insert(key, nothing, BPF_NOEXIST) {
            Ok(()) => {}
            // Another thread of the process was faster.
            Err(error) if error == -EEXIST => {}
            Err(_) => count!(searches_full),
        }
    }
}

/// # Safety
/// `stats` is a live value of the search map.
#[inline(always)]
unsafe fn take_in(stats: *mut SearchStats, outcome: &Outcome) {
    // SAFETY: passed on to the caller.
    unsafe {
        add(&raw mut (*stats).calls, 1);
        (*stats).last_ns = now();
        if outcome.errno != 0 {
            add(&raw mut (*stats).failed, 1);
        }
        if outcome.second_parity {
            add(&raw mut (*stats).second_parity, 1);
        }
        if outcome.candidates != UNCOUNTED {
            let candidates = u64::from(outcome.candidates);
            add(&raw mut (*stats).counted, 1);
            add(&raw mut (*stats).candidates, candidates);
            if candidates > (*stats).candidates_max {
                (*stats).candidates_max = candidates;
            }
        }
        if outcome.cpu_ns != UNKNOWN {
            add(&raw mut (*stats).measured, 1);
            add(&raw mut (*stats).cpu_ns, outcome.cpu_ns);
        }
        if outcome.search_ns == UNKNOWN {
            return;
        }
        add(&raw mut (*stats).timed, 1);
        add(&raw mut (*stats).total_ns, outcome.search_ns);
        if outcome.upper_bound {
            add(&raw mut (*stats).upper_bounds, 1);
        }
        if outcome.search_ns > (*stats).max_ns {
            (*stats).max_ns = outcome.search_ns;
        }
        let of_parity = if outcome.second_parity {
            LATENCY_BUCKETS
        } else {
            0
        };
        // The verifier must see the bound, which the compiler knows.
        let bucket = core::hint::black_box(of_parity + latency_bucket(outcome.search_ns));
        if bucket < 2 * LATENCY_BUCKETS {
            add32((&raw mut (*stats).latency).cast::<u32>().add(bucket), 1);
        }
    }
}
