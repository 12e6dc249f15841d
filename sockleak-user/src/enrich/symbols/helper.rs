//! The agent's end of the helper process: start it, ask it, end it.

use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::WORKER_COMMAND;
use super::protocol::{self, Question, Reply};

/// How long a killed process may take to end before it is left alone.
const LAST_BREATH: Duration = Duration::from_millis(200);

/// A running helper.
#[derive(Debug)]
pub struct Helper {
    child: Child,
    socket: UnixStream,
    buffer: Vec<u8>,
}

/// Why a question has no answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// The time is up.
    TimedOut,
    /// The helper has ended, or talks nonsense: how.
    Died(String),
}

/// What is left of a helper.
#[derive(Debug)]
pub enum Remains {
    /// Nothing; how it ended.
    Ended(ExitStatus),
    /// It was killed, but the kernel has not let it go: it waits for a file that does not
    /// answer.
    Stuck(Child),
}

impl Helper {
    /// Starts `program` as a helper.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(program: &Path) -> io::Result<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        let child = Command::new(program)
            .arg0("sockleak")
            .arg(WORKER_COMMAND)
            .arg(std::process::id().to_string())
            .env_clear()
            .current_dir("/")
            // Ctrl-C is for the agent.
            .process_group(0)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            // What is said at its death quotes what it has read.
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self {
            child,
            socket,
            buffer: Vec::new(),
        })
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// After any of them the helper is of no more use.
    pub fn ask(&mut self, question: &Question, deadline: Instant) -> Result<Reply, Failure> {
        self.exchange(question, deadline)
            .map_err(|error| match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Failure::TimedOut,
                io::ErrorKind::UnexpectedEof
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::ConnectionReset => {
                    Failure::Died("it closed its socket".to_owned())
                }
                _ => Failure::Died(error.to_string()),
            })
    }

    fn exchange(&mut self, question: &Question, deadline: Instant) -> io::Result<Reply> {
        let left = || match deadline.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(io::Error::from(io::ErrorKind::TimedOut)),
            left => Ok(Some(left)),
        };
        self.socket.set_write_timeout(left()?)?;
        self.socket.write_all(&protocol::encode(question)?)?;
        let mut chunk = [0; 16 << 10];
        loop {
            if let Some(reply) = protocol::take(&mut self.buffer)? {
                return Ok(reply);
            }
            self.socket.set_read_timeout(left()?)?;
            match self.socket.read(&mut chunk) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(len) => self
                    .buffer
                    .extend_from_slice(chunk.get(..len).unwrap_or_default()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Kills it, unless it has ended already, and waits a little for its end.
    pub fn end(self) -> Remains {
        let mut child = self.child;
        // A helper that closed its socket is about to end by itself, and how is worth knowing.
        drop(self.socket);
        if let Ok(Some(status)) = wait(&mut child, Duration::from_millis(20)) {
            return Remains::Ended(status);
        }
        let _ = child.kill();
        match wait(&mut child, LAST_BREATH) {
            Ok(Some(status)) => Remains::Ended(status),
            _ => Remains::Stuck(child),
        }
    }
}

fn wait(child: &mut Child, patience: Duration) -> io::Result<Option<ExitStatus>> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if began.elapsed() >= patience {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// How a process ended, for people.
pub fn describe(status: ExitStatus) -> String {
    match status.signal() {
        Some(libc::SIGBUS) => "bus error (a file became shorter while it was mapped)".to_owned(),
        Some(libc::SIGABRT) => "abort (out of memory, or an error in the reader)".to_owned(),
        Some(libc::SIGSEGV) => "segmentation fault".to_owned(),
        Some(signal) => format!("signal {signal}"),
        None => format!("exit status {}", status.code().unwrap_or(-1)),
    }
}
