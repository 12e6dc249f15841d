//! What the kernel's maps no longer have, but sockets may still refer to.

use std::collections::HashMap;

/// Turns that an element outlives its last reference: between two inventories a socket may begin to refer to it
/// without anybody noticing.
const SPARE: u8 = 2;

/// Elements by the id that sockets refer to, as long as they do.
#[derive(Debug)]
pub(super) struct Kept<T> {
    all: HashMap<u32, (T, u8)>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self {
            all: HashMap::new(),
        }
    }
}

impl<T> Kept<T> {
    /// Keeps an element.
    pub(super) fn insert(&mut self, id: u32, element: T) {
        self.all.insert(id, (element, 0));
    }

    /// All that is kept.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.all.iter().map(|(id, (element, _))| (*id, element))
    }

    /// After an inventory: drops what nobody has referred to in the last few.
    pub(super) fn turn(&mut self, is_in_use: impl Fn(u32) -> bool) {
        self.all.retain(|id, (_, idle)| {
            *idle = if is_in_use(*id) { 0 } else { *idle + 1 };
            *idle <= SPARE
        });
        // A table in which elements come and go doubles when it is half full.
        self.all.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_referred_to_stays_and_the_rest_goes_in_time() {
        let mut kept = Kept::default();
        kept.insert(1, "used");
        kept.insert(2, "used later");
        kept.insert(3, "never used");
        kept.turn(|id| id == 1);
        kept.turn(|id| id == 1 || id == 2);
        kept.turn(|id| id == 1);
        let mut ids: Vec<_> = kept.iter().map(|(id, _)| id).collect();
        ids.sort_unstable();
        assert_eq!(ids, [1, 2]);
        for _ in 0..=SPARE {
            kept.turn(|_| false);
        }
        assert_eq!(kept.iter().count(), 0);
    }

    #[test]
    fn the_table_does_not_outgrow_what_is_kept() {
        let mut kept = Kept::default();
        for turn in 0..1000 {
            for id in 0..1000 {
                kept.insert(turn * 1000 + id, ());
            }
            kept.turn(|_| false);
            assert!(kept.all.len() <= 2000);
            // What the least table for so many can take.
            assert!(kept.all.capacity() <= 3584, "{}", kept.all.capacity());
        }
    }
}
