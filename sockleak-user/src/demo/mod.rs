//! The incidents that sockleak exists for, each reproduced in a private network namespace.
//!
//! A scenario is a handful of child processes ("actors", [`role`]) that share one new network
//! namespace and misbehave on purpose, bounded in count and time. Each actor counts what it has
//! done itself; that count is the [`GroundTruth`] which a report is checked against ([`check`]).
//!
//! Nothing outlives the parent: the namespace has no name and lives as long as its processes,
//! every actor asks for SIGKILL when its parent dies and also ends when its pipe closes.
//!
//! The scenarios are a library because tests start them too:
//!
//! ```no_run
//! # fn main() -> Result<(), sockleak::demo::DemoError> {
//! let scenario = sockleak::demo::find("bound-leak").expect("it is in the list");
//! let mut running = scenario.start(&sockleak::demo::Launcher::this_binary())?;
//! let truth = running.freeze()?;
//! println!("{} processes", truth.processes.len());
//! running.stop();
//! # Ok(())
//! # }
//! ```

mod actor;
mod bind_early;
mod bound_leak;
pub mod calls;
pub mod check;
mod closed_leak;
pub mod curve;
mod healthy;
mod netns;
mod orphans;
mod parity;
mod refused_leak;
mod remedied;
mod reuse_theft;
mod role;
mod running;
mod server;
mod time_wait;
mod traffic;
mod truth;
pub mod wording;

pub use actor::{DemoError, Launcher};
pub use netns::{loopback_up, namespace_inode, raise_descriptor_limit};
pub use orphans::check_orphans;
pub use remedied::Remedied;
pub use role::{ACTOR_COMMAND, perform_if_asked};
pub use running::Running;
pub use truth::{GroundTruth, Held, ProcessTruth};

/// An incident that can be reproduced.
#[derive(Debug)]
pub struct Scenario {
    /// Name on the command line.
    pub name: &'static str,
    /// One line for the list.
    pub summary: &'static str,
    /// What happened when it happened for real, and what to look for in the report.
    pub story: &'static str,
    /// The incident grows in so many steps ([`Running::step`]); 0 when it goes on by itself.
    pub steps: u32,
    start: fn(&Launcher) -> Result<Running, DemoError>,
}

impl Scenario {
    /// Starts the incident and returns when it is complete: what only grows may still grow.
    ///
    /// Must be called from a thread that lives as long as the [`Running`]: the kernel ties the
    /// actors' lives to the *thread* that started them (prctl(2), PR_SET_PDEATHSIG).
    ///
    /// # Errors
    /// [`DemoError::NotPermitted`] without CAP_SYS_ADMIN, otherwise what an actor said.
    pub fn start(&self, launcher: &Launcher) -> Result<Running, DemoError> {
        (self.start)(launcher)
    }
}

/// All scenarios, in the order in which they are listed.
pub const SCENARIOS: [&Scenario; 9] = [
    &closed_leak::SCENARIO,
    &bound_leak::SCENARIO,
    &refused_leak::SCENARIO,
    &time_wait::SCENARIO,
    &parity::SCENARIO,
    &bind_early::SCENARIO,
    &reuse_theft::SCENARIO,
    &orphans::SCENARIO,
    &healthy::SCENARIO,
];

/// The scenario of that name.
pub fn find(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.into_iter().find(|scenario| scenario.name == name)
}
