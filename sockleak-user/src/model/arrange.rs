//! Sorting of lists that people read, in little code: the standard library's sort is made anew for every
//! type and key, 6 KB each, which came to half a megabyte. Here what is sorted are places in the list, by
//! the same code for all; twice as slow, for thousands of elements at most.

use std::cmp::Ordering;

/// Stable sorting.
pub trait Arrange {
    /// An element.
    type Item;

    /// As `sort_by`.
    fn arrange_by(&mut self, compare: impl FnMut(&Self::Item, &Self::Item) -> Ordering);

    /// As `sort_by_key`.
    fn arrange_by_key<K: Ord>(&mut self, key: impl FnMut(&Self::Item) -> K);
}

impl<T> Arrange for [T] {
    type Item = T;

    fn arrange_by(&mut self, mut compare: impl FnMut(&T, &T) -> Ordering) {
        let items: &[T] = self;
        let mut from = places(items.len(), &mut |a, b| compare(&items[a], &items[b]));
        // Each cycle is followed once; what is in its place points to itself.
        for start in 0..from.len() {
            let mut at = start;
            loop {
                let next = std::mem::replace(&mut from[at], at);
                if next == start || next == at {
                    break;
                }
                self.swap(at, next);
                at = next;
            }
        }
    }

    fn arrange_by_key<K: Ord>(&mut self, mut key: impl FnMut(&T) -> K) {
        self.arrange_by(|a, b| key(a).cmp(&key(b)));
    }
}

/// For each place, where what belongs there is now.
fn places(length: usize, compare: &mut dyn FnMut(usize, usize) -> Ordering) -> Vec<usize> {
    let mut from: Vec<usize> = (0..length).collect();
    from.sort_by(|a, b| compare(*a, *b));
    from
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_sorts_as_the_standard_library_does(list: Vec<(u8, u16)>) {
            let (mut ours, mut theirs) = (list.clone(), list);
            // By a part of it, so that equals have an order to keep.
            ours.arrange_by_key(|(key, _)| *key);
            theirs.sort_by_key(|(key, _)| *key);
            prop_assert_eq!(&ours, &theirs);
            ours.arrange_by(|(_, a), (_, b)| b.cmp(a));
            theirs.sort_by(|(_, a), (_, b)| b.cmp(a));
            prop_assert_eq!(&ours, &theirs);
        }
    }
}
