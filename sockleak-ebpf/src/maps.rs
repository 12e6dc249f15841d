//! The maps. None is LRU: exact state must not be evicted silently.

use aya_ebpf::{
    btf_maps::{Array, HashMap, RingBuf, StackTrace},
    macros::btf_map,
};
use sockleak_ebpf::{
    Ending, EventRecord, FailureKey, FailureStats, ProcessSlot, SearchSlot, Site, SocketBucket,
    SocketEntry,
};

use crate::calls::{CALLS, Slot};

/// `BPF_F_MMAPABLE`, Linux 5.5.
const MMAPABLE: usize = 1 << 10;

/// Sockets that processes created or accepted: see `crate::sockets`. Size overridden at load.
///
/// Inserted in `hooks::alloc` and `hooks::accept`, removed in `hooks::destroy`.
#[btf_map]
pub static SOCKETS: Array<SocketBucket, 1> = Array::new();

/// Sockets whose buckets are full, by address of the `struct sock`; as [`SOCKETS`].
#[btf_map]
pub static OVERFLOW: HashMap<u64, SocketEntry, 1> = HashMap::new();

/// Processes that created or accepted a socket. Size overridden at load.
///
/// Inserted in `process::record`, removed by user space when the process is gone.
#[btf_map]
pub static PROCESSES: Array<ProcessSlot, 1> = Array::new();

/// 0: the place in [`PROCESSES`] is free. As large as that. User space maps it: it looks at all of them often.
#[btf_map]
pub static PROCESS_CLAIMS: Array<u64, 1, MMAPABLE> = Array::new();

/// Not 0: user space, which writes this, wants the stacks of all sockets that the process in this place of
/// [`PROCESSES`] creates. As large as that.
#[btf_map]
pub static SUSPECTS: Array<u32, 1> = Array::new();

/// Port searches by process and destination. Size overridden at load.
///
/// Inserted in `hooks::search`, removed by user space when the process is gone.
#[btf_map]
pub static SEARCHES: Array<SearchSlot, 1> = Array::new();

/// 0: the place in [`SEARCHES`] is free. As large as that. User space maps it.
#[btf_map]
pub static SEARCH_CLAIMS: Array<u64, 1, MMAPABLE> = Array::new();

/// Failures by process, destination and cause.
///
/// Inserted in `hooks::failure`, removed by user space when the process is gone.
#[btf_map]
pub static FAILURES: HashMap<FailureKey, FailureStats, 4096> = HashMap::new();

/// An element of [`FAILURES`] to begin with; never written. The value is too large for the stack of a
/// program.
#[btf_map]
pub static NO_FAILURES: Array<FailureStats, 1> = Array::new();

/// Calls that are under way, for those who see them end: see `crate::calls`.
///
/// Inserted and removed in `backends::kprobe` and, for socket() and connect(), in `backends::syscalls`.
#[btf_map]
pub static IN_FLIGHT: Array<Slot, CALLS> = Array::new();

/// How connections have ended that died of an error, and how often.
///
/// Inserted in `hooks::ending`; removed by user space, which remembers them as long as a socket refers to them.
#[btf_map]
pub static ENDINGS: HashMap<Ending, u64, 4096> = HashMap::new();

/// User stacks, each once. User space removes all of them when they have become many, and begins another
/// [`STACK_EPOCH`] then: within one, an id must not come to mean another stack.
#[btf_map]
pub static STACKS: StackTrace<2048> = StackTrace::new();

/// Where sockets are created, and how often; as [`STACKS`].
#[btf_map]
pub static SITES: HashMap<Site, u64, 4096> = HashMap::new();

/// Which stacks the ids of [`STACKS`] mean; odd while user space removes them. Written by user space.
#[btf_map]
pub static STACK_EPOCH: Array<u32, 1> = Array::new();

/// Events, with `--events`; drained by user space, drops counted in `Counters::dropped`.
#[btf_map]
pub static EVENTS: RingBuf<EventRecord, 1_048_576> = RingBuf::new();

/// A variable of the programs, shared by all of them and by all CPUs, zero at load (section `.bss`).
#[repr(transparent)]
pub struct Shared<T>(core::cell::UnsafeCell<T>);

// SAFETY: read and written whole, and every value that is ever in it is right.
unsafe impl<T: Copy> Sync for Shared<T> {}

impl<T: Copy> Shared<T> {
    /// With this value at load.
    pub const fn new(value: T) -> Self {
        Self(core::cell::UnsafeCell::new(value))
    }

    /// Its value.
    #[inline(always)]
    pub fn load(&self) -> T {
        // SAFETY: see `Sync`.
        unsafe { self.0.get().read_volatile() }
    }

    /// Changes it.
    #[inline(always)]
    pub fn store(&self, value: T) {
        // SAFETY: see `Sync`.
        unsafe { self.0.get().write_volatile(value) }
    }
}

/// 0, of which the compiler does not know that it is: of several members that it knows to be zero it makes
/// a call of memset, which here goes byte by byte.
#[inline(always)]
pub fn opaque_zero() -> u64 {
    let zero: u64;
    // SAFETY: sets a register.
    unsafe {
        core::arch::asm!("{zero} = 0", zero = out(reg) zero, options(pure, nomem, nostack, preserves_flags));
    }
    zero
}

/// Claims a place of a table (see `sockleak_ebpf::SocketBucket`); whether it was free.
///
/// # Safety
/// `claim` points into a live map value.
#[inline(always)]
pub unsafe fn claimed(claim: *mut u64) -> bool {
    // SAFETY: passed on to the caller.
    unsafe {
        if claim.read_volatile() != 0 {
            return false;
        }
        add(claim, 1);
        if claim.read_volatile() == 1 {
            return true;
        }
        add(claim, u64::MAX);
        false
    }
}

/// Adds to a counter in a map value, atomically: hooks nest (softirq over process context) and
/// run on several CPUs.
///
/// # Safety
/// `counter` points into a live map value.
#[inline(always)]
pub unsafe fn add(counter: *mut u64, amount: u64) {
    // `AtomicU64::fetch_add` may become an instruction that returns the old value, which 5.10 lacks; the one
    // below exists since 3.18.
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
