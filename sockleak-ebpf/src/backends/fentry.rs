//! fentry and fexit: BPF trampolines on kernel functions. The cheapest backend.

use aya_ebpf::{
    macros::{fentry, fexit},
    programs::{FEntryContext, FExitContext},
};

use sockleak_ebpf::Op;

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
    hooks::alloc::init_sock(&ctx, &sock(&ctx, 0));
    0
}

#[fentry]
fn fentry_init_v6(ctx: FEntryContext) -> i32 {
    hooks::alloc::init_sock(&ctx, &sock(&ctx, 0));
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
    hooks::accept::accepted(&sock(&ctx, 2));
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
fn fentry_done_with_error(ctx: FEntryContext) -> i32 {
    hooks::ending::done_with_error(&sock(&ctx, 0), ctx.arg::<i32>(1));
    0
}

#[fentry]
fn fentry_abort(ctx: FEntryContext) -> i32 {
    hooks::ending::aborted(&sock(&ctx, 0), ctx.arg::<i32>(1));
    0
}

#[fentry]
fn fentry_done(ctx: FEntryContext) -> i32 {
    let sk = sock(&ctx, 0);
    hooks::ending::done(&sk, sk.state());
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

#[fentry]
fn fentry_search(ctx: FEntryContext) -> i32 {
    hooks::connect::begin(&sock(&ctx, 1), ctx.arg::<u64>(2));
    0
}

/// Four arguments, up to 6.12.
#[fexit]
fn fexit_search4(ctx: FExitContext) -> i32 {
    hooks::connect::end(&sock_of(&ctx, 1), ctx.arg::<u64>(2), ctx.arg::<i32>(4));
    0
}

/// Five arguments, from 6.18 on.
#[fexit]
fn fexit_search5(ctx: FExitContext) -> i32 {
    hooks::connect::end(&sock_of(&ctx, 1), ctx.arg::<u64>(2), ctx.arg::<i32>(5));
    0
}

#[fexit]
fn fexit_v6_connect(ctx: FExitContext) -> i32 {
    hooks::connect::v6_ended(
        &sock_of(&ctx, 0),
        ctx.arg::<*const u8>(1),
        ctx.arg::<i32>(3),
    );
    0
}

#[fentry]
fn fentry_time_wait(ctx: FEntryContext) -> i32 {
    hooks::connect::time_wait(&sock(&ctx, 0));
    0
}

#[fentry]
fn fentry_get_port(ctx: FEntryContext) -> i32 {
    hooks::bind::begin(&sock(&ctx, 0));
    0
}

#[fexit]
fn fexit_get_port(ctx: FExitContext) -> i32 {
    hooks::bind::end(&sock_of(&ctx, 0), ctx.arg::<u16>(1), ctx.arg::<i32>(2));
    0
}

/// `inet_bind_sk`
#[fexit]
fn fexit_bind_sk(ctx: FExitContext) -> i32 {
    bind_sk(&ctx)
}

/// `inet6_bind_sk`
#[fexit]
fn fexit_bind6_sk(ctx: FExitContext) -> i32 {
    bind_sk(&ctx)
}

/// `inet_bind`
#[fexit]
fn fexit_bind(ctx: FExitContext) -> i32 {
    bind(&ctx)
}

/// `inet6_bind`
#[fexit]
fn fexit_bind6(ctx: FExitContext) -> i32 {
    bind(&ctx)
}

#[fexit]
fn fexit_pre_connect4(ctx: FExitContext) -> i32 {
    denied(Op::Connect, &ctx, ctx.arg::<*const u8>(0))
}

#[fexit]
fn fexit_pre_connect6(ctx: FExitContext) -> i32 {
    denied(Op::Connect, &ctx, ctx.arg::<*const u8>(0))
}

#[fexit]
fn fexit_lsm_connect(ctx: FExitContext) -> i32 {
    denied(Op::Connect, &ctx, sk_of_socket(&ctx))
}

#[fexit]
fn fexit_lsm_bind(ctx: FExitContext) -> i32 {
    denied(Op::Bind, &ctx, sk_of_socket(&ctx))
}

#[inline(always)]
fn sock_of(ctx: &FExitContext, argument: usize) -> Sock<Direct> {
    Sock::new(ctx.arg::<*const u8>(argument))
}

#[inline(always)]
fn sk_of_socket(ctx: &FExitContext) -> *const u8 {
    // SAFETY: the first argument is a `struct socket *`.
    unsafe { member::<Direct, Ptr>(ctx.arg::<*const u8>(0), &SOCKET_SK).0 }
}

#[inline(always)]
fn bind_sk(ctx: &FExitContext) -> i32 {
    if ctx.arg::<i32>(3) < 0 {
        hooks::failure::bind_ended(&sock_of(ctx, 0), ctx.arg::<*const u8>(1), ctx.arg::<i32>(3));
    }
    0
}

#[inline(always)]
fn bind(ctx: &FExitContext) -> i32 {
    if ctx.arg::<i32>(3) < 0 {
        let sk = sk_of_socket(ctx);
        if !sk.is_null() {
            let sk = Sock::<Direct>::new(sk);
            hooks::failure::bind_ended(&sk, ctx.arg::<*const u8>(1), ctx.arg::<i32>(3));
        }
    }
    0
}

/// Functions with a socket, an address and its length that answer 0 or -errno.
#[inline(always)]
fn denied(op: Op, ctx: &FExitContext, sk: *const u8) -> i32 {
    if ctx.arg::<i32>(3) < 0 && !sk.is_null() {
        let sk = Sock::<Direct>::new(sk);
        hooks::failure::denied(&sk, op, ctx.arg::<*const u8>(1), ctx.arg::<i32>(3));
    }
    0
}
