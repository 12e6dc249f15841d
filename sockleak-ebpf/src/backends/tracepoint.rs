//! Raw tracepoints with types and cgroup socket hooks, for kernels that offer neither
//! trampolines nor kprobes.
//!
//! Tracepoints: `inet_sock_set_state(const struct sock *sk, const int oldstate, const int
//! newstate)` and `tcp_destroy_sock(struct sock *sk)`, 5.10 to 7.2. There is no tracepoint for
//! allocation; cgroup/sock_create runs in `inet_create` after `sk->sk_prot->init`, so `alloc`
//! is raised by then, but only for sockets that processes create.

use aya_ebpf::{
    EbpfContext,
    macros::{btf_tracepoint, cgroup_sock, tracepoint},
    programs::{BtfTracePointContext, SockContext, TracePointContext},
};
use sockleak_ebpf::{AF_INET, AF_INET6, EventKind, IPPROTO_TCP, SOCK_STREAM};

use crate::{
    emit, hooks,
    kernel::{Direct, EVENT_NEWSTATE, EVENT_OLDSTATE, EVENT_SKADDR, Probe, Ptr, Sock, member},
};

const TCP_ESTABLISHED: i32 = 1;
const TCP_SYN_SENT: i32 = 2;
const TCP_CLOSE: i32 = 7;
const TCP_LISTEN: i32 = 10;
const TCP_SYN_RECV: i32 = 3;
/// Let the operation go on.
const ALLOW: i32 = 1;

#[cgroup_sock(sock_create)]
fn cgroup_create(ctx: SockContext) -> i32 {
    if is_tcp(&ctx) {
        let sk = address(&ctx);
        let creation = hooks::alloc::begun(sk, 0);
        // A cgroup program cannot take stacks: the end of socket() does.
        if hooks::stack::wanted(&creation) {
            super::syscalls::creating(sk);
        }
        hooks::alloc::keep(&creation.new);
        emit::write(EventKind::Alloc, unconnected(&ctx, sk, 0));
    }
    ALLOW
}

#[cgroup_sock(sock_release)]
fn cgroup_release(ctx: SockContext) -> i32 {
    if is_tcp(&ctx) {
        let sk = address(&ctx);
        hooks::left::released(&Sock::<Probe>::new(sk as *const u8));
        let birth_ns = hooks::release::birth_ns(sk);
        emit::write(EventKind::Release, unconnected(&ctx, sk, birth_ns));
    }
    ALLOW
}

/// A child inherits LISTEN from its listener; `inet_csk_clone_lock` sets SYN_RECV.
#[btf_tracepoint]
fn tp_state(ctx: BtfTracePointContext) -> i32 {
    if ctx.arg::<i32>(1) == TCP_LISTEN && ctx.arg::<i32>(2) == TCP_SYN_RECV {
        let sk = Sock::<Direct>::new(ctx.arg::<*const u8>(0));
        if sk.protocol() == IPPROTO_TCP {
            hooks::accept::child();
        }
    }
    0
}

/// Also with other backends, where `inet_bhash2_reset_saddr` cannot be probed: connect() that
/// finds no port, see `hooks::connect`.
#[btf_tracepoint]
fn tp_no_port(ctx: BtfTracePointContext) -> i32 {
    if ctx.arg::<i32>(1) == TCP_SYN_SENT && ctx.arg::<i32>(2) == TCP_CLOSE {
        hooks::connect::closed(&Sock::<Direct>::new(ctx.arg::<*const u8>(0)));
    }
    0
}

/// The same as a tracepoint event. perf runs its programs with preemption off on all kernels,
/// while the raw tracepoints of 7.x have it on; it needs tracefs.
#[tracepoint]
fn event_no_port(ctx: TracePointContext) -> u32 {
    // SAFETY: `struct trace_event_raw_inet_sock_set_state`, whose members BTF has told.
    let (sk, old, new) = unsafe {
        let event = ctx.as_ptr() as *const u8;
        (
            member::<Probe, Ptr>(event, &EVENT_SKADDR).0,
            member::<Probe, i32>(event, &EVENT_OLDSTATE),
            member::<Probe, i32>(event, &EVENT_NEWSTATE),
        )
    };
    if old == TCP_SYN_SENT && new == TCP_CLOSE {
        hooks::connect::closed(&Sock::<Probe>::new(sk));
    }
    0
}

/// In this backend only: the two moments between which a search lies, and the end of a connection
/// that dies of an error.
#[btf_tracepoint]
fn tp_search(ctx: BtfTracePointContext) -> i32 {
    let sk = Sock::<Direct>::new(ctx.arg::<*const u8>(0));
    match (ctx.arg::<i32>(1), ctx.arg::<i32>(2)) {
        (TCP_CLOSE, TCP_SYN_SENT) if sk.is_tcp() => {
            hooks::connect::begin_at_syn_sent(&sk);
            super::syscalls::connecting(sk.addr());
        }
        (TCP_SYN_SENT, TCP_ESTABLISHED) => hooks::connect::established(&sk),
        (before, TCP_CLOSE) => hooks::ending::done(&sk, before as u8),
        _ => {}
    }
    0
}

/// With the other backends: `tcp_receive_reset(const struct sock *sk)`, 5.10 to 7.2.
#[btf_tracepoint]
fn tp_reset(ctx: BtfTracePointContext) -> i32 {
    hooks::ending::reset(&Sock::<Direct>::new(ctx.arg::<*const u8>(0)));
    0
}

#[btf_tracepoint]
fn tp_destroy(ctx: BtfTracePointContext) -> i32 {
    hooks::destroy::destroyed(&Sock::<Direct>::new(ctx.arg::<*const u8>(0)));
    0
}

/// The context of a cgroup socket program *is* the `struct sock`; its members are only
/// reachable as `struct bpf_sock`, its address is the key the tracepoints use.
#[inline(always)]
fn address(ctx: &SockContext) -> u64 {
    ctx.as_ptr() as u64
}

#[inline(always)]
fn is_tcp(ctx: &SockContext) -> bool {
    // SAFETY: the verifier rewrites these loads from `struct bpf_sock`.
    unsafe {
        let sock = ctx.sock;
        let family = core::ptr::read_volatile(&raw const (*sock).family);
        core::ptr::read_volatile(&raw const (*sock).protocol) == u32::from(IPPROTO_TCP)
            && core::ptr::read_volatile(&raw const (*sock).type_) == u32::from(SOCK_STREAM)
            && (family == u32::from(AF_INET) || family == u32::from(AF_INET6))
    }
}

#[inline(always)]
fn unconnected(ctx: &SockContext, sk: u64, birth_ns: u64) -> emit::Socket {
    emit::Socket {
        sk,
        birth_ns,
        netns: 0,
        // SAFETY: as in `is_tcp`.
        family: unsafe { core::ptr::read_volatile(&raw const (*ctx.sock).family) } as u16,
        local_port: 0,
        peer_port_be: 0,
        state: 0,
        local: [0; 2],
        peer: [0; 2],
        search_ns: 0,
        candidates: 0,
        start: 0,
        range: 0,
        result: 0,
    }
}
