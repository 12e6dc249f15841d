//! `cargo xtask`: builds the BPF object, checks the tree, runs the tests and the kernel matrix.

mod apt;
mod bench;
mod build_bpf;
mod bundle;
mod cache;
mod check_bpf;
mod cmd;
mod compat;
mod cpio;
mod dist;
#[path = "../../tests/src/frame.rs"]
#[allow(dead_code, reason = "the writing half is for the guest")]
mod frame;
mod fuzz;
mod guest;
mod guest_build;
mod initramfs;
mod kernel;
mod lint;
mod load;
mod manifest;
mod qemu;
mod soak;
mod storm;
mod strip;
mod test;
mod toolchain;
mod vm;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

/// Builds the BPF object, checks the tree, runs the tests and the kernel matrix.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure what sockleak costs.
    Bench(bench::Options),
    /// Compile the eBPF programs and write the objects that are committed.
    BuildBpf(build_bpf::Options),
    /// Rebuild the committed objects elsewhere and compare bytes.
    CheckBpf,
    /// Ask the kernels of the matrix what they offer, for docs/compatibility.md.
    Compat(compat::Options),
    /// Make what is installed: a static binary, its man pages and completions, as .deb and .tar.gz.
    Dist(dist::Options),
    /// Look for inputs that break what takes foreign bytes, with libFuzzer.
    Fuzz(fuzz::Options),
    /// Check formatting, clippy for both sides and the invariants of the design.
    Lint,
    /// Run the agent beside everything at once, after which nothing may have grown.
    Soak(soak::Options),
    /// Millions of sockets, a table that is too small and an agent that is stopped: the counts must be right.
    Storm(storm::Options),
    /// Run everything that a change has to pass: lint, tests, check-bpf and the kernel matrix.
    Test(test::Options),
    /// Run a command in a QEMU guest of a given kernel.
    Vm(vm::Options),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(cli.command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<ExitCode> {
    let root = workspace_root()?;
    match command {
        Command::Bench(options) => bench::run(&root, &options)?,
        Command::BuildBpf(options) => build_bpf::run(&root, &options)?,
        Command::CheckBpf => check_bpf::run(&root)?,
        Command::Compat(options) => compat::run(&root, &options)?,
        Command::Dist(options) => dist::run(&root, &options)?,
        Command::Fuzz(options) => fuzz::run(&root, &options)?,
        Command::Lint => lint::run(&root)?,
        Command::Soak(options) => return soak::run(&root, &options),
        Command::Storm(options) => return storm::run(&root, &options),
        Command::Test(options) => return test::run(&root, &options),
        Command::Vm(options) => return vm::run(&root, &options),
    }
    Ok(ExitCode::SUCCESS)
}

/// The directory with the workspace's Cargo.toml.
fn workspace_root() -> Result<PathBuf> {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let root = manifest
        .parent()
        .context("xtask is not inside a workspace")?;
    Ok(root.to_owned())
}
