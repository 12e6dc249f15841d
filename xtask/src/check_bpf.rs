//! `cargo xtask check-bpf`: is the committed object what its sources make?

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    build_bpf::{self, build},
    cache,
    cmd::note,
    manifest::{self, Manifest, ObjectFile},
    toolchain::Toolchain,
};

/// Rebuilds every committed object from a copy of the workspace in another directory, with an empty
/// target directory, and compares bytes.
pub fn run(root: &Path) -> Result<()> {
    let start = Instant::now();
    let dir = build_bpf::committed(root);
    let manifest = Manifest::read(&dir.join("manifest.json")).context(
        "there is no committed BPF object to check; make it with `cargo xtask build-bpf`",
    )?;
    check_sources(root, &manifest)?;

    let mut committed = Vec::new();
    for (name, expected) in &manifest.objects {
        let arch = name
            .strip_prefix("sockleak-")
            .and_then(|rest| rest.strip_suffix(".bpf.o"))
            .with_context(|| {
                format!("the manifest names an object `{name}` that xtask does not build")
            })?;
        let file = dir.join(name);
        let bytes =
            fs::read(&file).with_context(|| format!("could not read {}", file.display()))?;
        if ObjectFile::of(&bytes) != *expected {
            bail!(
                "{} is not the file the manifest describes; rebuild both with `cargo xtask build-bpf`",
                file.display()
            );
        }
        committed.push((arch, name, file, bytes));
    }

    let toolchain = Toolchain::provide()?;
    if toolchain.version() != manifest.rustc {
        bail!(
            "the committed object was made by {}, this is {}: rebuild it with `cargo xtask build-bpf` and commit it",
            manifest.rustc,
            toolchain.version()
        );
    }
    let scratch = Scratch::new()?;
    copy_workspace(root, &scratch.0)?;
    for (arch, name, file, bytes) in committed {
        let rebuilt = build(
            &scratch.0,
            &toolchain,
            &scratch.0.join("target/bpf"),
            arch,
            false,
        )?;
        if rebuilt != bytes {
            let kept = root.join("target").join(format!("drift-{name}"));
            fs::write(&kept, &rebuilt)?;
            bail!(
                "{} is not what its sources make: {} bytes committed, {} bytes rebuilt, first difference at \
                 byte {}. Sources and versions are as in the manifest, so either the object was not built by \
                 `cargo xtask build-bpf` or rustc's library source here differs from the one it was built with. \
                 The rebuilt object is {}",
                file.display(),
                bytes.len(),
                rebuilt.len(),
                rebuilt
                    .iter()
                    .zip(&bytes)
                    .take_while(|(a, b)| a == b)
                    .count(),
                kept.display()
            );
        }
        note(format!("{name}: rebuilt to the same {} bytes", bytes.len()));
    }
    note(format!(
        "the committed BPF objects match their sources ({:.1} s)",
        start.elapsed().as_secs_f64()
    ));
    Ok(())
}

fn check_sources(root: &Path, manifest: &Manifest) -> Result<()> {
    let sources = manifest::hash_sources(root)?;
    let mut changed: Vec<&str> = Vec::new();
    for (name, hash) in &sources {
        if manifest.sources.get(name) != Some(hash) {
            changed.push(name);
        }
    }
    changed.extend(
        manifest
            .sources
            .keys()
            .filter(|name| !sources.contains_key(*name))
            .map(String::as_str),
    );
    if !changed.is_empty() {
        bail!(
            "the BPF object is older than its sources; changed since it was built: {}. \
             Run `cargo xtask build-bpf` and commit sockleak-user/bpf",
            changed.join(", ")
        );
    }
    Ok(())
}

/// A directory that is removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let dir = cache::dir()?.join(format!("check-bpf.{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir)?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Copies what cargo needs to build: everything but build output, the repository's history and caches.
fn copy_workspace(root: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name();
        if ["target", ".git", ".cache"]
            .iter()
            .any(|skipped| name == *skipped)
        {
            continue;
        }
        let (from, to) = (entry.path(), to.join(&name));
        if from.is_dir() {
            cache::copy_tree(&from, &to)?;
        } else {
            fs::copy(&from, &to).with_context(|| format!("could not copy {}", from.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_changed_source_is_named() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let sources = manifest::hash_sources(root).unwrap();
        let mut manifest = Manifest {
            rustc: String::new(),
            bpf_linker: String::new(),
            aya_ebpf: String::new(),
            sources_sha256: String::new(),
            sources,
            objects: BTreeMap::new(),
        };
        check_sources(root, &manifest).unwrap();
        manifest
            .sources
            .insert("sockleak-ebpf/src/lib.rs".into(), "stale".into());
        let error = check_sources(root, &manifest).unwrap_err().to_string();
        assert!(error.contains("sockleak-ebpf/src/lib.rs"), "{error}");
        assert!(error.contains("cargo xtask build-bpf"), "{error}");
    }
}
