//! `cargo xtask vm KERNEL -- CMD...`: runs a command in a guest of that kernel.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{
    cmd::{self, note},
    frame::Kind,
    guest,
    guest_build::{self, INIT, Profile},
    initramfs::Content,
    kernel,
    qemu::{Machine, Qemu},
};

/// Options of `vm`.
#[derive(Debug, Args)]
pub struct Options {
    /// Kernel series: 5.10, 6.1, 6.12, 6.18, 7.2 or another that Debian has.
    kernel: String,
    /// Processors of the guest.
    #[arg(long, default_value_t = 2)]
    smp: u32,
    /// Memory of the guest.
    #[arg(long, default_value = "1G")]
    mem: String,
    /// Count instructions instead of time: one guest nanosecond is one instruction, on one processor.
    #[arg(long)]
    icount: bool,
    /// Words to append to the kernel's command line.
    #[arg(long, default_value = "")]
    append: String,
    /// A file or directory to copy into the guest; without GUEST a file goes to /bin.
    #[arg(long = "file", value_name = "HOST[:GUEST]")]
    files: Vec<String>,
    /// A kernel module to load.
    #[arg(long = "module", value_name = "NAME")]
    modules: Vec<String>,
    /// A variable for the command's environment.
    #[arg(long = "env", value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Seconds until the guest is stopped.
    #[arg(long, default_value_t = 600)]
    timeout: u64,
    /// Build our own programs with the release profile (for measurements).
    #[arg(long)]
    release: bool,
    /// Print the guest's whole kernel log at the end.
    #[arg(long)]
    dmesg: bool,
    /// The command. `sockleak` and `vmtest` are built; another word is a path or a program of this
    /// machine, copied with its libraries.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// The environment of every command in a guest.
pub const ENV: [&str; 5] = [
    "PATH=/bin:/usr/bin:/sbin:/usr/sbin",
    "HOME=/root",
    "LC_ALL=C.UTF-8",
    "RUST_BACKTRACE=1",
    "SOCKLEAK_GUEST=1",
];

/// Runs the subcommand; its status is the command's, or failure if the guest's kernel complained.
pub fn run(root: &Path, options: &Options) -> Result<ExitCode> {
    let (program, args) = options.command.split_first().context("no command")?;
    let profile = if options.release {
        Profile::Release
    } else {
        Profile::Guest
    };
    let mut files = Vec::new();
    for file in &options.files {
        files.push(parse_file(file)?);
    }
    let ours = guest_build::by_name(program);
    let wanted: Vec<_> = std::iter::once(INIT).chain(ours.iter().copied()).collect();
    let mut built = guest_build::build(root, &wanted, profile)?;
    let init = built.remove(0);

    let in_guest = if files.iter().any(|(_, guest)| guest == program) {
        program.clone()
    } else {
        if built.is_empty() {
            built.push(host_program(program)?);
        }
        for host in &built {
            let place = in_bin(host)?;
            if !files.iter().any(|(_, guest)| *guest == place) {
                files.push((host.clone(), place));
            }
        }
        in_bin(&built[0])?
    };
    let content = Content {
        init,
        command: std::iter::once(in_guest)
            .chain(args.iter().cloned())
            .collect(),
        env: ENV
            .into_iter()
            .map(str::to_owned)
            .chain(options.env.iter().cloned())
            .collect(),
        files,
        complete: Vec::new(),
        modules: options.modules.clone(),
    };
    let machine = Machine {
        smp: options.smp,
        mem: options.mem.clone(),
        icount: options.icount,
        append: options.append.clone(),
    };
    let kernel = kernel::provide(&options.kernel)?;
    let qemu = Qemu::provide()?;
    note(format!("booting {}", kernel.release));
    let timeout = Duration::from_secs(options.timeout);
    let mut streams = Streams::default();
    let outcome = guest::run(
        &qemu,
        &kernel,
        &machine,
        &content,
        timeout,
        |kind, bytes| streams.take(kind, bytes),
    );
    streams.finish();
    let outcome = outcome?;
    if options.dmesg {
        eprintln!("{}", outcome.kernel_log);
    }
    note(format!(
        "{}: exit status {}, booted in {:.1} s, {:.1} s in all",
        kernel.release,
        outcome.status,
        outcome.boot.as_secs_f64(),
        outcome.total.as_secs_f64()
    ));
    outcome.sound(&kernel)?;
    Ok(ExitCode::from(u8::try_from(outcome.status).unwrap_or(1)))
}

/// Passes the command's streams on: standard output byte for byte as it comes, standard error by whole
/// lines, so that on one terminal it does not tear lines of the other.
#[derive(Default)]
struct Streams {
    errors: Vec<u8>,
}

impl Streams {
    fn take(&mut self, kind: Kind, bytes: &[u8]) {
        // A closed pipe on our side must not end the guest's run, so failures to write are not errors.
        if kind == Kind::Stdout {
            let mut out = std::io::stdout();
            let _ = out.write_all(bytes).and_then(|()| out.flush());
            return;
        }
        self.errors.extend_from_slice(bytes);
        if let Some(end) = self.errors.iter().rposition(|byte| *byte == b'\n') {
            let rest = self.errors.split_off(end + 1);
            let _ = std::io::stderr().write_all(&self.errors);
            self.errors = rest;
        }
    }

    fn finish(&mut self) {
        let _ = std::io::stderr().write_all(&std::mem::take(&mut self.errors));
    }
}

/// `HOST[:GUEST]`.
fn parse_file(text: &str) -> Result<(PathBuf, String)> {
    let (host, guest) = text
        .split_once(':')
        .map_or((text, None), |(host, guest)| (host, Some(guest)));
    let host = PathBuf::from(host);
    if !host.exists() {
        bail!("--file {text}: {} does not exist", host.display());
    }
    let guest = match guest {
        Some(guest) if guest.starts_with('/') => guest.to_owned(),
        Some(guest) => bail!("--file {text}: `{guest}` is not an absolute path of the guest"),
        None => in_bin(&host)?,
    };
    Ok((host, guest))
}

/// Where a file of the host goes in a guest unless a place is given.
fn in_bin(host: &Path) -> Result<String> {
    let name = host.file_name().and_then(|name| name.to_str());
    let name = name.with_context(|| format!("{} has no usable file name", host.display()))?;
    Ok(format!("/bin/{name}"))
}

fn host_program(word: &str) -> Result<PathBuf> {
    let path = Path::new(word);
    if word.contains('/') {
        if path.is_file() {
            return Ok(path.to_owned());
        }
        bail!("there is no {word} on this machine; put it into the guest with --file HOST:{word}");
    }
    cmd::which(word).with_context(|| format!("{word} is neither ours nor on this machine's PATH"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_goes_to_bin_unless_a_place_is_given() {
        assert_eq!(parse_file("/proc/version").unwrap().1, "/bin/version");
        assert_eq!(parse_file("/proc/version:/etc/v").unwrap().1, "/etc/v");
        assert!(parse_file("/proc/version:etc").is_err());
        assert!(parse_file("/no/such/file").is_err());
    }
}
