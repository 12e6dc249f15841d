//! What is known about orphans: who created them, and how often the kernel had to reset some.

mod batch;
mod netstat;

use std::collections::HashMap;
use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result, anyhow, bail};
use aya::maps::{Map, MapData};
use sockleak_ebpf::{SocketEntry, names::maps};

use crate::{decode, model::ProcessId, probe::Attached};

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use netstat::parse as parse_netstat;
pub use netstat::{Aborts, Overflows, aborts, overflows};

/// Most entries that one walk looks at; the map has no more.
const MOST: u64 = 1 << 23;
/// Processes that are told apart.
const PROCESSES: usize = 1 << 14;

/// The kernel side's map of sockets.
#[derive(Debug)]
pub struct Sockets(MapData);

/// Creators of sockets that are let go and live on.
#[derive(Debug, Default)]
pub struct Creators {
    /// How many of each.
    pub by_process: HashMap<ProcessId, u64>,
    /// Entries that made no sense.
    pub undecodable: u64,
}

impl Sockets {
    /// Takes the map out of the loaded object.
    ///
    /// # Errors
    /// When the object lacks it, or it is not what is expected.
    pub fn take(attached: &mut Attached) -> Result<Self> {
        match attached.take_map(maps::SOCKETS) {
            Some(Map::HashMap(data)) => Ok(Self(data)),
            Some(_) => bail!("map {} is no hash", maps::SOCKETS),
            None => Err(anyhow!("the BPF object has no map {}", maps::SOCKETS)),
        }
    }

    /// Counts released sockets by creator. The map moves meanwhile: a socket that comes or goes
    /// is seen or not.
    ///
    /// # Errors
    /// When the kernel refuses a batch.
    pub fn creators(&self) -> Result<Creators> {
        let mut found = Creators::default();
        let size = size_of::<SocketEntry>();
        batch::values(self.0.fd().as_fd(), size_of::<u64>(), size, MOST, |value| {
            match decode::released(value) {
                Ok(Some(creator)) => {
                    let known = found.by_process.len() < PROCESSES
                        || found.by_process.contains_key(&creator);
                    if known {
                        *found.by_process.entry(creator).or_default() += 1;
                    }
                }
                Ok(None) => {}
                Err(_) => found.undecodable += 1,
            }
        })
        .context("reading the map of sockets for orphans")?;
        Ok(found)
    }
}
