//! The eBPF programs of sockleak.
//!
//! `hooks` says what happens at each logical hook, once; `backends` are thin entry points, one
//! file per attach type, that unpack the context and call the hook.

#![no_std]
#![no_main]
#![allow(unstable_features)]
#![feature(asm_experimental_arch)]

mod backends;
mod calls;
mod constants;
mod emit;
mod hooks;
mod kernel;
mod log;
mod maps;
mod percpu;
mod process;
mod run_maps;
mod sockets;
mod task;

/// Reached by nothing: the programs contain no panicking path, or the verifier refuses the loop.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The kernel lets only GPL-compatible programs call the tracing helpers.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
