//! Port searches and the calls that failed in them.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use sockleak_ebpf::LATENCY_BUCKETS;

use super::{Family, ProcessId};

/// What a process asked the kernel for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// connect(), also sendto() with MSG_FASTOPEN.
    Connect,
    /// bind().
    Bind,
    /// listen().
    Listen,
}

impl Op {
    /// All, in the order of the counters.
    pub const ALL: [Self; 3] = [Self::Connect, Self::Bind, Self::Listen];

    /// Name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Bind => "bind",
            Self::Listen => "listen",
        }
    }
}

/// Why connect(), bind() or listen() failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// No port of the namespace's range was usable.
    EphemeralExhausted,
    /// No port of the socket's own IP_LOCAL_PORT_RANGE was usable.
    LocalRangeExhausted,
    /// A live connection has the same addresses and ports.
    DuplicateTuple,
    /// A TIME_WAIT socket has the same addresses and ports.
    TimeWait,
    /// No source address fits the destination.
    NoSourceAddress,
    /// A cgroup program, a security module or a missing capability said no.
    Denied,
    /// No memory.
    OutOfMemory,
    /// Somebody else has the port.
    PortConflict,
    /// The address belongs to no interface.
    AddressNotLocal,
    /// None of these; also one that this version does not know.
    #[serde(other)]
    Other,
}

impl Cause {
    /// Name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::EphemeralExhausted => "ephemeral_exhausted",
            Self::LocalRangeExhausted => "local_range_exhausted",
            Self::DuplicateTuple => "duplicate_tuple",
            Self::TimeWait => "time_wait",
            Self::NoSourceAddress => "no_source_address",
            Self::Denied => "denied",
            Self::OutOfMemory => "out_of_memory",
            Self::PortConflict => "port_conflict",
            Self::AddressNotLocal => "address_not_local",
            Self::Other => "other",
        }
    }
}

/// Who searches a port for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SearchId {
    /// Who.
    pub process: ProcessId,
    /// What it called.
    pub op: Op,
    /// Network namespace of its socket.
    pub netns: u32,
    /// Family of the socket, of the destination for connect.
    pub family: Family,
    /// connect: destination.
    pub dst: Option<SocketAddr>,
}

/// Port searches of one process towards one destination, or for bind() or listen(). All count
/// since the kernel side made the element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchCounters {
    /// Who and what.
    pub id: SearchId,
    /// Calls.
    pub calls: u64,
    /// Of those, failed for want of a port.
    pub failed: u64,
    /// Calls with a known latency.
    pub timed: u64,
    /// Of those, with an upper bound of it only.
    pub upper_bounds: u64,
    /// Sum of latencies, ns.
    pub total_ns: u64,
    /// Longest, ns.
    pub max_ns: u64,
    /// Calls with a known CPU time.
    pub measured: u64,
    /// Sum of those, ns.
    pub cpu_ns: u64,
    /// Calls whose number of examined ports is known exactly.
    pub counted: u64,
    /// Ports examined in those.
    pub candidates: u64,
    /// Most in one call.
    pub candidates_max: u64,
    /// Calls that came to the second parity of the range.
    pub second_parity: u64,
    /// Connections that entered TIME_WAIT.
    pub time_waits: u64,
    /// `CLOCK_MONOTONIC` at the last call, ns.
    pub last_ns: u64,
    /// Calls by `sockleak_ebpf::latency_bucket`: those that did not come to the second parity
    /// (failures too), and those that did.
    pub latency: Box<[[u32; LATENCY_BUCKETS]; 2]>,
}

impl SearchCounters {
    /// Adds what another record of the same searches has counted.
    pub fn add(&mut self, other: &Self) {
        for (sum, part) in [
            (&mut self.calls, other.calls),
            (&mut self.failed, other.failed),
            (&mut self.timed, other.timed),
            (&mut self.upper_bounds, other.upper_bounds),
            (&mut self.total_ns, other.total_ns),
            (&mut self.measured, other.measured),
            (&mut self.cpu_ns, other.cpu_ns),
            (&mut self.counted, other.counted),
            (&mut self.candidates, other.candidates),
            (&mut self.second_parity, other.second_parity),
            (&mut self.time_waits, other.time_waits),
        ] {
            *sum = sum.saturating_add(part);
        }
        for (most, part) in [
            (&mut self.max_ns, other.max_ns),
            (&mut self.candidates_max, other.candidates_max),
            (&mut self.last_ns, other.last_ns),
        ] {
            *most = part.max(*most);
        }
        let parts = other.latency.iter().flatten();
        for (sum, part) in self.latency.iter_mut().flatten().zip(parts) {
            *sum = sum.saturating_add(*part);
        }
    }
}

/// Socket options that bear on ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortOptions {
    /// SO_REUSEADDR.
    pub reuse_addr: bool,
    /// SO_REUSEPORT.
    pub reuse_port: bool,
    /// IP_BIND_ADDRESS_NO_PORT.
    pub no_port: bool,
}

/// Equal failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FailureId {
    /// Who, what, whereto.
    pub search: SearchId,
    /// Why; the kernel side says [`Cause::DuplicateTuple`] also where it is [`Cause::TimeWait`].
    pub cause: Cause,
    /// errno, positive.
    pub errno: u16,
    /// Source address: asked for by bind(), chosen for connect(); `None` any or unknown.
    pub src: Option<IpAddr>,
    /// Range searched, both ends included.
    pub range: Option<(u16, u16)>,
    /// Options of the socket.
    pub options: PortOptions,
}

/// How often a failure has happened since the kernel side made the element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureCounters {
    /// What.
    pub id: FailureId,
    /// How often.
    pub count: u64,
    /// Of those, with a known time in the search.
    pub timed: u64,
    /// Sum of those times, ns.
    pub total_ns: u64,
    /// Failures whose number of examined ports is known exactly.
    pub counted: u64,
    /// Sum of those.
    pub candidates: u64,
    /// Thread of the last one.
    pub tid: u32,
    /// Local port of the last one: asked for, or bound before connect(); `None` any.
    pub port: Option<u16>,
    /// `CLOCK_MONOTONIC` at the last one, ns.
    pub last_ns: u64,
}
