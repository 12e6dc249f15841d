//! Calls that are under way: what a program at a function's begin has to tell the one at its end.
//!
//! A table as that of processes (`sockleak_ebpf::ProcessSlot`). A call whose end was missed leaves its place
//! taken until the same thread calls again, or until nobody can be waiting for it any more.

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, generated::bpf_jiffies64};
use sockleak_ebpf::{PROBES, scaled};

use crate::maps::{IN_FLIGHT, add, claimed};

/// Places of [`IN_FLIGHT`].
pub const CALLS: usize = 16_384;
/// No call lasts as long: 10 minutes where the clock ticks fastest.
const FORGOTTEN: u64 = 600_000;
/// As in `sockleak_ebpf`'s tables.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Element of [`IN_FLIGHT`].
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Slot {
    /// 0: the place is free.
    claim: u64,
    /// `bpf_get_current_pid_tgid()`
    thread: u64,
    /// Which function: calls nest.
    function: u64,
    /// Jiffies when it began.
    begun: u64,
    call: Call,
}

/// Arguments of a call.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Call {
    /// The `struct sock *` or `struct socket *`.
    pub sk: u64,
    /// Another argument.
    pub argument: u64,
}

#[inline(always)]
fn first(thread: u64, function: u64) -> u32 {
    let hash = (thread as u32 as u64 ^ function << 32).wrapping_mul(GOLDEN);
    scaled(hash ^ hash << 32, CALLS as u32)
}

#[inline(always)]
fn place(first: u32, probe: u32) -> Option<*mut Slot> {
    IN_FLIGHT.get_ptr_mut((first + probe) & (CALLS as u32 - 1))
}

/// The current thread has called `function`. False when there is no place to keep that.
#[inline(always)]
pub fn begun(function: u64, call: Call) -> bool {
    keep(function, call.sk, call.argument) == 1
}

/// Functions of their own: the object has them once.
#[inline(never)]
fn keep(function: u64, sk: u64, argument: u64) -> u32 {
    let thread = bpf_get_current_pid_tgid();
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_jiffies64() };
    let first = first(thread, function);
    let mut probe = 0;
    while probe < PROBES {
        if let Some(place) = place(first, probe) {
            // SAFETY: a live element of the map; a place that is claimed is only used by its thread.
            unsafe {
                let free = claimed(&raw mut (*place).claim);
                let own = (*place).thread == thread && (*place).function == function;
                if free || own || now.wrapping_sub((*place).begun) > FORGOTTEN {
                    (*place).begun = now;
                    (*place).thread = thread;
                    (*place).function = function;
                    (*place).call = Call { sk, argument };
                    return 1;
                }
            }
        }
        probe += 1;
    }
    0
}

/// The arguments with which the current thread has called `function`, which returns. One that is not there
/// found no place, or began before we did.
#[inline(always)]
pub fn ended(function: u64) -> Option<Call> {
    let mut call = Call { sk: 0, argument: 0 };
    if forget(function, &mut call) == 1 {
        Some(call)
    } else {
        None
    }
}

#[inline(never)]
fn forget(function: u64, into: &mut Call) -> u32 {
    let thread = bpf_get_current_pid_tgid();
    let first = first(thread, function);
    let mut probe = 0;
    while probe < PROBES {
        if let Some(place) = place(first, probe) {
            // SAFETY: as above.
            unsafe {
                if (*place).thread == thread && (*place).function == function {
                    *into = (*place).call;
                    (*place).thread = 0;
                    add(&raw mut (*place).claim, u64::MAX);
                    return 1;
                }
            }
        }
        probe += 1;
    }
    0
}
