//! The current process: who it is, and its counters.

use aya_ebpf::helpers::bpf_get_current_cgroup_id;
use sockleak_ebpf::{NO_SLOT, PROBES, ProcessKey, ProcessSlot, ProcessStats, scaled};

use crate::{
    constants::PROCESS_SLOTS,
    kernel::{CurrentTask, Reader, Task, current_task},
    log::bpf_debug,
    maps::{PROCESS_CLAIMS, PROCESSES, add, claimed, opaque_zero},
    percpu::count,
};

/// The current thread, asked for once where several things of it are wanted.
pub struct Thread(CurrentTask);

/// The current thread.
#[inline(always)]
pub fn thread() -> Thread {
    Thread(current_task())
}

impl Thread {
    /// Identity of its process.
    #[inline(always)]
    pub fn process(&self) -> ProcessKey {
        match &self.0 {
            CurrentTask::Typed(task) => key_of(&task.leader()),
            CurrentTask::Plain(task) => key_of(&task.leader()),
        }
    }

    /// How long it has run, ns, as of the last tick or switch.
    #[inline(always)]
    pub fn ran_ns(&self) -> u64 {
        match &self.0 {
            CurrentTask::Typed(task) => task.sum_exec_runtime(),
            CurrentTask::Plain(task) => task.sum_exec_runtime(),
        }
    }

    /// How often it was switched out, the lowest bits.
    #[inline(always)]
    pub fn switches(&self) -> u16 {
        let switches = match &self.0 {
            CurrentTask::Typed(task) => task.switches(),
            CurrentTask::Plain(task) => task.switches(),
        };
        switches as u16
    }
}

/// Identity of the current process.
#[inline(always)]
pub fn current_key() -> ProcessKey {
    thread().process()
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

/// A process that is in the process map.
pub struct Known {
    /// Its place.
    pub slot: u32,
    /// Its [`ProcessKey::mark`].
    pub mark: u32,
    /// Its counters.
    pub stats: *mut ProcessStats,
}

/// The current process, whose key is `key`; recorded now if this is the first socket it touches. `None`
/// when there is no place, which is counted.
#[inline(always)]
pub fn record(key: &ProcessKey) -> Option<Known> {
    let first = scaled(key.hash(), PROCESS_SLOTS.load());
    if let Some(place) = place_at(first, key) {
        return Some(known(first, place));
    }
    let slot = process_place(key.start_boottime_ns, u64::from(key.tgid));
    Some(known(slot, PROCESSES.get_ptr_mut(slot)?))
}

#[inline(always)]
fn known(slot: u32, place: *mut ProcessSlot) -> Known {
    // SAFETY: a live element of the map.
    unsafe {
        Known {
            slot,
            mark: (&raw const (*place).mark).read_volatile(),
            stats: &raw mut (*place).stats,
        }
    }
}

/// This place, if it is that of the process.
#[inline(always)]
fn place_at(slot: u32, key: &ProcessKey) -> Option<*mut ProcessSlot> {
    let place = PROCESSES.get_ptr_mut(slot)?;
    // SAFETY: a live element of the map.
    let is_it = unsafe {
        (&raw const (*place).ready).read_volatile() == 1
            && (&raw const (*place).key.start_boottime_ns).read_volatile() == key.start_boottime_ns
            && (&raw const (*place).key.tgid).read_volatile() == key.tgid
    };
    is_it.then_some(place)
}

/// The counters of the process that had this place when it made a socket, if it still has it.
#[inline(always)]
pub fn stats_of(slot: u32, mark: u32) -> Option<*mut ProcessStats> {
    let place = PROCESSES.get_ptr_mut(slot)?;
    // SAFETY: a live element of the map.
    unsafe {
        if (&raw const (*place).mark).read_volatile() == mark {
            Some(&raw mut (*place).stats)
        } else {
            None
        }
    }
}

/// The process that had this place when it made a socket, if it still has it; otherwise `tgid` is 0. No `Option`:
/// of one, the compiler copies what `None` leaves undefined, which the verifier refuses.
#[inline(always)]
pub fn key_at(slot: u32, mark: u32) -> ProcessKey {
    let mut known = ProcessKey {
        start_boottime_ns: opaque_zero(),
        tgid: 0,
        pad: 0,
    };
    if let Some(place) = PROCESSES.get_ptr_mut(slot) {
        // SAFETY: a live element of the map.
        unsafe {
            if (&raw const (*place).mark).read_volatile() == mark {
                known = (&raw const (*place).key).read_volatile();
            }
        }
    }
    known
}

#[inline(always)]
fn place_after(first: u32, probe: u32) -> u32 {
    let place = first + probe;
    let all = PROCESS_SLOTS.load();
    if place >= all { place - all } else { place }
}

/// The place of a process, if it is not the first one: a global function, see `hooks::search::search_place`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn process_place(start_boottime_ns: u64, tgid: u64) -> u32 {
    let key = ProcessKey {
        start_boottime_ns,
        tgid: tgid as u32,
        pad: 0,
    };
    elsewhere(&key, scaled(key.hash(), PROCESS_SLOTS.load()))
}

/// A function of its own: every hook has this path, few runs take it.
#[inline(never)]
fn elsewhere(key: &ProcessKey, first: u32) -> u32 {
    let mut probe = 1;
    while probe < PROBES {
        let slot = place_after(first, probe);
        if place_at(slot, key).is_some() {
            return slot;
        }
        probe += 1;
    }
    first_sight(key, first)
}

#[inline(never)]
fn first_sight(key: &ProcessKey, first: u32) -> u32 {
    let mut probe = 0;
    while probe < PROBES {
        let slot = place_after(first, probe);
        if let (Some(place), Some(claim)) = (
            PROCESSES.get_ptr_mut(slot),
            PROCESS_CLAIMS.get_ptr_mut(slot),
        ) {
            // SAFETY: live elements of the maps; a place that is claimed is nobody else's.
            unsafe {
                if claimed(claim) {
                    (*place).key = *key;
                    (*place).mark = key.mark();
                    describe(&raw mut (*place).stats);
                    (&raw mut (*place).ready).write_volatile(1);
                    bpf_debug!("process {} seen first", key.tgid);
                    return slot;
                }
            }
        }
        probe += 1;
    }
    count!(processes_full);
    NO_SLOT
}

/// # Safety
/// `stats` is in a place that the caller has claimed.
#[inline(always)]
unsafe fn describe(stats: *mut ProcessStats) {
    let (comm, netns) = match current_task() {
        CurrentTask::Typed(task) => (task.leader().comm(), task.netns()),
        CurrentTask::Plain(task) => (task.leader().comm(), task.netns()),
    };
    // SAFETY: passed on to the caller; a helper without arguments.
    unsafe {
        (*stats).comm = comm;
        (*stats).netns = netns;
        (*stats).cgroup_id = bpf_get_current_cgroup_id();
    }
}

/// Removes the process, if it is there.
#[inline(never)]
pub fn forget(key: &ProcessKey) {
    let first = scaled(key.hash(), PROCESS_SLOTS.load());
    let mut probe = 0;
    while probe < PROBES {
        let slot = place_after(first, probe);
        if let Some(place) = place_at(slot, key)
            && let Some(claim) = PROCESS_CLAIMS.get_ptr_mut(slot)
        {
            // SAFETY: live elements of the maps, and nobody uses them: the process is gone.
            unsafe {
                (&raw mut (*place).ready).write_volatile(0);
                (&raw mut (*place).mark).write_volatile(0);
                (*place).stats = ProcessStats::default();
                add(claim, u64::MAX);
            }
            return;
        }
        probe += 1;
    }
}
