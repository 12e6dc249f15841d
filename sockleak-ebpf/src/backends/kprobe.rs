//! kprobe and kretprobe, for kernels without trampolines. Kernel memory is read by helper.

use aya_ebpf::{
    macros::{kprobe, kretprobe},
    programs::{ProbeContext, RetProbeContext},
};

use crate::{
    hooks,
    kernel::{Probe, Ptr, SOCKET_SK, Sock, member},
};

#[inline(always)]
fn sock(ctx: &ProbeContext, argument: usize) -> Option<Sock<Probe>> {
    ctx.arg::<*const u8>(argument).map(Sock::new)
}

#[kprobe]
fn kprobe_init(ctx: ProbeContext) -> u32 {
    if let Some(sk) = sock(&ctx, 0) {
        hooks::alloc::init_sock(&sk);
    }
    0
}

#[kretprobe]
fn kretprobe_child(ctx: RetProbeContext) -> u32 {
    if !ctx.ret::<*const u8>().is_null() {
        hooks::accept::child();
    }
    0
}

#[kprobe]
fn kprobe_accept(ctx: ProbeContext) -> u32 {
    if let Some(sk) = sock(&ctx, 2) {
        hooks::accept::handed_over(&sk);
    }
    0
}

#[kprobe]
fn kprobe_graft(ctx: ProbeContext) -> u32 {
    if let Some(sk) = sock(&ctx, 0) {
        hooks::accept::handed_over(&sk);
    }
    0
}

#[kprobe]
fn kprobe_destroy(ctx: ProbeContext) -> u32 {
    if let Some(sk) = sock(&ctx, 0) {
        hooks::destroy::destroyed(&sk);
    }
    0
}

#[kprobe]
fn kprobe_release(ctx: ProbeContext) -> u32 {
    let Some(socket) = ctx.arg::<*const u8>(0) else {
        return 0;
    };
    // SAFETY: the first argument is a `struct socket *`, read by helper.
    let sk = unsafe { member::<Probe, Ptr>(socket, &SOCKET_SK).0 };
    if !sk.is_null() {
        hooks::release::released(&Sock::<Probe>::new(sk));
    }
    0
}
