//! Programs for guests: linked statically, because an initramfs has no libraries.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};

use crate::cmd;

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// How much the compiler optimises what runs in a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Quick to build, with debug assertions: for tests.
    Guest,
    /// What users get: for measurements.
    Release,
}

impl Profile {
    fn name(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::Release => "release",
        }
    }

    /// For rustc. The relocations of a static PIE take 0.3 MB less when packed (the machine that links needs
    /// glibc 2.36), the tables for unwinding 0.6 MB less without those of Rust code, which takes a script of GNU
    /// ld's. Folding equal functions would give some of ours the names of others.
    fn flags(self) -> &'static str {
        match self {
            Self::Guest => "-C target-feature=+crt-static",
            Self::Release => {
                "-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs \
                 -C linker-features=-lld -C link-arg=-Wl,-T,xtask/static.ld"
            }
        }
    }
}

/// A program of the workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program {
    package: &'static str,
    name: &'static str,
}

/// The guest's init.
pub const INIT: Program = Program {
    package: "sockleak-tests",
    name: "init",
};
/// sockleak itself.
pub const SOCKLEAK: Program = Program {
    package: "sockleak",
    name: "sockleak",
};
/// The tests that run inside a guest.
pub const VMTEST: Program = Program {
    package: "sockleak-tests",
    name: "vmtest",
};

/// The workload of the benchmarks.
pub const ROUNDS: Program = Program {
    package: "sockleak-tests",
    name: "rounds",
};

/// What the agent is measured beside.
pub const LOAD: Program = Program {
    package: "sockleak-tests",
    name: "load",
};

/// The programs a bare word of a guest's command line means, the one to run first; none if it is not ours.
pub fn by_name(name: &str) -> &'static [Program] {
    match name {
        "sockleak" => &[SOCKLEAK],
        // The tests run sockleak.
        "vmtest" => &[VMTEST, SOCKLEAK],
        "rounds" => &[ROUNDS],
        _ => &[],
    }
}

/// Builds programs with one cargo call and returns their paths in the same order.
pub fn build(root: &Path, programs: &[Program], profile: Profile) -> Result<Vec<PathBuf>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(root)
        .env("RUSTFLAGS", profile.flags())
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .args([
            "build",
            "--locked",
            "--quiet",
            "--target",
            TARGET,
            "--profile",
            profile.name(),
        ]);
    for program in programs {
        command.args(["--package", program.package, "--bin", program.name]);
    }
    command.arg("--target-dir").arg(root.join("target"));
    cmd::run(&mut command)?;
    let dir = root.join("target").join(TARGET).join(profile.name());
    let paths: Vec<PathBuf> = programs
        .iter()
        .map(|program| dir.join(program.name))
        .collect();
    if let Some(missing) = paths.iter().find(|path| !path.is_file()) {
        bail!("cargo built no {}", missing.display());
    }
    Ok(paths)
}
