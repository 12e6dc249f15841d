//! `run`: a command and all it starts, from before it begins until what it leaves behind.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, socket};

use super::clock;
use super::command::{Running, Signals};
use super::look::{Way, look};
use crate::enrich::code::{Files, Names};
use crate::enrich::process::{identify, is_running, lookup};
use crate::kernel::Facts;
use crate::model::{Code, CodeFrame, Filter, Left, NamedCode, ProcessId, RunEvent};
use crate::probe::{Attached, Hook, LoadOptions, Plan, Stacks};
use crate::report::RunReport;
use crate::sanitize::printable;
use crate::source::{kernel_maps::KernelMaps, pasts, pid_dir, run_maps::RunMaps};
use crate::tracker::{Gaps, Leftover, Pasts};

/// How often what exited processes left is taken out of the kernel's map.
const TICK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};
/// How long descendants have to end after the command has.
const GRACE: Duration = Duration::from_millis(500);
/// How often is looked whether they have.
const PAUSE: Duration = Duration::from_millis(10);
/// How long naming all stacks may take.
const NAMING: Duration = Duration::from_secs(20);

/// How long to look for libraries in other processes.
const OTHERS: Duration = Duration::from_millis(500);

/// The command could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot run {command}: {error}")]
pub struct CannotStart {
    /// Its name.
    pub command: String,
    /// Why.
    pub error: std::io::Error,
}

/// A command that is followed.
pub struct Run {
    attached: Attached,
    kernel: KernelMaps,
    pasts: pasts::Pasts,
    maps: RunMaps,
    signals: Signals,
    files: Files,
    names: Names,
    leftover: Leftover,
}

impl Run {
    /// Attaches everything. Call it before any thread is started.
    ///
    /// # Errors
    /// [`crate::probe::LoadError`] when this kernel or these privileges do not allow it.
    pub fn prepare(facts: &Facts, plan: &Plan) -> Result<Self> {
        let signals = Signals::hold().context("holding signals back")?;
        let options = LoadOptions {
            stacks: Stacks::Never,
            follow: true,
            ..LoadOptions::default()
        };
        let mut attached = Attached::load(facts, plan, &options)?;
        let kernel = KernelMaps::take(&mut attached, options.searches)?;
        let pasts = pasts::Pasts::take(&mut attached, &options)?;
        let maps = RunMaps::take(&mut attached)?;
        Ok(Self {
            attached,
            kernel,
            pasts,
            maps,
            signals,
            files: Files::new(),
            names: Names::start().context("starting the thread that names functions")?,
            leftover: Leftover::default(),
        })
    }

    /// Runs the command to its end and says what it left open.
    ///
    /// # Errors
    /// [`CannotStart`], and when the kernel's maps cannot be read.
    pub fn run(mut self, command: &[OsString]) -> Result<(RunReport, ExitStatus)> {
        let began_ns = clock::monotonic_ns();
        let mut running = self.start(command)?;
        self.follow(&running)?;
        let status = running.wait().context("waiting for the command")?;
        let duration_ns = clock::monotonic_ns().saturating_sub(began_ns);
        let survivors = self.survivors();
        self.take_events();
        let mut behind = Leftover::default();
        let mut failed = None;
        if !survivors.is_empty()
            && let Err(error) = self.look_at(&survivors, &mut behind)
        {
            failed = Some(format!("sockets of processes left behind: {error:#}"));
        }
        for left in self.maps.take_left(true) {
            self.leftover.add(&left);
        }
        let mut report = self.report(command, &behind)?;
        report.status = status.code();
        report.signal = status.signal();
        report.duration_s = duration_ns as f64 / 1e9;
        report.processes_left_behind = survivors.len() as u64;
        report.incomplete.extend(failed);
        report.complete = report.incomplete.is_empty();
        Ok((report, status))
    }

    /// The command is followed because we are while we start it: nothing can be missed between
    /// its birth and the begin of following it.
    fn start(&mut self, command: &[OsString]) -> Result<Running> {
        let myself = self.own_key()?;
        self.maps
            .follow(&myself)
            .context("following this process")?;
        let running = Running::start(command);
        self.maps
            .leave(&myself)
            .context("following this process no longer")?;
        running.map_err(|error| {
            let name = command.first().map(|name| printable(name.as_bytes()));
            let command = name.unwrap_or_default();
            CannotStart { command, error }.into()
        })
    }

    /// What the kernel side calls this process: it knows whoever creates a socket.
    fn own_key(&self) -> Result<[u8; 16]> {
        let made = socket(AddressFamily::INET, SocketType::STREAM, None)
            .or_else(|_| socket(AddressFamily::INET6, SocketType::STREAM, None));
        made.context("creating a TCP socket")?;
        let myself = identify(std::process::id())
            .ok_or_else(|| anyhow!("/proc does not show this process"))?;
        self.kernel.key(myself).ok_or_else(|| {
            anyhow!(
                "the kernel numbers this process otherwise than /proc does: run sockleak in the \
                 pid namespace of the host"
            )
        })
    }

    /// Until the command ends.
    fn follow(&mut self, running: &Running) -> Result<()> {
        loop {
            let ring = self.maps.events().as_fd();
            let mut ready = [
                PollFd::new(&running.ended, PollFlags::IN),
                PollFd::new(&ring, PollFlags::IN),
                PollFd::new(self.signals.fd(), PollFlags::IN),
            ];
            let count = match poll(&mut ready, Some(&TICK)) {
                Ok(count) => count,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error).context("waiting for the command"),
            };
            let [ended, _, signal] = ready.map(|fd| !fd.revents().is_empty());
            if signal {
                self.signals.pass_on(running);
            }
            self.take_events();
            if count == 0 {
                self.names.collect();
                for left in self.maps.take_left(false) {
                    self.leftover.add(&left);
                }
            }
            if ended {
                return Ok(());
            }
        }
    }

    /// Looks at processes while they live.
    fn take_events(&mut self) {
        for event in self.maps.take_events() {
            match event {
                RunEvent::Executable(process, inode) => self.learn(process, inode),
                RunEvent::Stack(process, id) => {
                    let Some(code) = self.maps.stack(id) else {
                        continue;
                    };
                    self.learn(process, code.executable);
                    let known = |frame| self.files.find(frame, code.executable).is_some();
                    if !code.frames.iter().copied().all(known) {
                        self.files.learn_mapped(process);
                    }
                    self.names.ask_early(id, &code);
                }
            }
        }
    }

    fn learn(&mut self, process: ProcessId, inode: u64) {
        let path = self.maps.executable(inode).map(|(_, path)| path);
        let path = path.unwrap_or_default();
        self.files.learn_executable(process, inode, &path);
    }

    /// Processes of the command that do not end with it.
    fn survivors(&mut self) -> HashSet<ProcessId> {
        let until = clock::monotonic_ns() + GRACE.as_nanos() as u64;
        loop {
            let alive: HashSet<ProcessId> = self
                .maps
                .followed()
                .into_iter()
                .filter(|process| is_running(*process))
                .collect();
            if alive.is_empty() || clock::monotonic_ns() >= until {
                return alive;
            }
            thread::sleep(PAUSE);
        }
    }

    /// What they have open.
    fn look_at(&mut self, survivors: &HashSet<ProcessId>, behind: &mut Leftover) -> Result<()> {
        let now_ns = clock::monotonic_ns();
        let mut comms: HashMap<ProcessId, String> = HashMap::new();
        let mut seen = HashSet::new();
        let way = Way::best(&mut self.attached);
        look(way, &Filter::default(), |socket, _| {
            // Once per process, however many descriptors it has.
            if !survivors.contains(&socket.holder)
                || !seen.insert((socket.identity(), socket.holder))
            {
                return;
            }
            let comm = comms.entry(socket.holder).or_insert_with(|| {
                lookup(socket.holder).map_or_else(String::new, |info| info.comm)
            });
            behind.add(&Left {
                process: socket.holder,
                comm: comm.clone(),
                stack: socket.past.stack,
                ending: socket.past.ending,
                class: socket.class,
                family: socket.family,
                tried: socket.past.tried,
                seen: socket.birth.is_some(),
                count: 1,
                age_ns: socket.birth.map(|birth| now_ns.saturating_sub(birth.at_ns)),
                creator: socket.birth.map(|birth| birth.creator.pid),
            });
        })?;
        Ok(())
    }

    fn report(&mut self, command: &[OsString], behind: &Leftover) -> Result<RunReport> {
        let stacks = self.name(behind);
        let endings = self.pasts.endings().by_id;
        let totals = self.maps.totals()?;
        let counters = self.kernel.counters()?;
        let missed = self.attached.missed_runs();
        let served = |hook| {
            let mut outcomes = self.attached.outcomes().iter();
            outcomes.any(|outcome| outcome.hook == hook && outcome.served.is_some())
        };
        let pasts = Pasts {
            endings: served(Hook::Ending).then_some(&endings),
            connects: served(Hook::Connect),
            stacks: None,
        };
        let (left_open, in_use) = self.leftover.groups(pasts, &stacks);
        let (mut left_behind, also) = behind.groups(pasts, &stacks);
        left_behind.extend(also);
        let leaked = left_open.iter().map(|group| group.count).sum();
        let gaps = Gaps {
            totals: &totals,
            counters: &counters,
            missed: &missed,
            unplaced: self.leftover.unplaced() + behind.unplaced(),
            undecodable: self.maps.undecodable(),
        };
        let hints = if stacks.values().any(|stack| stack.ends_early) {
            vec![
                "a stack ends early where code was built without frame pointers; build with \
                 RUSTFLAGS=-Cforce-frame-pointers=yes or -fno-omit-frame-pointer"
                    .to_owned(),
            ]
        } else {
            Vec::new()
        };
        Ok(RunReport {
            command: command
                .iter()
                .map(|word| printable(word.as_bytes()))
                .collect(),
            status: None,
            signal: None,
            duration_s: 0.0,
            processes: totals.forked,
            created: totals.created,
            closed: totals.closed,
            open_at_exit: totals.left,
            leaked,
            leak: leaked > 0,
            left_open,
            in_use,
            left_behind,
            processes_left_behind: 0,
            complete: false,
            incomplete: gaps.sentences(),
            hints,
            loss: gaps.loss(),
        })
    }

    /// Libraries of processes that were gone too soon: others have them mapped as well.
    fn ask_others(&mut self, stacks: &[(u32, Code)]) {
        let until = clock::monotonic_ns() + OTHERS.as_nanos() as u64;
        for pid in pid_dir::pids().unwrap_or_default() {
            let missing = stacks.iter().any(|(_, code)| {
                let unknown = |frame: &CodeFrame| {
                    matches!(frame, CodeFrame::File { .. })
                        && self.files.find(*frame, code.executable).is_none()
                };
                code.frames.iter().any(unknown)
            });
            if !missing || clock::monotonic_ns() >= until {
                return;
            }
            if let Some(process) = identify(pid) {
                self.files.learn_mapped(process);
            }
        }
    }

    /// Names every stack that the report shows.
    fn name(&mut self, behind: &Leftover) -> HashMap<u32, NamedCode> {
        let mut ids = self.leftover.stacks();
        ids.extend(behind.stacks());
        let stacks: BTreeMap<u32, Code> = ids
            .into_iter()
            .filter_map(|id| Some((id, self.maps.stack(id)?)))
            .collect();
        let stacks: Vec<(u32, Code)> = stacks.into_iter().collect();
        self.ask_others(&stacks);
        self.names.name(&stacks, &self.files, NAMING)
    }
}
