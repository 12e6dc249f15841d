//! `cargo xtask soak`: hours of everything at once, after which nothing may have grown.

use std::{path::Path, process::ExitCode, time::Duration};

use anyhow::Result;
use clap::Args;

use crate::{cmd::note, load::Load};

/// Options of `soak`.
#[derive(Debug, Args)]
pub struct Options {
    /// How long.
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// In a guest of this kernel series instead of on this machine; may be given several times.
    #[arg(long = "kernel", value_name = "SERIES")]
    kernels: Vec<String>,
    /// Connections a second, `max` for as many as there can be.
    #[arg(long, default_value = "max")]
    rate: String,
    /// Sockets that are held meanwhile.
    #[arg(long, default_value_t = 10_000)]
    live: u32,
    /// More words for `sockleak watch`.
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    words: String,
}

/// Runs the subcommand: on this machine, as root, or in guests.
pub fn run(root: &Path, options: &Options) -> Result<ExitCode> {
    let load = Load::build(root)?;
    let words = [
        "soak".to_owned(),
        format!("words={}", options.words),
        format!("rates={}", options.rate),
        format!("live={}", options.live),
        format!("seconds={}", options.minutes.saturating_mul(60)),
    ];
    note(format!("soaking for {} minutes", options.minutes));
    verdicts(&load, &options.kernels, &words, options.minutes * 60)
}

/// Runs `load` here, or in guests of these kernels; success when it succeeds everywhere. It takes about
/// `seconds`.
pub fn verdicts(
    load: &Load,
    kernels: &[String],
    words: &[String],
    seconds: u64,
) -> Result<ExitCode> {
    let print = |bytes: &[u8]| print!("{}", String::from_utf8_lossy(bytes));
    let mut outcomes = Vec::new();
    if kernels.is_empty() {
        outcomes.push(load.here(words, print)?);
    }
    for series in kernels {
        // To boot, and to end what it has begun.
        let timeout = Duration::from_secs(seconds * 2 + 300);
        outcomes.push(load.in_guest(series, words, timeout, print)?);
    }
    let mut all = ExitCode::SUCCESS;
    for outcome in outcomes {
        note(format!("{}: status {}", outcome.release, outcome.status));
        if outcome.status != 0 {
            all = ExitCode::FAILURE;
        }
    }
    Ok(all)
}
