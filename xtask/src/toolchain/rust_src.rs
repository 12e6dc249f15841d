//! The source of the standard library, which `-Z build-std=core` compiles.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{
    apt::Suites,
    cache,
    cmd::{self, note},
};

/// Suites that may carry a `rust-src` package as new as our compiler, likeliest first.
const SUITES: [&str; 4] = ["trixie-backports", "forky", "sid", "trixie"];

/// Makes sure the sysroot has the library's source: by rustup, else from Debian's package of exactly
/// the same version (machines that cannot reach rustup's servers often have a Debian mirror).
pub fn provide(sysroot: &Path, version: &str) -> Result<()> {
    let library = sysroot.join("lib/rustlib/src/rust/library");
    let present =
        || library.join("Cargo.lock").is_file() && library.join("core/src/lib.rs").is_file();
    if present() {
        return Ok(());
    }
    let _lock = cache::lock("rust-src")?;
    if present() {
        return Ok(());
    }
    let by_rustup = by_rustup(sysroot);
    if by_rustup.is_ok() && present() {
        return Ok(());
    }
    note("rustup cannot provide rust-src here; taking Debian's package of the same version");
    let source = from_debian(version).with_context(|| match by_rustup {
        Ok(()) => "rustup reported success but left no source".to_owned(),
        Err(error) => format!(
            "no source for the core library of rustc {version}: `rustup component add rust-src` says: {error:#}"
        ),
    })?;
    install(&source, &library)
}

fn by_rustup(sysroot: &Path) -> Result<()> {
    // rustup names a toolchain by its directory.
    let name = sysroot.file_name().context("the sysroot has no name")?;
    if cmd::which("rustup").is_none() {
        bail!("rustup is not installed");
    }
    note("rustup component add rust-src");
    let mut command = Command::new("rustup");
    command
        .args(["component", "add", "rust-src", "--toolchain"])
        .arg(name);
    cmd::output(&mut command).map(drop)
}

fn from_debian(version: &str) -> Result<std::path::PathBuf> {
    let root = cache::provide(&format!("rust-src-{version}"), |into| {
        for suite in SUITES {
            let suites = match Suites::open(&[suite]) {
                Ok(suites) => suites,
                Err(error) => {
                    note(format!("{error:#}"));
                    continue;
                }
            };
            let found = suites
                .packages("rust-src", |name| name == "rust-src")?
                .into_iter()
                .find(|package| package.version.starts_with(&format!("{version}+")));
            if let Some(package) = found {
                return suites.unpack(&package, into);
            }
        }
        bail!(
            "none of the Debian suites {} has rust-src {version}",
            SUITES.join(", ")
        )
    })?;
    Ok(root.join(format!("usr/src/rustc-{version}/library")))
}

fn install(source: &Path, library: &Path) -> Result<()> {
    let parent = library
        .parent()
        .context("the library directory has a parent")?;
    let scratch = parent.join(format!(".library.{}", std::process::id()));
    let copy = || -> Result<()> {
        fs::create_dir_all(parent)?;
        let _ = fs::remove_dir_all(&scratch);
        cache::copy_tree(source, &scratch)?;
        let _ = fs::remove_dir_all(library);
        Ok(fs::rename(&scratch, library)?)
    };
    note(format!(
        "copying the library's source to {}",
        library.display()
    ));
    copy().with_context(|| {
        format!(
            "could not write {}; cargo takes the library's source from nowhere else. \
             Use a toolchain of your own (rustup installs one under your home), or copy {} there as root",
            library.display(),
            source.display()
        )
    })
}
