//! destroy: a TCP socket ceases to exist.
//!
//! Kernel function: `void tcp_v4_destroy_sock(struct sock *sk)`, 5.10 to 7.2; IPv6 sockets and
//! MPTCP subflows use the same one, its tail lowers `tcp_sockets_allocated`, and it contains
//! the tracepoint `tcp:tcp_destroy_sock` exactly once. Runs in process context, softirq, at
//! exit and at namespace teardown: the current task is unrelated.

use sockleak_ebpf::{EventKind, ProcessKey, SOCKET_ADOPTED, SOCKET_KERNEL};

use crate::{
    emit,
    kernel::{Reader, Sock},
    maps::{PROCESSES, SOCKETS, add, count},
};

/// The socket `sk` is destroyed.
#[inline(always)]
pub fn destroyed<R: Reader>(sk: &Sock<R>) {
    let addr = sk.addr();
    let Some(entry) = SOCKETS.get_ptr_mut(addr) else {
        count!(destroyed_unknown);
        emit::event(EventKind::Destroy, sk, 0);
        return;
    };
    // SAFETY: a live value of the socket map; only this hook removes it, and a socket is
    // destroyed once.
    let (key, flags, birth_ns) = unsafe {
        (
            ProcessKey {
                start_boottime_ns: (*entry).creator_start_ns,
                tgid: (*entry).creator_tgid,
                pad: 0,
            },
            (*entry).flags,
            (*entry).birth_ns,
        )
    };
    if flags & SOCKET_ADOPTED != 0 {
        count!(destroyed_unknown);
        if SOCKETS.remove(addr).is_err() {
            count!(sockets_undeleted);
        }
        emit::event(EventKind::Destroy, sk, 0);
        return;
    }
    count!(destroyed_known);
    if flags & SOCKET_KERNEL != 0 {
        count!(destroyed_kernel);
    }
    if let Some(stats) = PROCESSES.get_ptr_mut(key) {
        // SAFETY: a live value of the process map.
        unsafe { add(&raw mut (*stats).destroyed, 1) }
    }
    if SOCKETS.remove(addr).is_err() {
        count!(sockets_undeleted);
    }
    emit::event(EventKind::Destroy, sk, birth_ns);
}
