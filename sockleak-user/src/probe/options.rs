//! How much to load, and how to look.

use sockleak_ebpf::WAYS;

/// How much to load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadOptions {
    /// Sockets that can be recorded at a time; 87 bytes of kernel memory each.
    pub sockets: u32,
    /// Processes that can be recorded at a time; 192 bytes of kernel memory each.
    pub processes: u32,
    /// Pairs of process and destination whose port searches, and kinds of failure, that can be
    /// recorded at a time; 1,130 bytes of kernel memory each.
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
    pub(crate) fn numbers(self) -> (u32, u32) {
        match self {
            Self::Auto => (sockleak_ebpf::STACKS_AUTO, 2048),
            Self::Always => (sockleak_ebpf::STACKS_ALWAYS, 16_384),
            Self::Never => (sockleak_ebpf::STACKS_NEVER, 1),
        }
    }
}

impl LoadOptions {
    /// Sockets recorded at a time unless told otherwise: 22 MiB of kernel memory.
    pub const DEFAULT_SOCKETS: u32 = 1 << 18;

    /// Buckets of the socket map, three quarters full with that many sockets, and size of the
    /// overflow map: one socket in a hundred finds no place in its two buckets then.
    pub(super) fn socket_tables(&self) -> (u32, u32) {
        let buckets = u64::from(self.sockets) * 4 / 3 / WAYS as u64 + 1;
        let overflow = self.sockets / 64 + 1;
        (u32::try_from(buckets).unwrap_or(u32::MAX), overflow)
    }

    /// Places in the process map, half of which are used with that many processes.
    pub(super) fn process_slots(&self) -> u32 {
        self.processes.saturating_mul(2)
    }
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            sockets: Self::DEFAULT_SOCKETS,
            processes: 8192,
            searches: 4096,
            events: false,
            stacks: Stacks::default(),
            follow: false,
        }
    }
}
