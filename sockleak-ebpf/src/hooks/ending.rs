//! ending: a connection, or an attempt at one, dies of an error.
//!
//! Kernel functions:
//! - `void tcp_done_with_error(struct sock *sk, int err)`, 6.12 to 7.2: whoever gives a connection up
//!   because of an error (`tcp_reset`, `tcp_write_err`, `tcp_v4_err`, `tcp_abort`) calls it; it sets `sk_err`
//!   and calls `tcp_done`. Sockets that end well do not pass it.
//! - `void tcp_done(struct sock *sk)`, 5.10 and 6.1: every socket passes it when it goes to CLOSE, `sk_err` is
//!   set before. In both the state and the peer are still those of the connection. Softirq or process context.
//! - `inet_sock_set_state(const struct sock *sk, int oldstate, int newstate)`, where `tcp_done`
//!   cannot be had: the same moment, the state is CLOSE already.
//!
//! What is learnt here stays with the socket until it is connected again: it says what had
//! happened to a socket that somebody forgot to close.

use sockleak_ebpf::{Ending, SOCKET_ACCEPTED, SOCKET_ADOPTED, SOCKET_TRIED, SocketEntry};

use super::search;
use crate::{
    kernel::{Reader, Sock},
    maps::{ENDINGS, add, count},
    sockets,
};

const BPF_NOEXIST: u64 = 1;
const TCP_SYN_SENT: u8 = 2;
const TCP_CLOSE: u8 = 7;

/// `sk` goes from the state `state` to CLOSE because of `errno`, 0 none.
#[inline(always)]
pub fn done<R: Reader>(sk: &Sock<R>, state: u8, errno: u32) {
    if errno != 0 && sk.is_tcp() {
        died(sk, state, errno);
    }
}

/// A function of its own: few connections die of an error.
#[inline(never)]
fn died<R: Reader>(sk: &Sock<R>, state: u8, errno: u32) {
    // One that was not accepted yet has no entry, and neither have older ones.
    if let Some(entry) = search::entry(sk) {
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
