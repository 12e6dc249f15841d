//! The current process: who it is, and its counters.

use aya_ebpf::helpers::bpf_get_current_cgroup_id;
use sockleak_ebpf::{ProcessKey, ProcessStats};

use crate::{
    kernel::{CurrentTask, Reader, Task, current_task},
    log::bpf_debug,
    maps::{PROCESSES, count},
};

const BPF_NOEXIST: u64 = 1;
const E2BIG: i32 = 7;
const EEXIST: i32 = 17;

/// Identity of the current process.
#[inline(always)]
pub fn current_key() -> ProcessKey {
    match current_task() {
        CurrentTask::Typed(task) => key_of(&task.leader()),
        CurrentTask::Plain(task) => key_of(&task.leader()),
    }
}

/// How far the current thread has run.
pub struct Run {
    /// CPU time, ns, as of the last tick or switch.
    pub ran_ns: u64,
    /// How often it was switched out, the lowest bits.
    pub switches: u16,
}

/// How far the current thread has run.
#[inline(always)]
pub fn current_run() -> Run {
    let (ran_ns, switches) = match current_task() {
        CurrentTask::Typed(task) => (task.sum_exec_runtime(), task.switches()),
        CurrentTask::Plain(task) => (task.sum_exec_runtime(), task.switches()),
    };
    Run {
        ran_ns,
        switches: switches as u16,
    }
}

/// Identity of the process whose thread group leader is `leader`.
#[inline(always)]
pub fn key_of<R: Reader>(leader: &Task<R>) -> ProcessKey {
    ProcessKey {
        start_boottime_ns: leader.start_boottime_ns(),
        tgid: leader.tgid(),
        pad: 0,
    }
}

/// The counters of the current process, whose key is `key`; recorded now if this is the first
/// socket it touches. `None` when the map is full, which is counted.
#[inline(always)]
pub fn record(key: &ProcessKey) -> Option<*mut ProcessStats> {
    if let Some(stats) = PROCESSES.get_ptr_mut(key) {
        return Some(stats);
    }
    first_sight(key);
    PROCESSES.get_ptr_mut(key)
}

/// A function of its own: every hook has this path, few runs take it.
#[inline(never)]
fn first_sight(key: &ProcessKey) {
    let (comm, netns) = match current_task() {
        CurrentTask::Typed(task) => (task.leader().comm(), task.netns()),
        CurrentTask::Plain(task) => (task.leader().comm(), task.netns()),
    };
    let stats = ProcessStats {
        allocated: 0,
        destroyed: 0,
        accepted: 0,
        released: 0,
        // SAFETY: a helper without arguments.
        cgroup_id: unsafe { bpf_get_current_cgroup_id() },
        netns,
        pad: 0,
        comm,
    };
    match PROCESSES.insert(key, stats, BPF_NOEXIST) {
        // Another thread of the process was faster.
        Ok(()) => bpf_debug!("process {} seen first, netns {}", key.tgid, netns),
        Err(error) if error == -EEXIST => {}
        Err(error) => {
            bpf_debug!("process {} not recorded: error {}", key.tgid, error);
            if error == -E2BIG {
                count!(processes_full)
            } else {
                count!(processes_failed)
            }
        }
    }
}
