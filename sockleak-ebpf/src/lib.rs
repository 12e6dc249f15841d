//! What the kernel side and the user side of sockleak agree on: map and ring buffer layouts,
//! names of maps and programs, and the table of kernel structure members whose offsets user
//! space looks up in the running kernel's BTF and hands over as read-only globals.
//!
//! Everything on the wire is a plain integer or an array of them, with explicit padding and
//! asserted size: the user side treats the bytes as foreign input.

#![no_std]

mod counters;
mod endings;
mod fields;
pub mod names;
pub mod placeholders;
mod records;
mod runs;
mod searches;
mod sites;
mod tables;
mod walk;

use endings::mix;

pub use counters::{CPUS, Counters};
pub use endings::Ending;
pub use fields::{ABSENT, FIELDS, FieldSpec};
pub use records::{
    EventKind, EventRecord, InventoryRecord, ProcessKey, ProcessStats, SEARCH_BOUND, SEARCH_FAILED,
    SEARCH_KNOWN, SEARCH_OPEN, SEARCH_TOLD, SOCKET_ACCEPTED, SOCKET_ADOPTED, SOCKET_KERNEL,
    SOCKET_MPTCP, SOCKET_PORT_BOUND, SOCKET_PORT_KNOWN, SOCKET_TRIED, STACK_FAILED, STACKS_ALWAYS,
    STACKS_AUTO, STACKS_NEVER, SocketEntry, UNKNOWN,
};
pub use runs::{
    CODE_FRAMES, CodeFrame, CodeStack, Executable, FRAME_ADDRESS, FRAME_EMPTY, FRAME_FILE,
    LEFT_SEEN, LEFT_TRIED, LeftKey, LeftStats, PATH_BYTES, RUN_EXECUTABLE, RUN_STACK, RunEvent,
    RunTotals, STACK_WORDS,
};
pub use searches::{
    Cause, FailureKey, FailureStats, LATENCY_BUCKETS, OPTION_NO_PORT, OPTION_REUSEADDR,
    OPTION_REUSEPORT, Op, SearchKey, SearchStats, latency_bucket, latency_bucket_start,
};
pub use sites::Site;
pub use tables::{
    NO_SLOT, PROBES, ProcessSlot, SearchSlot, SocketBucket, WAYS, scaled, second_hash, socket_hash,
};
pub use walk::{Reached, Walk};

/// `IPPROTO_TCP` as it stands in `sk_protocol`.
pub const IPPROTO_TCP: u16 = 6;
/// `IPPROTO_MPTCP` as it stands in `sk_protocol`.
pub const IPPROTO_MPTCP: u16 = 262;
/// `SOCK_STREAM` as it stands in `sk_type`.
pub const SOCK_STREAM: u16 = 1;
/// `AF_INET`.
pub const AF_INET: u16 = 2;
/// `AF_INET6`.
pub const AF_INET6: u16 = 10;
