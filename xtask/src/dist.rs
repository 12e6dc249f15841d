//! `cargo xtask dist`: what is installed. A static binary, its man pages and completions, as a Debian
//! package and as an archive, the same bytes whenever they are made of the same commit.

mod check;
mod control;
mod from_source;
mod tree;

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use sha2::{Digest as _, Sha256};

use crate::{
    cmd::{self, note},
    guest_build::{self, Profile, SOCKLEAK},
};

/// Options of `dist`.
#[derive(Debug, Args)]
pub struct Options {
    /// Pack twice and compare, then install, run and remove package and archive in a clean Debian root, and do
    /// what README says about the sources (as root).
    #[arg(long)]
    check: bool,
    /// Pack this program instead of building one.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Where to write; by default target/dist.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// What is packed.
#[derive(Debug)]
pub struct Source<'a> {
    /// The workspace.
    pub root: &'a Path,
    /// The program, with or without names.
    pub binary: PathBuf,
    /// When it was last changed, s since 1970: every time in the packages.
    pub epoch: u64,
}

/// What came of it.
#[derive(Debug)]
pub struct Packed {
    /// The directory.
    pub dir: PathBuf,
    /// The Debian package in it.
    pub deb: PathBuf,
    /// Files and their SHA-256, as sha256sum prints them.
    pub sums: String,
}

impl Packed {
    /// The archive for other systems.
    fn archive(&self) -> Result<PathBuf> {
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.to_string_lossy().ends_with("-x86_64-linux.tar.gz") {
                return Ok(path);
            }
        }
        bail!("no archive in {}", self.dir.display())
    }
}

/// Runs the subcommand.
pub fn run(root: &Path, options: &Options) -> Result<()> {
    let binary = match &options.binary {
        Some(binary) => binary.clone(),
        None => {
            let built = guest_build::build(root, &[SOCKLEAK], Profile::Release)?;
            built.into_iter().next().context("cargo built nothing")?
        }
    };
    let source = Source {
        root,
        binary,
        epoch: epoch(root)?,
    };
    let out = (options.out.clone()).unwrap_or_else(|| root.join("target/dist"));
    let packed = pack(&source, &out)?;
    print!("{}", packed.sums);
    if options.check {
        again(&source, &packed)?;
        check::installed(&packed)?;
        from_source::works(root)?;
    }
    note(format!("in {}", packed.dir.display()));
    Ok(())
}

/// Packs a program that was built for something else, and runs it out of the package: what a change has
/// to pass. The whole of it, with the program that users get, is `cargo xtask dist --check`.
pub fn try_out(root: &Path, binary: PathBuf) -> Result<()> {
    let source = Source {
        root,
        binary,
        epoch: epoch(root)?,
    };
    let packed = pack(&source, &root.join("target/dist-test"))?;
    again(&source, &packed)?;
    check::extracted(&packed)?;
    fs::remove_dir_all(&packed.dir).with_context(|| format!("removing {}", packed.dir.display()))
}

/// Packs once more, elsewhere: the bytes have to be the same.
fn again(source: &Source<'_>, packed: &Packed) -> Result<()> {
    let again = pack(source, &packed.dir.with_extension("again"))?;
    if again.sums != packed.sums {
        bail!(
            "two runs made different packages, in {} and {}:\n{}\n{}",
            packed.dir.display(),
            again.dir.display(),
            packed.sums,
            again.sums
        );
    }
    fs::remove_dir_all(&again.dir)?;
    note("packed twice: the same bytes");
    Ok(())
}

/// `SOURCE_DATE_EPOCH` (reproducible-builds.org), else the time of the last commit.
fn epoch(root: &Path) -> Result<u64> {
    let (text, origin) = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => (text, "SOURCE_DATE_EPOCH"),
        Err(_) => {
            let mut git = Command::new("git");
            git.current_dir(root).args(["log", "-1", "--format=%ct"]);
            let time = cmd::output(&mut git).context(
                "no time for the files: set SOURCE_DATE_EPOCH, or build from a git clone",
            )?;
            (time, "the last commit")
        }
    };
    text.trim()
        .parse()
        .with_context(|| format!("{origin} says {text:?}, not seconds since 1970"))
}

/// Packs everything into a new directory.
fn pack(source: &Source<'_>, out: &Path) -> Result<Packed> {
    // Only what an earlier run has made is replaced.
    if out.exists() && !out.join("SHA256SUMS").is_file() {
        bail!(
            "{} exists and is none of ours: remove it, or give another --out",
            out.display()
        );
    }
    let _ = fs::remove_dir_all(out);
    fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
    let version = env!("CARGO_PKG_VERSION");
    let stage = out.join("stage");
    tree::lay_out(source, &stage)?;

    let deb = out.join(format!("sockleak_{version}_amd64.deb"));
    control::write(&stage, version)?;
    let mut build = Command::new("dpkg-deb");
    build
        .env("SOURCE_DATE_EPOCH", source.epoch.to_string())
        .args(["--root-owner-group", "-Zxz", "--threads-max=1", "--build"])
        .args([&stage, &deb]);
    cmd::output(&mut build)?;
    fs::remove_dir_all(stage.join("DEBIAN"))?;

    let name = format!("sockleak-{version}-x86_64-linux");
    let archive = out.join(format!("{name}.tar.gz"));
    archive_of(&stage, &name, source.epoch, &archive)?;
    fs::remove_dir_all(&stage)?;

    let mut sums = String::new();
    for file in [&archive, &deb] {
        let bytes = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
        for byte in Sha256::digest(&bytes) {
            let _ = write!(sums, "{byte:02x}");
        }
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let _ = writeln!(sums, "  {name}");
    }
    fs::write(out.join("SHA256SUMS"), &sums)?;
    Ok(Packed {
        dir: out.to_owned(),
        deb,
        sums,
    })
}

/// `usr` of the stage under another name, with nothing in it that depends on who packs it.
fn archive_of(stage: &Path, name: &str, epoch: u64, archive: &Path) -> Result<()> {
    let plain = archive.with_extension("");
    let mut tar = Command::new("tar");
    tar.arg("--create")
        .args(["--format=ustar", "--sort=name", "--owner=0", "--group=0"])
        .args(["--numeric-owner", "--mode=u=rwX,go=rX"])
        .arg(format!("--mtime=@{epoch}"))
        .arg(format!("--transform=s,^usr,{name},"))
        .arg("--file")
        .arg(&plain)
        .arg("--directory")
        .args([stage, Path::new("usr")]);
    cmd::output(&mut tar)?;
    // Without a name and a time.
    cmd::output(
        Command::new("gzip")
            .args(["-9", "--no-name", "--force"])
            .arg(&plain),
    )?;
    Ok(())
}
