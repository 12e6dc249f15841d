//! connect: the search for a local port, or the check of the one the socket has.
//!
//! Kernel functions:
//! - `int __inet_hash_connect(struct inet_timewait_death_row *death_row, struct sock *sk, u64
//!   port_offset, ...)`, 5.10 to 7.2, with `check_established` as fourth argument up to 6.12 and
//!   `hash_port0` before it from 6.18 on; `inet_hash_connect` and `inet6_hash_connect` end in it
//!   and nothing else calls it. Process context, socket locked. Returns 0, -EADDRNOTAVAIL or
//!   -ENOMEM.
//! - `void inet_bhash2_reset_saddr(struct sock *sk)`, 6.12 to 7.2 (6.1 where backported): tcp_v4_connect
//!   and tcp_v6_connect call it after a search in vain, when the state is CLOSE again and the
//!   destination still there; tcp_disconnect calls it, too, after it has cleared the destination.
//!   A kprobe's program is not preempted, so none is skipped because a preempted task is inside
//!   of it, which happens to trampolines where many threads fail at once: failures are counted
//!   there.
//! - `inet_sock_set_state(const struct sock *sk, int oldstate, int newstate)`, where there are no
//!   kprobes or no such function: connect() sets SYN_SENT before the search and CLOSE after one in
//!   vain. Tracepoint programs run with preemption off up to 6.18; in 7.2 they are skipped as
//!   trampolines are.
//! - `int tcp_v6_connect(struct sock *sk, struct sockaddr *uaddr, int addr_len)`
//!   (`sockaddr_unsized` in 7.2): -EADDRNOTAVAIL without a search means no source address.
//! - `void tcp_time_wait(struct sock *sk, int state, int timeo)`, 5.10 to 7.2: the connection
//!   goes on as a TIME_WAIT mini-socket. Process context or softirq.

use aya_ebpf::Global;
use sockleak_ebpf::{
    Cause, NO_SLOT, Op, SEARCH_BOUND, SEARCH_FAILED, SEARCH_KNOWN, SEARCH_OPEN, SEARCH_TOLD,
    SOCKET_ADOPTED, SocketEntry, UNKNOWN, Walk,
};

use super::{
    ending,
    failure::{self, EADDRNOTAVAIL, ENOMEM},
    search::{self, Outcome, UNCOUNTED},
};
use crate::{
    constants::{NUMBER, ONE_PASS},
    emit,
    kernel::{Probe, Reader, Sock},
    maps::{SEARCHES, Shared, add},
    percpu::{count, now},
    process, sockets,
};

/// Address of the variable `table_perturb` (a pointer to `u32[65536]`); 0 unknown.
#[unsafe(no_mangle)]
pub static TABLE_PERTURB: Global<u64> = Global::new(0);

/// `INET_TABLE_PERTURB_SIZE - 1` with the default order of 16.
const PERTURB_MASK: u64 = 0xffff;

/// Where `table_perturb` points, once it has been read: it never changes.
static PERTURB: Shared<u64> = Shared::new(0);

/// 1: a slot has moved as a search said it should, so the slots are where they are looked for.
static PERTURB_PROVEN: Shared<u32> = Shared::new(0);

/// The slot of `table_perturb` that a search towards one destination uses; `None` unknown. The
/// kernel fills the table in the first search after boot (`get_random_sleepable_once`): until
/// then the slots are 0, which the callers take for unknown.
#[inline(always)]
fn perturb(port_offset: u64) -> Option<u32> {
    let mut table = PERTURB.load();
    if table == 0 {
        table = table_perturb();
    }
    // Kernels before 5.18 without backports have an array here, not a pointer to one. Kernel
    // addresses begin with ff, with five levels of page tables no more than that.
    if table >> 56 != 0xff {
        return None;
    }
    let slot = (table + (port_offset & PERTURB_MASK) * 4) as *const u8;
    // SAFETY: a number without a type, which is read as the first member of a structure that is no more than that.
    Some(unsafe { Probe::member(slot, &NUMBER) })
}

#[inline(never)]
fn table_perturb() -> u64 {
    let variable = TABLE_PERTURB.load();
    if variable == 0 {
        return 0;
    }
    // SAFETY: the helper checks the address.
    let table: u64 = unsafe { Probe::read(variable as *const u8) };
    PERTURB.store(table);
    table
}

/// At entry of `__inet_hash_connect`.
#[inline(always)]
pub fn begin<R: Reader>(sk: &Sock<R>, port_offset: u64) {
    let (mark, perturb) = if sk.num() != 0 {
        (SEARCH_BOUND, 0)
    } else {
        (SEARCH_OPEN, perturb(port_offset).unwrap_or(0))
    };
    if let Some(entry) = search::begin(sk, mark, perturb, 0) {
        // SAFETY: a live value of the socket map; the socket is locked by the caller.
        unsafe { ending::begin_anew(entry) }
    }
}

/// The state of `sk` goes from CLOSE to SYN_SENT, with which connect() begins: for the
/// tracepoint backend.
#[inline(always)]
pub fn begin_at_syn_sent<R: Reader>(sk: &Sock<R>) {
    let mark = if sk.num() != 0 {
        SEARCH_BOUND
    } else {
        SEARCH_OPEN
    };
    if let Some(entry) = search::begin(sk, mark, 0, sk.sport_be()) {
        // SAFETY: a live value of the socket map; the socket is locked by the caller.
        unsafe { ending::begin_anew(entry) }
    }
}

/// At exit of `__inet_hash_connect`, which returned `result`.
#[inline(always)]
pub fn end<R: Reader>(sk: &Sock<R>, port_offset: u64, result: i32) {
    let Some(entry) = search::entry(sk) else {
        return;
    };
    let errno = result.wrapping_neg() as u32;
    let now_ns = now();
    let thread = process::thread();
    // SAFETY: a live value of the socket map; the socket is locked by the caller.
    let (flags, took, cpu_ns, before) = unsafe {
        let flags = (*entry).flags;
        let (took, cpu_ns, before) = if flags & (SEARCH_OPEN | SEARCH_BOUND) != 0 {
            let took = now_ns.wrapping_sub((*entry).search_ns);
            (took, search::cpu_ns(entry, &thread, took), (*entry).perturb)
        } else {
            (UNKNOWN, UNKNOWN, 0)
        };
        (*entry).search_ns = took;
        (*entry).errno = errno as u16;
        // A failed search stays marked for `no_port`, which follows.
        (*entry).flags = flags & !SEARCH_OPEN | SEARCH_TOLD;
        (flags, took, cpu_ns, before)
    };
    if flags & SEARCH_BOUND != 0 {
        return;
    }
    if took == UNKNOWN {
        count!(searches_unmatched);
    }
    let net = sk.net();
    let (range, own) = sk.port_range_in(&net);
    let (port, dst_port_be) = sk.ports();
    let mut outcome = Outcome {
        op: Op::Connect,
        errno,
        search_ns: took,
        cpu_ns,
        upper_bound: false,
        candidates: UNCOUNTED,
        second_parity: false,
        start: UNCOUNTED,
        range,
        dst_port_be,
    };
    let walk = walk(range, own);
    if errno != 0 {
        if errno == EADDRNOTAVAIL && range != 0 {
            outcome.candidates = walk.remaining();
        }
    } else if range != 0 {
        let port = u32::from(port);
        outcome.second_parity = walk.is_second(port);
        if before != 0
            && let Some(candidates) = examined(&walk, before, port_offset, port, net.step_width())
        {
            outcome.candidates = candidates;
            if emit::wanted() {
                outcome.start = walk.start(before, port_offset);
            }
        }
    }
    let slot = search::account(sk, &net, &thread, &outcome, now_ns);
    if slot != NO_SLOT {
        // SAFETY: a live value of the socket map; the socket is locked by the caller.
        unsafe {
            (*entry).perturb = slot;
            (*entry).flags |= SEARCH_KNOWN;
        }
    }
}

/// How many ports a search has examined that found `port`, when its slot was `before`; `None` unknown.
#[inline(always)]
fn examined(walk: &Walk, before: u32, port_offset: u64, port: u32, step_width: u32) -> Option<u32> {
    let reached = walk.reached_from(before, port_offset, port);
    if step_width == 0 && PERTURB_PROVEN.load() == 1 {
        return Some(reached.candidates);
    }
    let growth = perturb(port_offset)?.wrapping_sub(before);
    if step_width != 0 {
        return walk
            .reached_by_growth(growth, port)
            .map(|reached| reached.candidates);
    }
    if walk.explains(&reached, growth) {
        PERTURB_PROVEN.store(1);
    }
    // A success always moves the slot: if it has not, this is not the right one.
    (growth != 0).then_some(reached.candidates)
}

#[inline(always)]
fn walk(range: u32, own: bool) -> Walk {
    Walk {
        low: range & 0xffff,
        high: range >> 16,
        one_pass: own && ONE_PASS.load() == 1,
    }
}

const TCP_CLOSE: u8 = 7;

/// At entry of `inet_bhash2_reset_saddr`: whether connect() calls it.
#[inline(always)]
pub fn is_failing<R: Reader>(sk: &Sock<R>) -> bool {
    sk.dport_be() != 0 && sk.state() == TCP_CLOSE
}

/// The state of `sk` has gone from SYN_SENT to CLOSE: if nothing was sent, connect() failed.
#[inline(always)]
pub fn closed<R: Reader>(sk: &Sock<R>) {
    // A refused, timed out or closed attempt has an error or a SYN in flight.
    if !sk.is_tcp() || sk.err() != 0 || !sk.has_sent_nothing() {
        return;
    }
    let mut told = Told {
        flags: 0,
        errno: 0,
        search_ns: UNKNOWN,
        cpu_ns: UNKNOWN,
    };
    if ask(sk, &mut told) == 0 {
        return;
    }
    let bound = told.flags & SEARCH_BOUND != 0;
    let failed = if told.flags & SEARCH_TOLD != 0 {
        told.errno != 0
    } else {
        // `inet_sport` stays when a port is given back; that it is what it was before (0 unless
        // the socket was connected before) means that the search found none.
        bound || u32::from(sk.sport_be()) == told.errno
    };
    if !failed {
        // It had got a port; what failed then is routing or memory.
        return;
    }
    let (range, own) = sk.port_range();
    let errno = if told.flags & SEARCH_TOLD != 0 {
        told.errno
    } else {
        EADDRNOTAVAIL
    };
    let walk = walk(range, own);
    let exhausted = errno == EADDRNOTAVAIL && !bound && range != 0;
    let candidates = if exhausted {
        walk.remaining()
    } else {
        UNCOUNTED
    };
    if told.flags & SEARCH_TOLD == 0 && !bound {
        // No program saw the search end: the tracepoint backend, or a skipped run.
        let outcome = Outcome {
            op: Op::Connect,
            errno,
            search_ns: told.search_ns,
            cpu_ns: told.cpu_ns,
            upper_bound: false,
            candidates,
            second_parity: false,
            start: UNCOUNTED,
            range,
            dst_port_be: sk.dport_be(),
        };
        account_apart(sk, &outcome);
    }
    let cause = if errno == ENOMEM {
        Cause::OutOfMemory
    } else if bound {
        Cause::TupleTaken
    } else if own {
        Cause::LocalRangeExhausted
    } else {
        Cause::EphemeralExhausted
    };
    let (src, _) = sk.addresses();
    failure::record(
        sk,
        &failure::Failure {
            op: Op::Connect,
            cause,
            errno,
            peer: None,
            src,
            port: if bound {
                u16::from_be(sk.sport_be())
            } else {
                0
            },
            range: if bound { 0 } else { range },
            search_ns: told.search_ns,
            candidates,
        },
    );
    conclude(sk, errno);
}

/// What the entry of a socket says; 0 when it has none. A function of its own, like [`conclude`], so that no
/// pointer to the entry, of which there are several kinds, lives through what is between them: the
/// verifier would follow each kind through all of it.
#[inline(never)]
fn ask<R: Reader>(sk: &Sock<R>, into: &mut Told) -> u32 {
    let Some(entry) = search::entry(sk) else {
        return 0;
    };
    *into = told(entry);
    1
}

/// As [`search::account`], a function of its own like [`conclude`].
#[inline(never)]
fn account_apart<R: Reader>(sk: &Sock<R>, outcome: &Outcome) {
    let _ = search::account(sk, &sk.net(), &process::thread(), outcome, now());
}

/// Notes with the socket that its search has failed.
#[inline(never)]
fn conclude<R: Reader>(sk: &Sock<R>, errno: u32) {
    let Some(entry) = sockets::find(sk.addr()) else {
        return;
    };
    ending::failed(sk, entry, errno);
    // SAFETY: a live value of the socket map; the socket is locked by the caller.
    unsafe {
        (*entry).flags =
            (*entry).flags & !(SEARCH_OPEN | SEARCH_BOUND | SEARCH_TOLD) | SEARCH_FAILED;
    }
}

/// What the entry says about the last search.
struct Told {
    flags: u32,
    /// Duration, ns, or [`UNKNOWN`].
    search_ns: u64,
    /// CPU time, ns, or [`UNKNOWN`]; only of a search whose end nobody has seen before.
    cpu_ns: u64,
    /// With [`SEARCH_TOLD`] 0 or what the search returned, else `inet_sport` at its begin.
    errno: u32,
}

#[inline(always)]
fn told(entry: *mut SocketEntry) -> Told {
    // SAFETY: a live value of the socket map; the socket is locked by the caller.
    let (flags, search_ns, errno) = unsafe {
        (
            (*entry).flags,
            (*entry).search_ns,
            u32::from((*entry).errno),
        )
    };
    if flags & SEARCH_TOLD != 0 {
        Told {
            flags,
            search_ns,
            cpu_ns: UNKNOWN,
            errno,
        }
    } else if flags & (SEARCH_OPEN | SEARCH_BOUND) != 0 {
        let took = now().wrapping_sub(search_ns);
        Told {
            flags,
            search_ns: took,
            // SAFETY: a live value of the socket map.
            cpu_ns: unsafe { search::cpu_ns(entry, &process::thread(), took) },
            errno,
        }
    } else {
        Told {
            flags,
            search_ns: UNKNOWN,
            cpu_ns: UNKNOWN,
            errno: 0,
        }
    }
}

/// `tcp_v6_connect` returned `result` for `sk`.
#[inline(always)]
pub fn v6_ended<R: Reader>(sk: &Sock<R>, uaddr: *const u8, result: i32) {
    if result.wrapping_neg() as u32 != EADDRNOTAVAIL || !sk.is_tcp() {
        return;
    }
    if take_failed(sk.addr()) {
        return;
    }
    failure::refused(
        sk,
        Op::Connect,
        Cause::NoSourceAddress,
        EADDRNOTAVAIL,
        uaddr,
    );
}

/// Whether the last search of the socket failed and the failure is recorded; asked once.
#[inline(always)]
pub fn take_failed(sk: u64) -> bool {
    let Some(entry) = sockets::find(sk) else {
        return false;
    };
    // SAFETY: a live value of the socket map; the socket is held by the system call.
    unsafe {
        let failed = (*entry).flags & SEARCH_FAILED != 0;
        (*entry).flags &= !SEARCH_FAILED;
        failed
    }
}

/// The connection `sk` goes on as a TIME_WAIT mini-socket; counted where its search was, if that was by
/// the process that created it.
#[inline(always)]
pub fn time_wait<R: Reader>(sk: &Sock<R>) {
    let Some(entry) = sockets::find_at_once(sk.addr()) else {
        return;
    };
    // SAFETY: a live value of the socket map; the socket is locked by the caller.
    let (flags, slot, mark) = unsafe { ((*entry).flags, (*entry).perturb, (*entry).mark) };
    if flags & (SEARCH_KNOWN | SOCKET_ADOPTED) != SEARCH_KNOWN {
        return;
    }
    if let Some(place) = SEARCHES.get_ptr_mut(slot) {
        // SAFETY: a live element of the search map. If the process has ended, somebody else may have the place.
        unsafe {
            if (&raw const (*place).mark).read_volatile() == mark {
                add(&raw mut (*place).stats.time_waits, 1);
            }
        }
    }
}

/// connect() of a process is over without a failed search: how long it took is an upper bound.
///
/// For the tracepoint backend, which sees no end of a search that succeeds, only when the
/// connection was there or the system call ended.
#[inline(always)]
pub fn ended_at_latest<R: Reader>(sk: &Sock<R>, port_be: u16) {
    let Some(entry) = sockets::find(sk.addr()) else {
        return;
    };
    let now_ns = now();
    // SAFETY: a live value of the socket map; the socket is held by the system call.
    let (flags, took) = unsafe {
        let flags = (*entry).flags;
        let took = if flags & SEARCH_TOLD != 0 {
            (*entry).search_ns
        } else {
            now_ns.wrapping_sub((*entry).search_ns)
        };
        (*entry).flags = flags & !(SEARCH_OPEN | SEARCH_TOLD | SEARCH_BOUND);
        (flags, took)
    };
    if flags & SEARCH_OPEN == 0 {
        return;
    }
    let (range, own) = sk.port_range();
    let walk = walk(range, own);
    let port = u32::from(u16::from_be(sk.sport_be()));
    let outcome = Outcome {
        op: Op::Connect,
        errno: 0,
        search_ns: took,
        cpu_ns: UNKNOWN,
        upper_bound: true,
        candidates: UNCOUNTED,
        second_parity: range != 0 && walk.is_second(port),
        start: UNCOUNTED,
        range,
        dst_port_be: if port_be == 0 { sk.dport_be() } else { port_be },
    };
    let _ = search::account(sk, &sk.net(), &process::thread(), &outcome, now_ns);
}

/// The connection `sk` is there: its search was over before now.
#[inline(always)]
pub fn established<R: Reader>(sk: &Sock<R>) {
    if let Some(entry) = sockets::find(sk.addr()) {
        // SAFETY: a live value of the socket map; the socket is locked.
        unsafe {
            if (*entry).flags & SEARCH_OPEN != 0 {
                (*entry).search_ns = now().wrapping_sub((*entry).search_ns);
                (*entry).errno = 0;
                (*entry).flags |= SEARCH_TOLD;
            }
        }
    }
}
