//! What the kernel side has noted about the past of sockets: how their connections ended, and
//! where they were created.

use std::collections::HashMap;

use anyhow::Result;
use aya::maps::{HashMap as BpfHashMap, MapData, MapError, StackTraceMap};
use sockleak_ebpf::names::maps;

use crate::{
    decode,
    model::{Ending, Site},
    probe::Attached,
};

const ENDING: usize = size_of::<sockleak_ebpf::Ending>();
const SITE: usize = size_of::<sockleak_ebpf::Site>();
/// More sites than any map of them has.
const SITE_LIMIT: usize = 1 << 16;

/// The maps behind [`crate::model::Past`].
pub struct Pasts {
    endings: BpfHashMap<MapData, [u8; ENDING], u64>,
    ending_limit: usize,
    sites: BpfHashMap<MapData, [u8; SITE], u64>,
    stacks: StackTraceMap<MapData>,
}

/// How connections have ended, by the hash that sockets refer to.
#[derive(Clone, Debug, Default)]
pub struct Endings {
    /// Two endings with the same hash are both missing.
    pub by_id: HashMap<u32, Ending>,
    /// Elements that made no sense.
    pub undecodable: u64,
}

impl Pasts {
    /// Takes the maps out of the loaded object; `ending_limit` is the size of the endings map.
    ///
    /// # Errors
    /// When the object lacks a map or its layout is not the agreed one.
    pub fn take(attached: &mut Attached, ending_limit: u32) -> Result<Self> {
        Ok(Self {
            endings: attached.take(maps::ENDINGS)?,
            ending_limit: ending_limit as usize,
            sites: attached.take(maps::SITES)?,
            stacks: attached.take(maps::STACKS)?,
        })
    }

    /// How connections have ended so far.
    pub fn endings(&self) -> Endings {
        let mut found = Endings::default();
        let mut ambiguous = Vec::new();
        for key in self.endings.keys().take(self.ending_limit) {
            match key.map(|key| decode::ending(&key)) {
                Ok(Ok((id, ending))) => {
                    if found.by_id.insert(id, ending).is_some() {
                        ambiguous.push(id);
                    }
                }
                Ok(Err(_)) | Err(_) => found.undecodable += 1,
            }
        }
        for id in ambiguous {
            found.by_id.remove(&id);
        }
        found
    }

    /// Forgets endings that no socket refers to, when the map fills up. A socket whose connection
    /// ends meanwhile refers to the same hash again.
    pub fn make_room(&mut self, is_in_use: impl Fn(u32) -> bool) {
        let keys: Vec<_> = self.endings.keys().filter_map(Result::ok).collect();
        if keys.len() * 2 < self.ending_limit {
            return;
        }
        for key in keys {
            if decode::ending(&key).is_ok_and(|(id, _)| !is_in_use(id))
                && let Err(error) = self.endings.remove(&key)
                && !matches!(error, MapError::KeyNotFound)
            {
                log::debug!("forgetting how a connection ended: {error}");
            }
        }
    }

    /// Where sockets have been created so far, by the hash that sockets refer to; two with the
    /// same hash are both missing.
    pub fn sites(&self) -> HashMap<u32, Site> {
        let mut found = HashMap::new();
        let mut ambiguous = Vec::new();
        for key in self.sites.keys().take(SITE_LIMIT).filter_map(Result::ok) {
            if let Ok((id, site)) = decode::site(&key)
                && found.insert(id, site).is_some()
            {
                ambiguous.push(id);
            }
        }
        for id in ambiguous {
            found.remove(&id);
        }
        found
    }

    /// Instruction pointers of a stack, innermost first; `None` when the map does not have it.
    pub fn stack(&self, site: Site) -> Option<Vec<u64>> {
        let trace = self.stacks.get(&site.stack, 0).ok()?;
        Some(trace.frames().iter().map(|frame| frame.ip).collect())
    }
}
