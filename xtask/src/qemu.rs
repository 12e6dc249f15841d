//! QEMU, run from the cache with its own libraries, whatever the machine has.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{
    bundle::Bundle,
    cmd::{self, note},
};

/// Suites with a QEMU that runs all our kernels, each with the suite its libraries come from.
/// Bookworm's own 7.2 is not one: it crashes 6.12 guests at random.
const SOURCES: [&[&str]; 2] = [&["bookworm-backports", "bookworm"], &["trixie"]];
const PROGRAM: &str = "usr/bin/qemu-system-x86_64";

/// An unpacked QEMU.
#[derive(Debug, Clone)]
pub struct Qemu(Bundle);

impl Qemu {
    /// From the cache or by download.
    pub fn provide() -> Result<Self> {
        let bundle = Bundle::provide("qemu-system-x86", &SOURCES)?;
        let place = bundle.root().display();
        let broken = || format!("the QEMU in {place} does not run; delete that directory");
        let text = cmd::output(
            bundle
                .command(PROGRAM)
                .with_context(broken)?
                .arg("--version"),
        )
        .with_context(broken)?;
        let version = text.split_whitespace().nth(3).unwrap_or_default();
        let major: u32 = version
            .split('.')
            .next()
            .unwrap_or_default()
            .parse()
            .unwrap_or(0);
        if major < 10 {
            bail!("QEMU {version} in {place} is older than 10, which 6.12 guests crash under");
        }
        note(format!("QEMU {version}"));
        Ok(Self(bundle))
    }

    /// QEMU with its own libraries and firmware.
    pub fn command(&self) -> Result<Command> {
        let mut command = self.0.command(PROGRAM)?;
        for firmware in ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"] {
            command.arg("-L").arg(self.0.root().join(firmware));
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
            // Nothing in the guest depends on when or where it runs: neither its clock nor its seeds.
            command.args(["-rtc", "base=2026-01-01,clock=vm", "-seed", "1"]);
            command.args(["-cpu", "max,rdrand=off,rdseed=off,erms=off,fsrm=off"]);
        } else {
            command.args(["-accel", "tcg,thread=multi", "-smp", &self.smp.to_string()]);
            command.args(["-cpu", "max"]);
        }
        let append = format!("console=ttyS0 quiet panic=-1 rdinit=/init {}", self.append);
        command
            .args(["-m", &self.mem])
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
