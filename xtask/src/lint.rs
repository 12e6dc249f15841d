//! `cargo xtask lint`: formatting, clippy for both sides, and the design's invariants.

mod rules;
mod source;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    build_bpf,
    cmd::{self, note},
    toolchain::Toolchain,
};

/// One check and how it went.
pub struct Check {
    /// What was checked.
    pub name: &'static str,
    /// What is wrong, if anything.
    pub result: Result<()>,
}

type CheckFn = fn(&Path) -> Result<()>;

/// Runs the subcommand.
pub fn run(root: &Path) -> Result<()> {
    let failed: Vec<&str> = all(root)
        .into_iter()
        .filter_map(|check| check.result.err().map(|_| check.name))
        .collect();
    if failed.is_empty() {
        note("lint: everything in order");
        return Ok(());
    }
    bail!("lint failed: {}", failed.join(", "))
}

/// Runs every check, printing each failure, even if an earlier one failed.
pub fn all(root: &Path) -> Vec<Check> {
    let checks: [(_, CheckFn); 4] = [
        ("rustfmt", format),
        ("invariants", invariants),
        ("clippy (user side)", clippy_host),
        ("clippy (kernel side)", clippy_bpf),
    ];
    checks
        .into_iter()
        .map(|(name, check)| {
            note(format!("lint: {name}"));
            let result = check(root);
            if let Err(error) = &result {
                eprintln!("xtask: {name}: {error:#}");
            }
            Check { name, result }
        })
        .collect()
}

fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

fn format(root: &Path) -> Result<()> {
    component(root, "fmt", "rustfmt")?;
    cmd::run(cargo(root).args(["fmt", "--all", "--check"])).context("run `cargo fmt --all`")
}

fn clippy_host(root: &Path) -> Result<()> {
    component(root, "clippy", "clippy")?;
    let args = [
        "clippy",
        "--workspace",
        "--all-targets",
        // Otherwise nobody would notice that this one no longer builds.
        "--features=sockleak/bpf-log",
        "--locked",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ];
    cmd::run(cargo(root).args(args))
}

fn clippy_bpf(root: &Path) -> Result<()> {
    component(root, "clippy", "clippy")?;
    let toolchain = Toolchain::provide()?;
    for feature in ["programs", "log"] {
        let mut command = toolchain.cargo();
        build_bpf::configure(&mut command, root, &toolchain, "clippy", "x86_64", feature)?;
        command.arg("--target-dir").arg(build_bpf::target_dir(root));
        cmd::run(command.args(["--quiet", "--", "-D", "warnings"]))?;
    }
    Ok(())
}

/// Makes sure a cargo subcommand is there; rustup installs it where it can.
fn component(root: &Path, subcommand: &str, name: &str) -> Result<()> {
    let present = || cmd::output(cargo(root).args([subcommand, "--version"])).is_ok();
    if present() {
        return Ok(());
    }
    if cmd::which("rustup").is_some() {
        note(format!("rustup component add {name}"));
        let added = cmd::run(Command::new("rustup").args(["component", "add", name]));
        if added.is_ok() && present() {
            return Ok(());
        }
    }
    bail!("`cargo {subcommand}` is missing: install it with `rustup component add {name}`")
}

fn invariants(root: &Path) -> Result<()> {
    let private = private_paths(root);
    let mut count = 0_usize;
    let mut files = Vec::new();
    walk(root, &mut files)?;
    let tests = test_only(&files);
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        let path = file.strip_prefix(root).unwrap_or(&file).to_string_lossy();
        let mut findings = rules::check_machine_paths(&text, &private);
        if path.ends_with(".rs") {
            findings.extend(rules::check_rust(&path, &text, is_below(&file, &tests)));
        }
        for finding in &findings {
            eprintln!("{path}:{}: {}", finding.line, finding.message);
        }
        count += findings.len();
    }
    if count > 0 {
        bail!("{count} place(s) break an invariant of the design");
    }
    Ok(())
}

/// Directories that only this machine has: the workspace, what it lies in if that is specific enough
/// (`/src` is not), and the user's home.
fn private_paths(root: &Path) -> Vec<String> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let home = home.filter(|home| home.starts_with("/home") || home == Path::new("/root"));
    let around = root.parent().filter(|dir| dir.components().count() > 2);
    [Some(root), around, home.as_deref()]
        .into_iter()
        .flatten()
        .map(|path| format!("{}/", path.display()))
        .collect()
}

/// Modules (without `.rs`) that only tests compile.
fn test_only(files: &[PathBuf]) -> Vec<PathBuf> {
    let mut modules = Vec::new();
    for file in files
        .iter()
        .filter(|file| file.extension().is_some_and(|ext| ext == "rs"))
    {
        let Ok(text) = fs::read_to_string(file) else {
            continue;
        };
        let own = file.with_extension("");
        let dir = match own.file_name().and_then(|name| name.to_str()) {
            Some("mod" | "lib" | "main") => own.parent().unwrap_or(&own).to_owned(),
            _ => own,
        };
        let code = source::code_only(&text);
        modules.extend(
            source::test_modules(&code)
                .into_iter()
                .map(|name| dir.join(name)),
        );
    }
    modules
}

/// Whether a file is one of these modules or below one.
fn is_below(file: &Path, modules: &[PathBuf]) -> bool {
    let own = file.with_extension("");
    modules.iter().any(|module| own.starts_with(module))
}

/// Files that belong to the repository: everything but build output, history and caches.
fn walk(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let mut entries: Vec<_> = fs::read_dir(dir)
        .with_context(|| format!("could not read {}", dir.display()))?
        .collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        if ["target", ".git", ".cache"]
            .iter()
            .any(|skipped| name == *skipped)
        {
            continue;
        }
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_breaks_a_rule_fails_the_whole_check() {
        let dir = std::env::temp_dir().join(format!("sockleak-lint-{}", std::process::id()));
        let pure = dir.join("sockleak-user/src/tracker");
        fs::create_dir_all(&pure).unwrap();
        fs::write(pure.join("mod.rs"), "fn fine() {}\n").unwrap();
        let before = invariants(&dir);
        fs::write(pure.join("mod.rs"), "use std::fs;\n").unwrap();
        let after = invariants(&dir);
        fs::remove_dir_all(&dir).unwrap();
        before.unwrap();
        assert!(after.is_err());
    }
}
