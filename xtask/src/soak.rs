//! `cargo xtask soak`: hours of everything at once, after which nothing may have grown.

use std::{
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{
    cmd::note,
    guest_build::{self, LOAD, Profile, SOCKLEAK},
};

/// Options of `soak`.
#[derive(Debug, Args)]
pub struct Options {
    /// How long.
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// Connections a second, `max` for as many as there can be.
    #[arg(long, default_value = "max")]
    rate: String,
    /// Sockets that are held meanwhile.
    #[arg(long, default_value_t = 10_000)]
    live: u32,
    /// More words for `sockleak watch`.
    #[arg(long, default_value = "")]
    words: String,
}

/// Runs the subcommand: on this machine, as root.
pub fn run(root: &Path, options: &Options) -> Result<ExitCode> {
    let built = guest_build::build(root, &[SOCKLEAK, LOAD], Profile::Release)?;
    let [sockleak, load] = built.as_slice() else {
        bail!("not every program was built");
    };
    note(format!("soaking for {} minutes", options.minutes));
    let program = sockleak.to_str().context("a path that is not UTF-8")?;
    let status = Command::new(load)
        .arg("soak")
        .arg(format!("program={program}"))
        .arg(format!("words={}", options.words))
        .arg(format!("rates={}", options.rate))
        .arg(format!("live={}", options.live))
        .arg(format!("seconds={}", options.minutes.saturating_mul(60)))
        .status()
        .context("could not start the load")?;
    Ok(match status.success() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
