//! What `sockleak run` needs from the kernel side: the processes of one command, what they leave
//! open when they exit, and where that was created, in terms that outlive the process.

use crate::ProcessKey;

/// [`LeftKey::flags`]: connect() got as far as its port search.
pub const LEFT_TRIED: u8 = 1;
/// [`LeftKey::flags`]: socket() created it while sockleak was attached; otherwise it was accepted.
pub const LEFT_SEEN: u8 = 2;

/// [`CodeFrame::status`]: there is none (`BPF_STACK_BUILD_ID_EMPTY`).
pub const FRAME_EMPTY: u32 = 0;
/// [`CodeFrame::status`]: build id and file offset are known (`BPF_STACK_BUILD_ID_VALID`).
pub const FRAME_FILE: u32 = 1;
/// [`CodeFrame::status`]: only the address is known (`BPF_STACK_BUILD_ID_IP`).
pub const FRAME_ADDRESS: u32 = 2;

/// Frames of a [`CodeStack`]; what is further out is cut off.
pub const CODE_FRAMES: usize = 48;
/// Words of the user stack that are kept of each [`CodeStack`].
pub const STACK_WORDS: usize = 512;
/// Bytes of an executable's path that are kept, with the zero behind it.
pub const PATH_BYTES: usize = 256;

/// [`RunEvent::kind`]: an executable that was not known was started; `id` is 0.
pub const RUN_EXECUTABLE: u32 = 1;
/// [`RunEvent::kind`]: a stack that was not known was taken; `id` is its key.
pub const RUN_STACK: u32 = 2;

/// Sockets that a process left open and that are alike; key of the map of what was left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(
        zerocopy::FromBytes,
        zerocopy::IntoBytes,
        zerocopy::Immutable,
        zerocopy::KnownLayout
    )
)]
#[repr(C)]
pub struct LeftKey {
    /// The process that exited.
    pub process: ProcessKey,
    /// [`crate::SocketEntry::stack`]
    pub stack: u32,
    /// [`crate::SocketEntry::ending`]
    pub ending: u32,
    /// `skc_family`
    pub family: u16,
    /// `skc_state`
    pub state: u8,
    /// [`LEFT_TRIED`], [`LEFT_SEEN`].
    pub flags: u8,
    /// 1 when it has a local port.
    pub bound: u32,
}

/// How many of them; value of the map of what was left.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
#[repr(C)]
pub struct LeftStats {
    /// Sockets.
    pub count: u64,
    /// `bpf_ktime_get_ns()` when the first of them to be let go was created; 0 unknown.
    pub birth_ns: u64,
    /// `bpf_ktime_get_ns()` when it was let go.
    pub end_ns: u64,
    /// tgid of whoever created it; 0 unknown.
    pub creator_tgid: u32,
    /// Zero.
    pub pad: u32,
    /// `group_leader->comm` of the process that exited, 16 bytes in memory order.
    pub comm: [u64; 2],
}

/// `struct bpf_stack_build_id` (include/uapi/linux/bpf.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(
        zerocopy::FromBytes,
        zerocopy::IntoBytes,
        zerocopy::Immutable,
        zerocopy::KnownLayout
    )
)]
#[repr(C)]
pub struct CodeFrame {
    /// [`FRAME_EMPTY`] and so on.
    pub status: u32,
    /// Build id of the mapped file, 20 bytes in memory order; shorter ones are filled with zeros.
    pub build_id: [u32; 5],
    /// Offset in the file, or the address.
    pub offset: u64,
}

/// A user stack; value of the map of stacks, whose key is what [`crate::SocketEntry::stack`]
/// holds in a run.
///
/// Processes of one program have the same stack although each is loaded at another address;
/// threads of different names have different ones.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
#[repr(C)]
pub struct CodeStack {
    /// Of all frames. Two stacks with the same key differ in it.
    pub hash: u64,
    /// The first process that had this stack: whose addresses are in it.
    pub process: ProcessKey,
    /// `mm->start_code` of that process.
    pub start_code: u64,
    /// `mm->end_code`
    pub end_code: u64,
    /// `mm->exe_file->f_inode->i_ino`
    pub exe_inode: u64,
    /// `comm` of the thread, 16 bytes in memory order.
    pub thread: [u64; 2],
    /// Frames in use.
    pub frames: u32,
    /// Words in use.
    pub words: u32,
    /// Innermost first.
    pub code: [CodeFrame; CODE_FRAMES],
    /// What the stack pointer points to, and what lies behind: return addresses among other things,
    /// also those of functions without frame pointers, which `code` passes over. Of the process
    /// that was the first.
    pub stack: [u64; STACK_WORDS],
}

/// An executable that was started; value of the map of executables, whose key is the inode
/// number.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
#[repr(C)]
pub struct Executable {
    /// The first process that ran it.
    pub process: ProcessKey,
    /// `linux_binprm->interp`, as it was given to execve(), ended by a zero.
    pub path: [u8; PATH_BYTES],
}

/// Something that user space should look at while the process lives.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
#[repr(C)]
pub struct RunEvent {
    /// The process.
    pub process: ProcessKey,
    /// [`RUN_EXECUTABLE`] or [`RUN_STACK`].
    pub kind: u32,
    /// What `kind` says.
    pub id: u32,
    /// Inode number of its executable.
    pub inode: u64,
}

/// Totals of a run; value of an array of one. All count since load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
#[repr(C)]
pub struct RunTotals {
    /// Processes followed, without the command itself.
    pub forked: u64,
    /// Sockets that followed processes created.
    pub created: u64,
    /// Sockets that followed processes were the last to let go, and not by exiting.
    pub closed: u64,
    /// Sockets that followed processes were the last to let go, by exiting.
    pub left: u64,
    /// Sockets of followed processes that the kernel let go in a thread of its own.
    pub elsewhere: u64,
    /// Processes not followed: map full.
    pub followed_full: u64,
    /// Of `left`, those that are not in the map: it was full.
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

const _: () = {
    assert!(size_of::<LeftKey>() == 32);
    assert!(size_of::<LeftStats>() == 48);
    assert!(size_of::<CodeFrame>() == 32);
    assert!(size_of::<CodeStack>() == 72 + 32 * CODE_FRAMES + 8 * STACK_WORDS);
    assert!(size_of::<Executable>() == 16 + PATH_BYTES);
    assert!(size_of::<RunEvent>() == 32);
    assert!(size_of::<RunTotals>() == 12 * 8);
};
