//! A command as a child of ours: started, sent what we are sent, reaped.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::process::{Child, Command, ExitStatus};

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

/// What ends a process unless it is handled: the command shall have it, and we its status.
const PASSED_ON: [libc::c_int; 6] = [
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGUSR1,
    libc::SIGUSR2,
];

/// Signals that are held back from this process, to be read from a descriptor.
pub struct Signals(OwnedFd);

impl Signals {
    /// Holds them back in this thread and those it starts from now on; children that the
    /// standard library starts have them again.
    ///
    /// # Errors
    /// What signalfd(2) answers.
    pub fn hold() -> io::Result<Self> {
        // SAFETY: sigemptyset() makes a valid set of the memory before anything reads it, and
        // the other calls get that set, for the time of the call.
        let fd = unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            for signal in PASSED_ON {
                libc::sigaddset(&raw mut set, signal);
            }
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
            libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: signalfd() has just made it, and nobody else knows it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Readable when a signal has come.
    pub fn fd(&self) -> &OwnedFd {
        &self.0
    }

    /// Passes on what has come. What the terminal sends (Ctrl-C) has reached the command, too.
    pub fn pass_on(&self, running: &Running) {
        loop {
            // SAFETY: the structure consists of integers.
            let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
            let size = size_of::<libc::signalfd_siginfo>();
            // SAFETY: the buffer is as long as announced.
            let len = unsafe { libc::read(self.0.as_raw_fd(), (&raw mut info).cast(), size) };
            if usize::try_from(len) != Ok(size) {
                return;
            }
            let by_terminal = info.ssi_code == libc::SI_KERNEL;
            let number = i32::try_from(info.ssi_signo).unwrap_or(0);
            let Some(signal) = Signal::from_named_raw(number) else {
                continue;
            };
            if !by_terminal && let Err(error) = kill_process(running.pid, signal) {
                log::debug!("passing signal {number} on: {error}");
            }
        }
    }
}

/// A command that was started.
pub struct Running {
    child: Child,
    pid: Pid,
    /// Readable when it has ended.
    pub ended: OwnedFd,
}

impl Running {
    /// Starts it with our standard streams, environment and directory.
    ///
    /// # Errors
    /// What execve(2) answers; NotFound when there is no such program.
    pub fn start(command: &[OsString]) -> io::Result<Self> {
        let Some((program, arguments)) = command.split_first() else {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no command"));
        };
        let child = Command::new(program).args(arguments).spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("a child without a process id"))?;
        let ended = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Self { child, pid, ended })
    }

    /// Reaps it.
    ///
    /// # Errors
    /// What waitpid(2) answers.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }
}
