//! bind: a local port is asked for, or any port.
//!
//! Kernel function: `int inet_csk_get_port(struct sock *sk, unsigned short snum)`, 5.10 to 7.2,
//! socket locked, process context. bind() calls it with the port asked for (0: any, a search),
//! listen() with the port the socket has (0: any), its state then already LISTEN. Returns 0; in
//! vain 1 (5.10) or -EADDRINUSE, also for want of memory.

use sockleak_ebpf::{Cause, Op, SEARCH_OPEN, SEARCH_TOLD, UNKNOWN};

use super::{
    failure::{self, EADDRINUSE, Failure},
    search::{self, Outcome, UNCOUNTED},
};
use crate::{
    kernel::{Reader, Sock},
    percpu::now,
    process, sockets,
};

const TCP_LISTEN: u8 = 10;

/// At entry of `inet_csk_get_port`.
#[inline(always)]
pub fn begin<R: Reader>(sk: &Sock<R>) {
    let _ = search::begin(sk, SEARCH_OPEN, 0, 0);
}

/// At exit of `inet_csk_get_port`, which returned `result`.
#[inline(always)]
pub fn end<R: Reader>(sk: &Sock<R>, snum: u16, result: i32) {
    if !sk.is_tcp() {
        return;
    }
    let op = if sk.state() == TCP_LISTEN {
        Op::Listen
    } else {
        Op::Bind
    };
    let (search_ns, cpu_ns) = close(sk.addr());
    let failed = result != 0;
    if matches!(op, Op::Listen) && snum != 0 && !failed {
        // listen() merely looked whether the port is still good.
        return;
    }
    let (range, _) = if snum == 0 {
        sk.port_range()
    } else {
        (0, false)
    };
    let (low, high) = (range & 0xffff, range >> 16);
    // bind() looks at the ports of the other parity than the range's first one first.
    let second_parity = range != 0 && !failed && u32::from(sk.num()).wrapping_sub(low) & 1 == 0;
    let candidates = if range != 0 && failed && high > low {
        (high - low + 1) & !1
    } else {
        UNCOUNTED
    };
    let outcome = Outcome {
        op,
        errno: if failed { EADDRINUSE } else { 0 },
        search_ns,
        cpu_ns,
        upper_bound: false,
        candidates,
        second_parity,
        start: UNCOUNTED,
        range,
        dst_port_be: 0,
    };
    let _ = search::account(sk, &sk.net(), &process::thread(), &outcome, now());
    if failed && matches!(op, Op::Listen) {
        let (src, _) = sk.addresses();
        failure::record(
            sk,
            &Failure {
                op,
                cause: if snum == 0 {
                    Cause::EphemeralExhausted
                } else {
                    Cause::PortConflict
                },
                errno: EADDRINUSE,
                peer: None,
                src,
                port: snum,
                range,
                search_ns,
                candidates,
            },
        );
    }
}

/// The search of the socket is over; how long it took, which [`take_duration`] gives once more,
/// and its CPU time, ns.
#[inline(always)]
fn close(sk: u64) -> (u64, u64) {
    let Some(entry) = sockets::find(sk) else {
        return (UNKNOWN, UNKNOWN);
    };
    // SAFETY: a live value of the socket map; the socket is locked by the caller.
    unsafe {
        if (*entry).flags & SEARCH_OPEN == 0 {
            return (UNKNOWN, UNKNOWN);
        }
        let took = now().wrapping_sub((*entry).search_ns);
        let cpu_ns = search::cpu_ns(entry, &process::thread(), took);
        (*entry).search_ns = took;
        (*entry).flags = (*entry).flags & !SEARCH_OPEN | SEARCH_TOLD;
        (took, cpu_ns)
    }
}

/// How long the last search of the socket took, ns, if it was seen and not asked for yet.
#[inline(always)]
pub fn take_duration(sk: u64) -> u64 {
    let Some(entry) = sockets::find(sk) else {
        return UNKNOWN;
    };
    // SAFETY: a live value of the socket map; the socket is held by the system call.
    unsafe {
        if (*entry).flags & SEARCH_TOLD == 0 {
            return UNKNOWN;
        }
        (*entry).flags &= !SEARCH_TOLD;
        (*entry).search_ns
    }
}
