//! Boots a guest, runs its command, watches its kernel.

mod health;

use std::{
    fs,
    io::{BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    cache, cmd,
    frame::{self, Kind},
    initramfs::Content,
    kernel::Kernel,
    qemu::{Machine, Qemu},
};

/// How a guest's command ended.
#[derive(Debug)]
pub struct Outcome {
    /// Exit status of the command, 128 + signal if one killed it.
    pub status: i32,
    /// Kernel warnings, bugs and oopses of the guest, with the lines around them.
    pub problems: Vec<String>,
    /// From starting QEMU to starting the command.
    pub boot: Duration,
    /// From starting QEMU to its end.
    pub total: Duration,
    /// The guest's kernel log, one `priority,text` line per record.
    pub kernel_log: String,
}

impl Outcome {
    /// Nothing was wrong with the guest's kernel.
    ///
    /// # Errors
    /// With what it complained of.
    pub fn sound(&self, kernel: &Kernel) -> Result<()> {
        if self.problems.is_empty() {
            return Ok(());
        }
        bail!(
            "{}: the kernel of the guest complained:\n{}",
            kernel.release,
            self.problems.join("\n---\n")
        )
    }
}

/// A scratch directory of the cache that is removed at the end.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A QEMU that does not outlive us.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Boots `kernel` with `content`, passes the command's output to `sink` as it comes, and waits for the end.
pub fn run(
    qemu: &Qemu,
    kernel: &Kernel,
    machine: &Machine,
    content: &Content,
    timeout: Duration,
    mut sink: impl FnMut(Kind, &[u8]),
) -> Result<Outcome> {
    let scratch = scratch(&kernel.series)?;
    let initramfs = scratch.0.join("initramfs");
    let console = scratch.0.join("console");
    fs::write(&initramfs, content.archive(kernel)?).context("could not write the initramfs")?;

    let mut command = qemu.command()?;
    machine.configure(&mut command, &kernel.image, &initramfs, &console);
    let start = Instant::now();
    let mut running = Running(spawn(&command)?);
    let port = running
        .0
        .stdout
        .take()
        .context("QEMU has no standard output")?;
    let errors = running
        .0
        .stderr
        .take()
        .context("QEMU has no standard error")?;
    let errors = thread::spawn(move || {
        let mut text = String::new();
        let _ = BufReader::new(errors).read_to_string(&mut text);
        text
    });
    let (send, frames) = mpsc::channel();
    thread::spawn(move || {
        let mut port = BufReader::new(port);
        loop {
            let frame = frame::read(&mut port);
            let last = !matches!(frame, Ok(Some(_)));
            if send.send(frame).is_err() || last {
                return;
            }
        }
    });

    let mut boot = None;
    let mut kernel_log = Vec::new();
    let mut status = None;
    let deadline = start + timeout;
    let ended = loop {
        match frames.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Ok(Some((Kind::Started, _)))) => boot = Some(start.elapsed()),
            Ok(Ok(Some((Kind::KernelLog, bytes)))) => kernel_log.extend(bytes),
            Ok(Ok(Some((Kind::Exit, bytes)))) => {
                let bytes: [u8; 4] = bytes
                    .try_into()
                    .map_err(|_| anyhow::anyhow!("a malformed exit status"))?;
                status = Some(i32::from_le_bytes(bytes));
            }
            Ok(Ok(Some((Kind::InitError, bytes)))) => {
                break format!("init failed: {}", String::from_utf8_lossy(&bytes));
            }
            Ok(Ok(Some((kind, bytes)))) => sink(kind, &bytes),
            Ok(Ok(None)) | Err(RecvTimeoutError::Disconnected) => break "QEMU ended".to_owned(),
            Ok(Err(error)) => break format!("the serial port to the guest broke: {error}"),
            Err(RecvTimeoutError::Timeout) => {
                break format!("still running after {} s", timeout.as_secs());
            }
        }
    };
    drop(running);
    let errors = errors.join().unwrap_or_default();
    let console = fs::read(&console).unwrap_or_default();
    let console = String::from_utf8_lossy(&console);
    let Some(status) = status else {
        bail!(
            "kernel {}: the command did not finish: {ended}\n{}{}",
            kernel.release,
            health::tail("console", &console),
            health::tail("QEMU", &errors)
        );
    };
    let kernel_log = String::from_utf8_lossy(&kernel_log).into_owned();
    Ok(Outcome {
        status,
        problems: health::problems(&kernel_log, &console),
        boot: boot.unwrap_or_default(),
        total: start.elapsed(),
        kernel_log,
    })
}

fn spawn(command: &Command) -> Result<Child> {
    tied_to_us(command)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("could not start QEMU")
}

/// The same command, killed by the kernel if xtask is: a guest nobody waits for would run on.
fn tied_to_us(command: &Command) -> Command {
    let mut tied = match cmd::which("setpriv") {
        Some(setpriv) => {
            let mut tied = Command::new(setpriv);
            tied.args(["--pdeathsig", "KILL", "--"])
                .arg(command.get_program());
            tied
        }
        None => Command::new(command.get_program()),
    };
    tied.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => tied.env(name, value),
            None => tied.env_remove(name),
        };
    }
    tied
}

fn scratch(series: &str) -> Result<Scratch> {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let guests = cache::dir()?.join("guests");
    remove_left_over(&guests);
    let dir = guests.join(format!("{series}.{}.{number}", std::process::id()));
    fs::create_dir_all(&dir).with_context(|| format!("could not create {}", dir.display()))?;
    Ok(Scratch(dir))
}

/// Removes the directories of xtask processes that were killed before they could.
fn remove_left_over(guests: &Path) {
    for entry in fs::read_dir(guests).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name
            .rsplit('.')
            .nth(1)
            .and_then(|pid| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tied_command_keeps_its_arguments_and_environment() {
        let mut command = Command::new("sh");
        command
            .args(["-c", "echo $SET"])
            .env("SET", "kept")
            .env_remove("LD_LIBRARY_PATH");
        let output = tied_to_us(&command).output().unwrap();
        assert_eq!(output.stdout, b"kept\n");
    }

    #[test]
    fn only_directories_of_dead_processes_are_removed() {
        let dir = std::env::temp_dir().join(format!("sockleak-guests-{}", std::process::id()));
        let live = dir.join(format!("6.1.{}.0", std::process::id()));
        let dead = dir.join(format!("6.1.{}.0", u32::MAX));
        fs::create_dir_all(&live).unwrap();
        fs::create_dir_all(&dead).unwrap();
        remove_left_over(&dir);
        let left = (live.exists(), dead.exists());
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(left, (true, false));
    }
}
