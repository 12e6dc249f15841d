//! What sockleak says: the only types that renderers see.
//!
//! Field names are the interface of CONTRACT (`docs/schema/`): renames are breaking, additions
//! are not. Unknown values are `None` (JSON `null`), never 0. Strings are already printable.

mod leak;
mod loss;
mod probes;
mod snapshot;
mod watch;

use serde::Serialize;

pub use leak::{After, Holder, Leak, LeakClass, Limit, LimitName};
pub use loss::{Loss, SelfCost};
pub use probes::{HookReport, ProbesReport, ProblemReport};
pub use snapshot::{
    PortsReport, ProcessReport, SnapshotReport, SocketReport, SockstatReport, Unattributed,
};
pub use watch::{EndReport, EventReport, HookState, IntervalProcess, IntervalReport, StartReport};

/// Version of every object's layout; raised when a field changes its meaning or goes.
pub const SCHEMA: u32 = 1;

/// One object of output, in the form `{"type": ..., "schema": 1, "ts": ..., ...}`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Layout version.
    pub schema: u32,
    /// When it was made, RFC 3339 in UTC.
    pub ts: String,
    /// The object itself; its kind is the `type` field.
    #[serde(flatten)]
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

/// The kinds of report.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Body {
    /// One look at all sockets.
    Snapshot(SnapshotReport),
    /// What this kernel allows.
    Probes(ProbesReport),
    /// `watch` has attached its hooks.
    Start(StartReport),
    /// One interval of `watch`.
    Interval(IntervalReport),
    /// A process that leaks.
    Leak(Leak),
    /// One event (`--events`).
    Event(EventReport),
    /// `watch` is over.
    End(EndReport),
}
