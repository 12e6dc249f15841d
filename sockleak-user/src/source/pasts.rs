//! What the kernel side has noted about the past of sockets: how their connections ended, and
//! where they were created.
//!
//! The kernel's maps have room for what is new. What they get too full of is taken out and kept here, as
//! long as a socket refers to it.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Result;
use aya::maps::{Array, HashMap as BpfHashMap, MapData, MapError, StackTraceMap};
use sockleak_ebpf::names::maps;

use super::kept::Kept;
use crate::{
    decode,
    model::{Ending, Site},
    probe::{Attached, LoadOptions},
};

const ENDING: usize = size_of::<sockleak_ebpf::Ending>();
const SITE: usize = size_of::<sockleak_ebpf::Site>();
/// Longer than a program takes that has begun to take a stack.
const GRACE: Duration = Duration::from_millis(20);

/// The maps behind [`crate::model::Past`].
pub struct Pasts {
    endings: BpfHashMap<MapData, [u8; ENDING], u64>,
    ending_limit: usize,
    former_endings: Kept<Ending>,
    sites: BpfHashMap<MapData, [u8; SITE], u64>,
    stacks: StackTraceMap<MapData>,
    stack_limit: usize,
    former_stacks: Kept<Taken>,
    epoch: Array<MapData, u32>,
    epoch_now: u32,
    collided: u64,
}

/// How connections have ended, by the hash that sockets refer to.
#[derive(Clone, Debug, Default)]
pub struct Endings {
    /// Two endings with the same hash are both missing.
    pub by_id: HashMap<u32, Ending>,
    /// Elements that made no sense.
    pub undecodable: u64,
}

/// A stack that was taken where a socket was created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Instruction pointers, innermost first.
    pub addresses: Vec<u64>,
    /// What was on top of the user stack: see [`Site::top`].
    pub top: Option<u64>,
}

impl Pasts {
    /// Takes the maps out of the object that was loaded with these options.
    ///
    /// # Errors
    /// When the object lacks a map or its layout is not the agreed one.
    pub fn take(attached: &mut Attached, options: &LoadOptions) -> Result<Self> {
        Ok(Self {
            endings: attached.take(maps::ENDINGS)?,
            ending_limit: options.searches as usize,
            former_endings: Kept::default(),
            sites: attached.take(maps::SITES)?,
            stacks: attached.take(maps::STACKS)?,
            stack_limit: options.stacks.numbers().1 as usize,
            former_stacks: Kept::default(),
            epoch: attached.take(maps::STACK_EPOCH)?,
            epoch_now: 0,
            collided: 0,
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
        for (id, ending) in self.former_endings.iter() {
            if found
                .by_id
                .insert(id, *ending)
                .is_some_and(|known| known != *ending)
            {
                ambiguous.push(id);
            }
        }
        for id in ambiguous {
            found.by_id.remove(&id);
        }
        found
    }

    /// After an inventory: empties what fills up. `collided` is how many stacks have found their place taken so far;
    /// the others say whether any socket refers to an ending or a stack.
    pub fn make_room(
        &mut self,
        collided: u64,
        ending_in_use: impl Fn(u32) -> bool,
        stack_in_use: impl Fn(u32) -> bool,
    ) {
        self.former_endings.turn(&ending_in_use);
        self.former_stacks.turn(stack_in_use);
        let keys: Vec<_> = self.endings.keys().filter_map(Result::ok).collect();
        if keys.len() * 2 >= self.ending_limit {
            for key in keys {
                self.forget_ending(&key, &ending_in_use);
            }
        }
        let sites: Vec<_> = self.sites.keys().filter_map(Result::ok).collect();
        if collided > self.collided || sites.len() >= self.stack_limit / 2 {
            self.empty_stacks();
        }
        self.collided = collided;
    }

    /// A socket whose connection ends so meanwhile refers to the same hash again.
    fn forget_ending(&mut self, key: &[u8; ENDING], is_in_use: impl Fn(u32) -> bool) {
        let Ok((id, ending)) = decode::ending(key) else {
            return;
        };
        if is_in_use(id) {
            return;
        }
        self.former_endings.insert(id, ending);
        if let Err(error) = self.endings.remove(key)
            && !matches!(error, MapError::KeyNotFound)
        {
            log::debug!("forgetting how a connection ended: {error}");
        }
    }

    /// Empties the maps of stacks. No stacks are taken meanwhile, and the keys of those that are taken later
    /// are not mixed up with these.
    fn empty_stacks(&mut self) {
        if let Err(error) = self.epoch.set(0, self.epoch_now | 1, 0) {
            log::warn!("cannot make room for stacks: {error}");
            return;
        }
        std::thread::sleep(GRACE);
        let sites: Vec<_> = self.sites.keys().filter_map(Result::ok).collect();
        for key in &sites {
            if let Ok((id, site)) = decode::site(key)
                && let Some(taken) = self.taken_at(site)
            {
                self.former_stacks.insert(id, taken);
            }
            if let Err(error) = self.sites.remove(key) {
                log::debug!("forgetting where sockets are created: {error}");
            }
        }
        let stacks: Vec<_> = self.stacks.stack_ids().filter_map(Result::ok).collect();
        for stack in &stacks {
            if let Err(error) = self.stacks.remove(stack) {
                log::debug!("forgetting a stack: {error}");
            }
        }
        log::debug!(
            "made room for stacks: {} of {} places were taken",
            stacks.len(),
            self.stack_limit
        );
        self.epoch_now = self.epoch_now.wrapping_add(2);
        if let Err(error) = self.epoch.set(0, self.epoch_now, 0) {
            log::warn!("no stacks are taken any more: {error}");
        }
    }

    /// Stacks by the hash that sockets refer to; two with the same hash are both missing.
    pub fn stacks(&self, is_wanted: impl Fn(u32) -> bool) -> HashMap<u32, Taken> {
        let mut found: HashMap<u32, Option<Taken>> = HashMap::new();
        let current = self.sites.keys().filter_map(Result::ok);
        for (id, site) in current.filter_map(|key| decode::site(&key).ok()) {
            if is_wanted(id) {
                let is_new = !found.contains_key(&id);
                let taken = if is_new { self.taken_at(site) } else { None };
                found.insert(id, taken);
            }
        }
        for (id, taken) in self.former_stacks.iter().filter(|(id, _)| is_wanted(*id)) {
            let is_new = !found.contains_key(&id);
            found.insert(id, is_new.then(|| taken.clone()));
        }
        (found.into_iter())
            .filter_map(|(id, taken)| Some((id, taken?)))
            .collect()
    }

    fn taken_at(&self, site: Site) -> Option<Taken> {
        let trace = self.stacks.get(&site.stack, 0).ok()?;
        Some(Taken {
            addresses: trace.frames().iter().map(|frame| frame.ip).collect(),
            top: site.top,
        })
    }
}
