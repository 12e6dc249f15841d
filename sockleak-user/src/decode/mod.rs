//! From bytes to model values. Kernel bytes are foreign input: every record is checked, a bad
//! one is an error that the caller counts, never a panic and never a guess.

mod endings;
mod event;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod inventory;
mod left;
mod maps;
mod searches;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use sockleak_ebpf::{AF_INET, AF_INET6};
use thiserror::Error;

pub use endings::{ending, site};
pub use event::{Event, EventKind, SearchEvent, event};
pub use inventory::held_socket;
pub use left::{code, executable, left, run_event, run_totals};
pub use maps::{counters, process_id, process_id_of, process_slot};
pub use searches::{failure_counters, search_process, search_slot};

use crate::model::Family;

/// A record from the kernel that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Not the size that both sides agreed on.
    #[error("a {what} has {found} bytes, {expected} are expected")]
    Size {
        /// What it should have been.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The agreed length.
        expected: usize,
    },
    /// An address family that the programs filter out.
    #[error("unknown address family {0}")]
    Family(u16),
    /// A TCP state that no kernel has.
    #[error("unknown TCP state {0}")]
    State(u16),
    /// An event kind that the programs do not send.
    #[error("unknown event kind {0}")]
    Kind(u32),
}

/// Reads a record of exactly its own size.
fn exactly<T: zerocopy::FromBytes>(what: &'static str, bytes: &[u8]) -> Result<T, DecodeError> {
    T::read_from_bytes(bytes).map_err(|_| DecodeError::Size {
        what,
        found: bytes.len(),
        expected: size_of::<T>(),
    })
}

/// The 16 bytes that the kernel side carries in two words.
fn bytes16(words: [u64; 2]) -> [u8; 16] {
    let mut bytes = [0; 16];
    let (low, high) = bytes.split_at_mut(8);
    low.copy_from_slice(&words[0].to_ne_bytes());
    high.copy_from_slice(&words[1].to_ne_bytes());
    bytes
}

fn family(raw: u16) -> Result<Family, DecodeError> {
    match raw {
        AF_INET => Ok(Family::V4),
        AF_INET6 => Ok(Family::V6),
        other => Err(DecodeError::Family(other)),
    }
}

fn address(family: Family, words: [u64; 2], port: u16) -> SocketAddr {
    let bytes = bytes16(words);
    let ip = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3])),
        Family::V6 => IpAddr::V6(Ipv6Addr::from(bytes)),
    };
    SocketAddr::new(ip, port)
}

/// A peer without a port is none: the kernel clears `skc_dport` when a connection is over.
fn peer(family: Family, words: [u64; 2], port_be: u16) -> Option<SocketAddr> {
    (port_be != 0).then(|| address(family, words, u16::from_be(port_be)))
}
