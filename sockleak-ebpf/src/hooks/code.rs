//! code: the stack of whoever creates a socket, in terms that outlive the process.
//!
//! A stack of addresses says nothing once its process is gone, and thousands of processes of one
//! program have thousands of such stacks, because each is loaded elsewhere. So `bpf_get_stack`
//! is asked for build ids and offsets in files (BPF_F_USER_BUILD_ID, 4.17+), which are the same for
//! all of them. Where a file has no build id, or the memory map is locked by another thread, it
//! gives the address; those within the program itself are taken relative to it.
//!
//! `bpf_get_stack` follows frame pointers, and passes over functions without: always over the one
//! that calls a system call of the C library, and over a whole program that was built so. What
//! lies on the stack is therefore kept of the first process, for user space to find the return
//! addresses in between. The name of the thread is kept, too: test runners name threads after tests.

use core::ffi::c_void;

use aya_ebpf::helpers::{
    bpf_get_current_task,
    generated::{bpf_get_stack, bpf_probe_read_user},
};
use sockleak_ebpf::{
    AF_INET6, CODE_FRAMES, CodeFrame, CodeStack, FRAME_FILE, ProcessKey, STACK_FAILED, STACK_WORDS,
};

use super::follow;
use crate::{
    kernel::{
        FILE_INODE, INODE_INO, MM_END_CODE, MM_EXE_FILE, MM_START_CODE, Probe, Ptr, TASK_MM, Task,
        member, user_stack_pointer,
    },
    process,
    run_maps::{CODE_STACKS, NEW_STACK, tally},
};

/// `BPF_F_USER_STACK | BPF_F_USER_BUILD_ID`
const USER_BUILD_ID: u64 = 1 << 8 | 1 << 11;
const BPF_NOEXIST: u64 = 1;
const E2BIG: i32 = 7;

/// What the current process runs.
pub struct Program {
    /// `mm->start_code`
    pub start_code: u64,
    /// `mm->end_code`
    pub end_code: u64,
    /// Inode number of the executable.
    pub exe_inode: u64,
}

/// What the current process runs; zeros when it has no memory of its own.
#[inline(always)]
pub fn program() -> Program {
    // SAFETY: members of the current task and of what it points to, read by helper.
    unsafe {
        let task = bpf_get_current_task() as *const u8;
        let mm = member::<Probe, Ptr>(task, &TASK_MM).0;
        let file = member::<Probe, Ptr>(mm, &MM_EXE_FILE).0;
        let inode = member::<Probe, Ptr>(file, &FILE_INODE).0;
        Program {
            start_code: member::<Probe, u64>(mm, &MM_START_CODE),
            end_code: member::<Probe, u64>(mm, &MM_END_CODE),
            exe_inode: member::<Probe, u64>(inode, &INODE_INO),
        }
    }
}

/// Takes the stack of the current thread: what [`sockleak_ebpf::SocketEntry::stack`] holds.
///
/// Trampolines run with preemption on, and two programs take stacks, of which one may preempt the
/// other: each family has a buffer of its own.
#[inline(never)]
pub fn take(ctx: *mut c_void, family: u16) -> u32 {
    let Some(stack) = NEW_STACK.get_ptr_mut(u32::from(family == AF_INET6)) else {
        return STACK_FAILED;
    };
    let key: ProcessKey = process::current_key();
    let program = program();
    // SAFETY: the current task, read by helper.
    let thread = unsafe { Task::<Probe>::new(bpf_get_current_task() as *const u8).comm() };
    // SAFETY: a value of a per-CPU array that nobody else uses meanwhile; the helper writes as
    // many bytes as it is told and clears what it does not use.
    let bytes = unsafe {
        bpf_get_stack(
            ctx.cast(),
            (&raw mut (*stack).code).cast(),
            (CODE_FRAMES * size_of::<CodeFrame>()) as u32,
            USER_BUILD_ID,
        )
    };
    if bytes <= 0 {
        tally!(stacks_failed);
        return STACK_FAILED;
    }
    let frames = bytes as usize / size_of::<CodeFrame>();
    // SAFETY: as above.
    let hash = unsafe { hash(stack, frames, &program, thread) };
    // 0 and the highest value have a meaning.
    let id = (hash as u32) & 0x7fff_ffff | 1 << 30;
    if let Some(known) = CODE_STACKS.get_ptr(id) {
        // SAFETY: a live value of the map.
        if unsafe { (*known).hash } == hash {
            return id;
        }
        tally!(stacks_collided);
        return STACK_FAILED;
    }
    // SAFETY: as above.
    let inserted = unsafe {
        (*stack).hash = hash;
        (*stack).process = key;
        (*stack).start_code = program.start_code;
        (*stack).end_code = program.end_code;
        (*stack).exe_inode = program.exe_inode;
        (*stack).frames = frames as u32;
        (*stack).thread = thread;
        (*stack).words = words(stack);
        let new: &CodeStack = &*stack;
        CODE_STACKS.insert(id, new, BPF_NOEXIST)
    };
    match inserted {
        Ok(()) => follow::tell_stack(id, &key, program.exe_inode),
        Err(error) if error == -E2BIG => {
            tally!(stacks_full);
            return STACK_FAILED;
        }
        // Another process was faster with the same one.
        Err(_) => {}
    }
    id
}

/// # Safety
/// `stack` is a value of the map.
#[inline(always)]
unsafe fn hash(stack: *mut CodeStack, frames: usize, program: &Program, thread: [u64; 2]) -> u64 {
    let mut hash = mix(mix(thread[0]) ^ thread[1]);
    let mut index = 0;
    while index < CODE_FRAMES {
        if index >= frames {
            break;
        }
        // SAFETY: the index is below the number of frames.
        let frame = unsafe { (*stack).code[index] };
        if frame.status == FRAME_FILE {
            let id = &frame.build_id;
            hash = mix(hash ^ (u64::from(id[0]) | u64::from(id[1]) << 32));
            hash = mix(hash ^ (u64::from(id[2]) | u64::from(id[3]) << 32));
            hash = mix(hash ^ frame.offset);
        } else if program.start_code <= frame.offset && frame.offset < program.end_code {
            hash = mix(hash ^ program.exe_inode);
            hash = mix(hash ^ (frame.offset - program.start_code));
        } else {
            hash = mix(hash ^ frame.offset);
        }
        index += 1;
    }
    hash
}

/// A round of splitmix64 (Steele, Lea and Flood 2014).
#[inline(always)]
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word ^ word >> 27
}

/// Copies the top of the current thread's user stack; gives the number of words.
///
/// # Safety
/// `stack` is a value of the map.
#[inline(always)]
unsafe fn words(stack: *mut CodeStack) -> u32 {
    let Some(sp) = user_stack_pointer() else {
        return 0;
    };
    // SAFETY: the helper checks addresses and writes no more than it is told.
    unsafe {
        let to: *mut c_void = (&raw mut (*stack).stack).cast();
        // A thread near the begin of its stack has less behind it.
        if bpf_probe_read_user(to.cast(), (STACK_WORDS * 8) as u32, sp as *const _) == 0 {
            return STACK_WORDS as u32;
        }
        if bpf_probe_read_user(to.cast(), (STACK_WORDS * 4) as u32, sp as *const _) == 0 {
            return STACK_WORDS as u32 / 2;
        }
        if bpf_probe_read_user(to.cast(), STACK_WORDS as u32, sp as *const _) == 0 {
            return STACK_WORDS as u32 / 8;
        }
    }
    0
}
