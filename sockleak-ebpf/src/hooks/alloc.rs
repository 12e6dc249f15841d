//! alloc: a process (or the kernel) creates a TCP socket.
//!
//! Kernel functions, with the same prototype in 5.10, 6.1, 6.12, 6.18 and 7.2:
//! - `int tcp_v4_init_sock(struct sock *sk)`
//! - `int tcp_v6_init_sock(struct sock *sk)`
//!
//! Both call `tcp_init_sock`, which raises `tcp_sockets_allocated` (`alloc` in sockstat), and
//! are the only ones to do so; they always return 0. A creation that fails later (cgroup or LSM
//! denial, no descriptor left) passes through `tcp_v4_destroy_sock`. `sk_protocol`, `sk_type`
//! and `sk_kern_sock` are set before; `sk_socket->file` is not.

use aya_ebpf::programs::tracing::StackIdContext;
use sockleak_ebpf::{EventKind, ProcessKey, SOCKET_KERNEL, SocketEntry};

use super::{follow, search, stack};
use crate::{
    emit,
    kernel::{Reader, Sock},
    maps::{add, count},
    process,
    sockets::{self, Inserted},
};

/// At entry of `tcp_v4_init_sock` or `tcp_v6_init_sock`.
#[inline(always)]
pub fn init_sock<R: Reader, C: StackIdContext>(ctx: &C, sk: &Sock<R>) {
    let kernel = sk.is_kernel();
    if kernel {
        count!(allocated_kernel);
    }
    let flags = if kernel { SOCKET_KERNEL } else { 0 };
    let mut creation = begun(flags);
    if !kernel && stack::wanted(&creation) {
        creation.entry.stack = stack::take(ctx, sk.family());
    }
    keep(sk.addr(), &creation.entry);
    emit::event(EventKind::Alloc, sk, 0);
}

/// A socket comes into being.
pub struct Creation {
    /// Who creates it.
    pub key: ProcessKey,
    /// What is known of it.
    pub entry: SocketEntry,
}

/// Counts the creation of a socket by the current process.
#[inline(always)]
pub fn begun(flags: u32) -> Creation {
    count!(allocated);
    let key = process::current_key();
    let mut creation = Creation {
        key,
        entry: sockets::entry(flags),
    };
    creation.entry.birth_ns = search::now();
    if let Some(known) = process::record(&key) {
        creation.entry.slot = known.slot;
        creation.entry.mark = key.mark();
        // SAFETY: a live value of the process map.
        unsafe { add(&raw mut (*known.stats).allocated, 1) }
    }
    follow::created(&key, flags);
    creation
}

/// Puts a new socket into the socket map.
#[inline(always)]
pub fn keep(sk: u64, entry: &SocketEntry) {
    match sockets::insert(sk, entry) {
        Inserted::New => {}
        // The memory is in use again, so the destruction of its last owner was missed.
        Inserted::Replaced => count!(sockets_stale),
        Inserted::Full => count!(sockets_full),
        Inserted::Failed => count!(sockets_failed),
    }
}
