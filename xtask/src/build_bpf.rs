//! `cargo xtask build-bpf`: compiles the eBPF programs and writes the objects that are committed.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};

use crate::{
    cmd::{self, note},
    manifest::{self, Manifest, ObjectFile},
    strip,
    toolchain::{self, Toolchain},
};

/// Processor the kernel that loads the object runs on: register layouts differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Arch {
    /// 64-bit x86.
    #[value(name = "x86_64")]
    X86_64,
    /// 64-bit Arm.
    #[value(name = "aarch64")]
    Aarch64,
    /// Every architecture with an object.
    All,
}

impl Arch {
    /// Names as in `target_arch`.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Self::X86_64 => &["x86_64"],
            Self::Aarch64 => &["aarch64"],
            Self::All => &["x86_64", "aarch64"],
        }
    }
}

/// Options of `build-bpf`.
#[derive(Debug, Args)]
pub struct Options {
    /// Which objects to build.
    #[arg(long, value_enum, default_value_t = Arch::All)]
    arch: Arch,
    /// Write the objects here instead of sockleak-user/bpf.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Build with the log statements of cold hooks (for debugging; never committed).
    #[arg(long, requires = "out")]
    log: bool,
}

/// Where the committed objects and their manifest live.
pub fn committed(root: &Path) -> PathBuf {
    root.join("sockleak-user/bpf")
}

/// File name of an object.
pub fn object_name(arch: &str) -> String {
    format!("sockleak-{arch}.bpf.o")
}

/// Runs the subcommand.
pub fn run(root: &Path, options: &Options) -> Result<()> {
    let start = Instant::now();
    let toolchain = Toolchain::provide()?;
    let out = options.out.clone().unwrap_or_else(|| committed(root));
    fs::create_dir_all(&out).with_context(|| format!("could not create {}", out.display()))?;

    let path = out.join("manifest.json");
    let sources = manifest::hash_sources(root)?;
    let lock = fs::read_to_string(root.join("Cargo.lock"))?;
    // An object of the other architecture stays only if it was made from these very sources.
    let sources_sha256 = manifest::digest(&sources);
    let mut objects = Manifest::read(&path)
        .ok()
        .filter(|old| old.sources_sha256 == sources_sha256 && old.rustc == toolchain.version())
        .map_or_else(BTreeMap::new, |old| old.objects);

    for arch in options.arch.names() {
        let object = build(root, &toolchain, &target_dir(root), arch, options.log)?;
        let name = object_name(arch);
        let file = out.join(&name);
        if fs::read(&file).ok().as_deref() != Some(&object) {
            fs::write(&file, &object)
                .with_context(|| format!("could not write {}", file.display()))?;
        }
        note(format!("{}: {} bytes", file.display(), object.len()));
        objects.insert(name, ObjectFile::of(&object));
    }
    Manifest {
        rustc: toolchain.version().to_owned(),
        bpf_linker: toolchain::BPF_LINKER.to_owned(),
        aya_ebpf: manifest::locked_version(&lock, "aya-ebpf")
            .context("Cargo.lock has no aya-ebpf")?,
        sources_sha256,
        sources,
        objects,
    }
    .write(&path)?;
    note(format!("built in {:.1} s", start.elapsed().as_secs_f64()));
    Ok(())
}

/// Where the kernel side is compiled when it is compiled in place.
pub fn target_dir(root: &Path) -> PathBuf {
    root.join("target/bpf")
}

/// Compiles the programs of the workspace at `root` and returns the stripped object.
pub fn build(
    root: &Path,
    toolchain: &Toolchain,
    target: &Path,
    arch: &str,
    log: bool,
) -> Result<Vec<u8>> {
    let mut command = toolchain.cargo();
    let feature = if log { "log" } else { "programs" };
    configure(&mut command, root, toolchain, "build", arch, feature)?;
    command.arg("--target-dir").arg(target);
    note(format!("compiling the kernel side for {arch}"));
    cmd::run(&mut command)?;
    let linked = target.join("bpfel-unknown-none/bpf/sockleak-bpf");
    let bytes =
        fs::read(&linked).with_context(|| format!("could not read {}", linked.display()))?;
    strip::strip_debug(&bytes).with_context(|| format!("could not strip {}", linked.display()))
}

/// Adds everything but the target directory that a cargo subcommand on the kernel side takes.
pub fn configure(
    command: &mut Command,
    root: &Path,
    toolchain: &Toolchain,
    subcommand: &str,
    arch: &str,
    feature: &str,
) -> Result<()> {
    let root = fs::canonicalize(root)?;
    command
        .current_dir(&root)
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            rustflags(&root, toolchain, arch)?,
        )
        .args([subcommand, "--locked", "--package", "sockleak-ebpf"])
        .args(["--bin", "sockleak-bpf", "--features", feature])
        .args(["--profile", "bpf", "--target", "bpfel-unknown-none"])
        .args(["-Z", "build-std=core"]);
    Ok(())
}

/// Flags that make the same bytes wherever the workspace, cargo's home and the toolchain are.
fn rustflags(root: &Path, toolchain: &Toolchain, arch: &str) -> Result<String> {
    let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    let cargo_home = toolchain::cargo_home()?;
    let mut flags = vec![
        "-Cdebuginfo=2".to_owned(),
        // Instructions on half registers (5.10 has them): without them every u32 is shifted there and back.
        "-Ctarget-cpu=v3".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        format!("--cfg=bpf_target_arch=\"{arch}\""),
        remap(root, "/sockleak"),
        remap(&cargo_home, "/cargo"),
        remap(toolchain.sysroot(), "/rust"),
    ];
    // The folder of a registry is named after where this machine fetches from. rustc applies the
    // last mapping that fits.
    let sources = cargo_home.join("registry/src");
    for registry in
        fs::read_dir(&sources).with_context(|| format!("listing {}", sources.display()))?
    {
        flags.push(remap(&registry?.path(), "/crates"));
    }
    Ok(flags.join("\u{1f}"))
}
