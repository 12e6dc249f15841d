//! Failed connect(), bind() and listen(): who, why, and who has the ports.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::Holder;
use crate::model::{Cause, Op, total};

/// Equal failures of one process, folded.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct FailureReport {
    /// What was called.
    pub op: Op,
    /// What it returned, by name: `EADDRNOTAVAIL`.
    pub errno: String,
    /// Why.
    pub cause: Cause,
    /// Who called it.
    pub pid: u32,
    /// Thread of the last one.
    pub tid: u32,
    /// Name of the process.
    pub comm: String,
    /// Network namespace of the socket.
    pub netns: u32,
    /// cgroup path of the process.
    pub cgroup: Option<String>,
    /// Container it runs in.
    pub container: Option<String>,
    /// connect: source address, if known, with the port the socket had, 0 for none. Others: what
    /// was asked for.
    pub src: Option<String>,
    /// connect: destination.
    pub dst: Option<String>,
    /// Port that was asked for, or that the socket had before connect(); of the last one.
    /// `None` for any.
    pub port: Option<u16>,
    /// Options of the socket that bear on ports, by name.
    pub options: Vec<Cow<'static, str>>,
    /// Range that was searched, both ends included.
    pub range: Option<[u16; 2]>,
    /// Time in the port search, ns; the mean of those measured.
    pub search_ns: Option<u64>,
    /// Ports examined; the mean of those counted.
    pub candidates: Option<u64>,
    /// How many failed.
    pub count: u64,
    /// Who occupies the range, when it is exhausted.
    pub breakdown: Option<PortBreakdown>,
    /// Pids that hold most ports of an exhausted range, most first; or that hold the port which
    /// was refused.
    pub holders: Vec<u32>,
    /// The same with names and ports.
    pub held_by: Vec<Holder>,
    /// connect() that found no port: who has connected to the destination since attach, most
    /// first.
    pub callers: Vec<Caller>,
    /// What to change.
    pub remedy: Vec<String>,
}

/// A process that connects to a destination.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Caller {
    /// Its pid.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// Connections for which it found a port, since attach.
    pub connections: u64,
    /// Of its connections, those that have entered TIME_WAIT since attach; `None` when that is
    /// not seen.
    pub time_waits: Option<u64>,
}

/// Ports of a range by what makes them unusable towards a destination.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct PortBreakdown {
    /// Held by connections.
    pub connected: u64,
    /// Held by TIME_WAIT.
    pub time_wait: u64,
    /// Held by sockets that called bind().
    pub bound: u64,
    /// Reserved by ip_local_reserved_ports.
    pub reserved: u64,
    /// The rest of the range: free when looked at, or held in a way that is not visible.
    pub other: u64,
    /// How long before the report it was looked at, seconds.
    pub age_s: f64,
}

/// How often something happened, by call; `None` where it is not visible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct OpCounts {
    /// connect().
    pub connect: Option<u64>,
    /// bind().
    pub bind: Option<u64>,
    /// listen().
    pub listen: Option<u64>,
}

impl OpCounts {
    /// Sum of those that are visible.
    pub fn total(&self) -> u64 {
        let visible = [self.connect, self.bind, self.listen];
        total(&visible.map(|count| count.unwrap_or(0)))
    }
}

/// Failures of one kind since attach, over all processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct CauseCount {
    /// What was called.
    pub op: Op,
    /// Why it failed.
    pub cause: Cause,
    /// How often.
    pub count: u64,
}

/// Name of an errno (include/uapi/asm-generic/errno-base.h and errno.h); `errno N` for those
/// that neither connect(), bind() nor listen() return.
pub fn errno_name(errno: u16) -> String {
    let name = match errno {
        1 => "EPERM",
        2 => "ENOENT",
        4 => "EINTR",
        5 => "EIO",
        9 => "EBADF",
        11 => "EAGAIN",
        12 => "ENOMEM",
        13 => "EACCES",
        14 => "EFAULT",
        16 => "EBUSY",
        19 => "ENODEV",
        22 => "EINVAL",
        23 => "ENFILE",
        24 => "EMFILE",
        32 => "EPIPE",
        88 => "ENOTSOCK",
        93 => "EPROTONOSUPPORT",
        95 => "EOPNOTSUPP",
        97 => "EAFNOSUPPORT",
        98 => "EADDRINUSE",
        99 => "EADDRNOTAVAIL",
        100 => "ENETDOWN",
        101 => "ENETUNREACH",
        103 => "ECONNABORTED",
        104 => "ECONNRESET",
        105 => "ENOBUFS",
        106 => "EISCONN",
        107 => "ENOTCONN",
        110 => "ETIMEDOUT",
        111 => "ECONNREFUSED",
        112 => "EHOSTDOWN",
        113 => "EHOSTUNREACH",
        114 => "EALREADY",
        115 => "EINPROGRESS",
        other => return format!("errno {other}"),
    };
    name.to_owned()
}
