//! ending: a connection, or an attempt at one, dies of an error.
//!
//! Kernel functions. Whoever gives a connection up because of an error calls `tcp_done_with_error` from Linux 6.11 on
//! (6.1 where backported), which sockets that end well do not pass; before, `sk_err` is set and `tcp_done` called,
//! which all pass. In all of them the state and the peer are still those of the connection. Softirq or process context.
//! - `void tcp_done_with_error(struct sock *sk, int err)`, 6.12 to 7.2: called by `tcp_write_err`, `tcp_v4_err`,
//!   `tcp_v6_err`, `tcp_abort` and `tcp_reset`. The last is in the same file, where a compiler may inline it,
//! - hence `tcp_receive_reset(const struct sock *sk)`, a tracepoint at the begin of `void tcp_reset(struct sock *sk,
//!   struct sk_buff *skb)`, 5.10 to 7.2, where the state decides on the error,
//! - and `int tcp_abort(struct sock *sk, int err)`, 5.10 to 7.2, which need not call it where it is a backport. Also
//!   called for mini-sockets.
//! - `void tcp_done(struct sock *sk)`, 5.10 to 7.2, where there is no `tcp_done_with_error`.
//! - `inet_sock_set_state(const struct sock *sk, int oldstate, int newstate)`, where `tcp_done`
//!   cannot be had: the same moment, the state is CLOSE already.
//!
//! What is learnt here stays with the socket until it is connected again: it says what had
//! happened to a socket that somebody forgot to close.

use sockleak_ebpf::{Ending, SOCKET_ACCEPTED, SOCKET_ADOPTED, SOCKET_TRIED, SocketEntry};

use super::search;
use crate::{
    kernel::{Reader, Sock},
    maps::{ENDINGS, add},
    percpu::count,
    sockets,
};

const BPF_NOEXIST: u64 = 1;
const TCP_ESTABLISHED: u8 = 1;
const TCP_SYN_SENT: u8 = 2;
const TCP_FIN_WAIT2: u8 = 5;
const TCP_CLOSE: u8 = 7;
const TCP_CLOSE_WAIT: u8 = 8;
const TCP_LAST_ACK: u8 = 9;
const TCP_CLOSING: u8 = 11;
const EPIPE: i32 = 32;
const ECONNRESET: i32 = 104;
const ECONNREFUSED: i32 = 111;

/// At entry of `tcp_done`, in the state `state`.
#[inline(always)]
pub fn done<R: Reader>(sk: &Sock<R>, state: u8) {
    let errno = sk.err();
    if errno != 0 && sk.is_tcp() {
        died(sk, state, errno);
    }
}

/// At entry of `tcp_done_with_error`, with `errno`.
#[inline(always)]
pub fn done_with_error<R: Reader>(sk: &Sock<R>, errno: i32) {
    if errno > 0 && sk.is_tcp() {
        died(sk, sk.state(), errno as u32);
    }
}

/// At entry of `tcp_abort`, with `errno`.
#[inline(always)]
pub fn aborted<R: Reader>(sk: &Sock<R>, errno: i32) {
    let state = sk.state();
    // The others are listeners, which have no connection, and mini-sockets, which are no `struct sock`.
    if matches!(state, TCP_ESTABLISHED..=TCP_FIN_WAIT2 | TCP_CLOSE_WAIT..=TCP_LAST_ACK | TCP_CLOSING)
    {
        done_with_error(sk, errno);
    }
}

/// At the tracepoint `tcp_receive_reset`.
#[inline(always)]
pub fn reset<R: Reader>(sk: &Sock<R>) {
    let errno = match sk.state() {
        TCP_CLOSE => return,
        TCP_SYN_SENT => ECONNREFUSED,
        TCP_CLOSE_WAIT => EPIPE,
        _ => ECONNRESET,
    };
    done_with_error(sk, errno);
}

/// A function of its own: few connections die of an error.
#[inline(never)]
fn died<R: Reader>(sk: &Sock<R>, state: u8, errno: u32) {
    // One that was not accepted yet has no entry, and neither have older ones.
    let Some(entry) = search::entry(sk) else {
        return;
    };
    // Several hooks may see the same ending.
    // SAFETY: a live value of the socket map.
    if unsafe { (*entry).ending } == 0 {
        note(sk, entry, state, errno);
    }
}

/// connect() of the socket of `entry` failed before anything was sent.
#[inline(always)]
pub fn failed<R: Reader>(sk: &Sock<R>, entry: *mut SocketEntry, errno: u32) {
    note(sk, entry, TCP_SYN_SENT, errno);
}

/// bind() of the socket failed.
#[inline(always)]
pub fn bind_failed<R: Reader>(sk: &Sock<R>, errno: u32) {
    if let Some(entry) = sockets::find(sk.addr()) {
        note(sk, entry, TCP_CLOSE, errno);
    }
}

#[inline(never)]
fn note<R: Reader>(sk: &Sock<R>, entry: *mut SocketEntry, state: u8, errno: u32) {
    let mut ending = Ending {
        peer: [0; 2],
        peer_port_be: 0,
        family: sk.family(),
        errno: errno as u16,
        state,
        pad: 0,
    };
    // SAFETY: a live value of the socket map.
    unsafe {
        (*entry).ending = ending.id();
        // The peers of accepted connections are many, and none of them is to blame.
        if (*entry).flags & (SOCKET_ADOPTED | SOCKET_ACCEPTED) != 0 {
            return;
        }
    }
    ending.peer = sk.peer();
    ending.peer_port_be = sk.dport_be();
    let id = ending.id();
    if ENDINGS.get_ptr_mut(ending).is_none() {
        // -EEXIST: somebody was faster.
        let _ = ENDINGS.insert(ending, 0, BPF_NOEXIST);
    }
    let Some(times) = ENDINGS.get_ptr_mut(ending) else {
        // What it died of stays, only the peer is lost.
        count!(endings_full);
        return;
    };
    // SAFETY: live values of the two maps; the socket is locked by the caller.
    unsafe {
        add(times, 1);
        (*entry).ending = id;
    }
}

/// connect() has got a port for `sk`, or is about to: what ended before no longer counts.
///
/// # Safety
/// `entry` is a live value of the socket map and its socket is locked.
#[inline(always)]
pub unsafe fn begin_anew(entry: *mut SocketEntry) {
    // SAFETY: passed on to the caller.
    unsafe {
        (*entry).ending = 0;
        (*entry).flags |= SOCKET_TRIED;
    }
}
