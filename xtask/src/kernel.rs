//! Kernels for guests: Debian's cloud images, unpacked into the cache and never installed.

mod modules;

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    apt::{self, Package, Suites},
    cache,
    cmd::note,
};

pub use modules::load_order;

/// The series every change is tested on.
pub const MATRIX: [&str; 5] = ["5.10", "6.1", "6.12", "6.18", "7.2"];

/// Where a series is likely to be found, before all other suites are asked.
const HOMES: [(&str, &str); 6] = [
    ("5.10", "bullseye"),
    ("6.1", "bookworm"),
    ("6.12", "trixie"),
    ("6.18", "trixie-backports"),
    ("7.1", "trixie-backports"),
    ("7.2", "sid"),
];
const SUITES: [&str; 8] = [
    "trixie-backports",
    "sid",
    "forky",
    "trixie",
    "bookworm",
    "bullseye",
    "bookworm-backports",
    "experimental",
];

/// A kernel that can be booted.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// As asked for, such as `6.18`.
    pub series: String,
    /// What `uname -r` will say.
    pub release: String,
    /// The bootable image.
    pub image: PathBuf,
    /// Directory with this release's modules.
    pub modules: PathBuf,
}

/// The newest kernel of a series that Debian offers, from the cache or by download.
pub fn provide(series: &str) -> Result<Kernel> {
    if series.split('.').count() != 2 || !series.split('.').all(|part| part.parse::<u16>().is_ok())
    {
        bail!(
            "`{series}` is not a kernel series; write it like 6.18 (tested are {})",
            MATRIX.join(", ")
        );
    }
    let root = cache::provide(&format!("kernels/{series}"), |into| fetch(series, into))?;
    locate(series, &root)
        .with_context(|| format!("delete {} to fetch the kernel again", root.display()))
}

fn fetch(series: &str, into: &Path) -> Result<()> {
    let home = HOMES
        .iter()
        .find(|(s, _)| *s == series)
        .map(|(_, suite)| *suite);
    let others = SUITES.iter().copied().filter(|suite| Some(*suite) != home);
    let mut problems = Vec::new();
    let mut unreachable = false;
    for suite in home.into_iter().chain(others) {
        let packages = Suites::open(&[suite]).and_then(|suites| {
            let packages = packages_of_series(&suites, series)?;
            for package in &packages {
                suites.unpack(package, into)?;
            }
            Ok(packages)
        });
        match packages {
            Ok(packages) if packages.is_empty() => problems.push(format!("{suite} has none")),
            Ok(_) => {
                let _ = fs::remove_dir_all(into.join("usr/share"));
                return Ok(());
            }
            Err(error) => {
                unreachable = true;
                problems.push(format!("{suite}: {error:#}"));
            }
        }
    }
    Err(NotFetched {
        series: series.to_owned(),
        unreachable,
        problems: problems.join("; "),
    }
    .into())
}

/// No suite gave us a kernel.
#[derive(Debug)]
pub struct NotFetched {
    series: String,
    /// A suite could not be asked or a download failed, so the kernel may well exist.
    pub unreachable: bool,
    problems: String,
}

impl fmt::Display for NotFetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "no cloud-amd64 kernel {} could be fetched: {}",
            self.series, self.problems
        )
    }
}

impl std::error::Error for NotFetched {}

/// The packages that together make the newest release of a series: one up to 6.18, later the image
/// (`linux-binary`) and the modules apart.
fn packages_of_series(suites: &Suites, series: &str) -> Result<Vec<Package>> {
    let all = suites.packages("linux-", |name| release_of(name, series).is_some())?;
    let newest = all
        .iter()
        .filter(|package| !package.name.starts_with("linux-modules-"))
        .reduce(|a, b| {
            if apt::newer(&b.version, &a.version) {
                b
            } else {
                a
            }
        });
    let Some(release) = newest.and_then(|package| release_of(&package.name, series)) else {
        return Ok(Vec::new());
    };
    let mut wanted: Vec<Package> = all
        .iter()
        .filter(|package| release_of(&package.name, series) == Some(release))
        .cloned()
        .collect();
    // Where image and modules are packages of their own, `linux-image` is an empty shell.
    if wanted
        .iter()
        .any(|package| package.name.starts_with("linux-binary-"))
    {
        wanted.retain(|package| package.name != format!("linux-image-{release}"));
        if !wanted
            .iter()
            .any(|package| package.name.starts_with("linux-modules-"))
        {
            wanted.extend(
                all.iter()
                    .find(|p| p.name == format!("linux-image-{release}"))
                    .cloned(),
            );
        }
    }
    note(format!("kernel {series}: {release}"));
    Ok(wanted)
}

/// `6.18.5+deb13-cloud-amd64` out of the name of a signed image, binary or modules package.
fn release_of<'a>(name: &'a str, series: &str) -> Option<&'a str> {
    let release = ["linux-image-", "linux-binary-", "linux-modules-"]
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))?;
    let patch = release.strip_prefix(series)?.strip_prefix('.')?;
    (patch.starts_with(|c: char| c.is_ascii_digit()) && release.ends_with("-cloud-amd64"))
        .then_some(release)
}

fn locate(series: &str, root: &Path) -> Result<Kernel> {
    let modules = ["lib/modules", "usr/lib/modules"]
        .iter()
        .flat_map(|dir| fs::read_dir(root.join(dir)).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .find(|path| path.join("kernel").is_dir())
        .with_context(|| format!("{} holds no kernel modules", root.display()))?;
    let release = modules
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let image = [
        root.join(format!("boot/vmlinuz-{release}")),
        root.join(format!("usr/lib/modules/{release}/vmlinuz")),
        root.join(format!("lib/modules/{release}/vmlinuz")),
    ]
    .into_iter()
    .find(|path| path.is_file())
    .with_context(|| format!("{} holds no image of {release}", root.display()))?;
    Ok(Kernel {
        series: series.to_owned(),
        release,
        image,
        modules,
    })
}

#[cfg(test)]
mod tests {
    use super::release_of;

    #[test]
    fn a_series_is_not_mistaken_for_a_longer_one() {
        assert_eq!(
            release_of("linux-image-6.1.0-50-cloud-amd64", "6.1"),
            Some("6.1.0-50-cloud-amd64")
        );
        assert_eq!(release_of("linux-image-6.12.9-cloud-amd64", "6.1"), None);
        assert_eq!(
            release_of("linux-modules-7.2.13+deb14-cloud-amd64", "7.2"),
            Some("7.2.13+deb14-cloud-amd64")
        );
    }

    #[test]
    fn debug_unsigned_meta_and_other_flavours_do_not_count() {
        for name in [
            "linux-image-6.18.5+deb13-cloud-amd64-dbg",
            "linux-image-6.18.5+deb13-cloud-amd64-unsigned",
            "linux-binary-unsigned-6.18.5+deb13-cloud-amd64",
            "linux-image-6.18-cloud-amd64",
            "linux-image-cloud-amd64",
            "linux-image-6.18.5+deb13-amd64",
            "linux-headers-6.18.5+deb13-cloud-amd64",
        ] {
            assert_eq!(release_of(name, "6.18"), None, "{name}");
        }
    }
}
