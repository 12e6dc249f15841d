//! The maps of `run`: the processes of a command, and what they left open.

use anyhow::{Context as _, Result};
use aya::maps::{Array, HashMap, MapData, MapError, RingBuf};
use sockleak_ebpf::{
    CodeStack, Executable, LeftKey, LeftStats, ProcessKey, RunTotals as AbiTotals, names::maps,
};

use crate::{
    decode,
    model::{Code, Left, ProcessId, RunEvent, RunTotals},
    probe::Attached,
};

const PROCESS: usize = size_of::<ProcessKey>();
const LEFT: usize = size_of::<LeftKey>();
const LEFT_STATS: usize = size_of::<LeftStats>();
const STACK: usize = size_of::<CodeStack>();
const EXECUTABLE: usize = size_of::<Executable>();
const TOTALS: usize = size_of::<AbiTotals>();
/// Events taken at a time.
const BATCH: usize = 4096;

/// The maps of a run.
pub struct RunMaps {
    followed: HashMap<MapData, [u8; PROCESS], u32>,
    left: HashMap<MapData, [u8; LEFT], [u8; LEFT_STATS]>,
    stacks: HashMap<MapData, u32, [u8; STACK]>,
    executables: HashMap<MapData, u64, [u8; EXECUTABLE]>,
    totals: Array<MapData, [u8; TOTALS]>,
    events: RingBuf<MapData>,
    undecodable: u64,
}

impl RunMaps {
    /// Takes the maps out of the loaded object.
    ///
    /// # Errors
    /// When the object lacks a map or its layout is not the agreed one.
    pub fn take(attached: &mut Attached) -> Result<Self> {
        Ok(Self {
            followed: attached.take(maps::FOLLOWED)?,
            left: attached.take(maps::LEFT)?,
            stacks: attached.take(maps::CODE_STACKS)?,
            executables: attached.take(maps::EXECUTABLES)?,
            totals: attached.take(maps::RUN_TOTALS)?,
            events: attached.take(maps::RUN_EVENTS)?,
            undecodable: 0,
        })
    }

    /// Readable when there is an event.
    pub fn events(&self) -> &RingBuf<MapData> {
        &self.events
    }

    /// Events that have come since the last time.
    pub fn take_events(&mut self) -> Vec<RunEvent> {
        let mut found = Vec::new();
        while found.len() < BATCH {
            let Some(record) = self.events.next() else {
                break;
            };
            match decode::run_event(&record) {
                Ok(event) => found.push(event),
                Err(_) => self.undecodable += 1,
            }
        }
        found
    }

    /// Follows a process from now on, and what it starts.
    ///
    /// # Errors
    /// What bpf(2) answers.
    pub fn follow(&mut self, key: &[u8; PROCESS]) -> Result<(), MapError> {
        self.followed.insert(key, 0, 0)
    }

    /// Follows a process no longer; what it has started is followed all the same.
    ///
    /// # Errors
    /// What bpf(2) answers.
    pub fn leave(&mut self, key: &[u8; PROCESS]) -> Result<(), MapError> {
        self.followed.remove(key)
    }

    /// Processes of the command that have not been reaped.
    pub fn followed(&self) -> Vec<ProcessId> {
        let limit = Attached::FOLLOWED as usize;
        let keys = self.followed.keys().take(limit).filter_map(Result::ok);
        keys.filter_map(|key| decode::process_id(&key).ok())
            .collect()
    }

    /// Takes out what exited processes left open: of those that are no longer followed, or, at
    /// the end, of all.
    pub fn take_left(&mut self, all: bool) -> Vec<Left> {
        let limit = Attached::LEFT as usize;
        let keys: Vec<_> = self
            .left
            .keys()
            .take(limit)
            .filter_map(Result::ok)
            .collect();
        let mut found = Vec::new();
        for key in keys {
            // A process lets go of nothing any more once it is no longer followed.
            let is_final = key.first_chunk::<PROCESS>().is_some_and(|process| {
                matches!(self.followed.get(process, 0), Err(MapError::KeyNotFound))
            });
            if !all && !is_final {
                continue;
            }
            let Ok(value) = self.left.get(&key, 0) else {
                continue;
            };
            match decode::left(&key, &value) {
                Ok(left) => found.push(left),
                Err(_) => self.undecodable += 1,
            }
            if let Err(error) = self.left.remove(&key) {
                log::debug!("taking out what was left: {error}");
            }
        }
        found
    }

    /// A stack by its id.
    pub fn stack(&self, id: u32) -> Option<Code> {
        decode::code(&self.stacks.get(&id, 0).ok()?).ok()
    }

    /// Who was the first to run the executable with this inode number, and its path as it was
    /// given to execve().
    pub fn executable(&self, inode: u64) -> Option<(ProcessId, Vec<u8>)> {
        decode::executable(&self.executables.get(&inode, 0).ok()?).ok()
    }

    /// The totals so far.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn totals(&self) -> Result<RunTotals> {
        let value = self
            .totals
            .get(&0, 0)
            .context("reading the totals of the run")?;
        decode::run_totals(&value).context("reading the totals of the run")
    }

    /// Elements and records that made no sense.
    pub fn undecodable(&self) -> u64 {
        self.undecodable
    }
}
