//! Names for the addresses of a user stack.
//!
//! Whoever leaks a socket may be hostile, and so may be its files: whatever is read to name its
//! functions can hang, be cut short while it is mapped (SIGBUS), or make a parser take all the
//! memory there is. So a child process does the reading ([`worker`]), with few rights, bounded
//! memory and no descriptors of ours, and the agent ([`agent`]) holds it to a deadline, ends it
//! when it is late, and asks again for less.
//!
//! ```no_run
//! use std::time::Duration;
//! use sockleak::enrich::symbols::{Request, Symbolizer};
//! # fn main() -> std::io::Result<()> {
//! let process = sockleak::enrich::process::identify(4684).expect("it lives");
//! let mut symbols = Symbolizer::start()?;
//! symbols.submit(Request { id: 1, process, addresses: vec![0x5565_0000_1234] });
//! for answer in symbols.resolve_all(Duration::from_secs(2)) {
//!     println!("{}: {:?}", answer.id, answer.stack());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! **Addresses are return addresses**, also the innermost: the stacks are captured in system
//! calls, where it is the address behind the `syscall` instruction (`bpf_get_stack`: the saved
//! `regs->ip`). So one byte is taken off every address before it is looked up; otherwise a call
//! that never returns, being the last instruction of its function, would be shown as the next
//! function.
//!
//! **A process that has ended** has no mappings any more: ask early. A request without addresses
//! makes the helper remember what is mapped, and it answers from that later, from the files as
//! long as they are the same. A stack that was captured before exec(2) is only named if the
//! process was known before.

mod agent;
mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod helper;
pub(super) mod maps;
mod perf_map;
mod protocol;
mod troubles;
mod why;
mod worker;

use crate::model::ProcessId;

pub use agent::{Settings, Symbolizer};
pub use frame::{Base, Frame, Kind};
pub use why::Why;
pub use worker::work_if_asked;

/// Hidden subcommand under which a binary is the helper.
pub const WORKER_COMMAND: &str = "__symbolize";

/// Longest stack that is looked at; `bpf_get_stackid` captures at most 127 addresses.
pub const MAX_ADDRESSES: usize = 512;

/// A stack to be named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Chosen by the caller, to know the answer by.
    pub id: u64,
    /// Whose stack it is. A start time of 0 matches any process of this pid.
    pub process: ProcessId,
    /// Addresses to which calls return, innermost first; those after [`MAX_ADDRESSES`] are left
    /// out. None to have the mappings of the process remembered.
    pub addresses: Vec<u64>,
}

/// What became of a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// As in the request.
    pub id: u64,
    /// As in the request.
    pub process: ProcessId,
    /// For each address its frames, innermost first: one, or more where functions were inlined.
    /// Always as many as addresses.
    pub frames: Vec<Vec<Frame>>,
    /// Why not all frames have a name; of several reasons the one that says most.
    pub why: Option<Why>,
}

impl Answer {
    /// The whole stack as lines, innermost first.
    pub fn stack(&self) -> Vec<String> {
        self.frames.iter().flatten().map(Frame::to_string).collect()
    }
}

/// An address of the call that returns to `address`: in its last byte.
fn call(address: u64) -> u64 {
    address.saturating_sub(1)
}
