//! What the kernel side counts, read from its maps.

use anyhow::{Context as _, Result};
use aya::maps::{HashMap, MapData, MapError, PerCpuArray};
use sockleak_ebpf::{
    Counters as AbiCounters, FailureKey, FailureStats, ProcessKey, ProcessStats, SearchKey,
    SearchStats, names::maps,
};

use crate::{
    decode,
    model::{Counters, FailureCounters, ProcessCounters, ProcessId, SearchCounters},
    probe::Attached,
};

const KEY: usize = size_of::<ProcessKey>();
const STATS: usize = size_of::<ProcessStats>();
const SEARCH_KEY: usize = size_of::<SearchKey>();
const SEARCH_STATS: usize = size_of::<SearchStats>();
const FAILURE_KEY: usize = size_of::<FailureKey>();
const FAILURE_STATS: usize = size_of::<FailureStats>();
const COUNTERS: usize = size_of::<AbiCounters>();

/// The maps that are polled. Values are taken as bytes and decoded as foreign input.
pub struct KernelMaps {
    counters: PerCpuArray<MapData, [u8; COUNTERS]>,
    processes: HashMap<MapData, [u8; KEY], [u8; STATS]>,
    process_limit: usize,
    searches: HashMap<MapData, [u8; SEARCH_KEY], [u8; SEARCH_STATS]>,
    failures: HashMap<MapData, [u8; FAILURE_KEY], [u8; FAILURE_STATS]>,
    search_limit: usize,
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
    /// Takes the maps out of the loaded object; `process_limit` is the size of the process map,
    /// `search_limit` of the search map and the failure map.
    ///
    /// # Errors
    /// When the object lacks a map or its layout is not the agreed one.
    pub fn take(attached: &mut Attached, process_limit: u32, search_limit: u32) -> Result<Self> {
        Ok(Self {
            counters: attached.take(maps::COUNTERS)?,
            processes: attached.take(maps::PROCESSES)?,
            process_limit: process_limit as usize,
            searches: attached.take(maps::SEARCHES)?,
            failures: attached.take(maps::FAILURES)?,
            search_limit: search_limit as usize,
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
        decode::counters(copies.iter().map(<[u8; COUNTERS]>::as_slice))
            .context("reading the counters of the kernel side")
    }

    /// What the kernel side calls a process that it knows.
    pub fn key(&self, process: ProcessId) -> Option<[u8; KEY]> {
        let mut keys = self.processes.keys().take(self.process_limit);
        keys.find_map(|key| {
            let key = key.ok()?;
            (decode::process_id(&key) == Ok(process)).then_some(key)
        })
    }

    /// Every process the kernel side knows.
    ///
    /// The kernel restarts a walk whose current key was deleted; only user space deletes here,
    /// so the walk ends, and the count is capped all the same.
    pub fn processes(&self) -> Processes {
        let mut found = Processes::default();
        for element in self.processes.iter().take(self.process_limit) {
            match element.map(|(key, stats)| decode::process_counters(&key, &stats)) {
                Ok(Ok(counters)) => found.counters.push(counters),
                Ok(Err(_)) | Err(_) => found.undecodable += 1,
            }
        }
        found
    }

    /// Every (process, op, destination) that has searched a port, and how many elements could
    /// not be decoded.
    pub fn searches(&self) -> (Vec<SearchCounters>, u64) {
        all(&self.searches, self.search_limit, |key, value| {
            decode::search_counters(key, value)
        })
    }

    /// Every kind of failure that has happened, and how many elements could not be decoded.
    pub fn failures(&self) -> (Vec<FailureCounters>, u64) {
        all(&self.failures, self.search_limit, |key, value| {
            decode::failure_counters(key, value)
        })
    }

    /// Forgets searches and failures of processes that are over. What happened between the last
    /// reading and this is lost, so only processes that have ended before the last reading may
    /// be named.
    pub fn forget_searches(&mut self, mut is_over: impl FnMut(ProcessId) -> bool) {
        remove(&mut self.searches, self.search_limit, &mut is_over);
        remove(&mut self.failures, self.search_limit, &mut is_over);
    }

    /// Forgets processes, so that their places can be used again. Returns how many are gone.
    pub fn forget(&mut self, mut is_over: impl FnMut(ProcessId) -> bool) -> u64 {
        let keys: Vec<[u8; KEY]> = self
            .processes
            .keys()
            .take(self.process_limit)
            .filter_map(Result::ok)
            .collect();
        let mut forgotten = 0;
        for key in keys {
            let Ok(process) = decode::process_id(&key) else {
                continue;
            };
            if !is_over(process) {
                continue;
            }
            match self.processes.remove(&key) {
                Ok(()) | Err(MapError::KeyNotFound) => forgotten += 1,
                Err(error) => log::debug!("forgetting process {}: {error}", process.pid),
            }
        }
        forgotten
    }
}

fn all<const K: usize, const V: usize, T>(
    map: &HashMap<MapData, [u8; K], [u8; V]>,
    limit: usize,
    decode: impl Fn(&[u8], &[u8]) -> Result<T, decode::DecodeError>,
) -> (Vec<T>, u64)
where
    [u8; K]: aya::Pod,
    [u8; V]: aya::Pod,
{
    let mut found = Vec::new();
    let mut undecodable = 0;
    for element in map.iter().take(limit) {
        match element.map(|(key, value)| decode(&key, &value)) {
            Ok(Ok(element)) => found.push(element),
            Ok(Err(_)) | Err(_) => undecodable += 1,
        }
    }
    (found, undecodable)
}

fn remove<const K: usize, const V: usize>(
    map: &mut HashMap<MapData, [u8; K], [u8; V]>,
    limit: usize,
    is_over: &mut impl FnMut(ProcessId) -> bool,
) where
    [u8; K]: aya::Pod,
    [u8; V]: aya::Pod,
{
    let keys: Vec<[u8; K]> = map.keys().take(limit).filter_map(Result::ok).collect();
    for key in keys {
        if decode::search_process(&key).is_ok_and(&mut *is_over)
            && let Err(error) = map.remove(&key)
            && !matches!(error, MapError::KeyNotFound)
        {
            log::debug!("forgetting a search: {error}");
        }
    }
}
