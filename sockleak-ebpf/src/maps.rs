//! The maps. None is LRU: exact state must not be evicted silently.

use aya_ebpf::{
    btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf, StackTrace},
    macros::btf_map,
};
use sockleak_ebpf::{
    Counters, Ending, EventRecord, FailureKey, FailureStats, ProcessKey, ProcessStats, SearchKey,
    SearchStats, Site, SocketEntry,
};

/// Sockets that processes created, by address of the `struct sock`.
///
/// Inserted in `hooks::alloc`, removed in `hooks::destroy`. Accepted children have no entry:
/// they are counted, and the inventory finds their holders. Size overridden at load.
#[btf_map]
pub static SOCKETS: HashMap<u64, SocketEntry, 262_144> = HashMap::new();

/// Processes that created, accepted or released a socket.
///
/// Inserted in `process::record`, removed by user space when the process is gone.
#[btf_map]
pub static PROCESSES: HashMap<ProcessKey, ProcessStats, 16_384> = HashMap::new();

/// Port searches by process and destination.
///
/// Inserted in `hooks::search`, removed by user space when the process is gone.
#[btf_map]
pub static SEARCHES: HashMap<SearchKey, SearchStats, 4096> = HashMap::new();

/// Failures by process, destination and cause.
///
/// Inserted in `hooks::failure`, removed by user space when the process is gone.
#[btf_map]
pub static FAILURES: HashMap<FailureKey, FailureStats, 4096> = HashMap::new();

/// An element of [`SEARCHES`] to begin with; never written. The value is too large for the
/// stack of a program.
#[btf_map]
pub static NO_SEARCHES: Array<SearchStats, 1> = Array::new();

/// As [`NO_SEARCHES`], for [`FAILURES`].
#[btf_map]
pub static NO_FAILURES: Array<FailureStats, 1> = Array::new();

/// Calls that a kprobe has seen begin, by thread and function, for the kretprobe that sees them
/// end. LRU: an entry lives as long as the call, and one whose end was missed is of no use.
///
/// Inserted and removed in `backends::kprobe` and, for connect(), `backends::tracepoint`.
#[btf_map]
pub static IN_FLIGHT: LruHashMap<CallKey, Call, 16_384> = LruHashMap::new();

/// Key of [`IN_FLIGHT`].
#[derive(Clone, Copy)]
#[repr(C)]
pub struct CallKey {
    /// `bpf_get_current_pid_tgid()`.
    pub thread: u64,
    /// Which function: calls nest.
    pub function: u64,
}

/// Value of [`IN_FLIGHT`]: arguments.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Call {
    /// The `struct sock *` or `struct socket *`.
    pub sk: u64,
    /// Another argument.
    pub argument: u64,
}

/// How connections have ended that died of an error, and how often.
///
/// Inserted in `hooks::ending`; never removed: there are as many as there are peers that fail.
#[btf_map]
pub static ENDINGS: HashMap<Ending, u64, 4096> = HashMap::new();

/// User stacks, each once. Never removed: an id must not come to mean another stack.
#[btf_map]
pub static STACKS: StackTrace<2048> = StackTrace::new();

/// Where sockets are created, and how often; as [`STACKS`].
#[btf_map]
pub static SITES: HashMap<Site, u64, 4096> = HashMap::new();

/// Processes whose stacks user space wants. It inserts and removes.
#[btf_map]
pub static SUSPECTS: HashMap<u32, u32, 256> = HashMap::new();

/// How many [`SUSPECTS`] there are: as a rule none, which saves the search.
#[btf_map]
pub static MARKS: Array<u32, 1> = Array::new();

/// Host-wide counters; never removed.
#[btf_map]
pub static COUNTERS: PerCpuArray<Counters, 1> = PerCpuArray::new();

/// Events, with `--events`; drained by user space, drops counted in `Counters::dropped`.
#[btf_map]
pub static EVENTS: RingBuf<EventRecord, 1_048_576> = RingBuf::new();

/// Adds to a counter in a map value, atomically: hooks nest (softirq over process context) and
/// run on several CPUs.
///
/// # Safety
/// `counter` points into a live map value.
#[inline(always)]
pub unsafe fn add(counter: *mut u64, amount: u64) {
    // `AtomicU64::fetch_add` needs compare-and-swap, which the target lacks before cpu v3; the
    // instruction below exists since 3.18 and its result is never used.
    // SAFETY: the caller passes a pointer into a map value.
    unsafe {
        core::arch::asm!(
            "lock *(u64 *)({counter} + 0) += {amount}",
            counter = in(reg) counter,
            amount = in(reg) amount,
            options(nostack),
        );
    }
}

/// As [`add`], for 32 bits.
///
/// # Safety
/// `counter` points into a live map value.
#[inline(always)]
pub unsafe fn add32(counter: *mut u32, amount: u32) {
    // SAFETY: the caller passes a pointer into a map value.
    unsafe {
        core::arch::asm!(
            "lock *(u32 *)({counter} + 0) += {amount}",
            counter = in(reg) counter,
            amount = in(reg) amount,
            options(nostack),
        );
    }
}

/// Adds 1 to one field of this CPU's [`Counters`].
macro_rules! count {
    ($($field:tt)+) => {
        if let Some(counters) = $crate::maps::COUNTERS.get_ptr_mut(0) {
            // SAFETY: index 0 of a one-element array map; the field lies in the value.
            unsafe { $crate::maps::add(&raw mut (*counters).$($field)+, 1) }
        }
    };
}
pub(crate) use count;
