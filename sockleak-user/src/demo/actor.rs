//! The parent's end of an actor: start it, ask it, end it.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::ProcessTruth;
use super::role::ACTOR_COMMAND;

/// Longest wait for an actor's answer. Under emulation the whole incident takes minutes.
const PATIENCE: Duration = Duration::from_secs(300);

/// Why a scenario could not be started or asked.
#[derive(Debug, Error)]
pub enum DemoError {
    /// Making a network namespace was refused.
    #[error(
        "a demo needs a private network namespace (CAP_SYS_ADMIN and CAP_NET_ADMIN), and \
         making one was refused: {0}"
    )]
    NotPermitted(io::Error),
    /// An actor could not be started or its pipe failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried, on what.
        what: String,
        /// What the system answered.
        source: io::Error,
    },
    /// An actor ended or said something unexpected.
    #[error("the demo process '{role}' (pid {pid}) {what}")]
    Actor {
        /// Its role.
        role: String,
        /// Its pid.
        pid: u32,
        /// What it did.
        what: String,
    },
}

/// What the parent tells an actor, one word per line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Cue {
    /// Say what you hold.
    Count,
    /// Do the next step, then say what you hold.
    Step,
    /// Come to rest, then say what you hold.
    Freeze,
    /// Close everything and end.
    Quit,
}

/// What an actor tells its parent, one JSON object per line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    /// The incident is complete. Answers nothing; said once.
    Ready {
        /// What the reader must know about the figures.
        notes: Vec<String>,
    },
    /// Answer to `Count` and `Freeze`: the actor and the processes it directs.
    Counts(Vec<ProcessTruth>),
    /// It cannot go on.
    Failed(String),
    /// It cannot go on, because the kernel refused a namespace with this errno.
    Refused(i32),
}

/// Which binary plays the actors: it must call [`super::perform_if_asked`] first of all.
#[derive(Clone, Debug)]
pub struct Launcher {
    program: PathBuf,
}

impl Launcher {
    /// The running binary, also when its file has been replaced since.
    pub fn this_binary() -> Self {
        Self::program(Path::new("/proc/self/exe"))
    }

    /// Another binary that plays actors, for tests.
    pub fn program(path: &Path) -> Self {
        Self {
            program: path.to_owned(),
        }
    }
}

/// A running actor. Dropping it kills and reaps it.
#[derive(Debug)]
pub(super) struct Actor {
    role: String,
    child: Child,
    cues: Option<ChildStdin>,
    lines: Receiver<Line>,
    ready: bool,
}

impl Actor {
    /// Starts the running binary as an actor with the given role and arguments.
    pub(super) fn start(
        launcher: &Launcher,
        role: &str,
        arguments: &[String],
    ) -> Result<Self, DemoError> {
        let failed = |source| DemoError::Io {
            what: format!("cannot start {} as '{role}'", launcher.program.display()),
            source,
        };
        let mut child = Command::new(&launcher.program)
            .arg(ACTOR_COMMAND)
            .arg(role)
            .arg(format!("--parent={}", std::process::id()))
            .args(arguments)
            // Ctrl-C is for the parent, which ends its actors in order.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let cues = child.stdin.take();
        let (sender, lines) = mpsc::channel();
        if let Some(stdout) = child.stdout.take() {
            // Ends with the pipe. A reader of its own makes waiting with a time limit possible.
            std::thread::spawn(move || {
                for text in BufReader::new(stdout).lines().map_while(Result::ok) {
                    let line = serde_json::from_str(&text)
                        .unwrap_or_else(|_| Line::Failed(format!("said {text:?}")));
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        Ok(Self {
            role: role.to_owned(),
            child,
            cues,
            lines,
            ready: false,
        })
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until its part of the incident is complete; returns its notes.
    pub(super) fn ready(&mut self) -> Result<Vec<String>, DemoError> {
        match self.hear()? {
            Line::Ready { notes } => {
                self.ready = true;
                Ok(notes)
            }
            other => Err(self.failure(format!("said {other:?} before it was ready"))),
        }
    }

    /// The same, at once when that has been waited for before.
    pub(super) fn ready_if_not_yet(&mut self) -> Result<Vec<String>, DemoError> {
        match self.ready {
            true => Ok(Vec::new()),
            false => self.ready(),
        }
    }

    /// Gives a cue and waits for the answer.
    pub(super) fn ask(&mut self, cue: Cue) -> Result<Vec<ProcessTruth>, DemoError> {
        self.tell(cue)?;
        match self.hear()? {
            Line::Counts(counts) => Ok(counts),
            other => Err(self.failure(format!("answered {other:?} to {cue:?}"))),
        }
    }

    fn tell(&mut self, cue: Cue) -> Result<(), DemoError> {
        let text = serde_json::to_string(&cue).unwrap_or_default();
        let written = match self.cues.as_mut() {
            Some(pipe) => writeln!(pipe, "{text}").and_then(|()| pipe.flush()),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        };
        written.map_err(|source| DemoError::Io {
            what: format!(
                "cannot tell '{}' (pid {}) to {cue:?}",
                self.role,
                self.pid()
            ),
            source,
        })
    }

    fn hear(&mut self) -> Result<Line, DemoError> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(Line::Failed(what)) => Err(self.failure(format!("failed: {what}"))),
            Ok(Line::Refused(errno)) => {
                Err(DemoError::NotPermitted(io::Error::from_raw_os_error(errno)))
            }
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => {
                Err(self.failure(format!("was silent for {} s", PATIENCE.as_secs())))
            }
            Err(RecvTimeoutError::Disconnected) => Err(self.failure("ended".to_owned())),
        }
    }

    fn failure(&self, what: String) -> DemoError {
        DemoError::Actor {
            role: self.role.clone(),
            pid: self.pid(),
            what,
        }
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        // Give it the chance to close its sockets in order; then make sure.
        let _ = self.tell(Cue::Quit);
        self.cues = None;
        while self.lines.recv_timeout(Duration::from_secs(5)).is_ok() {}
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
