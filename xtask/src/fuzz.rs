//! `cargo xtask fuzz`: libFuzzer on everything that takes foreign bytes.

mod seeds;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{
    cache,
    cmd::{self, note},
};

/// The version that this was written for.
const CARGO_FUZZ: &str = "0.13.2";

/// Options of `fuzz`.
#[derive(Debug, Args)]
pub struct Options {
    /// Targets instead of all of them.
    targets: Vec<String>,
    /// How long for each target.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Look for errors of memory, too, at half the speed.
    #[arg(long)]
    address_sanitizer: bool,
    /// Write the first inputs of the corpora, of recordings and of what the running kernel says (as
    /// root), and fuzz nothing.
    #[arg(long)]
    seed: bool,
    /// Afterwards add to the kept corpora what reaches code that they do not reach, inputs of at most 2 KiB.
    #[arg(long)]
    keep: bool,
}

/// Runs the subcommand.
pub fn run(root: &Path, options: &Options) -> Result<()> {
    let dir = root.join("tests/fuzz");
    if options.seed {
        return seeds::write(root, &dir.join("corpus"));
    }
    let cargo_fuzz = provide()?;
    let all = targets(&dir)?;
    for target in &options.targets {
        if !all.contains(target) {
            bail!("there is no target {target}; there are: {}", all.join(", "));
        }
    }
    let wanted = match options.targets.as_slice() {
        [] => &all,
        some => some,
    };
    let fuzz = Fuzz {
        root,
        dir: &dir,
        cargo_fuzz: &cargo_fuzz,
        options,
    };
    let mut failed = Vec::new();
    for target in wanted {
        note(format!("fuzzing {target} for {} s", options.seconds));
        if let Err(error) = fuzz.run(target) {
            eprintln!("xtask: {error:#}");
            failed.push(target.as_str());
        }
    }
    if !failed.is_empty() {
        bail!(
            "found something in {}: the inputs are below {}; put them into the corpus with the correction",
            failed.join(", "),
            dir.join("artifacts").display()
        );
    }
    Ok(())
}

struct Fuzz<'a> {
    root: &'a Path,
    dir: &'a Path,
    cargo_fuzz: &'a Path,
    options: &'a Options,
}

impl Fuzz<'_> {
    fn run(&self, target: &str) -> Result<()> {
        let found = self.root.join("target/fuzz-corpus").join(target);
        fs::create_dir_all(&found)?;
        let kept = self.dir.join("corpus").join(target);
        let seconds = format!("-max_total_time={}", self.options.seconds);
        let last = [
            &*seconds,
            "-print_final_stats=1",
            "-timeout=20",
            "-max_len=65536",
        ];
        cmd::run(&mut self.command(target, &found, &kept, &last))?;
        if self.options.keep {
            self.keep(target, &found, &kept)?;
        }
        Ok(())
    }

    fn keep(&self, target: &str, found: &Path, kept: &Path) -> Result<()> {
        let small = self.root.join("target/fuzz-small").join(target);
        fs::create_dir_all(&small)?;
        for entry in fs::read_dir(found)? {
            let file = entry?;
            if file.metadata()?.len() <= 2048 {
                fs::copy(file.path(), small.join(file.file_name()))?;
            }
        }
        cmd::run(&mut self.command(target, kept, &small, &["-merge=1"]))
    }

    /// libFuzzer writes into the first directory only.
    fn command(&self, target: &str, into: &Path, from: &Path, last: &[&str]) -> Command {
        let mut command = Command::new(self.cargo_fuzz);
        let sanitizer = match self.options.address_sanitizer {
            true => "address",
            false => "none",
        };
        command
            .current_dir(self.root)
            // The compiler that is there will do; sanitizers are unstable.
            .env("RUSTC_BOOTSTRAP", "1")
            .args(["fuzz", "run", "--fuzz-dir"])
            .arg(self.dir)
            .arg("--target-dir")
            .arg(self.root.join("target/fuzz"))
            .args(["--sanitizer", sanitizer, target])
            .args([into, from])
            .arg("--")
            .args(last);
        command
    }
}

/// Targets that libFuzzer has a file for.
fn targets(dir: &Path) -> Result<Vec<String>> {
    let dir = dir.join("fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("could not read {}", dir.display()))? {
        let path = entry?.path();
        names.extend(
            path.file_stem()
                .map(|name| name.to_string_lossy().into_owned()),
        );
    }
    names.sort();
    Ok(names)
}

/// cargo-fuzz, installed into the cache where it is missing.
fn provide() -> Result<PathBuf> {
    if let Some(path) = cmd::which("cargo-fuzz") {
        return Ok(path);
    }
    let root = cache::provide(&format!("cargo-fuzz-{CARGO_FUZZ}"), |root| {
        note(format!(
            "installing cargo-fuzz {CARGO_FUZZ} into the cache (a minute or two)"
        ));
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command
            .args([
                "install",
                "cargo-fuzz",
                "--locked",
                "--version",
                CARGO_FUZZ,
                "--root",
            ])
            .arg(root)
            .current_dir(root);
        cmd::retry("installing cargo-fuzz", || cmd::run(&mut command))
    })?;
    Ok(root.join("bin/cargo-fuzz"))
}
