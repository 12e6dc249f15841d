//! Runs the pipeline: takes samples and inventories, feeds the tracker, puts reports together.
//!
//! The parts that decide are pure and elsewhere; here they meet the system and the clock.

#[cfg(feature = "bpf-log")]
mod bpf_log;
mod cadence;
mod calls;
mod clock;
mod command;
mod cost;
mod diagnose;
mod hidden;
mod look;
mod losses;
mod names;
mod namespaces;
mod origins;
mod orphans;
mod ports;
mod run;
mod session;
mod shortage;
mod snapshot;
mod stacks;

pub use clock::timestamp;
pub use diagnose::{DiagnoseSettings, diagnose};
pub use ports::{PortsSettings, ports};
pub use run::{CannotStart, Run};
pub use session::{Sampled, Session, Settings};
pub use snapshot::{SnapshotSettings, snapshot};
