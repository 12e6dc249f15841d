//! failure: connect(), bind() or listen() did not get what it asked for.
//!
//! Kernel functions where a failure shows that no search explains:
//! - `int inet_bind(struct socket *sock, struct sockaddr *uaddr, int addr_len)` and
//!   `inet6_bind`, 5.10 and 6.1; `int inet_bind_sk(struct sock *sk, struct sockaddr *uaddr, int
//!   addr_len)` and `inet6_bind_sk`, 6.12 to 7.2 (`sockaddr_unsized` in 7.2), in which the former
//!   end: every errno of bind() but those of security modules. Process context.
//! - `int security_socket_connect(struct socket *sock, struct sockaddr *address, int addrlen)`,
//!   `security_socket_bind` likewise, 5.10 to 7.2: what the security modules say.
//! - `int tcp_v4_pre_connect(struct sock *sk, struct sockaddr *uaddr, int addr_len)` and
//!   `tcp_v6_pre_connect`, 5.10 to 7.2: what cgroup/connect4 and connect6 programs say.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use sockleak_ebpf::{AF_INET, AF_INET6, Cause, FailureKey, FailureStats, Op, UNKNOWN};

use super::search::{self, UNCOUNTED};
use crate::{
    kernel::{Probe, Reader, Sock},
    maps::{FAILURES, NO_FAILURES, add},
    percpu::{count, now},
    process,
};

/// errno: no such address or no port.
pub const EADDRNOTAVAIL: u32 = 99;
/// errno: the port is taken, or no port.
pub const EADDRINUSE: u32 = 98;
/// errno: no memory.
pub const ENOMEM: u32 = 12;
/// errno: not allowed.
pub const EACCES: u32 = 13;
/// errno: not allowed.
pub const EPERM: u32 = 1;

const BPF_NOEXIST: u64 = 1;

/// One failed call.
pub struct Failure {
    /// What was called.
    pub op: Op,
    /// Why it failed.
    pub cause: Cause,
    /// Positive.
    pub errno: u32,
    /// Destination that the socket does not know yet: address, port in network order.
    pub peer: Option<([u64; 2], u16)>,
    /// Source address, zero any.
    pub src: [u64; 2],
    /// Local port asked for or bound, 0 any.
    pub port: u16,
    /// Range searched, `low | high << 16`, 0 none.
    pub range: u32,
    /// Time in the search, ns, or [`UNKNOWN`].
    pub search_ns: u64,
    /// Ports examined, or [`UNCOUNTED`].
    pub candidates: u32,
}

/// Counts a failure of the current process. A function of its own, so that the object has it
/// once and not in every hook.
#[inline(never)]
pub fn record<R: Reader>(sk: &Sock<R>, failure: &Failure) {
    // The index is not a constant here, and the verifier must see its bound.
    match failure.op {
        Op::Connect => count!(failures[0]),
        Op::Bind => count!(failures[1]),
        Op::Listen => count!(failures[2]),
    }
    let mut key = FailureKey {
        search: search::key(
            failure.op,
            sk,
            &sk.net(),
            process::current_key(),
            sk.dport_be(),
        ),
        src: failure.src,
        errno: failure.errno as u16,
        cause: failure.cause as u8,
        options: sk.port_options(),
        range: failure.range,
    };
    if let Some((dst, dst_port_be)) = failure.peer {
        key.search.dst = dst;
        key.search.dst_port_be = dst_port_be;
    }
    let Some(stats) = stats(&key) else {
        count!(failures_full);
        return;
    };
    let latest = bpf_get_current_pid_tgid() << 32 | u64::from(failure.port);
    // SAFETY: a live value of the failure map.
    unsafe {
        add(&raw mut (*stats).count, 1);
        core::ptr::write_volatile(&raw mut (*stats).latest, latest);
        (*stats).last_ns = now();
        if failure.search_ns != UNKNOWN {
            add(&raw mut (*stats).timed, 1);
            add(&raw mut (*stats).total_ns, failure.search_ns);
        }
        // The verifier of 5.10 takes the value for known and this branch for dead otherwise.
        let candidates = core::hint::black_box(failure.candidates);
        if candidates != UNCOUNTED {
            add(&raw mut (*stats).counted, 1);
            add(&raw mut (*stats).candidates, u64::from(candidates));
        }
    }
}

#[inline(always)]
fn stats(key: &FailureKey) -> Option<*mut FailureStats> {
    if let Some(stats) = FAILURES.get_ptr_mut(key) {
        return Some(stats);
    }
    // Makes the process known, should this be its first socket that we meet.
    let _ = process::record(&key.search.process);
    if let Some(nothing) = NO_FAILURES.get(0) {
        // -EEXIST: another thread of the process was faster.
        let _ = FAILURES.insert(key, nothing, BPF_NOEXIST);
    }
    FAILURES.get_ptr_mut(key)
}

/// A call with the address `uaddr` failed without a port search.
#[inline(always)]
pub fn refused<R: Reader>(sk: &Sock<R>, op: Op, cause: Cause, errno: u32, uaddr: *const u8) {
    // SAFETY: the kernel's copy of what the process passed.
    let (address, port_be) = unsafe { address(uaddr) };
    refused_with(sk, op, cause, errno, address, port_be, UNKNOWN);
}

#[inline(always)]
fn refused_with<R: Reader>(
    sk: &Sock<R>,
    op: Op,
    cause: Cause,
    errno: u32,
    address: [u64; 2],
    port_be: u16,
    search_ns: u64,
) {
    let connecting = matches!(op, Op::Connect);
    record(
        sk,
        &Failure {
            op,
            cause,
            errno,
            peer: if connecting {
                Some((address, port_be))
            } else {
                None
            },
            src: if connecting { [0; 2] } else { address },
            port: if connecting { 0 } else { u16::from_be(port_be) },
            range: 0,
            search_ns,
            candidates: UNCOUNTED,
        },
    );
}

/// Reads a `struct sockaddr_in` or `sockaddr_in6` in kernel memory: address (as in
/// [`FailureKey::src`]) and port in network order.
///
/// # Safety
/// The helper checks the address; what lies there is taken for what it says it is.
#[inline(always)]
unsafe fn address(uaddr: *const u8) -> ([u64; 2], u16) {
    // SAFETY: passed on to the caller; the offsets are uapi.
    unsafe {
        let family: u16 = Probe::read(uaddr);
        let port_be: u16 = Probe::read(uaddr.add(2));
        if family == AF_INET {
            let address: u32 = Probe::read(uaddr.add(4));
            ([u64::from(address), 0], port_be)
        } else if family == AF_INET6 {
            (
                [Probe::read(uaddr.add(8)), Probe::read(uaddr.add(16))],
                port_be,
            )
        } else {
            ([0; 2], 0)
        }
    }
}

/// A security module or a cgroup program said no.
#[inline(always)]
pub fn denied<R: Reader>(sk: &Sock<R>, op: Op, uaddr: *const u8, result: i32) {
    if result >= 0 || !sk.is_stream() {
        return;
    }
    let errno = result.wrapping_neg() as u32;
    refused(sk, op, Cause::Denied, errno, uaddr);
}

/// bind() of `sk` to the address `uaddr` returned `result`.
#[inline(always)]
pub fn bind_ended<R: Reader>(sk: &Sock<R>, uaddr: *const u8, result: i32) {
    if result >= 0 || !sk.is_tcp() {
        return;
    }
    // SAFETY: the kernel's copy of what the process passed.
    let (address, port_be) = unsafe { address(uaddr) };
    bind_failed(sk, result.wrapping_neg() as u32, address, port_be);
}

/// bind() to this address failed.
#[inline(always)]
pub fn bind_failed<R: Reader>(sk: &Sock<R>, errno: u32, address: [u64; 2], port_be: u16) {
    let (cause, searched) = match errno {
        EADDRINUSE if port_be == 0 => (Cause::EphemeralExhausted, true),
        EADDRINUSE => (Cause::PortConflict, false),
        EADDRNOTAVAIL => (Cause::AddressNotLocal, false),
        EACCES | EPERM => (Cause::Denied, false),
        ENOMEM => (Cause::OutOfMemory, false),
        // A socket that is bound already, an address of another family: not about ports.
        _ => return,
    };
    let (range, _) = if searched {
        sk.port_range()
    } else {
        (0, false)
    };
    record(
        sk,
        &Failure {
            op: Op::Bind,
            cause,
            errno,
            peer: None,
            src: address,
            port: u16::from_be(port_be),
            range,
            search_ns: super::bind::take_duration(sk.addr()),
            candidates: UNCOUNTED,
        },
    );
    super::ending::bind_failed(sk, errno);
}
