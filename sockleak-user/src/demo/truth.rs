//! What the actors know about themselves: the figures that a report must agree with.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::report::After;

/// TCP sockets that one process holds at rest, by class. There are no other classes at rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// CLOSED without a local port.
    pub unbound: u64,
    /// CLOSED with a local port.
    pub bound: u64,
    /// Listening.
    pub listen: u64,
    /// ESTABLISHED.
    pub established: u64,
    /// Of all these, those that another process holds too.
    pub shared: u64,
}

impl Held {
    /// All of them; `shared` is a part, not an addition.
    pub fn total(&self) -> u64 {
        self.unbound + self.bound + self.listen + self.established
    }
}

/// One actor's account of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessTruth {
    /// Its process id, in the pid namespace of the demo.
    pub pid: u32,
    /// The name it has given itself.
    pub comm: String,
    /// What it does, in a few words.
    pub does: String,
    /// It leaks, so the report must name it; nobody else may be named.
    pub guilty: bool,
    /// What it holds.
    #[serde(flatten)]
    pub held: Held,
    /// Sockets it has created with socket() since it started.
    pub created: u64,
    /// Connections it has accepted since it started.
    pub accepted: u64,
    /// bind() calls that failed with EADDRINUSE.
    pub failed_binds: u64,
    /// connect() calls that failed with EADDRNOTAVAIL.
    pub failed_connects: u64,
    /// connect() calls that did not fail.
    pub connects: u64,
    /// Connections it has closed with data unsent, which the kernel keeps.
    pub orphaned: u64,
    /// Where it connects to, when that is one address.
    pub dst: Option<SocketAddr>,
    /// Its sockets have a range of their own (IP_LOCAL_PORT_RANGE).
    pub own_range: bool,
    /// Why its calls failed, as sockleak has to name it.
    pub cause: Option<String>,
    /// What had happened to the unbound sockets that it leaks.
    pub after: Option<After>,
}

/// All actors' accounts at one moment at which nothing moves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GroundTruth {
    /// Name of the scenario.
    pub scenario: String,
    /// Inode number of the private network namespace.
    pub netns: u32,
    /// `ip_local_port_range` in there.
    pub range: [u16; 2],
    /// Every process that takes part.
    pub processes: Vec<ProcessTruth>,
    /// What the reader must know about the figures: what had to be scaled down, and why.
    pub notes: Vec<String>,
}
