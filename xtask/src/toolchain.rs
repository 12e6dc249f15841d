//! What compiles the BPF object: one exact rustc, its core library in source form, one exact bpf-linker.

mod rust_src;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    cache,
    cmd::{self, note},
};

/// The compiler whose output is committed. Another one makes other bytes.
pub const RUSTC: &str = "1.95.0";
/// The last bpf-linker that uses the LLVM inside rustc's own sysroot; later ones want a system LLVM.
pub const BPF_LINKER: &str = "0.10.3";

/// A rustc with everything that building for `bpfel-unknown-none` takes.
pub struct Toolchain {
    sysroot: PathBuf,
    linker: PathBuf,
    version: String,
}

impl Toolchain {
    /// Finds rustc, and finds or installs its source and bpf-linker.
    pub fn provide() -> Result<Self> {
        let sysroot = sysroot()?;
        let version = cmd::output(Command::new(sysroot.join("bin/rustc")).arg("--version"))?;
        rust_src::provide(&sysroot, RUSTC)?;
        Ok(Self {
            linker: provide_linker(&sysroot)?,
            version: version.trim().to_owned(),
            sysroot,
        })
    }

    /// What `rustc --version` prints.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The directory that holds rustc's own files, and its `core` in source form.
    pub fn sysroot(&self) -> &Path {
        &self.sysroot
    }

    /// `cargo` of this toolchain in an environment that is the same wherever xtask was started:
    /// settings that would change the object are dropped, unstable flags are allowed for this child only.
    pub fn cargo(&self) -> Command {
        let mut command = Command::new(self.sysroot.join("bin/cargo"));
        for (name, _) in std::env::vars_os() {
            if changes_the_build(&name.to_string_lossy()) {
                command.env_remove(name);
            }
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut dirs = vec![self.sysroot.join("bin")];
        dirs.extend(self.linker.parent().map(Path::to_owned));
        dirs.extend(std::env::split_paths(&path));
        command
            .env("PATH", std::env::join_paths(dirs).unwrap_or(path))
            // bpf-linker looks for libLLVM here first.
            .env("LD_LIBRARY_PATH", self.sysroot.join("lib"))
            .env("RUSTC", self.sysroot.join("bin/rustc"))
            .env("RUSTC_BOOTSTRAP", "1");
        command
    }
}

/// `$CARGO_HOME` as cargo itself resolves it.
pub fn cargo_home() -> Result<PathBuf> {
    if let Some(home) = std::env::var_os("CARGO_HOME").filter(|value| !value.is_empty()) {
        return Ok(PathBuf::from(home));
    }
    let home = std::env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?;
    Ok(PathBuf::from(home).join(".cargo"))
}

fn changes_the_build(name: &str) -> bool {
    const KEPT: [&str; 4] = ["CARGO_HOME", "CARGO_HTTP", "CARGO_NET", "CARGO_REGISTR"];
    name.starts_with("RUSTC")
        || name.starts_with("RUSTFLAGS")
        || name.starts_with("RUSTUP_TOOLCHAIN")
        || name.starts_with("LD_LIBRARY_PATH")
        || name.starts_with("CARGO") && !KEPT.iter().any(|kept| name.starts_with(kept))
}

/// The sysroot of rustc [`RUSTC`]: the current one, else the one rustup has or can get.
fn sysroot() -> Result<PathBuf> {
    let ask = |command: &mut Command| -> Option<(PathBuf, String)> {
        let sysroot = PathBuf::from(
            cmd::output(command.args(["--print", "sysroot"]))
                .ok()?
                .trim(),
        );
        let version = cmd::output(Command::new(sysroot.join("bin/rustc")).arg("--version")).ok()?;
        Some((sysroot, version))
    };
    let wanted = format!("rustc {RUSTC} ");
    let current = ask(&mut Command::new("rustc"));
    if let Some((sysroot, version)) = &current
        && version.starts_with(&wanted)
    {
        return Ok(sysroot.clone());
    }
    if cmd::which("rustup").is_some() {
        let ours = || ask(Command::new("rustup").args(["run", RUSTC, "rustc"]));
        if let Some((sysroot, _)) = ours() {
            return Ok(sysroot);
        }
        note(format!(
            "rustup: installing Rust {RUSTC}, which makes the committed object"
        ));
        let install = [
            "toolchain",
            "install",
            RUSTC,
            "--profile",
            "minimal",
            "--no-self-update",
        ];
        cmd::run(Command::new("rustup").args(install))?;
        if let Some((sysroot, _)) = ours() {
            return Ok(sysroot);
        }
    }
    let found = current.map_or_else(
        || "none at all".to_owned(),
        |(_, version)| version.trim().to_owned(),
    );
    bail!(
        "the BPF object is built with rustc {RUSTC} and nothing else, or its bytes differ; found {found}. \
         Install it with `rustup toolchain install {RUSTC}`"
    )
}

fn provide_linker(sysroot: &Path) -> Result<PathBuf> {
    let right = |path: &Path| {
        let mut command = Command::new(path);
        command
            .arg("--version")
            .env("LD_LIBRARY_PATH", sysroot.join("lib"));
        cmd::output(&mut command)
            .is_ok_and(|text| text.trim() == format!("bpf-linker {BPF_LINKER}"))
    };
    let installed = [
        cmd::which("bpf-linker"),
        cargo_home().ok().map(|home| home.join("bin/bpf-linker")),
    ];
    for path in installed.into_iter().flatten() {
        if right(&path) {
            return Ok(path);
        }
    }
    let root = cache::provide(&format!("bpf-linker-{BPF_LINKER}"), |root| {
        note(format!(
            "installing bpf-linker {BPF_LINKER} into the cache (about a minute)"
        ));
        let mut command = Command::new(sysroot.join("bin/cargo"));
        for name in [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_TARGET_DIR",
            "CARGO_BUILD_TARGET",
        ] {
            command.env_remove(name);
        }
        command.env("RUSTC", sysroot.join("bin/rustc"));
        let args: [OsString; 7] = [
            "install".into(),
            "bpf-linker".into(),
            "--version".into(),
            BPF_LINKER.into(),
            "--locked".into(),
            "--root".into(),
            root.into(),
        ];
        cmd::retry("installing bpf-linker", || {
            cmd::run(command.args(&args).current_dir(root))
        })
    })?;
    let path = root.join("bin/bpf-linker");
    if !right(&path) {
        bail!(
            "{} does not run as version {BPF_LINKER}; delete {} and try again",
            path.display(),
            root.display()
        );
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::changes_the_build;

    #[test]
    fn only_what_cannot_change_the_object_passes_to_cargo() {
        for name in [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_PROFILE_BPF_DEBUG",
            "RUSTC_WRAPPER",
        ] {
            assert!(changes_the_build(name), "{name}");
        }
        for name in [
            "CARGO_HOME",
            "CARGO_HTTP_TIMEOUT",
            "CARGO_NET_RETRY",
            "CARGO_REGISTRIES_X_INDEX",
            "PATH",
        ] {
            assert!(!changes_the_build(name), "{name}");
        }
    }
}
