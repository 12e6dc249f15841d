//! The first and only service of a test guest: mounts what a Linux system has, runs the command that the
//! host put into `/cmd`, hands its output and exit status to the host, powers off.
//!
//! Reads `/cmd` (arguments, each ended by a NUL), `/env` (the same, `NAME=VALUE`) and `/modules`
//! (paths of kernel modules in the order to load them, one per line). Linked statically: an initramfs has
//! no libraries of its own.

#[path = "../frame.rs"]
#[allow(dead_code, reason = "the reading half is for the host")]
mod frame;
#[path = "init/setup.rs"]
mod setup;

use std::{
    ffi::OsStr,
    fs::{File, OpenOptions},
    io::{Read, Write},
    os::unix::{ffi::OsStrExt as _, fs::OpenOptionsExt as _, process::ExitStatusExt as _},
    process::{Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use anyhow::{Context as _, Result, bail};
use frame::Kind;
use rustix::{
    process::{Pid, WaitOptions},
    system::RebootCommand,
    termios,
};

type Port = Arc<Mutex<File>>;

fn main() {
    if rustix::process::getpid() != Pid::INIT {
        eprintln!(
            "init: this program is the init of a test guest; start one with `cargo xtask vm`"
        );
        std::process::exit(2);
    }
    if let Err(error) = serve() {
        eprintln!("init: {error:#}");
    }
    rustix::fs::sync();
    // A guest without ACPI cannot power off; with QEMU's -no-reboot a restart ends it as well.
    let _ = rustix::system::reboot(RebootCommand::PowerOff);
    let _ = rustix::system::reboot(RebootCommand::Restart);
}

fn serve() -> Result<()> {
    setup::mount_all()?;
    let port: Port = Arc::new(Mutex::new(open_port("/dev/ttyS1")?));
    let done = setup::finish()
        .and_then(|()| send(&port, Kind::Started, &[]))
        .and_then(|()| run_command(&port));
    let result = match done {
        Ok(status) => {
            let code = status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
            send(&port, Kind::KernelLog, &kernel_log())?;
            send(&port, Kind::Exit, &code.to_le_bytes())
        }
        Err(error) => {
            send(&port, Kind::KernelLog, &kernel_log())?;
            send(&port, Kind::InitError, format!("{error:#}").as_bytes())
        }
    };
    if let Ok(port) = port.lock() {
        termios::tcdrain(&*port)?;
    }
    result
}

/// Opens a serial port so that every byte passes unchanged.
fn open_port(path: &str) -> Result<File> {
    let port = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .with_context(|| format!("could not open the port to the host, {path}"))?;
    let mut settings = termios::tcgetattr(&port)?;
    settings.make_raw();
    termios::tcsetattr(&port, termios::OptionalActions::Now, &settings)?;
    Ok(port)
}

fn send(port: &Port, kind: Kind, bytes: &[u8]) -> Result<()> {
    let Ok(mut port) = port.lock() else {
        bail!("a thread that writes to the host panicked");
    };
    if bytes.is_empty() {
        frame::write(&mut *port, kind, bytes).context("could not write to the host")?;
    }
    for chunk in bytes.chunks(frame::MAX) {
        frame::write(&mut *port, kind, chunk).context("could not write to the host")?;
    }
    Ok(())
}

fn run_command(port: &Port) -> Result<ExitStatus> {
    let words = |path: &str| -> Result<Vec<Vec<u8>>> {
        let text = std::fs::read(path).with_context(|| format!("could not read {path}"))?;
        Ok(text
            .split_inclusive(|byte| *byte == 0)
            .map(|word| word.strip_suffix(&[0]).unwrap_or(word).to_vec())
            .collect())
    };
    let command_line = words("/cmd")?;
    let Some((program, args)) = command_line.split_first() else {
        bail!("/cmd names no program");
    };
    let mut command = Command::new(OsStr::from_bytes(program));
    command
        .args(args.iter().map(|arg| OsStr::from_bytes(arg)))
        .env_clear()
        .current_dir("/tmp")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    for variable in words("/env")? {
        if let Some(at) = variable.iter().position(|byte| *byte == b'=') {
            let (name, value) = variable.split_at(at);
            command.env(OsStr::from_bytes(name), OsStr::from_bytes(&value[1..]));
        }
    }
    let mut child = command
        .spawn()
        .with_context(|| format!("could not start {}", String::from_utf8_lossy(program)))?;
    let stdout = child
        .stdout
        .take()
        .context("the command has no standard output")?;
    let stderr = child
        .stderr
        .take()
        .context("the command has no standard error")?;
    let pumps = [
        pump(stdout, Kind::Stdout, port),
        pump(stderr, Kind::Stderr, port),
    ];

    let status = reap_until(child.id().try_into()?)?;
    // Whatever the command left running still holds the pipes: end it, then drain them.
    setup::kill_everything_else();
    for pump in pumps {
        if pump.join().is_err() {
            bail!("a thread that reads the command's output panicked");
        }
    }
    Ok(status)
}

fn pump(mut from: impl Read + Send + 'static, kind: Kind, port: &Port) -> thread::JoinHandle<()> {
    let port = Arc::clone(port);
    thread::spawn(move || {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            if let Some(bytes) = buffer.get(..read)
                && let Err(error) = send(&port, kind, bytes)
            {
                eprintln!("init: {error:#}");
                return;
            }
        }
    })
}

/// Waits for every child (orphans become init's) until `pid` has ended.
fn reap_until(pid: i32) -> Result<ExitStatus> {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((ended, status))) if ended.as_raw_nonzero().get() == pid => {
                return Ok(ExitStatus::from_raw(status.as_raw()));
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("could not wait for the command"),
        }
    }
}

/// Everything the kernel logged, one `priority,text` line per record.
fn kernel_log() -> Vec<u8> {
    let mut log = Vec::new();
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/kmsg");
    let Ok(mut kmsg) = opened else { return log };
    let mut record = [0; 8192];
    loop {
        match kmsg.read(&mut record) {
            Ok(0) => break,
            Ok(read) => {
                // "priority,sequence,time,flags;text\n KEY=VALUE\n"
                let record = String::from_utf8_lossy(record.get(..read).unwrap_or_default());
                if let Some((head, text)) = record.split_once(';') {
                    let priority = head.split(',').next().unwrap_or_default();
                    let text = text.lines().next().unwrap_or_default();
                    let _ = writeln!(log, "{priority},{text}");
                }
            }
            // Records were overwritten while we read: the next read continues after them.
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
            Err(_) => break,
        }
    }
    log
}
