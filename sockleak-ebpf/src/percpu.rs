//! What each CPU has for itself: counters and a clock.
//!
//! In a variable, not in a per-CPU map: adding 1 takes half the instructions then, and no lookup. Sections whose names
//! begin with `.bss` are maps with one element; see `crate::names::maps::COUNTERS`.

use aya_ebpf::helpers::{
    bpf_get_smp_processor_id,
    generated::{bpf_jiffies64, bpf_ktime_get_ns},
};
use sockleak_ebpf::{CPUS, Counters};

use crate::{constants::RUN, emit};

/// Host-wide counters; CPUs beyond the last share them with others, which is why all add atomically.
#[unsafe(link_section = ".bss.counters")]
static COUNTERS: PerCpu<Counters> = PerCpu::zero();

/// What the time was when this CPU asked first in this tick.
#[unsafe(link_section = ".bss.clocks")]
static CLOCKS: PerCpu<Clock> = PerCpu::zero();

#[repr(C, align(64))]
struct Clock {
    /// `jiffies_64`
    tick: u64,
    /// Nanoseconds of `CLOCK_MONOTONIC`, and one more for each time that somebody has asked since.
    ns: u64,
}

#[repr(transparent)]
struct PerCpu<T>(core::cell::UnsafeCell<core::mem::MaybeUninit<[T; CPUS]>>);

// SAFETY: counters are added to atomically; of clocks see `recently`.
unsafe impl<T> Sync for PerCpu<T> {}

impl<T> PerCpu<T> {
    const fn zero() -> Self {
        Self(core::cell::UnsafeCell::new(core::mem::MaybeUninit::zeroed()))
    }

    #[inline(always)]
    fn of(&self, cpu: usize) -> *mut T {
        // SAFETY: the number is below CPUS, which the verifier sees.
        unsafe { self.0.get().cast::<T>().add(cpu & (CPUS - 1)) }
    }
}

#[inline(always)]
fn cpu() -> usize {
    // SAFETY: a helper without arguments.
    unsafe { bpf_get_smp_processor_id() as usize }
}

/// The counters of this CPU.
#[inline(always)]
pub fn counters() -> *mut Counters {
    COUNTERS.of(cpu())
}

/// Adds 1 to one field of this CPU's [`Counters`].
macro_rules! count {
    ($($field:tt)+) => {
        // SAFETY: counters that are there as long as the programs.
        unsafe { $crate::maps::add(&raw mut (*$crate::percpu::counters()).$($field)+, 1) }
    };
}
pub(crate) use count;

/// Nanoseconds of `CLOCK_MONOTONIC`.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_ns() }
}

/// As [`now`], at most one tick (1 to 10 ms) too early, for a tenth of the instructions; exact where single events are
/// told. No two answers of a CPU are the same, unless a program interrupts another between two instructions.
///
/// `bpf_jiffies64` (5.6) is a load of a variable in compiled programs.
#[inline(always)]
pub fn recently() -> u64 {
    let cpu = cpu();
    if emit::wanted() || RUN.load() == 1 || cpu >= CPUS {
        return now();
    }
    let clock = CLOCKS.of(cpu);
    // SAFETY: a helper without arguments. A clock that nobody writes meanwhile but programs that interrupt this one:
    // they leave a tick that is over, or this one with a time in it.
    unsafe {
        let tick = bpf_jiffies64();
        let ns = if (&raw const (*clock).tick).read_volatile() == tick {
            (&raw const (*clock).ns).read_volatile() + 1
        } else {
            now()
        };
        (&raw mut (*clock).ns).write_volatile(ns);
        (&raw mut (*clock).tick).write_volatile(tick);
        ns
    }
}
