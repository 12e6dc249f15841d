//! The child's end of an actor: take the part, act until told otherwise, answer for it.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::Signal;

use super::actor::{Cue, Line};
use super::{
    ProcessTruth, bind_early, bound_leak, closed_leak, healthy, netns, orphans, parity,
    refused_leak, reuse_theft, server, time_wait, traffic,
};

/// Hidden subcommand under which a binary plays an actor.
pub const ACTOR_COMMAND: &str = "__demo-actor";

/// A part in a scenario.
pub(super) trait Role {
    /// Does the next bit of work. Returns how long to rest before the next, `None` when there
    /// is nothing left to do but to hold on.
    fn act(&mut self) -> anyhow::Result<Option<Duration>>;

    /// Does its part of the next step of an incident that goes on step by step.
    fn step(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    /// Its part of the incident is complete.
    fn is_ready(&self) -> bool {
        true
    }

    /// Finishes what is under way; `act` is not called again.
    fn come_to_rest(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    /// Accounts for itself and for the processes it directs.
    fn count(&mut self) -> anyhow::Result<Vec<ProcessTruth>>;

    /// What the reader must know about the figures.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The arguments of an actor: `--name=value`, written by [`super::actor`] and the scenarios.
#[derive(Debug)]
pub(super) struct Arguments(Vec<String>);

impl Arguments {
    /// The text of an argument.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find_map(|argument| {
            argument
                .strip_prefix("--")?
                .strip_prefix(name)?
                .strip_prefix('=')
        })
    }

    /// The value of an argument that must be there.
    pub(super) fn number<T: std::str::FromStr>(&self, name: &str) -> anyhow::Result<T> {
        self.text(name)
            .and_then(|text| text.parse().ok())
            .with_context(|| format!("the actor needs --{name}=NUMBER"))
    }

    /// The values of an argument that is a list; empty when it is not there.
    pub(super) fn list<T: std::str::FromStr>(&self, name: &str) -> anyhow::Result<Vec<T>> {
        self.text(name)
            .into_iter()
            .flat_map(|text| text.split(','))
            .map(|item| item.parse().ok())
            .collect::<Option<_>>()
            .with_context(|| format!("--{name} has an item that cannot be read"))
    }

    /// The beginning of this actor's account of itself.
    pub(super) fn account(&self, does: &str, guilty: bool) -> ProcessTruth {
        ProcessTruth {
            pid: std::process::id(),
            comm: self.text("comm").unwrap_or_default().to_owned(),
            does: does.to_owned(),
            guilty,
            ..ProcessTruth::default()
        }
    }
}

/// Plays an actor when the command line says so; a binary that wants to be a
/// [`super::Launcher`] calls this before anything else, while it has one thread.
pub fn perform_if_asked() -> Option<ExitCode> {
    let arguments = std::env::args_os().skip(1);
    let mut arguments = arguments.map(|argument| argument.to_string_lossy().into_owned());
    if arguments.next()? != ACTOR_COMMAND {
        return None;
    }
    let role = arguments.next().unwrap_or_default();
    let outcome = perform(&role, &Arguments(arguments.collect()));
    Some(match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&failure_line(&error));
            ExitCode::FAILURE
        }
    })
}

fn failure_line(error: &anyhow::Error) -> Line {
    let refused = error
        .downcast_ref::<NamespaceRefused>()
        .and_then(|refused| refused.0.raw_os_error());
    match refused {
        Some(errno) => Line::Refused(errno),
        None => Line::Failed(format!("{error:#}")),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("a new network namespace was refused: {0}")]
struct NamespaceRefused(io::Error);

fn perform(role: &str, arguments: &Arguments) -> anyhow::Result<()> {
    follow_parent(arguments)?;
    if let Some(name) = arguments.text("comm") {
        let name = std::ffi::CString::new(name)?;
        rustix::thread::set_name(&name).context("cannot set the process name")?;
    }
    if arguments.text("namespace").is_some() {
        netns::join(arguments.number("namespace")?)
            .context("cannot join the demo's network namespace")?;
    }
    let mut part: Box<dyn Role> = match role {
        "stage" => Box::new(Stage::set(arguments)?),
        "listener" => Box::new(server::Listeners::open(arguments)?),
        "echo" => Box::new(server::EchoServer::open(arguments)?),
        "pool" => Box::new(server::PoolClient::open(arguments)?),
        "never-used" => Box::new(closed_leak::NeverUsed::new(arguments)?),
        "orderly" => Box::new(closed_leak::Orderly::new(arguments)?),
        "bind-and-forget" => Box::new(bound_leak::BindAndForget::new(arguments)?),
        "refused" => Box::new(refused_leak::Refused::new(arguments)?),
        "victim" => Box::new(bound_leak::Victim::new(arguments)?),
        "keeper" => Box::new(traffic::Keeper::open(arguments)?),
        "counter" => Box::new(traffic::Counter::open(arguments)?),
        "gateway" => Box::new(parity::Gateway::new(arguments)?),
        "short" => Box::new(time_wait::Short::new(arguments)?),
        "proxy" => Box::new(bind_early::Proxy::new(arguments)?),
        "reuser" => Box::new(reuse_theft::Reuser::new(arguments)?),
        "deserter" => Box::new(orphans::Deserter::new(arguments)?),
        "prefork" => Box::new(healthy::Prefork::start(arguments)?),
        "churn" => Box::new(healthy::Churn::new(arguments)?),
        other => bail!("there is no demo role {other:?}"),
    };
    direct(part.as_mut(), &listen_to_parent())
}

/// Dies with the parent, however it dies.
fn follow_parent(arguments: &Arguments) -> anyhow::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .context("cannot ask for a signal at the parent's death")?;
    // It may have died before the request; then it is not our parent any more.
    let parent: u32 = arguments.number("parent")?;
    if std::os::unix::process::parent_id() != parent {
        bail!("the demo has ended before its actor began");
    }
    Ok(())
}

fn direct(part: &mut dyn Role, cues: &Receiver<Cue>) -> anyhow::Result<()> {
    let mut ready = false;
    let mut at_rest = false;
    let mut rest = Some(Duration::ZERO);
    loop {
        if !ready && part.is_ready() {
            ready = true;
            say(&Line::Ready {
                notes: part.notes(),
            });
        }
        let cue = match rest.filter(|_| !at_rest) {
            Some(rest) => match cues.recv_timeout(rest) {
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Ok(cue) => Some(cue),
            },
            None => match cues.recv() {
                Err(_) => return Ok(()),
                Ok(cue) => Some(cue),
            },
        };
        match cue {
            None => rest = part.act()?,
            Some(Cue::Count) => say(&Line::Counts(part.count()?)),
            Some(Cue::Step) => {
                part.step()?;
                say(&Line::Counts(part.count()?));
            }
            Some(Cue::Freeze) => {
                if !at_rest {
                    at_rest = true;
                    part.come_to_rest()?;
                }
                say(&Line::Counts(part.count()?));
            }
            Some(Cue::Quit) => return Ok(()),
        }
    }
}

/// Reads cues on a thread of its own; the channel closes with the pipe.
fn listen_to_parent() -> Receiver<Cue> {
    let (sender, cues) = mpsc::channel();
    std::thread::spawn(move || {
        for text in io::stdin().lines().map_while(Result::ok) {
            let Ok(cue) = serde_json::from_str(&text) else {
                return;
            };
            if sender.send(cue).is_err() {
                return;
            }
        }
    });
    cues
}

fn say(line: &Line) {
    let text = serde_json::to_string(line).unwrap_or_default();
    // A parent that does not listen any more is gone; PR_SET_PDEATHSIG deals with that.
    let _ = writeln!(io::stdout(), "{text}");
}

/// Owns the namespace: the first actor makes it, the others join it.
struct Stage;

impl Stage {
    fn set(arguments: &Arguments) -> anyhow::Result<Self> {
        netns::enter_new().map_err(NamespaceRefused)?;
        if let Some(range) = arguments.text("range") {
            let range = range.replace('-', " ");
            netns::set_ipv4("ip_local_port_range", &range)
                .context("cannot set ip_local_port_range in the demo's namespace")?;
        }
        for setting in arguments.list::<String>("set")? {
            let (name, value) = setting.split_once(':').context("--set=NAME:VALUE")?;
            netns::set_ipv4(name, value)
                .with_context(|| format!("cannot set {name} in the demo's namespace"))?;
        }
        netns::longest_backlog().context("cannot set somaxconn in the demo's namespace")?;
        Ok(Self)
    }
}

impl Role for Stage {
    fn act(&mut self) -> anyhow::Result<Option<Duration>> {
        Ok(None)
    }

    fn count(&mut self) -> anyhow::Result<Vec<ProcessTruth>> {
        Ok(Vec::new())
    }
}
