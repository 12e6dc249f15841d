//! The maps of `sockleak run`; of the smallest size without it.

use aya_ebpf::{
    btf_maps::{Array, HashMap, PerCpuArray, RingBuf},
    macros::btf_map,
};
use sockleak_ebpf::{CodeStack, Executable, LeftKey, LeftStats, ProcessKey, RunEvent, RunTotals};

/// The processes of the command.
///
/// User space inserts the command, `hooks::follow` its descendants; removed there when they have
/// been reaped. A refusal is counted in `RunTotals::followed_full`.
#[btf_map]
pub static FOLLOWED: HashMap<ProcessKey, u32, 131_072> = HashMap::new();

/// What processes had open when they exited.
///
/// Inserted in `hooks::left`, removed by user space once the process is no longer followed. A
/// refusal is counted in `RunTotals::left_full`.
#[btf_map]
pub static LEFT: HashMap<LeftKey, LeftStats, 65_536> = HashMap::new();

/// Where followed processes create sockets. Never removed: an id must not come to mean another
/// stack. A refusal is counted in `RunTotals::stacks_full`.
#[btf_map]
pub static CODE_STACKS: HashMap<u32, CodeStack, 2048> = HashMap::new();

/// What followed processes run, by inode number. Never removed: a test suite has a few hundred.
/// A refusal is counted in `RunTotals::executables_full`.
#[btf_map]
pub static EXECUTABLES: HashMap<u64, Executable, 1024> = HashMap::new();

/// Where a stack is taken: too large for the stack of a program. One for each of the two programs
/// that do.
#[btf_map]
pub static NEW_STACK: PerCpuArray<CodeStack, 2> = PerCpuArray::new();

/// As [`NEW_STACK`], for an executable.
#[btf_map]
pub static NEW_EXECUTABLE: PerCpuArray<Executable, 1> = PerCpuArray::new();

/// Totals; never removed.
#[btf_map]
pub static RUN_TOTALS: Array<RunTotals, 1> = Array::new();

/// New stacks and executables, so that user space can look while the process lives. Drops are
/// counted in `RunTotals::events_dropped`.
#[btf_map]
pub static RUN_EVENTS: RingBuf<RunEvent, 262_144> = RingBuf::new();

/// Adds 1 to one of the [`RunTotals`].
macro_rules! tally {
    ($field:ident) => {
        if let Some(totals) = $crate::run_maps::RUN_TOTALS.get_ptr_mut(0) {
            // SAFETY: index 0 of a one-element array map; the field lies in the value.
            unsafe { $crate::maps::add(&raw mut (*totals).$field, 1) }
        }
    };
}
pub(crate) use tally;
