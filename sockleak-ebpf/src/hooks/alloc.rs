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

use aya_ebpf::{helpers::bpf_ktime_get_ns, programs::tracing::StackIdContext};
use sockleak_ebpf::{EventKind, ProcessKey, SOCKET_KERNEL, SocketEntry};

use super::{follow, stack};
use crate::{
    emit,
    kernel::{Reader, Sock},
    log::bpf_debug,
    maps::{SOCKETS, add, count},
    process,
};

const BPF_ANY: u64 = 0;
const BPF_NOEXIST: u64 = 1;
const E2BIG: i32 = 7;
const EEXIST: i32 = 17;

/// At entry of `tcp_v4_init_sock` or `tcp_v6_init_sock`.
#[inline(always)]
pub fn init_sock<R: Reader, C: StackIdContext>(ctx: &C, sk: &Sock<R>) {
    let kernel = sk.is_kernel();
    if kernel {
        count!(allocated_kernel);
    }
    let flags = if kernel { SOCKET_KERNEL } else { 0 };
    record(sk.addr(), flags, |key| {
        if !kernel && stack::wanted(key) {
            stack::take(ctx, sk.family())
        } else {
            0
        }
    });
    emit::event(EventKind::Alloc, sk, 0);
}

/// Counts the creation of the socket at `sk` and remembers its creator, whose stack `stack` takes
/// when that is wanted.
#[inline(always)]
pub fn record(sk: u64, flags: u32, stack: impl FnOnce(&ProcessKey) -> u32) {
    count!(allocated);
    let key = process::current_key();
    if let Some(stats) = process::record(&key) {
        // SAFETY: a live value of the process map.
        unsafe { add(&raw mut (*stats).allocated, 1) }
    }
    follow::created(&key, flags);
    let entry = SocketEntry {
        creator_start_ns: key.start_boottime_ns,
        // SAFETY: a helper without arguments.
        birth_ns: unsafe { bpf_ktime_get_ns() },
        creator_tgid: key.tgid,
        stack: stack(&key),
        ..SocketEntry::with_flags(flags)
    };
    match SOCKETS.insert(sk, entry, BPF_NOEXIST) {
        Ok(()) => {}
        Err(error) if error == -EEXIST => {
            // The memory is in use again, so the destruction of its last owner was missed.
            count!(sockets_stale);
            if SOCKETS.insert(sk, entry, BPF_ANY).is_err() {
                count!(sockets_failed);
            }
        }
        Err(error) => {
            bpf_debug!(
                "socket of process {} not recorded: error {}",
                key.tgid,
                error
            );
            if error == -E2BIG {
                count!(sockets_full)
            } else {
                count!(sockets_failed)
            }
        }
    }
}
