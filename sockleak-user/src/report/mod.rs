//! What sockleak says: the only types that renderers see.
//!
//! Field names are the interface of CONTRACT (`docs/schema/`): renames are breaking, additions
//! are not. Unknown values are `None` (JSON `null`), never 0. Strings are already printable.

mod diagnosis;
mod failure;
pub mod history;
mod leak;
mod loss;
pub mod order;
mod orphans;
mod ports;
mod probes;
mod read;
mod recording;
mod run;
mod search;
mod snapshot;
mod time;
mod watch;
pub mod words;

use serde::{Serialize, Serializer};

pub use crate::model::{Cause, Family, Op, SocketClass};
pub use diagnosis::{
    BusiestReport, CauseReport, ChecksReport, DiagnosisReport, FindingId, FindingReport, Severity,
    WhatIfReport,
};
pub use failure::{Caller, CauseCount, FailureReport, OpCounts, PortBreakdown, errno_name};
pub use leak::{After, Holder, Leak, LeakClass, LeakOrigin, Limit, LimitName};
pub use loss::{Loss, SelfCost};
pub use orphans::{OrphanPeer, OrphansReport};
pub use ports::{
    AddressReport, BlockerReport, DestinationReport, DrainReport, ElsewhereReport, OccupancyReport,
    OutsideHolderReport, OutsideReport, PortHolderReport, PortMap, PortPiece, TowardsReport,
};
pub use probes::{HookReport, ProbesReport, ProblemReport};
pub use read::{Head, NotAReport};
pub use recording::{CutReport, GapReport, RecordingReport};
pub use run::{OpenSockets, RunReport};
pub use search::{HotLoop, ParityLatency, PressureReport, SearchReport};
pub use snapshot::{
    PortsReport, ProcessReport, SnapshotReport, SocketReport, SockstatReport, Unattributed,
};
pub use time::{rfc3339, start_time, unix_ms};
pub use watch::{
    EndReport, EventReport, HookState, IntervalProcess, IntervalReport, SearchOutcome, StartReport,
};

/// Version of every object's layout; raised when a field changes its meaning or goes.
pub const SCHEMA: u32 = 1;

/// One object of output, in the form `{"type": ..., "schema": 1, "ts": ..., ...}`.
#[derive(Clone, Debug)]
pub struct Report {
    /// Layout version.
    pub schema: u32,
    /// When it was made, RFC 3339 in UTC.
    pub ts: String,
    /// The object itself.
    pub body: Body,
}

impl Report {
    /// Wraps a body made at `ts` (RFC 3339, UTC).
    pub fn new(ts: impl Into<String>, body: Body) -> Self {
        Self {
            schema: SCHEMA,
            ts: ts.into(),
            body,
        }
    }
}

impl Serialize for Report {
    /// `type` goes first, so that a reader who sees only the start of a line knows what it is.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Object<'a> {
            r#type: &'static str,
            schema: u32,
            ts: &'a str,
            #[serde(flatten)]
            body: &'a Body,
        }

        Object {
            r#type: self.body.kind(),
            schema: self.schema,
            ts: &self.ts,
            body: &self.body,
        }
        .serialize(serializer)
    }
}

/// The kinds of report.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Body {
    /// One look at all sockets.
    Snapshot(SnapshotReport),
    /// The ports of one network namespace.
    Ports(Box<OccupancyReport>),
    /// What is wrong, and what to change.
    Diagnosis(Box<DiagnosisReport>),
    /// What this kernel allows.
    Probes(ProbesReport),
    /// `watch` has attached its hooks.
    Start(StartReport),
    /// One interval of `watch`.
    Interval(IntervalReport),
    /// Calls that failed for want of a port or an address.
    Failure(FailureReport),
    /// A process that spends CPU time in the port search.
    HotLoop(HotLoop),
    /// Ports towards a destination get scarce.
    Pressure(PressureReport),
    /// A process that leaks.
    Leak(Leak),
    /// What a command left open.
    Run(Box<RunReport>),
    /// One event (`--events`).
    Event(EventReport),
    /// `watch` is over.
    End(Box<EndReport>),
    /// A recording begins.
    Recording(RecordingReport),
    /// Lines are missing in a recording.
    Gap(GapReport),
    /// A recording has no end.
    Cut(CutReport),
}

impl Body {
    /// The `type` of the object.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Snapshot(_) => "snapshot",
            Self::Ports(_) => "ports",
            Self::Diagnosis(_) => "diagnosis",
            Self::Probes(_) => "probes",
            Self::Start(_) => "start",
            Self::Interval(_) => "interval",
            Self::Failure(_) => "failure",
            Self::HotLoop(_) => "hot_loop",
            Self::Pressure(_) => "pressure",
            Self::Leak(_) => "leak",
            Self::Run(_) => "run",
            Self::Event(_) => "event",
            Self::End(_) => "end",
            Self::Recording(_) => "recording",
            Self::Gap(_) => "gap",
            Self::Cut(_) => "cut",
        }
    }
}
