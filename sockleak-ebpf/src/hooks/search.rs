//! search: what connect(), bind() and listen() have in common when they look for a port.
//!
//! While a search goes on, its beginning is kept in the socket's entry: the socket is locked,
//! so there is one at a time. What came of it goes into one element per (process, op,
//! destination).

use sockleak_ebpf::{
    EventKind, LATENCY_BUCKETS, NO_SLOT, Op, PROBES, ProcessKey, SEARCH_BOUND, SEARCH_FAILED,
    SEARCH_KNOWN, SEARCH_OPEN, SEARCH_TOLD, SOCKET_ADOPTED, SearchKey, SearchSlot, SearchStats,
    SocketEntry, UNKNOWN, latency_bucket, scaled,
};

use crate::{
    constants::SEARCH_SLOTS,
    emit,
    kernel::{Net, Reader, Sock},
    maps::{SEARCH_CLAIMS, SEARCHES, add, add32, claimed, opaque_zero},
    percpu::{count, now},
    process::{self, Thread},
    sockets::{self, Inserted, New},
};

/// Ports examined: not known.
pub const UNCOUNTED: u32 = u32::MAX;

const STATE: u32 = SEARCH_OPEN | SEARCH_BOUND | SEARCH_FAILED | SEARCH_TOLD | SEARCH_KNOWN;

/// What a search came to.
#[derive(Clone, Copy)]
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
    /// connect: port of the destination, network order.
    pub dst_port_be: u16,
}

/// A search for `sk` begins: marks its entry with `mark` ([`SEARCH_OPEN`] or [`SEARCH_BOUND`]).
/// `sport` is what `inet_sport` still holds of an earlier connection. Returns the entry.
#[inline(always)]
pub fn begin<R: Reader>(
    sk: &Sock<R>,
    mark: u32,
    perturb: u32,
    sport: u16,
) -> Option<*mut SocketEntry> {
    let entry = entry(sk)?;
    // SAFETY: a live value of the socket map; the socket is locked by the caller.
    unsafe {
        (*entry).flags = (*entry).flags & !STATE | mark;
        (*entry).perturb = perturb;
        (*entry).errno = sport;
        let thread = process::thread();
        (*entry).ran_ns = thread.ran_ns() as u32;
        (*entry).switches = thread.switches();
        (*entry).search_ns = now();
    }
    Some(entry)
}

/// CPU time of the search of `entry` by the current `thread` that has taken `took` ns and ends now.
///
/// A thread that was not switched out has run all the time. One that was has run as long as the
/// scheduler says, which it updates at its ticks: wrong by up to one each time (1 to 10 ms), right
/// in the sum of many.
///
/// # Safety
/// `entry` is a live value of the socket map.
#[inline(always)]
pub unsafe fn cpu_ns(entry: *const SocketEntry, thread: &Thread, took: u64) -> u64 {
    // SAFETY: passed on to the caller.
    let (switches, ran_ns) = unsafe { ((*entry).switches, (*entry).ran_ns) };
    if switches == thread.switches() {
        return took;
    }
    // The lower half: no search takes seconds.
    let cpu_ns = u64::from((thread.ran_ns() as u32).wrapping_sub(ran_ns));
    if cpu_ns < took { cpu_ns } else { took }
}

/// The entry of the socket at `sk`; an adopted one for a socket that was not seen when it was
/// made. `None` when it is no TCP socket (those in the table are, so nothing needs to be read to know it),
/// or when the map is full, which is counted.
#[inline(always)]
pub fn entry<R: Reader>(sk: &Sock<R>) -> Option<*mut SocketEntry> {
    if let Some(entry) = sockets::find_at_once(sk.addr()) {
        return Some(entry);
    }
    if !sk.is_tcp() {
        return None;
    }
    adopt(sk.addr());
    sockets::find(sk.addr())
}

/// A function of its own, so that the object has it once and not in every hook.
#[inline(never)]
fn adopt(sk: u64) {
    let adopted = New {
        sk,
        birth_ns: 0,
        slot: NO_SLOT,
        mark: 0,
        flags: SOCKET_ADOPTED,
        stack: 0,
    };
    if matches!(sockets::insert(&adopted), Inserted::Full | Inserted::Failed) {
        count!(searches_unmatched);
    }
}

/// Key of what the process searches with `sk`; the port is that of the destination, for connect.
#[inline(always)]
pub fn key<R: Reader>(
    op: Op,
    sk: &Sock<R>,
    net: &Net<R>,
    process: ProcessKey,
    dst_port_be: u16,
) -> SearchKey {
    let family = sk.family();
    let (dst, dst_port_be) = match op {
        Op::Connect => (sk.peer_of(family), dst_port_be),
        Op::Bind | Op::Listen => ([opaque_zero(); 2], 0),
    };
    SearchKey {
        process,
        dst,
        netns: net.inum(),
        dst_port_be,
        op: op as u8,
        family: family as u8,
    }
}

/// Adds a search by the current `thread`, which ended at `now_ns`, to what is known. Returns its place in
/// the search map, [`NO_SLOT`] when there is none.
#[inline(always)]
pub fn account<R: Reader>(
    sk: &Sock<R>,
    net: &Net<R>,
    thread: &Thread,
    outcome: &Outcome,
    now_ns: u64,
) -> u32 {
    // The index need not be a constant, and the verifier must see its bound.
    match outcome.op {
        Op::Connect => count!(searches[0]),
        Op::Bind => count!(searches[1]),
        Op::Listen => count!(searches[2]),
    }
    let key = key(outcome.op, sk, net, thread.process(), outcome.dst_port_be);
    let (slot, place) = place_of(key.words());
    if !place.is_null() {
        // SAFETY: a live value of the search map.
        unsafe { take_in(&raw mut (*place).stats, outcome, now_ns) }
    }
    if emit::wanted() {
        let kind = match outcome.op {
            Op::Connect => EventKind::Connect,
            Op::Bind | Op::Listen => EventKind::Bind,
        };
        // A copy, so that the original need not be in memory.
        emit::search(kind, sk, *outcome);
    }
    slot
}

#[inline(always)]
fn place_after(first: u32, probe: u32) -> u32 {
    let place = first + probe;
    let all = SEARCH_SLOTS.load();
    if place >= all { place - all } else { place }
}

/// Whether this is the place of the key with these words.
#[inline(always)]
fn is_at(slot: u32, words: [u64; 5]) -> bool {
    match SEARCHES.get_ptr(slot) {
        // SAFETY: a live element of the map.
        Some(place) => unsafe { is_of(place, words) },
        None => false,
    }
}

/// # Safety
/// `place` is a live element of the search map.
#[inline(always)]
unsafe fn is_of(place: *const SearchSlot, words: [u64; 5]) -> bool {
    // SAFETY: passed on to the caller; a key is five words, without padding.
    unsafe {
        let key = (&raw const (*place).key).cast::<u64>();
        (&raw const (*place).ready).read_volatile() == 1
            && key.read_volatile() == words[0]
            && key.add(1).read_volatile() == words[1]
            && key.add(2).read_volatile() == words[2]
            && key.add(3).read_volatile() == words[3]
            && key.add(4).read_volatile() == words[4]
    }
}

/// The place of the key with these words; [`NO_SLOT`] and null when there is none.
#[inline(always)]
fn place_of(words: [u64; 5]) -> (u32, *mut SearchSlot) {
    let first = scaled(SearchKey::hash(words), SEARCH_SLOTS.load());
    if let Some(place) = SEARCHES.get_ptr_mut(first) {
        // SAFETY: a live element of the map.
        if unsafe { is_of(place, words) } {
            return (first, place);
        }
    }
    let [start, tgid, high, low, rest] = words;
    let slot = search_place(start, tgid, high, low, rest);
    let place = SEARCHES.get_ptr_mut(slot);
    (slot, place.unwrap_or(core::ptr::null_mut()))
}

/// The place of the key that has these words, if it is not the first one. A global function, which the verifier
/// follows once and not from every state that its callers can be in; such a function takes nothing but numbers
/// in 5.10.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn search_place(start: u64, tgid: u64, high: u64, low: u64, rest: u64) -> u32 {
    let words = [start, tgid, high, low, rest];
    // SAFETY: a key is five words, without padding.
    let key: SearchKey = unsafe { core::mem::transmute(words) };
    elsewhere(&key, scaled(SearchKey::hash(words), SEARCH_SLOTS.load()))
}

/// As [`adopt`].
#[inline(never)]
fn elsewhere(key: &SearchKey, first: u32) -> u32 {
    let mut probe = 1;
    while probe < PROBES {
        let slot = place_after(first, probe);
        if is_at(slot, key.words()) {
            return slot;
        }
        probe += 1;
    }
    first_search(key, first)
}

#[inline(never)]
fn first_search(key: &SearchKey, first: u32) -> u32 {
    // Makes the process known, should this be its first socket that we meet.
    let _ = process::record(&key.process);
    let mut probe = 0;
    while probe < PROBES {
        let slot = place_after(first, probe);
        if let (Some(place), Some(claim)) =
            (SEARCHES.get_ptr_mut(slot), SEARCH_CLAIMS.get_ptr_mut(slot))
        {
            // SAFETY: live elements of the maps; a place that is claimed is nobody else's, and its counters are
            // zero.
            unsafe {
                if claimed(claim) {
                    (*place).key = *key;
                    (*place).mark = key.process.mark();
                    (&raw mut (*place).ready).write_volatile(1);
                    return slot;
                }
            }
        }
        probe += 1;
    }
    count!(searches_full);
    NO_SLOT
}

/// # Safety
/// `stats` is a live value of the search map.
#[inline(always)]
unsafe fn take_in(stats: *mut SearchStats, outcome: &Outcome, now_ns: u64) {
    // SAFETY: passed on to the caller.
    unsafe {
        add(&raw mut (*stats).calls, 1);
        (*stats).last_ns = now_ns;
        if outcome.errno != 0 {
            add(&raw mut (*stats).failed, 1);
        }
        if outcome.second_parity {
            add(&raw mut (*stats).second_parity, 1);
        }
        if outcome.candidates != UNCOUNTED {
            let candidates = u64::from(outcome.candidates);
            add(&raw mut (*stats).candidates, candidates);
            if candidates > (*stats).candidates_max {
                (*stats).candidates_max = candidates;
            }
        } else {
            add(&raw mut (*stats).uncounted, 1);
        }
        if outcome.cpu_ns == UNKNOWN {
            add(&raw mut (*stats).unmeasured, 1);
        } else {
            add(&raw mut (*stats).cpu_ns, outcome.cpu_ns);
        }
        if outcome.search_ns == UNKNOWN {
            add(&raw mut (*stats).untimed, 1);
            return;
        }
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
