//! Numbers that only the running system knows, as they stand in the instructions of the object.
//!
//! A constant in an instruction costs nothing; one in a read-only variable, which the verifier knows as well, costs two
//! instructions and a register each time. So the compiler is made to write a number that nothing else looks like, and
//! user space puts the right one into its place before load. [`crate::FIELDS`] and [`SETTINGS`] say what they
//! mean by their order.

/// `off` of a load: this plus an index in [`crate::FIELDS`] stands for the offset of the member; of a bit, of its byte.
pub const LOAD: i16 = 0x4000;
/// `imm` of a move: this plus such an index, the same offset; [`crate::ABSENT`] when there is no such member.
pub const OFFSET: i32 = 0x5f1e_0000;
/// `imm` of a move: this plus such an index, the bit in its byte as a mask; for members that are bits.
pub const MASK: i32 = 0x5f1f_0000;
/// `imm` of a move: this plus such an index, the BTF id of the structure in which the member is; 0 unknown.
pub const STRUCTURE: i32 = 0x5f20_0000;
/// `imm` of a move: this plus an index in [`SETTINGS`], its value.
pub const SETTING: i32 = 0x5f21_0000;
/// `imm` of a call: the kernel function `bpf_rdonly_cast` (6.2), where [`CAST`] says that there is one.
pub const RDONLY_CAST: i32 = 0x5f22_0000;

macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident)*) => {
        /// The settings, by the names of their constants below.
        pub const SETTINGS: &[&str] = &[$(stringify!($name),)*];

        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        enum Index { $($name,)* }

        $($(#[$doc])* pub const $name: usize = Index::$name as usize;)*
    };
}

settings! {
    /// 1: write every event to the ring buffer.
    EMIT_EVENTS
    /// 1: the processes of one command are followed.
    RUN
    /// 1: the helper `bpf_get_current_task_btf` exists (5.11).
    TASK_BTF
    /// 1: the helper `bpf_task_pt_regs` exists (5.15).
    TASK_REGS
    /// 1: programs may call `bpf_rdonly_cast` (6.2).
    CAST
    /// Size of the map of sockets.
    SOCKET_BUCKETS
    /// Size of the map of processes.
    PROCESS_SLOTS
    /// Size of the map of searches.
    SEARCH_SLOTS
    /// When to take stacks: [`crate::STACKS_NEVER`] and so on.
    STACK_MODE
    /// 1: IP_LOCAL_PORT_RANGE makes the walk of connect() one pass.
    ONE_PASS
}
