//! stack: where in its program a process creates a socket.
//!
//! A user stack costs more than everything else that is done for a socket, so it is taken only
//! for suspects, which user space has marked, and for one socket in many of the others.
//! `bpf_get_stackid` follows frame pointers: what was built without ends early.

use aya_ebpf::{EbpfContext, programs::tracing::StackIdContext};
use sockleak_ebpf::{STACK_FAILED, STACKS_ALWAYS, STACKS_NEVER, Site};

use super::{alloc::Creation, code, follow};
use crate::{
    constants::{RUN, STACK_MODE},
    kernel::top_of_user_stack,
    maps::{SITES, STACK_EPOCH, STACKS, SUSPECTS, add},
    percpu::count,
};

/// One socket in as many plus 1 of processes that nobody suspects; a power of two less one.
const SAMPLE_MASK: u32 = 63;

/// `BPF_F_USER_STACK`
const USER_STACK: u64 = 1 << 8;
/// Frames to skip (`BPF_F_SKIP_FIELD_MASK`).
const WITHOUT_INNERMOST: u64 = 1;
const BPF_NOEXIST: u64 = 1;
const EEXIST: i32 = 17;
const EFAULT: i32 = 14;

/// Whether the stack of whoever creates a socket is to be taken.
#[inline(always)]
pub fn wanted(creation: &Creation) -> bool {
    if RUN.load() == 1 {
        return follow::is_followed(&creation.key);
    }
    match STACK_MODE.load() {
        STACKS_NEVER => false,
        STACKS_ALWAYS => true,
        _ => {
            if SUSPECTS
                .get(creation.new.slot)
                .is_some_and(|suspect| *suspect != 0)
            {
                return true;
            }
            // Which one it is must not depend on what the program does, only its number; the time of birth, which
            // is different for each, is there already.
            let spread = creation.new.birth_ns.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let spread = (spread ^ spread >> 32).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            (spread >> 32) as u32 & SAMPLE_MASK == 0
        }
    }
}

/// Takes the stack of the current thread, which creates a socket of this family: what
/// [`sockleak_ebpf::SocketEntry::stack`] holds.
#[inline(always)]
pub fn take<C: EbpfContext + StackIdContext>(ctx: &C, family: u16) -> u32 {
    if RUN.load() == 1 {
        return code::take(ctx.as_ptr(), family);
    }
    let epoch = epoch();
    if epoch & 1 != 0 {
        count!(stacks_failed);
        return STACK_FAILED;
    }
    let mut taken = ctx.get_stackid(&STACKS, USER_STACK);
    if taken == Err(-EEXIST) {
        // Another stack with the same hash has the place, and every socket of this one would go without. Less its
        // innermost function, the C library's as a rule, it has another hash.
        taken = ctx.get_stackid(&STACKS, USER_STACK | WITHOUT_INNERMOST);
    }
    match taken {
        Ok(id) => site(id as u32, epoch),
        Err(error) => {
            // The same once more: the map keeps the first.
            if error == -EEXIST {
                count!(stacks_collided);
            } else if error == -EFAULT {
                count!(stacks_faulted);
            } else {
                count!(stacks_failed);
            }
            STACK_FAILED
        }
    }
}

/// Read before the stack is taken: one that is taken in the next epoch is not told as one of this.
#[inline(always)]
fn epoch() -> u32 {
    STACK_EPOCH.get_ptr(0).map_or(1, |epoch| {
        // SAFETY: a live element of the map.
        unsafe { epoch.read_volatile() }
    })
}

#[inline(never)]
fn site(stack: u32, epoch: u32) -> u32 {
    let site = Site {
        top: top_of_user_stack(),
        stack,
        epoch,
    };
    if SITES.get_ptr_mut(site).is_none() {
        // -EEXIST: somebody was faster.
        let _ = SITES.insert(site, 0, BPF_NOEXIST);
    }
    let Some(times) = SITES.get_ptr_mut(site) else {
        count!(stacks_failed);
        return STACK_FAILED;
    };
    // SAFETY: a live value of the map.
    unsafe { add(times, 1) }
    site.id()
}
