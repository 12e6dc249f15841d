//! What the kernel side counts, read from its maps.

use std::collections::HashMap as Index;
use std::collections::hash_map::Entry;

use anyhow::{Context as _, Result};
use aya::maps::{Array, HashMap, MapData, MapError};
use sockleak_ebpf::{
    CPUS, Counters as AbiCounters, FailureKey, FailureStats, ProcessSlot, SearchSlot, names::maps,
};

use super::slots::Slots;
use crate::{
    decode,
    model::{Counters, FailureCounters, ProcessCounters, ProcessId, SearchCounters, SearchId},
    probe::Attached,
};

const PROCESS: usize = size_of::<ProcessSlot>();
const SEARCH: usize = size_of::<SearchSlot>();
const FAILURE_KEY: usize = size_of::<FailureKey>();
const FAILURE_STATS: usize = size_of::<FailureStats>();
const COUNTERS: usize = size_of::<AbiCounters>();

/// The maps that are polled. Values are taken as bytes and decoded as foreign input.
pub struct KernelMaps {
    counters: Array<MapData, [u8; COUNTERS * CPUS]>,
    processes: Slots<PROCESS>,
    suspects: Array<MapData, u32>,
    marked: Vec<u32>,
    searches: Slots<SEARCH>,
    failures: HashMap<MapData, [u8; FAILURE_KEY], [u8; FAILURE_STATS]>,
    failure_limit: usize,
}

/// Every process the kernel side knows, and how many elements could not be decoded.
#[derive(Debug, Default)]
pub struct Processes {
    /// One per process, in map order.
    pub counters: Vec<ProcessCounters>,
    /// Elements that made no sense.
    pub undecodable: u64,
}

impl KernelMaps {
    /// Takes the maps out of the loaded object; `failure_limit` is the size of the failure map.
    ///
    /// # Errors
    /// When the object lacks a map or its layout is not the agreed one.
    pub fn take(attached: &mut Attached, failure_limit: u32) -> Result<Self> {
        Ok(Self {
            counters: attached.take(maps::COUNTERS)?,
            processes: Slots::take(attached, maps::PROCESSES, maps::PROCESS_CLAIMS)?,
            suspects: attached.take(maps::SUSPECTS)?,
            marked: Vec::new(),
            searches: Slots::take(attached, maps::SEARCHES, maps::SEARCH_CLAIMS)?,
            failures: attached.take(maps::FAILURES)?,
            failure_limit: failure_limit as usize,
        })
    }

    /// The host-wide counters, summed over the CPUs. Not a snapshot: counters move while they
    /// are read.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn counters(&self) -> Result<Counters> {
        let copies = self
            .counters
            .get(&0, 0)
            .context("reading the counters of the kernel side")?;
        decode::counters(copies.chunks_exact(COUNTERS))
            .context("reading the counters of the kernel side")
    }

    /// Every process the kernel side knows. Of two threads that make their process's first sockets at
    /// once, each may have taken a place: their counts are added up.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn processes(&self) -> Result<Processes> {
        let mut found = Processes::default();
        let mut known: Index<ProcessId, usize> = Index::new();
        self.processes
            .each(|_, bytes| match decode::process_slot(bytes) {
                Ok(Some(counters)) => match known.entry(counters.process) {
                    Entry::Vacant(entry) => {
                        entry.insert(found.counters.len());
                        found.counters.push(counters);
                    }
                    Entry::Occupied(entry) => {
                        if let Some(first) = found.counters.get_mut(*entry.get()) {
                            first.add(&counters);
                        }
                    }
                },
                Ok(None) => {}
                Err(_) => found.undecodable += 1,
            })?;
        Ok(found)
    }

    /// Every (process, op, destination) that has searched a port, and how many elements could
    /// not be decoded. Added up as [`Self::processes`].
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn searches(&self) -> Result<(Vec<SearchCounters>, u64)> {
        let mut found: Vec<SearchCounters> = Vec::new();
        let mut undecodable = 0;
        let mut known: Index<SearchId, usize> = Index::new();
        self.searches
            .each(|_, bytes| match decode::search_slot(bytes) {
                Ok(Some(counters)) => match known.entry(counters.id) {
                    Entry::Vacant(entry) => {
                        entry.insert(found.len());
                        found.push(counters);
                    }
                    Entry::Occupied(entry) => {
                        if let Some(first) = found.get_mut(*entry.get()) {
                            first.add(&counters);
                        }
                    }
                },
                Ok(None) => {}
                Err(_) => undecodable += 1,
            })?;
        Ok((found, undecodable))
    }

    /// Every kind of failure that has happened, and how many elements could not be decoded.
    pub fn failures(&self) -> (Vec<FailureCounters>, u64) {
        let mut found = Vec::new();
        let mut undecodable = 0;
        for element in self.failures.iter().take(self.failure_limit) {
            match element.map(|(key, value)| decode::failure_counters(&key, &value)) {
                Ok(Ok(element)) => found.push(element),
                Ok(Err(_)) | Err(_) => undecodable += 1,
            }
        }
        (found, undecodable)
    }

    /// Forgets searches and failures of processes that are over. What happened between the last
    /// reading and this is lost, so only processes that have ended before the last reading may
    /// be named.
    pub fn forget_searches(&mut self, mut is_over: impl FnMut(ProcessId) -> bool) {
        let mut places = Vec::new();
        let read = self.searches.each(|place, bytes| {
            if decode::search_process(bytes).is_ok_and(&mut is_over) {
                places.push(place);
            }
        });
        if let Err(error) = read {
            log::debug!("forgetting searches: {error:#}");
        }
        for place in places {
            self.searches.release(place);
        }
        let limit = self.failure_limit;
        let keys: Vec<_> = self
            .failures
            .keys()
            .take(limit)
            .filter_map(Result::ok)
            .collect();
        for key in keys {
            if decode::search_process(&key).is_ok_and(&mut is_over)
                && let Err(error) = self.failures.remove(&key)
                && !matches!(error, MapError::KeyNotFound)
            {
                log::debug!("forgetting a failure: {error}");
            }
        }
    }

    /// Forgets processes, so that their places can be used again. Returns how many are gone.
    pub fn forget(&mut self, mut is_over: impl FnMut(ProcessId) -> bool) -> u64 {
        let mut places = Vec::new();
        let read = self.processes.each(|place, bytes| {
            if let Ok(Some(counters)) = decode::process_slot(bytes)
                && is_over(counters.process)
            {
                places.push(place);
            }
        });
        if let Err(error) = read {
            log::debug!("forgetting processes: {error:#}");
        }
        for place in &places {
            self.processes.release(*place);
        }
        places.len() as u64
    }

    /// Has the kernel side take the stacks of these processes from now on, and of no others but
    /// for its sample.
    pub fn mark(&mut self, suspects: &[ProcessId]) {
        let mut wanted = Vec::new();
        if !suspects.is_empty() {
            let read = self.processes.each(|place, bytes| {
                if let Ok(Some(counters)) = decode::process_slot(bytes)
                    && suspects.contains(&counters.process)
                {
                    wanted.push(place);
                }
            });
            if let Err(error) = read {
                log::warn!("cannot have the stacks of suspects taken: {error:#}");
            }
        }
        let gone = self.marked.iter().filter(|place| !wanted.contains(place));
        let new = wanted.iter().filter(|place| !self.marked.contains(place));
        for (place, mark) in gone
            .map(|place| (*place, 0))
            .chain(new.map(|place| (*place, 1)))
        {
            if let Err(error) = self.suspects.set(place, mark, 0) {
                log::warn!("cannot mark whose stacks are taken: {error}");
            }
        }
        self.marked = wanted;
    }

    /// What the kernel side calls a process that it knows.
    pub fn key(&self, process: ProcessId) -> Option<[u8; size_of::<sockleak_ebpf::ProcessKey>()]> {
        let mut key = None;
        let read = self.processes.each(|_, bytes| {
            if decode::process_id_of(bytes) == Ok(process) {
                key = bytes.first_chunk().copied();
            }
        });
        if let Err(error) = read {
            log::debug!("looking for process {}: {error:#}", process.pid);
        }
        key
    }
}
