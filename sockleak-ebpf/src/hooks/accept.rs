//! accept: a connection is born from a listener, and later handed to a process.
//!
//! Kernel functions:
//! - `struct sock *tcp_create_openreq_child(const struct sock *sk, struct request_sock *req,
//!   struct sk_buff *skb)`, 5.10 to 7.2: clones the listener; `sk_clone_lock` (`sk_clone` in
//!   7.x) raises `tcp_sockets_allocated` after its last failure exit, so a non-NULL return is
//!   exactly +1. Usually in softirq: the current task is unrelated.
//! - `void __inet_accept(struct socket *sock, struct socket *newsock, struct sock *newsk)`,
//!   6.1 to 7.2: in accept(), process context.
//! - `void security_sock_graft(struct sock *sk, struct socket *parent)`, 5.10 (with
//!   CONFIG_SECURITY_NETWORK): the same moment, through `sock_graft`; also called for other
//!   families, hence the filter.

use sockleak_ebpf::{EventKind, IPPROTO_TCP, NO_SLOT, SOCKET_ACCEPTED, SOCKET_TRIED};

use super::alloc;

use crate::{
    emit,
    kernel::{Reader, Sock},
    maps::add,
    percpu::{count, recently},
    process,
    sockets::New,
};

/// A listener was cloned into a child.
#[inline(always)]
pub fn child() {
    count!(children);
}

/// As [`handed_over`], of a socket that accept() is known to give: of the protocols that have accept(), only
/// TCP has this number.
#[inline(always)]
pub fn accepted<R: Reader>(sk: &Sock<R>) {
    if sk.protocol() == IPPROTO_TCP {
        took(sk);
    }
}

/// The socket `sk` of any family gets a `struct socket`: a child of a listener, if it is a TCP socket.
#[inline(always)]
pub fn handed_over<R: Reader>(sk: &Sock<R>) {
    if sk.is_tcp() {
        took(sk);
    }
}

/// The child `sk` is handed to the current process.
#[inline(always)]
fn took<R: Reader>(sk: &Sock<R>) {
    count!(accepted);
    let key = process::current_key();
    let mut new = New {
        sk: sk.addr(),
        birth_ns: recently(),
        slot: NO_SLOT,
        mark: 0,
        // It has been connected: that it did not try to is no news.
        flags: SOCKET_ACCEPTED | SOCKET_TRIED,
        stack: 0,
    };
    if let Some(known) = process::record(&key) {
        (new.slot, new.mark) = (known.slot, known.mark);
        // SAFETY: a live value of the process map.
        unsafe { add(&raw mut (*known.stats).accepted, 1) }
    }
    alloc::keep(&new);
    emit::event(EventKind::Accept, sk, 0);
}
