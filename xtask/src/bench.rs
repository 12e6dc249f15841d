//! `cargo xtask bench`: what sockleak costs, in figures that anyone can reprint.

mod agent;
mod agent_table;
mod figures;
mod hollow;
mod overhead;
mod peers;
mod table;

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};

/// Options of `bench`.
#[derive(Debug, Args)]
pub struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// CPU, memory, start, end and looks of the agent itself.
    Agent(agent::Options),
    /// Instructions that each backend adds to a round of socket work, in guests that count them.
    Overhead(overhead::Options),
}

/// Runs the subcommand.
pub fn run(root: &Path, options: &Options) -> Result<()> {
    match &options.what {
        What::Agent(options) => agent::run(root, options),
        What::Overhead(options) => overhead::run(root, options),
    }
}

/// Replaces a document that is committed.
fn write(path: &Path, document: &str) -> Result<()> {
    fs::write(path, document).with_context(|| format!("could not write {}", path.display()))
}
