//! The leak report: who never gives sockets back.

use serde::{Deserialize, Serialize};

/// Class of leaked sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LeakClass {
    /// CLOSED without a local port.
    Unbound,
    /// CLOSED and holding a local port.
    Bound,
    /// CLOSE_WAIT: the peer is gone.
    CloseWait,
}

/// What had happened to the sockets before they were forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum After {
    /// Nothing since socket().
    NeverUsed,
    /// connect() was refused.
    ConnectRefused,
    /// connect() got no answer in time.
    ConnectTimedOut,
    /// connect() failed otherwise.
    ConnectFailed,
    /// The peer reset the connection.
    PeerReset,
    /// The connection died otherwise: no acknowledgement in time, no route any more.
    ConnectionFailed,
    /// The connection came to its regular end.
    ConnectionEnded,
    /// The peer has closed, and nothing since.
    PeerClosed,
    /// bind() failed.
    BindFailed,
    /// bind() and nothing since.
    BoundOnly,
    /// Not observed; also one that this version does not know.
    #[serde(other)]
    Unknown,
}

/// The limit that a leak will reach first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitName {
    /// RLIMIT_NOFILE of the process.
    FdLimit,
    /// The ephemeral port range of its namespace.
    PortRange,
    /// fs.file-max.
    FileMax,
    /// net.ipv4.tcp_mem, the highest of its three, of the whole host.
    TcpMem,
}

/// A limit and when it will be reached at the present rate.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Limit {
    /// Which limit.
    pub name: LimitName,
    /// Its value, in the limit's own unit (descriptors, ports, files, pages).
    pub value: u64,
    /// How much of it is used now, in the same unit; `None` when unknown.
    pub used: Option<u64>,
    /// Seconds until it is reached; 0 when it is reached; `None` when nothing grows.
    pub eta_s: Option<f64>,
}

/// A process that holds leaked sockets.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Holder {
    /// Its pid.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// How many of the group's sockets it has open.
    pub count: u64,
}

/// Sockets of a leak that come from the same place and had the same fate.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct LeakOrigin {
    /// What had happened to them.
    pub after: After,
    /// What their last connection died of; `None` when of nothing.
    pub errno: Option<String>,
    /// To whom it was.
    pub peer: Option<String>,
    /// How many.
    pub count: u64,
    /// Age of the oldest in seconds.
    pub oldest_age_s: Option<f64>,
    /// Growth per minute over the observed window; `None` when it was not followed.
    pub rate_per_min: Option<f64>,
    /// Where they were created, outermost frame last; `None` when no stack was taken.
    pub stack: Option<Vec<String>>,
    /// Why there are no names, or not all.
    pub unnamed: Option<String>,
}

/// A group of leaked sockets of one creator.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Leak {
    /// Process that created them (or holds them, when the creation was not seen).
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// Container it runs in.
    pub container: Option<String>,
    /// Class of the sockets.
    pub class: LeakClass,
    /// What had happened to most of them.
    pub after: After,
    /// What the last connection of those died of; `None` when of nothing.
    pub errno: Option<String>,
    /// To whom it was.
    pub peer: Option<String>,
    /// How many.
    pub count: u64,
    /// Age of the oldest in seconds; a lower bound when `age_is_lower_bound`.
    pub oldest_age_s: Option<f64>,
    /// The oldest is older than sockleak, so its age is only known to be at least this.
    pub age_is_lower_bound: bool,
    /// Half of them are older than this, seconds; a lower bound as well.
    pub median_age_s: Option<f64>,
    /// Growth per minute over the observed window; `None` before two inventories.
    pub rate_per_min: Option<f64>,
    /// Allocating stack of most of those that have one, outermost frame last; `None` when none
    /// was captured.
    pub stack: Option<Vec<String>>,
    /// How many of the sockets have a captured stack.
    pub stacked: u64,
    /// Where they come from, most frequent first.
    #[serde(default)]
    pub origins: Vec<LeakOrigin>,
    /// Those whose origin is not in the list.
    #[serde(default)]
    pub other_origins: u64,
    /// The limit reached first, when one is in sight.
    pub limit: Option<Limit>,
    /// Pids that have the sockets open now (fork and SCM_RIGHTS move sockets).
    pub holders: Vec<u32>,
    /// The same with names and counts.
    pub held_by: Vec<Holder>,
    /// How sure the verdict is, 0 to 1.
    pub confidence: f64,
    /// Why it counts as a leak, in numbers.
    pub evidence: Vec<String>,
    /// What to change.
    pub remedy: Vec<String>,
    /// What was not visible.
    pub coverage: Vec<String>,
}
