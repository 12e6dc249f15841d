//! Scheduler tracepoints that follow a command's processes, whatever backend serves the rest.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{
    hooks::follow,
    kernel::{Direct, Task},
};

#[btf_tracepoint]
fn tp_fork(ctx: BtfTracePointContext) -> i32 {
    let parent = Task::<Direct>::new(ctx.arg::<*const u8>(0));
    let child = Task::<Direct>::new(ctx.arg::<*const u8>(1));
    follow::forked(&parent, &child);
    0
}

#[btf_tracepoint]
fn tp_exec(ctx: BtfTracePointContext) -> i32 {
    follow::executed(ctx.arg::<*const u8>(2));
    0
}

#[btf_tracepoint]
fn tp_free(ctx: BtfTracePointContext) -> i32 {
    follow::freed(&Task::<Direct>::new(ctx.arg::<*const u8>(0)));
    0
}
