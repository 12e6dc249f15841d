//! Adds to numbers what people call things: names, containers, limits, start times.

pub mod boot;
pub mod code;
pub mod container;
pub mod process;
pub mod processes;
pub mod symbols;
