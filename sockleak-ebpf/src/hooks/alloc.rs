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
use sockleak_ebpf::{EventKind, NO_SLOT, ProcessKey, SOCKET_KERNEL};

use super::{follow, stack};
use crate::{
    emit,
    kernel::{Reader, Sock},
    maps::add,
    percpu::{count, recently},
    process,
    sockets::{self, Inserted, New},
};

/// At entry of `tcp_v4_init_sock` or `tcp_v6_init_sock`.
#[inline(always)]
pub fn init_sock<R: Reader, C: StackIdContext>(ctx: &C, sk: &Sock<R>) {
    let kernel = sk.is_kernel();
    if kernel {
        count!(allocated_kernel);
    }
    let flags = if kernel { SOCKET_KERNEL } else { 0 };
    let mut creation = begun(sk.addr(), flags);
    if !kernel && stack::wanted(&creation) {
        creation.new.stack = stack::take(ctx, sk.family());
    }
    keep(&creation.new);
    emit::event(EventKind::Alloc, sk, 0);
}

/// A socket comes into being.
pub struct Creation {
    /// Who creates it.
    pub key: ProcessKey,
    /// What is known of it.
    pub new: New,
}

/// Counts the creation of the socket `sk` by the current process.
#[inline(always)]
pub fn begun(sk: u64, flags: u32) -> Creation {
    count!(allocated);
    let key = process::current_key();
    let mut new = New {
        sk,
        birth_ns: recently(),
        slot: NO_SLOT,
        mark: 0,
        flags,
        stack: 0,
    };
    if let Some(known) = process::record(&key) {
        (new.slot, new.mark) = (known.slot, known.mark);
        // SAFETY: a live value of the process map.
        unsafe { add(&raw mut (*known.stats).allocated, 1) }
    }
    follow::created(&key, flags);
    Creation { key, new }
}

/// Puts a new socket into the socket map.
#[inline(always)]
pub fn keep(new: &New) {
    match sockets::insert(new) {
        Inserted::New => {}
        // The memory is in use again, so the destruction of its last owner was missed.
        Inserted::Replaced => count!(sockets_stale),
        Inserted::Full => count!(sockets_full),
        Inserted::Failed => count!(sockets_failed),
    }
}
