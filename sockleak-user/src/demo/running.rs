//! A scenario on stage.

use super::actor::{Actor, Cue, DemoError, Launcher};
use super::{GroundTruth, ProcessTruth, netns};
use crate::model::Arrange as _;

/// A running incident. Dropping it ends all of its processes and with them the namespace.
#[derive(Debug)]
pub struct Running {
    // Clients come to rest and end before the servers they talk to; the stage comes last.
    actors: Vec<Actor>,
    stage: Actor,
    truth: GroundTruth,
}

impl Running {
    /// Makes the namespace with `range` as its ephemeral ports.
    pub(super) fn stage(
        launcher: &Launcher,
        scenario: &str,
        range: [u16; 2],
    ) -> Result<Self, DemoError> {
        Self::stage_with(launcher, scenario, range, &[])
    }

    /// The same, with other settings of `net.ipv4` as well.
    pub(super) fn stage_with(
        launcher: &Launcher,
        scenario: &str,
        range: [u16; 2],
        settings: &[(&str, &str)],
    ) -> Result<Self, DemoError> {
        let [low, high] = range;
        let mut arguments = vec![format!("--range={low}-{high}")];
        if !settings.is_empty() {
            let settings = settings
                .iter()
                .map(|(name, value)| format!("{name}:{value}"));
            let settings: Vec<String> = settings.collect();
            arguments.push(format!("--set={}", settings.join(",")));
        }
        let mut stage = Actor::start(launcher, "stage", &arguments)?;
        stage.ready()?;
        let netns = netns::namespace_inode(stage.pid()).map_err(|source| DemoError::Io {
            what: format!("cannot look at /proc/{}/ns/net", stage.pid()),
            source,
        })?;
        Ok(Self {
            actors: Vec::new(),
            stage,
            truth: GroundTruth {
                scenario: scenario.to_owned(),
                netns,
                range,
                ..GroundTruth::default()
            },
        })
    }

    /// Starts an actor in the namespace without waiting for it. A later one is asked earlier:
    /// start servers first.
    pub(super) fn enter(
        &mut self,
        launcher: &Launcher,
        role: &str,
        comm: &str,
        arguments: &[String],
    ) -> Result<(), DemoError> {
        let mut all = vec![
            format!("--namespace={}", self.stage.pid()),
            format!("--comm={comm}"),
        ];
        all.extend_from_slice(arguments);
        self.actors.insert(0, Actor::start(launcher, role, &all)?);
        Ok(())
    }

    /// Waits until the last started actor has completed its part.
    pub(super) fn wait_for_last(&mut self) -> Result<(), DemoError> {
        if let Some(actor) = self.actors.first_mut() {
            self.truth.notes.extend(actor.ready()?);
        }
        Ok(())
    }

    /// Waits until all actors that nobody has waited for have completed their parts.
    pub(super) fn wait_for_all(&mut self) -> Result<(), DemoError> {
        for actor in self.actors.iter_mut().rev() {
            self.truth.notes.extend(actor.ready_if_not_yet()?);
        }
        Ok(())
    }

    /// Starts an actor and waits until it has completed its part.
    pub(super) fn enter_and_wait(
        &mut self,
        launcher: &Launcher,
        role: &str,
        comm: &str,
        arguments: &[String],
    ) -> Result<(), DemoError> {
        self.enter(launcher, role, comm, arguments)?;
        self.wait_for_last()
    }

    /// A process that lives in the namespace as long as the incident.
    pub fn stage_pid(&self) -> u32 {
        self.stage.pid()
    }

    /// Inode number of the private network namespace.
    pub fn netns(&self) -> u32 {
        self.truth.netns
    }

    /// What the actors hold now. While they act the figures are out of date at once.
    ///
    /// # Errors
    /// When an actor does not answer.
    pub fn count(&mut self) -> Result<GroundTruth, DemoError> {
        self.ask(Cue::Count)
    }

    /// Lets the incident go one step further; see [`super::Scenario::steps`].
    ///
    /// # Errors
    /// When an actor cannot.
    pub fn step(&mut self) -> Result<GroundTruth, DemoError> {
        self.ask(Cue::Step)
    }

    /// Brings all actors to rest, clients before servers, and takes their final account: from
    /// here on nothing in the namespace changes (but TIME_WAIT running out).
    ///
    /// # Errors
    /// When an actor does not answer.
    pub fn freeze(&mut self) -> Result<GroundTruth, DemoError> {
        self.ask(Cue::Freeze)?;
        // Only now is nobody else able to change what a server holds.
        self.ask(Cue::Count)
    }

    fn ask(&mut self, cue: Cue) -> Result<GroundTruth, DemoError> {
        let mut processes: Vec<ProcessTruth> = Vec::new();
        for actor in &mut self.actors {
            processes.extend(actor.ask(cue)?);
        }
        processes.arrange_by_key(|process| (!process.guilty, process.pid));
        Ok(GroundTruth {
            processes,
            ..self.truth.clone()
        })
    }

    /// Ends all actors; returns when they are gone.
    pub fn stop(self) {}
}
