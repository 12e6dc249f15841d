//! Where idle sockets come from: what the kernel side has noted, and the names of their stacks.

use std::{collections::HashMap, time::Duration};

use anyhow::Result;

use super::stacks::StackNames;
use crate::{
    model::{Ending, ProcessId},
    probe::{Attached, LoadOptions, Stacks},
    source::{kernel_maps::KernelMaps, pasts::Pasts as Maps},
    tracker::{self, Pasts, Tracker},
};

/// Processes whose stacks are taken at a time.
const SUSPECTS: usize = 64;

/// Keeps what [`Pasts`] shows up to date.
pub struct Origins {
    maps: Maps,
    mode: Stacks,
    endings: HashMap<u32, Ending>,
    stacks: StackNames,
    suspects: Vec<ProcessId>,
    /// Whether a hook sees how connections end, and one where they begin.
    sees_endings: bool,
    sees_connects: bool,
    undecodable: u64,
}

impl Origins {
    /// Takes the maps out of the object that was loaded with these options.
    ///
    /// # Errors
    /// When the object lacks a map.
    pub fn take(
        attached: &mut Attached,
        options: &LoadOptions,
        sees_endings: bool,
        sees_connects: bool,
    ) -> Result<Self> {
        Ok(Self {
            maps: Maps::take(attached, options)?,
            mode: options.stacks,
            endings: HashMap::new(),
            stacks: StackNames::default(),
            suspects: Vec::new(),
            sees_endings,
            sees_connects,
            undecodable: 0,
        })
    }

    /// After a new inventory: reads what its sockets refer to, and has the kernel side look
    /// closer at those processes whose idle sockets grow. `collided` is how many stacks have found their place
    /// taken so far.
    pub fn look(&mut self, tracker: &Tracker, kernel: &mut KernelMaps, collided: u64) {
        let found = self.maps.endings();
        self.endings = found.by_id;
        self.undecodable += found.undecodable;
        if self.mode == Stacks::Auto {
            let suspects = tracker::suspects(tracker.groups(), SUSPECTS);
            let new = suspects.iter().filter(|one| !self.suspects.contains(one));
            self.stacks.remember(&new.copied().collect::<Vec<_>>());
            kernel.mark(&suspects);
            self.suspects = suspects;
        }
        if self.mode != Stacks::Never {
            self.stacks.look_up(tracker.groups(), &self.maps);
        }
        if let Some(inventory) = tracker.inventory() {
            let census = &inventory.census;
            self.maps.make_room(
                collided,
                |ending| census.refers_to(ending),
                |stack| census.refers_to_stack(stack),
            );
        }
    }

    /// Takes in names of stacks; waits no longer than `patience` for those on their way.
    pub fn take_names(&mut self, patience: Duration) {
        self.stacks.take_answers(patience);
    }

    /// Elements that made no sense.
    pub fn undecodable(&self) -> u64 {
        self.undecodable
    }

    /// What is known now.
    pub fn pasts(&self) -> Pasts<'_> {
        Pasts {
            endings: self.sees_endings.then_some(&self.endings),
            connects: self.sees_connects,
            stacks: Some(self.stacks.named()),
        }
    }
}
