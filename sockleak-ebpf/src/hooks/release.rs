//! release: the last descriptor of a socket is closed; what lives on is an orphan.
//!
//! Kernel functions:
//! - `int inet_release(struct socket *sock)`, 5.10 to 7.2, also behind `inet6_release`; serves
//!   every inet protocol, hence the filter. Process context.
//! - cgroup/sock_release: the first thing `inet_release` does, not for kernel sockets.

use sockleak_ebpf::{EventKind, SOCKET_ADOPTED, SOCKET_RELEASED};

use super::left;
use crate::{
    emit,
    kernel::{Reader, Sock},
    maps::{SOCKETS, add, count},
    process,
};

/// `sk` is let go by the current process.
#[inline(always)]
pub fn released<R: Reader>(sk: &Sock<R>) {
    if !sk.is_tcp() {
        return;
    }
    left::released(sk);
    let birth_ns = record(sk.addr());
    emit::event(EventKind::Release, sk, birth_ns);
}

/// Counts the release and returns the time of creation, 0 when it is not known.
#[inline(always)]
pub fn record(sk: u64) -> u64 {
    count!(released);
    if let Some(entry) = SOCKETS.get_ptr_mut(sk) {
        // SAFETY: a live value of the socket map. The flag has no concurrent writer: a socket
        // is released once, and destruction only reads.
        unsafe {
            (*entry).flags |= SOCKET_RELEASED;
            if (*entry).flags & SOCKET_ADOPTED == 0 {
                return (*entry).birth_ns;
            }
        }
    }
    if let Some(stats) = process::record(&process::current_key()) {
        // SAFETY: a live value of the process map.
        unsafe { add(&raw mut (*stats).released, 1) }
    }
    0
}
