//! Questions to the running system, gathered once into one plain value.
//!
//! Everything that decides (the attach plan, the coverage text, `probes`) takes [`facts::Facts`]
//! and never looks at the system itself, so each decision can be tested with a value written by
//! hand. The only functions here that touch the system are the ones called `load`, `gather` or
//! `probe`.
//!
//! Offsets and prototypes come from the BTF of the running kernel and never from its version:
//! stable point releases move members and change prototypes.

pub mod bpf;
pub mod btf;
pub mod facts;
pub mod features;
pub mod privileges;
pub mod problems;
pub mod symbols;

#[cfg(test)]
pub(crate) mod samples;

pub use btf::{Btf, BtfError, FuncProto, Member, Param};
pub use facts::{BtfFacts, Facts, FieldSpec, Wanted};
pub use features::{Features, Support};
pub use privileges::Privileges;
pub use problems::{Problem, problems};
pub use symbols::Symbols;

/// Says past the capture of the test harness that a test could not run, and why.
#[cfg(test)]
pub(crate) fn skip_aloud(test: &str, reason: &str) {
    use std::io::Write;
    // The message is lost only if stderr is closed.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {reason}");
}
