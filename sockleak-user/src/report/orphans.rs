//! Orphans: connections that their process has closed and TCP has not finished.

use serde::{Deserialize, Serialize};

use super::Holder;

/// Orphans of the host, when there are many.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct OrphansReport {
    /// How many there are, by the kernel's count (`orphan` of sockstat), host-wide.
    pub count: u64,
    /// `net.ipv4.tcp_max_orphans`; `None` when it cannot be read (outside of the initial network
    /// namespace).
    pub max: Option<u64>,
    /// The count from which the kernel resets orphans that have undelivered data and a peer that
    /// has taken none for minutes; `max` when none of them has any.
    pub effective_max: Option<u64>,
    /// Orphans that the namespaces' lists of sockets show; the rest of the figures are of these.
    pub listed: u64,
    /// In FIN_WAIT1: what was written, or the end, is not acknowledged.
    pub fin_wait1: u64,
    /// In FIN_WAIT2: the peer has everything and does not close.
    pub fin_wait2: u64,
    /// In CLOSING or LAST_ACK: both have closed, the end is not acknowledged.
    pub closing: u64,
    /// With data that the peer has not acknowledged.
    pub with_unsent: u64,
    /// Of those, whose peer has closed its window: it does not read.
    pub window_closed: u64,
    /// Bytes that were written and are not acknowledged.
    pub unsent_bytes: u64,
    /// Who created them, most first.
    pub processes: Vec<Holder>,
    /// Orphans whose creator is not known: accepted connections, or older than sockleak.
    pub unattributed: u64,
    /// To whom they are, most first.
    pub peers: Vec<OrphanPeer>,
    /// Orphans to none of `peers`.
    pub other_peers: u64,
    /// Connections that the kernel has reset for want of memory or because there were too many
    /// orphans (TCPAbortOnMemory), since `since_s`; `None` when it cannot be read.
    pub aborted_on_memory: Option<u64>,
    /// Connections given up because the peer did not answer (TCPAbortOnTimeout), likewise.
    pub aborted_on_timeout: Option<u64>,
    /// For how long these two have been counted, seconds.
    pub since_s: f64,
    /// How old the lists are, seconds.
    pub age_s: f64,
    /// What the figures mean.
    pub evidence: Vec<String>,
    /// What to change.
    pub remedy: Vec<String>,
    /// What was not visible.
    pub coverage: Vec<String>,
}

/// Orphans to the same peer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct OrphanPeer {
    /// Network namespace.
    pub netns: u32,
    /// Address of the peer; with its port where the connection was made from this side.
    pub peer: String,
    /// Local address and port that the peer had connected to; `None` where the connection was
    /// made from this side.
    pub local: Option<String>,
    /// How many.
    pub count: u64,
    /// Bytes that were written to it and are not acknowledged.
    pub unsent_bytes: u64,
}
