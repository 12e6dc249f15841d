//! From what the kernel offers to attached hooks.
//!
//! [`catalog`] lists the logical hooks and the ways to serve each, [`plan`] chooses purely from
//! [`crate::kernel::Facts`], [`loader`] loads and attaches, and [`coverage`] says what came of
//! it.

mod active;
mod blind;
pub mod catalog;
mod constants;
pub mod coverage;
pub mod facts;
mod kernel_types;
pub mod loader;
mod loading;
mod misses;
pub mod object;
mod options;
pub mod plan;

pub use catalog::{Backend, Hook};
pub use loader::{Attached, LoadError};
pub use options::{LoadOptions, Stacks};
pub use plan::{Choice, Plan};
