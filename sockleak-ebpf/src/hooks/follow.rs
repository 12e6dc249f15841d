//! follow: the processes of one command, for `sockleak run`.
//!
//! Tracepoints, with the same prototype in 5.10, 6.1, 6.12, 6.18 and 7.2:
//! - `sched_process_fork(struct task_struct *parent, struct task_struct *child)`: `kernel_clone`
//!   after `copy_process`, when the child has its identity (`start_boottime`, `tgid`) and has not
//!   run yet. `parent` is the current task, whatever CLONE_PARENT says. Threads are children with
//!   another thread id and the same `tgid`.
//! - `sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`: at the
//!   end of execve(), `p` is the current task and has its new memory. When a thread other than
//!   the first calls execve(), it takes over the first one's identity (`de_thread`), also
//!   `start_boottime`.
//! - `sched_process_free(struct task_struct *p)`: `delayed_put_task_struct`, when a thread has been
//!   reaped and a grace period has passed. The first thread goes last, after all of them have
//!   let their descriptors go (`exit_files`, `exit_task_work`), so nothing can be left behind in
//!   a process's name any more.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use sockleak_ebpf::{
    Executable, PATH_BYTES, ProcessKey, RUN_EXECUTABLE, RUN_STACK, RunEvent, SOCKET_KERNEL,
};

use super::code;
use crate::{
    constants::RUN,
    kernel::{BINPRM_INTERP, Direct, Probe, Ptr, Task, member},
    process,
    run_maps::{EXECUTABLES, FOLLOWED, NEW_EXECUTABLE, RUN_EVENTS, tally},
};

const BPF_NOEXIST: u64 = 1;
const E2BIG: i32 = 7;

/// Whether the process belongs to the command.
#[inline(always)]
pub fn is_followed(key: &ProcessKey) -> bool {
    FOLLOWED.get_ptr(key).is_some()
}

/// `child` begins to exist.
#[inline(always)]
pub fn forked(parent: &Task<Direct>, child: &Task<Direct>) {
    if child.pid() != child.tgid() || !is_followed(&process::key_of(&parent.leader())) {
        return;
    }
    match FOLLOWED.insert(process::key_of(child), 0, BPF_NOEXIST) {
        Ok(()) => tally!(forked),
        Err(_) => tally!(followed_full),
    }
}

/// `task` has ceased to exist.
#[inline(always)]
pub fn freed(task: &Task<Direct>) {
    if task.pid() != task.tgid() {
        return;
    }
    let key = process::key_of(task);
    if FOLLOWED.remove(key).is_ok() {
        // User space does not wait for it: it would be one of thousands.
        process::forget(&key);
    }
}

/// The current task runs another program from now on.
#[inline(always)]
pub fn executed(binprm: *const u8) {
    let key = process::current_key();
    if !is_followed(&key) {
        return;
    }
    let inode = code::program().exe_inode;
    if EXECUTABLES.get_ptr(inode).is_some() {
        return;
    }
    let Some(executable) = NEW_EXECUTABLE.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: index 0 of a per-CPU array, used by this program only, and the kernel does not run
    // a program twice at a time on one CPU. The helper writes no more than it is told.
    let inserted = unsafe {
        (*executable).process = key;
        let path = member::<Probe, Ptr>(binprm, &BINPRM_INTERP).0;
        let to: *mut Executable = executable;
        bpf_probe_read_kernel_str((&raw mut (*to).path).cast(), PATH_BYTES as u32, path.cast());
        let new: &Executable = &*executable;
        EXECUTABLES.insert(inode, new, BPF_NOEXIST)
    };
    match inserted {
        Ok(()) => tell(RUN_EXECUTABLE, 0, &key, inode),
        Err(error) if error == -E2BIG => tally!(executables_full),
        // Another process was faster.
        Err(_) => {}
    }
}

/// The stack `id` of the process `key` is new.
#[inline(always)]
pub fn tell_stack(id: u32, key: &ProcessKey, inode: u64) {
    tell(RUN_STACK, id, key, inode);
}

/// A socket with these flags was created by the process `key`.
#[inline(always)]
pub fn created(key: &ProcessKey, flags: u32) {
    if RUN.load() == 1 && flags & SOCKET_KERNEL == 0 && is_followed(key) {
        tally!(created);
    }
}

#[inline(always)]
fn tell(kind: u32, id: u32, key: &ProcessKey, inode: u64) {
    match RUN_EVENTS.reserve(0) {
        Some(mut entry) => {
            entry.write(RunEvent {
                process: *key,
                kind,
                id,
                inode,
            });
            entry.submit(0);
        }
        None => tally!(events_dropped),
    }
}
