//! What processes of a command left open when they exited, and where that was created.

use super::{Family, ProcessId, SocketClass, Stack};

/// Sockets that one process left open and that are alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// The process that exited.
    pub process: ProcessId,
    /// Its name, printable.
    pub comm: String,
    /// Where they were created.
    pub stack: Stack,
    /// Hash of how their last connection ended; 0 it did not, or without an error.
    pub ending: u32,
    /// Their class when they were let go.
    pub class: SocketClass,
    /// Address family.
    pub family: Family,
    /// connect() got as far as its port search.
    pub tried: bool,
    /// They were seen when they were created; otherwise they were accepted.
    pub seen: bool,
    /// How many.
    pub count: u64,
    /// Age of one of them when it was let go, ns.
    pub age_ns: Option<u64>,
    /// pid of whoever created one of them.
    pub creator: Option<u32>,
}

/// A user stack in terms that outlive its process, innermost first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// The first process that had it; addresses are of this process.
    pub process: ProcessId,
    /// Inode number of what it ran; 0 unknown.
    pub executable: u64,
    /// Where each call is to return to.
    pub frames: Vec<CodeFrame>,
    /// There may have been more.
    pub cut: bool,
    /// Name of the thread, printable.
    pub thread: String,
    /// Address where the code of what it ran begins, and where it ends.
    pub program: (u64, u64),
    /// What the stack pointer pointed to, and what lay behind.
    pub stack: Vec<u64>,
}

/// Where a call is to return to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CodeFrame {
    /// In a mapped file.
    File {
        /// Build id of the file, filled up with zeros.
        build_id: [u8; 20],
        /// Offset in the file.
        offset: u64,
    },
    /// In the executable, which has no build id: behind the beginning of its code.
    Program(u64),
    /// An address.
    Address(u64),
}

/// Something to look at while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunEvent {
    /// It runs an executable with this inode number.
    Executable(ProcessId, u64),
    /// It has a stack with this id.
    Stack(ProcessId, u32),
}

/// Totals of a run. All count since load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunTotals {
    /// Processes followed, without the command itself.
    pub forked: u64,
    /// Sockets that they created.
    pub created: u64,
    /// Sockets that they were the last to let go, and not by exiting.
    pub closed: u64,
    /// Sockets that they were the last to let go, by exiting.
    pub left: u64,
    /// Sockets that the kernel let go in a thread of its own.
    pub elsewhere: u64,
    /// Processes not followed: map full.
    pub followed_full: u64,
    /// Of `left`, those of which nothing else is known: map full.
    pub left_full: u64,
    /// Stacks not kept: map full.
    pub stacks_full: u64,
    /// Stacks not kept: another one has the same key.
    pub stacks_collided: u64,
    /// Stacks that could not be taken.
    pub stacks_failed: u64,
    /// Executables not kept: map full.
    pub executables_full: u64,
    /// Events that found the ring buffer full.
    pub events_dropped: u64,
}

/// A stack in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedCode {
    /// Name of the thread.
    pub thread: String,
    /// Innermost first; functions that were inlined have a line of their own.
    pub lines: Vec<String>,
    /// Why not all of them are named.
    pub why: Option<String>,
    /// It ends before it can have come to where the thread began: code without frame pointers.
    pub ends_early: bool,
}
