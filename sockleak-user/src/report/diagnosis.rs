//! What is wrong, most important first, and what to change.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::OpCounts;

/// Kinds of finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingId {
    /// CLOSED sockets without a port that are never closed.
    ClosedLeak,
    /// CLOSED sockets that hold a port and are never closed.
    BoundLeak,
    /// Sockets that are never closed after their connect() has failed.
    RefusedLeak,
    /// Connections that their peer has closed and the process does not.
    CloseWaitLeak,
    /// No port is left, for one destination or for all.
    EphemeralExhausted,
    /// TIME_WAIT takes the ports towards a destination.
    TimeWaitPressure,
    /// Every connect() walks half of the range in vain.
    ParitySearch,
    /// Connections take a port of their own for all destinations: bind() came first.
    BindBeforeConnect,
    /// Ports of other connections are bound with SO_REUSEADDR and lost to connect().
    ReuseBoundPorts,
    /// Connections that were closed with data on its way, by the hundred.
    OrphanPressure,
    /// The memory of TCP is nearly used up.
    TcpMemPressure,
    /// A process has nearly used up its descriptors.
    FdLimitNear,
    /// The host has nearly used up its open files.
    FileMaxNear,
    /// The range of ports is too small for what it is for.
    PortRangeMisconfigured,
}

impl FindingId {
    /// All of them, in the order of the interface.
    pub const ALL: [Self; 14] = [
        Self::ClosedLeak,
        Self::BoundLeak,
        Self::RefusedLeak,
        Self::CloseWaitLeak,
        Self::EphemeralExhausted,
        Self::TimeWaitPressure,
        Self::ParitySearch,
        Self::BindBeforeConnect,
        Self::ReuseBoundPorts,
        Self::OrphanPressure,
        Self::TcpMemPressure,
        Self::FdLimitNear,
        Self::FileMaxNear,
        Self::PortRangeMisconfigured,
    ];

    /// As in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClosedLeak => "closed_leak",
            Self::BoundLeak => "bound_leak",
            Self::RefusedLeak => "refused_leak",
            Self::CloseWaitLeak => "close_wait_leak",
            Self::EphemeralExhausted => "ephemeral_exhausted",
            Self::TimeWaitPressure => "time_wait_pressure",
            Self::ParitySearch => "parity_search",
            Self::BindBeforeConnect => "bind_before_connect",
            Self::ReuseBoundPorts => "reuse_bound_ports",
            Self::OrphanPressure => "orphan_pressure",
            Self::TcpMemPressure => "tcp_mem_pressure",
            Self::FdLimitNear => "fd_limit_near",
            Self::FileMaxNear => "file_max_near",
            Self::PortRangeMisconfigured => "port_range_misconfigured",
        }
    }
}

/// How bad it is; the order is from least to most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// It costs something, or will fail.
    Warning,
    /// Calls fail now, or will within the hour.
    Critical,
}

/// `diagnose`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DiagnosisReport {
    /// There is no finding.
    pub healthy: bool,
    /// What it comes to, in a sentence.
    pub conclusion: String,
    /// Most severe first; a cause stands before what it causes.
    pub findings: Vec<FindingReport>,
    /// What changes would come to (`--what-if`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub what_if: Option<Vec<WhatIfReport>>,
    /// The destination towards which most of a range is used; `None` when there is no connection,
    /// or the kernel's list of sockets could not be had.
    pub busiest: Option<BusiestReport>,
    /// Calls that failed for want of a port or an address while it was watched, host-wide.
    pub failed: OpCounts,
    /// What else was looked at.
    pub checks: ChecksReport,
    /// `bpf` (traced), or `proc` (two looks at /proc, no calls seen).
    pub method: &'static str,
    /// What was not visible.
    pub coverage: Vec<String>,
    /// How long it watched, seconds.
    pub duration_s: f64,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FindingReport {
    /// What kind.
    pub id: FindingId,
    /// How bad.
    pub severity: Severity,
    /// How sure, 0 to 1.
    pub confidence: f64,
    /// Process that has to be changed; `None` when it is none, or not known.
    pub pid: Option<u32>,
    /// Its name; empty without one.
    pub comm: String,
    /// Container it runs in.
    pub container: Option<String>,
    /// Network namespace; `None` when it is about the host or not known.
    pub netns: Option<u32>,
    /// Destination that it is about.
    pub dst: Option<String>,
    /// How much: sockets, ports, descriptors, files or pages, as the title says.
    pub count: u64,
    /// What is wrong, in a sentence.
    pub title: String,
    /// Why that is known, in numbers.
    pub evidence: Vec<String>,
    /// What to change: option or setting, value, kernels, effect.
    pub remedy: Vec<String>,
    /// What was not visible.
    pub coverage: Vec<String>,
    /// Where the sockets are created, outermost frame last; `None` when no stack was taken.
    pub stack: Option<Vec<String>>,
    /// The finding that it follows from; that one has to be remedied.
    pub caused_by: Option<CauseReport>,
}

/// Another finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CauseReport {
    /// Its kind.
    pub id: FindingId,
    /// Its process.
    pub pid: Option<u32>,
    /// Its namespace.
    pub netns: Option<u32>,
}

/// The destination towards which most of a range is used.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BusiestReport {
    /// Network namespace.
    pub netns: u32,
    /// Source address; `None` when not known.
    pub src: Option<IpAddr>,
    /// Destination.
    pub dst: SocketAddr,
    /// Ports of the range that are not reserved.
    pub size: u64,
    /// Of those, that connect() cannot take.
    pub used: u64,
    /// `used / size`, 0 to 1.
    pub share: f64,
}

/// What was looked at besides sockets and ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ChecksReport {
    /// Sockets behind descriptors; `None` when not counted.
    pub seen: Option<u64>,
    /// Network namespaces whose ports were looked at.
    pub namespaces: u64,
    /// Entries of the connection tracking of sockleak's namespace, and how many there may be;
    /// `None` without it.
    pub conntrack: Option<[u64; 2]>,
    /// Connections dropped meanwhile because an accept queue was full (ListenOverflows), in
    /// sockleak's namespace.
    pub listen_overflows: Option<u64>,
    /// TIME_WAIT sockets not made meanwhile because of tcp_max_tw_buckets (TCPTimeWaitOverflow),
    /// likewise.
    pub time_wait_overflows: Option<u64>,
    /// Orphans, host-wide.
    pub orphans: Option<u64>,
    /// Pages of memory that TCP uses, and how many it may (the last of tcp_mem); `None` where
    /// there is no limit to be read.
    pub tcp_mem: Option<[u64; 2]>,
}

/// What one change would come to, by the occupancy as it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WhatIfReport {
    /// The change.
    pub change: String,
    /// Network namespace.
    pub netns: u32,
    /// Destination.
    pub dst: Option<SocketAddr>,
    /// Connections at a time from one source to one destination.
    pub ports_per_destination: u64,
    /// Ports that connect() could take towards `dst` at this moment; `None` without a destination,
    /// or when that cannot be told.
    pub free: Option<u64>,
    /// New connections per second to one destination that TIME_WAIT allows while this side closes
    /// first.
    pub sustained_per_s: f64,
    /// What else there is to know.
    pub note: String,
}
