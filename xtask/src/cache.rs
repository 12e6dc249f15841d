//! The directory where downloads and built tools are kept between runs, shared by all clones.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

/// `$SOCKLEAK_CACHE`, else `$XDG_CACHE_HOME/sockleak`, else `~/.cache/sockleak`; created on first use.
pub fn dir() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let dir = if let Some(dir) = set("SOCKLEAK_CACHE") {
        PathBuf::from(dir)
    } else if let Some(dir) = set("XDG_CACHE_HOME") {
        PathBuf::from(dir).join("sockleak")
    } else if let Some(home) = set("HOME") {
        PathBuf::from(home).join(".cache/sockleak")
    } else {
        bail!("no place for the cache: set SOCKLEAK_CACHE, XDG_CACHE_HOME or HOME");
    };
    fs::create_dir_all(&dir).with_context(|| format!("could not create {}", dir.display()))?;
    Ok(dir)
}

/// An exclusive lock between xtask processes; released when dropped.
pub struct Lock(
    #[expect(dead_code, reason = "held open: closing the file releases the lock")] File,
);

/// Waits for the lock called `name` in the cache.
pub fn lock(name: &str) -> Result<Lock> {
    let path = dir()?.join(format!("{}.lock", name.replace('/', "-")));
    let file =
        File::create(&path).with_context(|| format!("could not create {}", path.display()))?;
    file.lock()
        .with_context(|| format!("could not lock {}", path.display()))?;
    Ok(Lock(file))
}

/// The directory `key` of the cache. If it is not there yet, `fill` makes its content in a scratch
/// directory that is moved into place only when it succeeded, so half a download is never used.
pub fn provide(key: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let place = dir()?.join(key);
    if place.is_dir() {
        return Ok(place);
    }
    let _lock = lock(key)?;
    if place.is_dir() {
        return Ok(place);
    }
    let parent = place.parent().context("a cache key is never empty")?;
    fs::create_dir_all(parent)?;
    let scratch = place.with_file_name(format!(
        ".{}.{}",
        place.file_name().unwrap_or_default().to_string_lossy(),
        std::process::id()
    ));
    let _ = fs::remove_dir_all(&scratch);
    fs::create_dir_all(&scratch)?;
    if let Err(error) = fill(&scratch) {
        let _ = fs::remove_dir_all(&scratch);
        return Err(error);
    }
    fs::rename(&scratch, &place)
        .with_context(|| format!("could not move the finished {key} to {}", place.display()))?;
    Ok(place)
}

/// Copies a directory tree (files, directories and symbolic links).
pub fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("could not create {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("could not read {}", from.display()))? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_tree(&source, &target)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&source)?, &target)?;
        } else {
            fs::copy(&source, &target).with_context(|| {
                format!(
                    "could not copy {} to {}",
                    source.display(),
                    target.display()
                )
            })?;
        }
    }
    Ok(())
}
