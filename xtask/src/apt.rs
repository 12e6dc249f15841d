//! Debian packages, fetched through the machine's own apt configuration but with private lists and
//! archives: nothing is installed on the machine and root is not needed.
//!
//! The address of the mirror is read from the machine's apt sources. apt itself verifies signatures
//! and checksums.

mod sources;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    cache,
    cmd::{self, note},
};

/// Lists older than this are fetched again before something is looked up in them.
const FRESH: Duration = Duration::from_secs(24 * 3600);

/// A private view of one or more suites.
pub struct Suites {
    names: String,
    dir: PathBuf,
}

/// A package version that a suite offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Package name.
    pub name: String,
    /// Full Debian version.
    pub version: String,
}

impl Suites {
    /// Fetches the lists of these suites (into the cache) unless they are there and fresh.
    ///
    /// A suite that left the mirror is looked for where Debian's archive keeps old ones.
    pub fn open(suites: &[&str]) -> Result<Self> {
        for tool in ["apt-get", "apt-cache", "dpkg-deb"] {
            if cmd::which(tool).is_none() {
                bail!(
                    "{tool} is not here: xtask takes kernels, QEMU and rust-src from Debian packages, \
                     so this step needs a Debian (or derived) machine"
                );
            }
        }
        let names = suites.join("+");
        let dir = cache::dir()?.join("apt").join(&names);
        let this = Self { names, dir };
        let _lock = cache::lock(&format!("apt-{}", this.names))?;
        let stamp = this.dir.join("fetched");
        let fresh = fs::metadata(&stamp)
            .and_then(|meta| meta.modified())
            .is_ok_and(|time| time.elapsed().is_ok_and(|age| age < FRESH));
        if !fresh {
            this.update(suites)?;
            fs::write(stamp, "")?;
        }
        Ok(this)
    }

    fn update(&self, suites: &[&str]) -> Result<()> {
        fs::create_dir_all(self.dir.join("lists/partial"))?;
        fs::create_dir_all(self.dir.join("cache/archives/partial"))?;
        // Resolved as on an empty machine: what is installed here must not change what is fetched.
        fs::write(self.dir.join("status"), "")?;
        let mut last = None;
        for archive in sources::debian_archives()? {
            fs::write(self.dir.join("private.sources"), archive.stanza(suites))?;
            note(format!("fetching the package lists of {}", self.names));
            let update = cmd::retry("fetching package lists", || {
                let mut command = self.apt("apt-get");
                cmd::output(command.args(["update", "--error-on=any"]))
            });
            match update {
                Ok(_) => return Ok(()),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| anyhow::anyhow!("no archive to ask"))).with_context(|| {
            format!(
                "could not fetch the package lists of {} through this machine's apt sources; \
                 is the network up and does `apt-get update` work?",
                self.names
            )
        })
    }

    /// An apt program that sees only this view.
    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("LC_ALL", "C")
            .env("DEBIAN_FRONTEND", "noninteractive");
        let dir = self.dir.display();
        for option in [
            format!("Dir::Etc::sourcelist={dir}/private.sources"),
            "Dir::Etc::sourceparts=/dev/null".into(),
            "Dir::Etc::preferencesparts=/dev/null".into(),
            "Dir::Etc::preferences=/dev/null".into(),
            format!("Dir::State::lists={dir}/lists"),
            format!("Dir::State::status={dir}/status"),
            format!("Dir::State::extended_states={dir}/extended_states"),
            format!("Dir::Cache={dir}/cache"),
            "Dir::Cache::pkgcache=pkgcache.bin".into(),
            "Dir::Cache::srcpkgcache=srcpkgcache.bin".into(),
            "Dir::Log=/dev/null".into(),
            "Debug::NoLocking=true".into(),
            "APT::Sandbox::User=root".into(),
            "APT::Architecture=amd64".into(),
            "APT::Install-Recommends=false".into(),
            "APT::Get::Assume-Yes=true".into(),
            "Acquire::Languages=none".into(),
            "Acquire::Retries=3".into(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".into(),
            "Acquire::IndexTargets::deb::DEP-11-icons-small::DefaultEnabled=false".into(),
            "Acquire::IndexTargets::deb::DEP-11-icons::DefaultEnabled=false".into(),
        ] {
            command.arg("-o").arg(option);
        }
        command
    }

    /// All versions of all packages whose name starts with `prefix` and that `keep` accepts.
    pub fn packages(&self, prefix: &str, keep: impl Fn(&str) -> bool) -> Result<Vec<Package>> {
        let names = cmd::output(self.apt("apt-cache").args(["pkgnames", prefix]))?;
        let names: Vec<&str> = names.lines().filter(|name| keep(name)).collect();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let mut command = self.apt("apt-cache");
        command.args(["show", "--all-versions"]).args(&names);
        Ok(parse_stanzas(&cmd::output(&mut command)?))
    }

    /// Downloads one package and unpacks it into `into`; no maintainer script runs.
    pub fn unpack(&self, package: &Package, into: &Path) -> Result<()> {
        let debs = into.join(".debs");
        fs::create_dir_all(&debs)?;
        note(format!("downloading {} {}", package.name, package.version));
        cmd::retry("downloading a package", || {
            let mut command = self.apt("apt-get");
            command.current_dir(&debs).arg("download");
            cmd::output(command.arg(format!("{}={}", package.name, package.version)))
        })?;
        unpack_all(&debs, into)
    }

    /// Downloads a package with everything it depends on and unpacks all of it into `into`. Where
    /// several suites offer a package, `preferred` wins.
    pub fn unpack_with_dependencies(&self, name: &str, preferred: &str, into: &Path) -> Result<()> {
        let debs = into.join(".debs");
        fs::create_dir_all(debs.join("partial"))?;
        note(format!(
            "downloading {name} of {preferred} with all it depends on"
        ));
        cmd::retry("downloading packages", || {
            let mut command = self.apt("apt-get");
            command
                .arg("-o")
                .arg(format!("Dir::Cache::archives={}", debs.display()))
                .args(["install", "--download-only", "-t", preferred, name]);
            cmd::output(&mut command)
        })?;
        fs::remove_dir_all(debs.join("partial"))?;
        unpack_all(&debs, into)
    }
}

impl Drop for Suites {
    /// apt's binary caches are quick to make again and hundreds of megabytes large.
    fn drop(&mut self) {
        for name in ["pkgcache.bin", "srcpkgcache.bin"] {
            let _ = fs::remove_file(self.dir.join("cache").join(name));
        }
    }
}

/// Unpacks every `.deb` in `debs` and removes that directory.
fn unpack_all(debs: &Path, into: &Path) -> Result<()> {
    let mut count = 0;
    for entry in fs::read_dir(debs)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ext| ext == "deb") {
            cmd::output(
                Command::new("dpkg-deb")
                    .arg("--extract")
                    .args([&path, into]),
            )?;
            count += 1;
        }
    }
    if count == 0 {
        bail!(
            "apt-get reported success but left no package in {}",
            debs.display()
        );
    }
    fs::remove_dir_all(debs).with_context(|| format!("could not remove {}", debs.display()))
}

fn parse_stanzas(text: &str) -> Vec<Package> {
    text.split("\n\n")
        .filter_map(|stanza| {
            let field = |name: &str| {
                stanza
                    .lines()
                    .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
                    .map(str::to_owned)
            };
            Some(Package {
                name: field("Package")?,
                version: field("Version")?,
            })
        })
        .collect()
}

/// The address of this machine's Debian archive.
pub fn mirror() -> Result<String> {
    let archives = sources::debian_archives()?;
    let first = archives.first().context("there is one, or an error")?;
    Ok(first.uri().to_owned())
}

/// Whether Debian version `a` is newer than `b`.
pub fn newer(a: &str, b: &str) -> bool {
    Command::new("dpkg")
        .args(["--compare-versions", a, "gt", b])
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stanzas_of_apt_cache_show_are_read() {
        let text = "Package: a\nVersion: 1:2-3\nDepends: b\n\nPackage: b\nVersion: 4\nDescription: x\n Package: no\n";
        assert_eq!(
            parse_stanzas(text),
            [
                Package {
                    name: "a".into(),
                    version: "1:2-3".into()
                },
                Package {
                    name: "b".into(),
                    version: "4".into()
                }
            ]
        );
    }
}
