//! What is known of a socket's past.

use std::net::SocketAddr;

use super::TcpState;

/// What the kernel side has noted about a socket since it was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Past {
    /// connect() has got as far as its port search.
    pub tried: bool,
    /// Where it was created.
    pub stack: Stack,
    /// Hash of how its last connection ended ([`Ending`]); 0 it did not, or without an error.
    pub ending: u32,
}

/// A user stack in the kernel's map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stack {
    /// Not asked for.
    #[default]
    None,
    /// Asked for, and not given.
    Failed,
    /// Hash of where it was taken ([`Site`]).
    Id(u32),
}

impl Ending {
    /// What an id says that says everything: how a connection ended whose peer is not noted. `None` for ids
    /// that refer to the endings map, and those that make no sense.
    pub fn of_id(id: u32) -> Option<Self> {
        let ending = sockleak_ebpf::Ending::of_id(id)?;
        Some(Self {
            peer: None,
            errno: ending.errno,
            state: TcpState::try_from(ending.state).ok()?,
        })
    }
}

/// Where a process created sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// Key of the stack in the kernel's map.
    pub stack: u32,
    /// What was on top of the user stack: where the function returns to that made the system
    /// call, if it has no frame of its own. `None` when not known.
    pub top: Option<u64>,
}

/// How a connection ended, or an attempt at one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// To whom it was; `None` for accepted connections, and where the peer is not known.
    pub peer: Option<SocketAddr>,
    /// What it died of, positive.
    pub errno: u16,
    /// The state it was in: SYN_SENT for an attempt that came to nothing, CLOSE for a failed bind().
    pub state: TcpState,
}
