//! QEMU, run from the cache with its own libraries, whatever the machine has.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    apt::Suites,
    cache,
    cmd::{self, note},
};

/// Suites with a QEMU that runs all our kernels, with the base suite its libraries come from.
/// Bookworm's own 7.2 is not one: it crashes 6.12 guests at random.
const SOURCES: [&[&str]; 2] = [&["bookworm-backports", "bookworm"], &["trixie"]];

/// An unpacked QEMU.
#[derive(Debug, Clone)]
pub struct Qemu {
    root: PathBuf,
    version: String,
}

impl Qemu {
    /// From the cache or by download.
    pub fn provide() -> Result<Self> {
        let root = cache::provide("qemu", |into| {
            let mut problems = Vec::new();
            for suites in SOURCES {
                let fetched = Suites::open(suites).and_then(|view| {
                    view.unpack_with_dependencies("qemu-system-x86", suites[0], into)
                });
                match fetched {
                    Ok(()) => return Ok(()),
                    Err(error) => problems.push(format!("{}: {error:#}", suites[0])),
                }
            }
            bail!("could not fetch QEMU: {}", problems.join("; "))
        })?;
        let mut qemu = Self {
            root,
            version: String::new(),
        };
        let broken = || {
            format!(
                "the QEMU in {} does not run; delete that directory",
                qemu.root.display()
            )
        };
        let text = cmd::output(qemu.command().with_context(broken)?.arg("--version"))
            .with_context(broken)?;
        let version = text
            .split_whitespace()
            .nth(3)
            .unwrap_or_default()
            .to_owned();
        let major: u32 = version
            .split('.')
            .next()
            .unwrap_or_default()
            .parse()
            .unwrap_or(0);
        if major < 10 {
            bail!(
                "QEMU {version} in {} is older than 10, which 6.12 guests crash under",
                qemu.root.display()
            );
        }
        qemu.version = version;
        note(format!("QEMU {}", qemu.version));
        Ok(qemu)
    }

    /// QEMU with its own dynamic loader, libraries and firmware.
    pub fn command(&self) -> Result<Command> {
        let find = |candidates: &[&str]| -> Result<PathBuf> {
            let found = candidates
                .iter()
                .map(|path| self.root.join(path))
                .find(|path| path.exists());
            found.with_context(|| format!("{} holds no {}", self.root.display(), candidates[0]))
        };
        let loader = find(&[
            "lib64/ld-linux-x86-64.so.2",
            "usr/lib64/ld-linux-x86-64.so.2",
        ])
        .or_else(|_| {
            find(&[
                "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
                "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
            ])
        })?;
        let libraries =
            ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"].map(|dir| self.root.join(dir));
        let mut command = Command::new(loader);
        command
            .arg("--library-path")
            .arg(std::env::join_paths(libraries)?)
            .arg(self.root.join("usr/bin/qemu-system-x86_64"))
            .env_remove("LD_LIBRARY_PATH");
        for firmware in ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"] {
            command.arg("-L").arg(self.root.join(firmware));
        }
        Ok(command)
    }
}

/// What a guest is given.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Processors.
    pub smp: u32,
    /// Memory in QEMU's notation.
    pub mem: String,
    /// One guest nanosecond is one guest instruction, on one processor: figures repeat.
    pub icount: bool,
    /// More words for the kernel's command line.
    pub append: String,
}

impl Machine {
    /// Adds the arguments that boot `kernel` with `initramfs`: the kernel's console goes to the file
    /// `console`, the second serial port to QEMU's standard output.
    pub fn configure(
        &self,
        command: &mut Command,
        kernel: &Path,
        initramfs: &Path,
        console: &Path,
    ) {
        // KVM is never used: stock kernels hang under it on the nested machines this has to run on.
        if self.icount {
            command.args(["-accel", "tcg", "-icount", "shift=0,sleep=off", "-smp", "1"]);
        } else {
            command.args(["-accel", "tcg,thread=multi", "-smp", &self.smp.to_string()]);
        }
        let append = format!("console=ttyS0 quiet panic=-1 rdinit=/init {}", self.append);
        command
            .args(["-cpu", "max", "-m", &self.mem])
            .args([
                "-display",
                "none",
                "-vga",
                "none",
                "-nic",
                "none",
                "-monitor",
                "none",
                "-no-reboot",
            ])
            .args([
                "-chardev",
                &format!("file,id=console,path={}", console.display()),
            ])
            .args(["-chardev", "stdio,id=command,signal=off"])
            .args(["-serial", "chardev:console", "-serial", "chardev:command"])
            .arg("-kernel")
            .arg(kernel)
            .arg("-initrd")
            .arg(initramfs)
            .args(["-append", append.trim_end()]);
    }
}
