//! release: the last descriptor of a socket is closed. Only for `run`, and for events.
//!
//! Kernel functions:
//! - `int inet_release(struct socket *sock)`, 5.10 to 7.2, also behind `inet6_release`; serves
//!   every inet protocol, hence the filter. Process context.
//! - cgroup/sock_release: the first thing `inet_release` does, not for kernel sockets.

use sockleak_ebpf::{EventKind, SOCKET_ADOPTED};

use super::left;
use crate::{
    emit,
    kernel::{Reader, Sock},
    sockets,
};

/// `sk` is let go by the current process.
#[inline(always)]
pub fn released<R: Reader>(sk: &Sock<R>) {
    if !sk.is_tcp() {
        return;
    }
    left::released(sk);
    emit::event(EventKind::Release, sk, birth_ns(sk.addr()));
}

/// When the socket was created or accepted; 0 when it is not known.
#[inline(always)]
pub fn birth_ns(sk: u64) -> u64 {
    match sockets::find(sk) {
        // SAFETY: a live entry.
        Some(entry) if unsafe { (*entry).flags & SOCKET_ADOPTED == 0 } => unsafe {
            (*entry).birth_ns
        },
        _ => 0,
    }
}
