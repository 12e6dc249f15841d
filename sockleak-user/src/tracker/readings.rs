//! Elements of a kernel map from one reading to the next.

use std::collections::{HashMap, hash_map::Entry};
use std::hash::Hash;

use crate::model::ProcessId;

/// What a reading of a map consists of: counters that only rise as long as the element lives.
pub trait Element {
    /// Its key.
    type Id: Copy + Eq + Hash + Ord;

    /// Its key.
    fn id(&self) -> Self::Id;
    /// Whose it is.
    fn process(&self) -> ProcessId;
    /// The counter that every change of the element raises.
    fn count(&self) -> u64;
    /// Whether this can be the element that was `then` in an earlier reading: nothing has
    /// become less. Otherwise it is a new one under the same key.
    fn continues(&self, then: &Self) -> bool;
}

/// The newest reading, and what earlier ones have shown and it has not.
#[derive(Debug)]
pub struct Readings<E: Element> {
    known: HashMap<E::Id, E>,
    limit: usize,
}

impl<E: Element> Readings<E> {
    /// None yet. Keeps elements that a reading misses as long as there are at most `limit`.
    pub fn new(limit: usize) -> Self {
        Self {
            known: HashMap::new(),
            limit,
        }
    }

    /// Takes in a reading. `each` gets every element with its earlier state, if it has one;
    /// `gone` gets what was replaced by a new element under the same key, or had to be given up
    /// for want of room.
    ///
    /// An element that a reading misses (it could not be read or decoded) is kept, so that all
    /// it counts is not taken for new when it is back. A key that is twice in a reading is a
    /// walk over the map that began again: the later state stands.
    pub fn advance(
        &mut self,
        reading: Vec<E>,
        mut each: impl FnMut(Option<&E>, &E),
        mut gone: impl FnMut(E),
    ) {
        let mut fresh: HashMap<E::Id, E> = HashMap::with_capacity(reading.len());
        for element in reading {
            match fresh.entry(element.id()) {
                Entry::Vacant(place) => {
                    place.insert(element);
                }
                Entry::Occupied(mut place) if element.count() > place.get().count() => {
                    place.insert(element);
                }
                Entry::Occupied(_) => {}
            }
        }
        for now in fresh.values() {
            let then = self.known.get(&now.id());
            each(then.filter(|then| now.continues(then)), now);
        }
        let before = std::mem::replace(&mut self.known, fresh);
        for (id, then) in before {
            let room = self.known.len() < self.limit;
            match self.known.entry(id) {
                Entry::Occupied(now) if now.get().continues(&then) => {}
                Entry::Vacant(place) if room => {
                    place.insert(then);
                }
                _ => gone(then),
            }
        }
    }

    /// Everything that is known, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &E> {
        self.known.values()
    }

    /// How many elements are known.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Gives up the elements of processes whose elements leave the kernel's map, too.
    pub fn forget(&mut self, mut is_over: impl FnMut(ProcessId) -> bool, mut gone: impl FnMut(E)) {
        for (_, element) in self
            .known
            .extract_if(|_, element| is_over(element.process()))
        {
            gone(element);
        }
    }
}
