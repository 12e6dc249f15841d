//! `cargo xtask storm`: millions of sockets on all paths, a table that is too small for them and an agent that is
//! stopped again and again; the counts must agree with the kernel's in the end.

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use clap::Args;

use crate::{cmd::note, load::Load, soak};

/// Options of `storm`.
#[derive(Debug, Args)]
pub struct Options {
    /// In a guest of this kernel series instead of on this machine; may be given several times.
    #[arg(long = "kernel", value_name = "SERIES")]
    kernels: Vec<String>,
    /// Sockets that are made.
    #[arg(long, default_value_t = 10_000_000)]
    sockets: u64,
    /// More words for `sockleak watch`.
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    words: String,
    /// Seconds within which they must have been made.
    #[arg(long, default_value_t = 3600)]
    seconds: u64,
}

/// Runs the subcommand: on this machine, as root, or in guests.
pub fn run(root: &Path, options: &Options) -> Result<ExitCode> {
    let load = Load::build(root)?;
    let words = [
        "storm".to_owned(),
        format!("words={}", options.words),
        format!("sockets={}", options.sockets),
        format!("seconds={}", options.seconds),
    ];
    note(format!("a storm of {} sockets", options.sockets));
    soak::verdicts(&load, &options.kernels, &words, options.seconds)
}
