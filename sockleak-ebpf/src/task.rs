//! Tasks: what can be read of them, and the user side of the current one.

use core::marker::PhantomData;

use aya_ebpf::helpers::{
    bpf_get_current_task, bpf_get_current_task_btf, bpf_task_pt_regs,
    generated::bpf_probe_read_user,
};
use sockleak_ebpf::ABSENT;

use crate::{
    constants::*,
    kernel::{Direct, Probe, Ptr, Reader, member, member16},
};

/// A `struct task_struct *`.
pub struct Task<R> {
    ptr: *const u8,
    reader: PhantomData<R>,
}

impl<R: Reader> Task<R> {
    /// Wraps a pointer that `R` can read.
    #[inline(always)]
    pub fn new(ptr: *const u8) -> Self {
        Self {
            ptr,
            reader: PhantomData,
        }
    }

    #[inline(always)]
    fn member<T: Copy + Default>(&self, field: &impl Member) -> T {
        // SAFETY: `self.ptr` is a `struct task_struct *` and the field is one of its members.
        unsafe { member::<R, T>(self.ptr, field) }
    }

    /// Thread group leader: what `/proc/PID` shows.
    #[inline(always)]
    pub fn leader(&self) -> Self {
        Self::new(self.member::<Ptr>(&TASK_GROUP_LEADER).0)
    }

    /// `tgid`
    #[inline(always)]
    pub fn tgid(&self) -> u32 {
        self.member(&TASK_TGID)
    }

    /// `pid`: thread id
    #[inline(always)]
    pub fn pid(&self) -> u32 {
        self.member(&TASK_PID)
    }

    /// `flags`
    #[inline(always)]
    pub fn flags(&self) -> u32 {
        self.member(&TASK_FLAGS)
    }

    /// `start_boottime`, ns
    #[inline(always)]
    pub fn start_boottime_ns(&self) -> u64 {
        self.member(&TASK_START_BOOTTIME)
    }

    /// `se.sum_exec_runtime`: CPU time, ns, as of the last tick or switch
    #[inline(always)]
    pub fn sum_exec_runtime(&self) -> u64 {
        self.member(&TASK_SUM_EXEC)
    }

    /// `nvcsw + nivcsw`: how often it was switched out
    #[inline(always)]
    pub fn switches(&self) -> u64 {
        let voluntary: u64 = self.member(&TASK_NVCSW);
        let involuntary: u64 = self.member(&TASK_NIVCSW);
        voluntary.wrapping_add(involuntary)
    }

    /// `comm`
    #[inline(always)]
    pub fn comm(&self) -> [u64; 2] {
        // SAFETY: a member of `struct task_struct`, 16 bytes long.
        unsafe { member16::<R>(self.ptr, &TASK_COMM) }
    }

    /// Inode number of the network namespace it lives in; 0 while it exits.
    #[inline(always)]
    pub fn netns(&self) -> u32 {
        let nsproxy = self.member::<Ptr>(&TASK_NSPROXY).0;
        if nsproxy.is_null() {
            return 0;
        }
        // SAFETY: `struct nsproxy *` and `struct net *` of a live task.
        unsafe {
            let net = member::<R, Ptr>(nsproxy, &NSPROXY_NET).0;
            member::<R, u32>(net, &NET_INUM)
        }
    }
}

/// What can be done with the current task, by either reader.
pub enum CurrentTask {
    /// A typed pointer (5.11+).
    Typed(Task<Direct>),
    /// A plain address.
    Plain(Task<Probe>),
}

/// The current task. `TASK_BTF` is a constant to the verifier, so one arm is dead code.
#[inline(always)]
pub fn current_task() -> CurrentTask {
    // SAFETY: helpers without arguments.
    unsafe {
        if TASK_BTF.load() == 1 {
            CurrentTask::Typed(Task::new(bpf_get_current_task_btf().cast_const().cast()))
        } else {
            CurrentTask::Plain(Task::new(bpf_get_current_task() as *const u8))
        }
    }
}

/// `THREAD_SIZE` and the size of `struct pt_regs` on x86-64 without KASAN.
const THREAD_SIZE: u64 = 16 << 10;
const PT_REGS: u64 = 168;

/// What lies on top of the user stack of the current task, which is in a system call: the address
/// to which the function returns that made it, if that function has no frame of its own, as those
/// of the C library have not. 0 when it cannot be read; also on other machines than x86-64, where
/// such an address is not on the stack.
#[inline(always)]
pub fn top_of_user_stack() -> u64 {
    match user_stack_pointer() {
        Some(sp) => read_user(sp as *const u8),
        None => 0,
    }
}

/// The user stack pointer of the current task, which is in a system call; `None` where it is not
/// known how to find it.
#[inline(always)]
pub fn user_stack_pointer() -> Option<u64> {
    if REGS_SP.offset() == ABSENT {
        return None;
    }
    // SAFETY: the helpers check every address.
    let sp: u64 = unsafe {
        let regs = if TASK_BTF.load() == 1 && TASK_REGS.load() == 1 {
            bpf_task_pt_regs(bpf_get_current_task_btf()) as u64
        } else {
            let stack: u64 = member::<Probe, u64>(bpf_get_current_task() as *const u8, &TASK_STACK);
            // Without FRED, which is younger than the helper, nothing lies above.
            stack + THREAD_SIZE - PT_REGS
        };
        member::<Probe, u64>(regs as *const u8, &REGS_SP)
    };
    Some(sp)
}

/// Reads user memory; zero when it cannot be read.
#[inline(always)]
pub fn read_user<T: Copy + Default>(from: *const u8) -> T {
    let mut value = T::default();
    // SAFETY: the helper checks the address, writes as many bytes as there are, and clears them
    // when it fails.
    unsafe {
        bpf_probe_read_user((&raw mut value).cast(), size_of::<T>() as u32, from.cast());
    }
    value
}
