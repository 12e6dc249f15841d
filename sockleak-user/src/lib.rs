//! sockleak finds the process that leaks TCP sockets or runs out of local ports, and says why.
//!
//! The modules are the data flow: [`kernel`] asks the running system what it offers, [`probe`]
//! plans and attaches the hooks, [`source`] brings bytes out of the kernel, [`decode`] turns
//! them into [`model`] values, [`tracker`] accounts for them, [`report`] says what it means and
//! [`render`] prints it. [`engine`] runs it all, [`enrich`] adds names, [`cli`] is one file per subcommand and [`demo`]
//! one per incident.

pub mod cli;
pub mod decode;
pub mod demo;
pub mod engine;
pub mod enrich;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod kernel;
pub mod mask;
pub mod memory;
pub mod model;
pub mod probe;
pub mod render;
pub mod report;
pub mod rights;
pub mod sanitize;
pub mod source;
pub mod tracker;
pub mod tui;
