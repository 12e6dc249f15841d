//! left: what a process still had open when it exited.
//!
//! Seen where sockets are let go (see `hooks::release`). A process that exits lets its descriptors
//! go in `do_exit`: `exit_files` puts the work off (`fput`), `exit_task_work` does it a few lines
//! later. So `inet_release` runs in the exiting thread, which has PF_EXITING since `exit_signals`;
//! its memory is gone by then, its identity is not. close(), dup2() and close-on-exec run without
//! that flag, also when the process is about to be killed: the work of a system call is done before
//! a signal ends the thread.
//!
//! What a process holds by other means than a descriptor is let go elsewhere: sockets in flight
//! over a Unix socket, in an io_uring (`io_ring_exit_work`) or behind a BPF map by a thread of the
//! kernel. These are counted and not judged.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use sockleak_ebpf::{
    LEFT_SEEN, LEFT_TRIED, LeftKey, LeftStats, NO_SLOT, SOCKET_ACCEPTED, SOCKET_ADOPTED,
    SOCKET_TRIED,
};

use super::follow::is_followed;
use crate::{
    constants::RUN,
    kernel::{CurrentTask, Reader, Sock, current_task},
    maps::add,
    process,
    run_maps::{LEFT, tally},
    sockets,
};

/// `task->flags` (include/linux/sched.h, 5.10 to 7.2).
const PF_EXITING: u32 = 0x4;
const PF_KTHREAD: u32 = 0x20_0000;
const BPF_NOEXIST: u64 = 1;

/// The TCP socket `sk` is let go by the current task.
#[inline(always)]
pub fn released<R: Reader>(sk: &Sock<R>) {
    if RUN.load() == 1 {
        noted(sk);
    }
}

/// A function of its own: the object has it once per backend.
#[inline(never)]
fn noted<R: Reader>(sk: &Sock<R>) {
    if sk.is_kernel() {
        return;
    }
    let (flags, comm) = match current_task() {
        CurrentTask::Typed(task) => (task.flags(), task.leader().comm()),
        CurrentTask::Plain(task) => (task.flags(), task.leader().comm()),
    };
    let key = process::current_key();
    let mut left = LeftKey {
        process: key,
        family: sk.family(),
        state: sk.state(),
        bound: u32::from(sk.num() != 0),
        ..LeftKey::default()
    };
    let mut stats = LeftStats {
        comm,
        ..LeftStats::default()
    };
    let mut creator = process::key_at(NO_SLOT, 0);
    if let Some(entry) = sockets::find(sk.addr()) {
        // SAFETY: a live value of the socket map.
        unsafe {
            left.ending = (*entry).ending;
            creator = process::key_at((*entry).slot, (*entry).mark);
            if (*entry).flags & (SOCKET_ADOPTED | SOCKET_ACCEPTED) == 0 {
                left.flags |= LEFT_SEEN;
                left.stack = (*entry).stack;
                stats.birth_ns = (*entry).birth_ns;
                stats.creator_tgid = creator.tgid;
                if (*entry).flags & SOCKET_TRIED != 0 {
                    left.flags |= LEFT_TRIED;
                }
            }
        }
    }
    if flags & PF_KTHREAD != 0 {
        if creator.tgid != 0 && is_followed(&creator) {
            tally!(elsewhere);
        }
        return;
    }
    if !is_followed(&key) {
        return;
    }
    if flags & PF_EXITING == 0 {
        tally!(closed);
        return;
    }
    tally!(left);
    if LEFT.get_ptr_mut(left).is_none() {
        // SAFETY: a helper without arguments.
        stats.end_ns = unsafe { bpf_ktime_get_ns() };
        // -EEXIST: another thread of the process was faster.
        let _ = LEFT.insert(left, stats, BPF_NOEXIST);
    }
    match LEFT.get_ptr_mut(left) {
        // SAFETY: a live value of the map.
        Some(stats) => unsafe { add(&raw mut (*stats).count, 1) },
        None => tally!(left_full),
    }
}
