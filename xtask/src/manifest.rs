//! What the committed BPF object was made of and by, written next to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Content of `sockleak-user/bpf/manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// What `rustc --version` printed.
    pub rustc: String,
    /// Version of bpf-linker.
    pub bpf_linker: String,
    /// Version of aya-ebpf, from Cargo.lock.
    pub aya_ebpf: String,
    /// SHA-256 over [`Manifest::sources`], one number to compare.
    pub sources_sha256: String,
    /// SHA-256 of every input: the files of `sockleak-ebpf`, its packages in Cargo.lock, the build profile.
    pub sources: BTreeMap<String, String>,
    /// The objects by file name.
    pub objects: BTreeMap<String, ObjectFile>,
}

/// One committed object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectFile {
    /// SHA-256 of the file.
    pub sha256: String,
    /// Its length in bytes.
    pub bytes: u64,
}

impl ObjectFile {
    /// Describes these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            sha256: sha256(bytes),
            bytes: bytes.len() as u64,
        }
    }
}

impl Manifest {
    /// Reads the manifest at `path`.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)
            .with_context(|| format!("could not read {}", path.display()))?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} is not a manifest of ours", path.display()))
    }

    /// Writes it to `path`.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        fs::write(path, text).with_context(|| format!("could not write {}", path.display()))
    }
}

/// SHA-256 in lower-case hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// One number for a set of hashed inputs.
pub fn digest(sources: &BTreeMap<String, String>) -> String {
    let lines: String = sources
        .iter()
        .map(|(name, hash)| format!("{hash}  {name}\n"))
        .collect();
    sha256(lines.as_bytes())
}

/// Hashes everything in the workspace at `root` that decides what the object contains.
pub fn hash_sources(root: &Path) -> Result<BTreeMap<String, String>> {
    let mut sources = BTreeMap::new();
    hash_tree(root, &root.join("sockleak-ebpf"), &mut sources)?;
    let lock = fs::read_to_string(root.join("Cargo.lock")).context("could not read Cargo.lock")?;
    sources.insert(
        "Cargo.lock (packages of sockleak-ebpf)".into(),
        sha256(
            locked_packages(&lock, "sockleak-ebpf")
                .join("\n\n")
                .as_bytes(),
        ),
    );
    let workspace =
        fs::read_to_string(root.join("Cargo.toml")).context("could not read Cargo.toml")?;
    let profiles: Vec<String> = ["[profile.release]", "[profile.bpf]"]
        .iter()
        .filter_map(|header| toml_section(&workspace, header))
        .collect();
    sources.insert(
        "Cargo.toml (profiles)".into(),
        sha256(profiles.join("\n").as_bytes()),
    );
    Ok(sources)
}

/// Version of a package in a Cargo.lock.
pub fn locked_version(lock: &str, name: &str) -> Option<String> {
    let package = lock
        .split("\n\n")
        .find(|block| field(block, "name") == Some(name))?;
    field(package, "version").map(str::to_owned)
}

fn hash_tree(root: &Path, dir: &Path, sources: &mut BTreeMap<String, String>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("could not read {}", dir.display()))? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        if name == "target" || name.to_string_lossy().starts_with('.') {
            continue;
        }
        if path.is_dir() {
            hash_tree(root, &path, sources)?;
        } else {
            let bytes =
                fs::read(&path).with_context(|| format!("could not read {}", path.display()))?;
            let relative = path
                .strip_prefix(root)
                .unwrap_or(&path)
                .to_string_lossy()
                .into_owned();
            sources.insert(relative, sha256(&bytes));
        }
    }
    Ok(())
}

/// The blocks of a Cargo.lock that `package` reaches, sorted.
fn locked_packages<'a>(lock: &'a str, package: &str) -> Vec<&'a str> {
    let blocks: Vec<&str> = lock
        .split("\n\n")
        .filter(|block| block.trim_start().starts_with("[[package]]"))
        .map(str::trim)
        .collect();
    let mut reached = BTreeSet::new();
    let mut queue = vec![package.to_owned()];
    while let Some(wanted) = queue.pop() {
        // "name", or "name version" where several versions are locked.
        let (name, version) = wanted.split_once(' ').unwrap_or((&wanted, ""));
        for block in &blocks {
            let same = field(block, "name") == Some(name)
                && (version.is_empty() || field(block, "version") == Some(version));
            if same && reached.insert(*block) {
                let listed = block
                    .split_once("dependencies = [")
                    .map_or("", |(_, list)| list);
                queue.extend(listed.split('"').skip(1).step_by(2).map(str::to_owned));
            }
        }
    }
    reached.into_iter().collect()
}

fn field<'a>(block: &'a str, name: &str) -> Option<&'a str> {
    block.lines().find_map(|line| {
        line.strip_prefix(name)?
            .strip_prefix(" = \"")?
            .strip_suffix('"')
    })
}

fn toml_section(text: &str, header: &str) -> Option<String> {
    let mut lines = text.lines().skip_while(|line| line.trim() != header);
    let mut section = vec![lines.next()?];
    section.extend(
        lines
            .take_while(|line| !line.starts_with('['))
            .filter(|line| {
                let line = line.trim();
                !line.is_empty() && !line.starts_with('#')
            }),
    );
    Some(section.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1\"\ndependencies = [\n \"b 2\",\n \"c\",\n]\n\n\
        [[package]]\nname = \"b\"\nversion = \"1\"\n\n[[package]]\nname = \"b\"\nversion = \"2\"\n\n\
        [[package]]\nname = \"c\"\nversion = \"3\"\ndependencies = [\n \"a\",\n]\n\n[[package]]\nname = \"z\"\nversion = \"1\"\n";

    #[test]
    fn only_reachable_packages_of_the_lock_count() {
        let names: Vec<_> = locked_packages(LOCK, "a")
            .into_iter()
            .map(|block| {
                (
                    field(block, "name").unwrap(),
                    field(block, "version").unwrap(),
                )
            })
            .collect();
        assert_eq!(names, [("a", "1"), ("b", "2"), ("c", "3")]);
        assert_eq!(locked_version(LOCK, "z").as_deref(), Some("1"));
    }

    #[test]
    fn a_section_ends_at_the_next_header_and_ignores_comments() {
        let text =
            "[a]\nx = 1\n\n# note\n[profile.bpf]\nlto = \"fat\" \n# c\ndebug = 2\n\n[b]\ny = 1\n";
        assert_eq!(
            toml_section(text, "[profile.bpf]").as_deref(),
            Some("[profile.bpf]\nlto = \"fat\" \ndebug = 2")
        );
        assert_eq!(toml_section(text, "[none]"), None);
    }

    #[test]
    fn the_digest_depends_on_names_and_content() {
        let one = BTreeMap::from([("a".to_owned(), sha256(b"1"))]);
        let other = BTreeMap::from([("b".to_owned(), sha256(b"1"))]);
        assert_ne!(digest(&one), digest(&other));
        assert_eq!(sha256(b"abc").get(..8), Some("ba7816bf"));
    }
}
