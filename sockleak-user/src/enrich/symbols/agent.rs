//! The agent's handle: takes requests, never waits, hands out answers.
//!
//! A thread of its own talks to the helper, so that neither a slow nor a dead one holds up
//! anything else.

use std::io;
use std::path::PathBuf;
use std::process::Child;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use super::helper::{Failure, Helper, Remains, describe};
use super::protocol::{Depth, Question, Reply};
use super::troubles::Troubles;
use super::{Answer, Frame, MAX_ADDRESSES, Request, Why, call};
use crate::rights;

/// Helpers that were killed and do not end; with more of them no new one is started.
const MOST_STUCK: usize = 4;
/// After a helper could not be started, the next attempt is not made sooner.
const PAUSE: Duration = Duration::from_secs(5);

/// How names are found.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Binary that is the helper: it must call [`super::work_if_asked`] first of all.
    pub program: PathBuf,
    /// How long an attempt to name one stack may take; there are at most three.
    pub deadline: Duration,
    /// Requests on their way at a time; more are refused.
    pub queue: usize,
}

impl Default for Settings {
    /// The running binary (also when its file has been replaced since), 2 s, 1024 requests.
    fn default() -> Self {
        Self {
            program: PathBuf::from("/proc/self/exe"),
            deadline: Duration::from_secs(2),
            queue: 1024,
        }
    }
}

/// Finds names for stacks. The helper process is started by the first request and ends with
/// this, or with the agent.
#[derive(Debug)]
pub struct Symbolizer {
    requests: Sender<Request>,
    answers: Receiver<Answer>,
    queue: usize,
    outstanding: usize,
    refused: u64,
}

impl Symbolizer {
    /// With the default [`Settings`].
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start() -> io::Result<Self> {
        Self::with(Settings::default())
    }

    /// # Errors
    /// When a thread cannot be started.
    pub fn with(settings: Settings) -> io::Result<Self> {
        let (requests, to_do) = mpsc::channel();
        let (done, answers) = mpsc::channel();
        let queue = settings.queue;
        thread::Builder::new()
            .name("symbols".to_owned())
            .spawn(move || {
                // All it does is to start helpers and to talk to them.
                rights::keep_for_looking();
                Desk::new(settings).work(&to_do, &done);
            })?;
        Ok(Self {
            requests,
            answers,
            queue,
            outstanding: 0,
            refused: 0,
        })
    }

    /// Asks for the names of a stack; `false` when there are too many requests already, which
    /// is counted. Every request that is taken is answered.
    pub fn submit(&mut self, mut request: Request) -> bool {
        request.addresses.truncate(MAX_ADDRESSES);
        if self.outstanding >= self.queue || self.requests.send(request).is_err() {
            self.refused += 1;
            return false;
        }
        self.outstanding += 1;
        true
    }

    /// Answers that have come since the last time. Does not wait.
    pub fn poll(&mut self) -> Vec<Answer> {
        let answers: Vec<Answer> = self.answers.try_iter().collect();
        self.outstanding = self.outstanding.saturating_sub(answers.len());
        answers
    }

    /// Waits until everything is answered, but not longer than `patience`; what is not answered
    /// by then comes with a later call.
    pub fn resolve_all(&mut self, patience: Duration) -> Vec<Answer> {
        let deadline = Instant::now() + patience;
        let mut answers = self.poll();
        while self.outstanding > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(answer) = self.answers.recv_timeout(left) else {
                break;
            };
            self.outstanding -= 1;
            answers.push(answer);
        }
        answers
    }

    /// Requests that are not answered yet.
    pub fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Requests that were refused because there were too many.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

/// What the thread works with.
struct Desk {
    settings: Settings,
    helper: Option<Helper>,
    troubles: Troubles,
    stuck: Vec<Child>,
    failed: Option<(Instant, String)>,
}

impl Desk {
    fn new(settings: Settings) -> Self {
        Self {
            settings,
            helper: None,
            troubles: Troubles::default(),
            stuck: Vec::new(),
            failed: None,
        }
    }

    fn work(mut self, requests: &Receiver<Request>, answers: &Sender<Answer>) {
        for request in requests {
            let reply = self.answer(&request);
            let answer = Answer {
                id: request.id,
                process: request.process,
                frames: reply.frames,
                why: reply.why,
            };
            if answers.send(answer).is_err() {
                break;
            }
        }
        self.end_helper();
    }

    fn answer(&mut self, request: &Request) -> Reply {
        let trouble = self.troubles.of(request.process);
        let mut why = trouble.map(|trouble| trouble.why.clone());
        let mut depth = match trouble {
            Some(trouble) => trouble.depth,
            None => Some(Depth::Debug),
        };
        while let Some(now) = depth {
            match self.attempt(request, now) {
                Ok(mut reply) => {
                    reply.frames.resize_with(request.addresses.len(), Vec::new);
                    let missing = |frames: &Vec<Frame>| {
                        frames.is_empty() || frames.iter().any(|frame| frame.function.is_none())
                    };
                    for (frames, address) in reply.frames.iter_mut().zip(&request.addresses) {
                        if frames.is_empty() {
                            frames.push(Frame::unknown(call(*address)));
                        }
                    }
                    // What went wrong earlier explains what is missing now.
                    if let Some(earlier) = why
                        && (reply.frames.iter().any(missing) || reply.frames.is_empty())
                    {
                        Why::add(&mut reply.why, earlier);
                    }
                    return reply;
                }
                Err(Why::NoHelper(error)) => {
                    why = Some(Why::NoHelper(error));
                    break;
                }
                Err(failed) => {
                    depth = self.troubles.add(request.process, now, failed.clone());
                    why = Some(failed);
                }
            }
        }
        Reply {
            frames: request
                .addresses
                .iter()
                .map(|address| vec![Frame::unknown(call(*address))])
                .collect(),
            why,
        }
    }

    /// One question to the helper, which does not survive a failure.
    fn attempt(&mut self, request: &Request, depth: Depth) -> Result<Reply, Why> {
        let deadline = Instant::now() + self.settings.deadline;
        let helper = match &mut self.helper {
            Some(helper) => helper,
            empty => {
                let helper = start(&self.settings, &mut self.stuck, &mut self.failed);
                empty.insert(helper.map_err(Why::NoHelper)?)
            }
        };
        let question = Question {
            pid: request.process.pid,
            start_ticks: request.process.start_ticks,
            addresses: request.addresses.clone(),
            depth,
        };
        let failure = match helper.ask(&question, deadline) {
            Ok(reply) => return Ok(reply),
            Err(failure) => failure,
        };
        let status = self.end_helper();
        log::debug!(
            "the symbol helper failed on pid {}: {failure:?}, {status:?}",
            request.process.pid
        );
        Err(match (failure, status) {
            (Failure::TimedOut, _) => Why::TimedOut,
            (Failure::Died(_), Some(how)) => Why::Crashed(how),
            (Failure::Died(how), None) => Why::Crashed(how),
        })
    }

    /// Ends the helper; how it ended, when it did.
    fn end_helper(&mut self) -> Option<String> {
        match self.helper.take()?.end() {
            Remains::Ended(status) => Some(describe(status)),
            Remains::Stuck(child) => {
                self.stuck.push(child);
                None
            }
        }
    }
}

fn start(
    settings: &Settings,
    stuck: &mut Vec<Child>,
    failed: &mut Option<(Instant, String)>,
) -> Result<Helper, String> {
    stuck.retain_mut(|child| !matches!(child.try_wait(), Ok(Some(_))));
    if stuck.len() >= MOST_STUCK {
        return Err(format!(
            "{} earlier ones were killed and do not end",
            stuck.len()
        ));
    }
    if let Some((at, error)) = failed
        && at.elapsed() < PAUSE
    {
        return Err(error.clone());
    }
    Helper::start(&settings.program).map_err(|error| {
        let error = format!("cannot start {}: {error}", settings.program.display());
        log::warn!("stacks will have no names: {error}");
        *failed = Some((Instant::now(), error.clone()));
        error
    })
}
