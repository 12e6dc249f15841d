//! Whether a package does on a machine what it should.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail, ensure};

use super::Packed;
use crate::{
    apt,
    bundle::Bundle,
    cache,
    cmd::{self, note},
};

/// The release whose minimal system the package is installed in.
const SUITE: &str = "bookworm";

/// How README unpacks the archive.
pub const UNPACK: &str =
    "tar -C /usr/local --strip-components=1 -xzf sockleak-*-x86_64-linux.tar.gz";

/// What is run once it is installed: arguments, and what the output has to contain.
const RUNS: [(&str, &str); 5] = [
    ("--version", "sockleak "),
    ("snapshot --no-bpf --json", r#""type":"snapshot""#),
    ("snapshot --json", r#""type":"snapshot""#),
    ("probes", "hooks available"),
    ("demo healthy", "healthy"),
];

/// Files that have to be there besides the program.
const FILES: [&str; 8] = [
    "usr/share/man/man1/sockleak.1.gz",
    "usr/share/man/man1/sockleak-watch.1.gz",
    "usr/share/bash-completion/completions/sockleak",
    "usr/share/zsh/vendor-completions/_sockleak",
    "usr/share/fish/vendor_completions.d/sockleak.fish",
    "usr/share/doc/sockleak/copyright",
    "usr/share/doc/sockleak/schema/common.json",
    "usr/share/doc/sockleak/examples/sockleak-watch.service",
];

/// Installs the package in a clean minimal system, runs it, and purges it, after which nothing may be
/// left. Needs root and a kernel with overlayfs; the system is fetched once.
pub fn installed(packed: &Packed) -> Result<()> {
    let clean = clean_root()?;
    let scratch = packed.dir.join("root");
    let _ = fs::remove_dir_all(&scratch);
    for name in ["upper", "work", "it"] {
        fs::create_dir_all(scratch.join(name))?;
    }
    let deb = packed.deb.file_name().context("a file")?.to_string_lossy();
    let mut script = format!(
        "set -eu\n\
         mount --make-rprivate /\n\
         mount -t overlay -o lowerdir={clean},upperdir={s}/upper,workdir={s}/work overlay {s}/it\n\
         mount -t proc proc {s}/it/proc\n\
         mount --rbind /sys {s}/it/sys\n\
         cp {deb_path} {s}/it/{deb}\n\
         cd {s}/it\n\
         find . -xdev -path ./proc -prune -o -path ./sys -prune -o -print | sort > {s}/before\n\
         chroot . dpkg --install /{deb}\n",
        clean = clean.display(),
        s = scratch.display(),
        deb_path = packed.deb.display(),
    );
    for file in FILES {
        script.push_str(&format!(
            "test -s {file} || {{ echo {file} is missing; exit 9; }}\n"
        ));
    }
    script.push_str("gzip -t usr/share/man/man1/*.gz\n");
    for (arguments, wanted) in RUNS {
        script.push_str(&format!(
            "echo \"+ sockleak {arguments}\"\nchroot . sockleak {arguments} > {s}/said || \
             {{ cat {s}/said; echo \"status $?\"; exit 9; }}\n\
             grep -q -e '{wanted}' {s}/said || {{ cat {s}/said; exit 9; }}\n",
            s = scratch.display()
        ));
    }
    // dpkg keeps its lists, a log, and backups of its own status.
    script.push_str(&format!(
        "chroot . dpkg --purge sockleak\n\
         find . -xdev -path ./proc -prune -o -path ./sys -prune -o -print | sort > {s}/after\n\
         diff {s}/before {s}/after | grep '^[<>]' | grep -v ' ./var/l[io][bg]/dpkg' > {s}/left || true\n\
         test ! -s {s}/left || {{ echo left behind:; cat {s}/left; exit 9; }}\n",
        s = scratch.display()
    ));
    // The other way that README has.
    script.push_str(&format!(
        "cp {archive} {s}/it/\n\
         chroot . sh -c '{UNPACK}'\n\
         chroot . /usr/local/bin/sockleak --version\n",
        archive = packed.archive()?.display(),
        s = scratch.display()
    ));
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "sh", "-c", &script]);
    // The mounts end with their namespace.
    let said = cmd::output(&mut unshare).context("in a clean Debian root")?;
    fs::remove_dir_all(&scratch).with_context(|| format!("removing {}", scratch.display()))?;
    let ran = said.lines().filter(|line| line.starts_with("+ ")).count();
    ensure!(
        ran == RUNS.len(),
        "only {ran} of {} ran:\n{said}",
        RUNS.len()
    );
    note(format!(
        "installed in a minimal {SUITE}, run {ran} times, purged without a trace"
    ));
    Ok(())
}

/// A minimal system, from the cache.
fn clean_root() -> Result<PathBuf> {
    cache::provide(&format!("clean-root/{SUITE}"), |into| {
        note(format!(
            "making a minimal {SUITE} with debootstrap (minutes)"
        ));
        let mut command = match cmd::which("debootstrap") {
            Some(program) => Command::new(program),
            None => {
                let bundle = Bundle::provide("debootstrap", &[&["bookworm"], &["trixie"]])?;
                let mut command = Command::new(bundle.root().join("usr/sbin/debootstrap"));
                command.env(
                    "DEBOOTSTRAP_DIR",
                    bundle.root().join("usr/share/debootstrap"),
                );
                command
            }
        };
        command
            .args(["--variant=minbase", SUITE])
            .arg(into)
            .arg(apt::mirror()?);
        cmd::output(&mut command)?;
        let debs = into.join("var/cache/apt/archives");
        fs::remove_dir_all(&debs).with_context(|| format!("removing {}", debs.display()))
    })
}

/// Unpacks the package and runs it from there, without root: what every change has to pass.
pub fn extracted(packed: &Packed) -> Result<()> {
    let dir = packed.dir.join("extracted");
    cmd::output(
        Command::new("dpkg-deb")
            .arg("--extract")
            .args([&packed.deb, &dir]),
    )?;
    for file in FILES {
        ensure!(dir.join(file).is_file(), "{file} is not in the package");
    }
    let contents = cmd::output(Command::new("dpkg-deb").arg("--contents").arg(&packed.deb))?;
    let strange = contents.lines().find(|line| !line.contains(" root/root "));
    if let Some(line) = strange {
        bail!("it belongs to somebody: {line}");
    }
    // Those that need nothing.
    for (arguments, wanted) in RUNS.iter().take(2) {
        let mut program = Command::new(dir.join("usr/bin/sockleak"));
        let said = cmd::output(program.args(arguments.split(' ')))?;
        ensure!(said.contains(wanted), "sockleak {arguments}: {said}");
    }
    Ok(())
}
