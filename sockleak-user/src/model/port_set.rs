//! Sets of local ports.

/// Above this many ports a set becomes a bitmap.
const FEW: usize = 256;
const WORDS: usize = 1 << 10;

/// A set of ports: a sorted list while small, a bitmap of 8 KiB when it grows. A host with a
/// thousand containers has thousands of these, nearly all small.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSet(Repr);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Repr {
    Few(Vec<u16>),
    Many {
        words: Box<[u64; WORDS]>,
        len: usize,
    },
}

impl Default for PortSet {
    fn default() -> Self {
        Self(Repr::Few(Vec::new()))
    }
}

impl PortSet {
    /// Adds a port; says whether it is new.
    pub fn insert(&mut self, port: u16) -> bool {
        match &mut self.0 {
            Repr::Few(list) => {
                let Err(at) = list.binary_search(&port) else {
                    return false;
                };
                if list.len() < FEW {
                    list.insert(at, port);
                } else {
                    let mut words = Box::new([0; WORDS]);
                    for old in list.iter().chain([&port]) {
                        set_bit(&mut words, *old);
                    }
                    self.0 = Repr::Many {
                        words,
                        len: FEW + 1,
                    };
                }
                true
            }
            Repr::Many { words, len } => {
                let new = set_bit(words, port);
                *len += usize::from(new);
                new
            }
        }
    }

    /// Number of ports.
    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::Few(list) => list.len(),
            Repr::Many { len, .. } => *len,
        }
    }

    /// No port at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the port is in the set.
    pub fn contains(&self, port: u16) -> bool {
        match &self.0 {
            Repr::Few(list) => list.binary_search(&port).is_ok(),
            Repr::Many { words, .. } => words
                .get(usize::from(port >> 6))
                .is_some_and(|word| word & (1 << (port & 63)) != 0),
        }
    }

    /// The ports in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        let (list, words): (&[u16], &[u64]) = match &self.0 {
            Repr::Few(list) => (list, &[]),
            Repr::Many { words, .. } => (&[], words.as_slice()),
        };
        list.iter().copied().chain(
            words
                .iter()
                .zip((0..=u16::MAX).step_by(64))
                .filter(|(word, _)| **word != 0)
                .flat_map(|(word, base)| {
                    (0..64u16)
                        .filter(move |bit| word & (1 << bit) != 0)
                        .map(move |bit| base + bit)
                }),
        )
    }

    /// How many ports lie in `lo..=hi`.
    pub fn count_in(&self, (lo, hi): (u16, u16)) -> u64 {
        self.iter().filter(|port| (lo..=hi).contains(port)).count() as u64
    }

    /// Adds all ports of another set.
    pub fn union_with(&mut self, other: &Self) {
        for port in other.iter() {
            self.insert(port);
        }
    }
}

impl Extend<u16> for PortSet {
    fn extend<T: IntoIterator<Item = u16>>(&mut self, ports: T) {
        for port in ports {
            self.insert(port);
        }
    }
}

impl FromIterator<u16> for PortSet {
    fn from_iter<T: IntoIterator<Item = u16>>(ports: T) -> Self {
        let mut set = Self::default();
        set.extend(ports);
        set
    }
}

fn set_bit(words: &mut [u64; WORDS], port: u16) -> bool {
    let bit = 1 << (port & 63);
    words.get_mut(usize::from(port >> 6)).is_some_and(|word| {
        let new = *word & bit == 0;
        *word |= bit;
        new
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_like_a_set(ports in proptest::collection::vec(
                                  prop_oneof![any::<u16>(), 0u16..400, Just(65_535)], 0..900),
                              lo: u16, hi: u16) {
            let mut set = PortSet::default();
            let mut model = BTreeSet::new();
            for port in ports {
                prop_assert_eq!(set.insert(port), model.insert(port));
            }
            prop_assert_eq!(set.len(), model.len());
            prop_assert_eq!(set.is_empty(), model.is_empty());
            prop_assert!(set.iter().eq(model.iter().copied()));
            let inside = model.iter().filter(|p| (lo..=hi).contains(*p)).count() as u64;
            prop_assert_eq!(set.count_in((lo, hi)), inside);
            prop_assert_eq!(set.contains(lo), model.contains(&lo));
        }

        #[test]
        fn union_is_the_union(a in proptest::collection::vec(any::<u16>(), 0..400),
                              b in proptest::collection::vec(any::<u16>(), 0..400)) {
            let mut set: PortSet = a.iter().copied().collect();
            set.union_with(&b.iter().copied().collect());
            let model: BTreeSet<u16> = a.into_iter().chain(b).collect();
            prop_assert!(set.iter().eq(model.iter().copied()));
        }
    }
}
