//! destroy: a TCP socket ceases to exist.
//!
//! Kernel function: `void tcp_v4_destroy_sock(struct sock *sk)`, 5.10 to 7.2; IPv6 sockets and
//! MPTCP subflows use the same one, its tail lowers `tcp_sockets_allocated`, and it contains
//! the tracepoint `tcp:tcp_destroy_sock` exactly once. Runs in process context, softirq, at
//! exit and at namespace teardown: the current task is unrelated.

use sockleak_ebpf::{EventKind, SOCKET_ADOPTED, SOCKET_KERNEL};

use crate::{
    emit,
    kernel::{Reader, Sock},
    maps::add,
    percpu::count,
    process, sockets,
};

/// The socket `sk` is destroyed.
#[inline(always)]
pub fn destroyed<R: Reader>(sk: &Sock<R>) {
    let gone = match sockets::take(sk.addr()) {
        Some(gone) if gone.flags & SOCKET_ADOPTED == 0 => gone,
        _ => {
            count!(destroyed_unknown);
            emit::event(EventKind::Destroy, sk, 0);
            return;
        }
    };
    count!(destroyed_known);
    if gone.flags & SOCKET_KERNEL != 0 {
        count!(destroyed_kernel);
    }
    if let Some(stats) = process::stats_of(gone.slot, gone.mark) {
        // SAFETY: a live value of the process map.
        unsafe { add(&raw mut (*stats).destroyed, 1) }
    }
    emit::event(EventKind::Destroy, sk, gone.birth_ns);
}
