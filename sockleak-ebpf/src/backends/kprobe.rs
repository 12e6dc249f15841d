//! kprobe and kretprobe, for kernels without trampolines. Kernel memory is read by helper.

use aya_ebpf::{
    macros::{kprobe, kretprobe},
    programs::{ProbeContext, RetProbeContext},
};

use sockleak_ebpf::Op;

use crate::{
    calls::{self, Call},
    hooks,
    kernel::{Probe, Ptr, SOCKET_SK, Sock, member},
    percpu::count,
};

#[inline(always)]
fn sock(ctx: &ProbeContext, argument: usize) -> Option<Sock<Probe>> {
    ctx.arg::<*const u8>(argument).map(Sock::new)
}

#[kprobe]
fn kprobe_init(ctx: ProbeContext) -> u32 {
    if let Some(sk) = sock(&ctx, 0) {
        hooks::alloc::init_sock(&ctx, &sk);
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
        hooks::accept::accepted(&sk);
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
fn kprobe_done_with_error(ctx: ProbeContext) -> u32 {
    if let (Some(sk), Some(errno)) = (sock(&ctx, 0), ctx.arg::<i32>(1)) {
        hooks::ending::done_with_error(&sk, errno);
    }
    0
}

#[kprobe]
fn kprobe_abort(ctx: ProbeContext) -> u32 {
    if let (Some(sk), Some(errno)) = (sock(&ctx, 0), ctx.arg::<i32>(1)) {
        hooks::ending::aborted(&sk, errno);
    }
    0
}

#[kprobe]
fn kprobe_done(ctx: ProbeContext) -> u32 {
    if let Some(sk) = sock(&ctx, 0) {
        hooks::ending::done(&sk, sk.state());
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

/// Functions whose return needs what they were called with.
#[derive(Clone, Copy)]
enum Function {
    Search = 1,
    V6Connect,
    GetPort,
    Bind,
    PreConnect,
    LsmConnect,
    LsmBind,
}

/// Remembers a call's arguments until it returns.
#[inline(always)]
fn called(ctx: &ProbeContext, function: Function, sk: usize, argument: usize) {
    let (Some(sk), Some(argument)) = (ctx.arg::<u64>(sk), ctx.arg::<u64>(argument)) else {
        return;
    };
    if !calls::begun(function as u64, Call { sk, argument }) {
        count!(searches_unmatched);
    }
}

/// The arguments of the call that returns.
#[inline(always)]
fn returned(function: Function) -> Option<Call> {
    calls::ended(function as u64)
}

#[kprobe]
fn kprobe_search(ctx: ProbeContext) -> u32 {
    called(&ctx, Function::Search, 1, 2);
    if let (Some(sk), Some(port_offset)) = (sock(&ctx, 1), ctx.arg::<u64>(2)) {
        hooks::connect::begin(&sk, port_offset);
    }
    0
}

#[kretprobe]
fn kretprobe_search(ctx: RetProbeContext) -> u32 {
    if let Some(call) = returned(Function::Search) {
        let sk = Sock::<Probe>::new(call.sk as *const u8);
        hooks::connect::end(&sk, call.argument, ctx.ret::<i32>());
    }
    0
}

/// Also with the fentry backend: see `hooks::connect`.
#[kprobe]
fn kprobe_no_port(ctx: ProbeContext) -> u32 {
    if let Some(sk) = sock(&ctx, 0)
        && hooks::connect::is_failing(&sk)
    {
        hooks::connect::closed(&sk);
    }
    0
}

#[kprobe]
fn kprobe_v6_connect(ctx: ProbeContext) -> u32 {
    called(&ctx, Function::V6Connect, 0, 1);
    0
}

#[kretprobe]
fn kretprobe_v6_connect(ctx: RetProbeContext) -> u32 {
    if let Some(call) = returned(Function::V6Connect) {
        let sk = Sock::<Probe>::new(call.sk as *const u8);
        hooks::connect::v6_ended(&sk, call.argument as *const u8, ctx.ret::<i32>());
    }
    0
}

#[kprobe]
fn kprobe_time_wait(ctx: ProbeContext) -> u32 {
    if let Some(sk) = sock(&ctx, 0) {
        hooks::connect::time_wait(&sk);
    }
    0
}

#[kprobe]
fn kprobe_get_port(ctx: ProbeContext) -> u32 {
    called(&ctx, Function::GetPort, 0, 1);
    if let Some(sk) = sock(&ctx, 0) {
        hooks::bind::begin(&sk);
    }
    0
}

#[kretprobe]
fn kretprobe_get_port(ctx: RetProbeContext) -> u32 {
    if let Some(call) = returned(Function::GetPort) {
        let sk = Sock::<Probe>::new(call.sk as *const u8);
        hooks::bind::end(&sk, call.argument as u16, ctx.ret::<i32>());
    }
    0
}

/// `inet_bind_sk` and `inet6_bind_sk`
#[kprobe]
fn kprobe_bind_sk(ctx: ProbeContext) -> u32 {
    called(&ctx, Function::Bind, 0, 1);
    0
}

#[kretprobe]
fn kretprobe_bind_sk(ctx: RetProbeContext) -> u32 {
    if let Some(call) = returned(Function::Bind) {
        let sk = Sock::<Probe>::new(call.sk as *const u8);
        hooks::failure::bind_ended(&sk, call.argument as *const u8, ctx.ret::<i32>());
    }
    0
}

/// `inet_bind` and `inet6_bind`
#[kprobe]
fn kprobe_bind(ctx: ProbeContext) -> u32 {
    called(&ctx, Function::Bind, 0, 1);
    0
}

#[kretprobe]
fn kretprobe_bind(ctx: RetProbeContext) -> u32 {
    if let Some(call) = returned(Function::Bind)
        && let Some(sk) = sk_of_socket(&call)
    {
        hooks::failure::bind_ended(&sk, call.argument as *const u8, ctx.ret::<i32>());
    }
    0
}

/// `tcp_v4_pre_connect` and `tcp_v6_pre_connect`
#[kprobe]
fn kprobe_pre_connect(ctx: ProbeContext) -> u32 {
    called(&ctx, Function::PreConnect, 0, 1);
    0
}

#[kretprobe]
fn kretprobe_pre_connect(ctx: RetProbeContext) -> u32 {
    if let Some(call) = returned(Function::PreConnect) {
        let sk = Sock::<Probe>::new(call.sk as *const u8);
        let uaddr = call.argument as *const u8;
        hooks::failure::denied(&sk, Op::Connect, uaddr, ctx.ret::<i32>());
    }
    0
}

#[kprobe]
fn kprobe_lsm_connect(ctx: ProbeContext) -> u32 {
    called(&ctx, Function::LsmConnect, 0, 1);
    0
}

#[kretprobe]
fn kretprobe_lsm_connect(ctx: RetProbeContext) -> u32 {
    lsm_said(&ctx, Function::LsmConnect, Op::Connect)
}

#[kprobe]
fn kprobe_lsm_bind(ctx: ProbeContext) -> u32 {
    called(&ctx, Function::LsmBind, 0, 1);
    0
}

#[kretprobe]
fn kretprobe_lsm_bind(ctx: RetProbeContext) -> u32 {
    lsm_said(&ctx, Function::LsmBind, Op::Bind)
}

#[inline(always)]
fn lsm_said(ctx: &RetProbeContext, function: Function, op: Op) -> u32 {
    if let Some(call) = returned(function)
        && ctx.ret::<i32>() < 0
        && let Some(sk) = sk_of_socket(&call)
    {
        hooks::failure::denied(&sk, op, call.argument as *const u8, ctx.ret::<i32>());
    }
    0
}

#[inline(always)]
fn sk_of_socket(call: &Call) -> Option<Sock<Probe>> {
    // SAFETY: the call's first argument is a `struct socket *`, read by helper.
    let sk = unsafe { member::<Probe, Ptr>(call.sk as *const u8, &SOCKET_SK).0 };
    (!sk.is_null()).then(|| Sock::new(sk))
}
