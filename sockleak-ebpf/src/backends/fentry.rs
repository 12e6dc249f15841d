//! fentry and fexit: BPF trampolines on kernel functions. The cheapest backend.

use aya_ebpf::{
    macros::{fentry, fexit},
    programs::{FEntryContext, FExitContext},
};

use crate::{
    hooks,
    kernel::{Direct, Ptr, SOCKET_SK, Sock, member},
};

#[inline(always)]
fn sock(ctx: &FEntryContext, argument: usize) -> Sock<Direct> {
    Sock::new(ctx.arg::<*const u8>(argument))
}

#[fentry]
fn fentry_init_v4(ctx: FEntryContext) -> i32 {
    hooks::alloc::init_sock(&sock(&ctx, 0));
    0
}

#[fentry]
fn fentry_init_v6(ctx: FEntryContext) -> i32 {
    hooks::alloc::init_sock(&sock(&ctx, 0));
    0
}

/// The return value follows the three arguments; `bpf_get_func_ret` would need 5.17.
#[fexit]
fn fexit_child(ctx: FExitContext) -> i32 {
    if !ctx.arg::<*const u8>(3).is_null() {
        hooks::accept::child();
    }
    0
}

#[fentry]
fn fentry_accept(ctx: FEntryContext) -> i32 {
    hooks::accept::handed_over(&sock(&ctx, 2));
    0
}

#[fentry]
fn fentry_graft(ctx: FEntryContext) -> i32 {
    hooks::accept::handed_over(&sock(&ctx, 0));
    0
}

#[fentry]
fn fentry_destroy(ctx: FEntryContext) -> i32 {
    hooks::destroy::destroyed(&sock(&ctx, 0));
    0
}

#[fentry]
fn fentry_release(ctx: FEntryContext) -> i32 {
    // SAFETY: the first argument is a `struct socket *`.
    let sk = unsafe { member::<Direct, Ptr>(ctx.arg::<*const u8>(0), &SOCKET_SK).0 };
    if !sk.is_null() {
        hooks::release::released(&Sock::<Direct>::new(sk));
    }
    0
}
