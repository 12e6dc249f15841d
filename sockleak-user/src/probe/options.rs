//! How much to load, and how to look.

/// How much to load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadOptions {
    /// Sockets that can be recorded at a time; 128 bytes of kernel memory each.
    pub sockets: u32,
    /// Processes that can be recorded at a time; 144 bytes of kernel memory each.
    pub processes: u32,
    /// Pairs of process and destination whose port searches, and kinds of failure, that can be
    /// recorded at a time; 1,265 bytes of kernel memory each.
    pub searches: u32,
    /// Write every event to the ring buffer.
    pub events: bool,
    /// When to take the stack of whoever creates a socket.
    pub stacks: Stacks,
    /// Follow the processes of a command, and take their stacks and no others.
    pub follow: bool,
}

/// When to take user stacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stacks {
    /// Of suspects, and of one socket in 64 of all others.
    #[default]
    Auto,
    /// Of every socket.
    Always,
    /// Never.
    Never,
}

impl Stacks {
    /// Value of the global, and room for that many different stacks; 1 KiB of kernel memory each.
    pub(super) fn numbers(self) -> (u32, u32) {
        match self {
            Self::Auto => (sockleak_ebpf::STACKS_AUTO, 2048),
            Self::Always => (sockleak_ebpf::STACKS_ALWAYS, 16_384),
            Self::Never => (sockleak_ebpf::STACKS_NEVER, 1),
        }
    }
}

impl LoadOptions {
    /// Sockets recorded at a time unless told otherwise: 32 MiB of kernel memory.
    pub const DEFAULT_SOCKETS: u32 = 1 << 18;
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            sockets: Self::DEFAULT_SOCKETS,
            processes: 16_384,
            searches: 4096,
            events: false,
            stacks: Stacks::default(),
            follow: false,
        }
    }
}
