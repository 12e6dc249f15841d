//! Order by numbers, compiled once: each sort of its own kind costs some 8 KiB of program.

/// The places of `keys` in ascending order of the keys; equal ones stay in their order.
pub fn order(keys: impl Iterator<Item = u64>) -> Vec<usize> {
    let mut places: Vec<(u64, usize)> = Vec::new();
    places.extend(keys.zip(0..));
    // Places differ, so that nothing is equal.
    places.sort_unstable();
    let mut order = Vec::with_capacity(places.len());
    order.extend(places.iter().map(|(_, place)| *place));
    order
}

/// The items in this order.
pub fn arrange<T>(items: Vec<T>, order: &[usize]) -> Vec<T> {
    let mut items: Vec<Option<T>> = items.into_iter().map(Some).collect();
    let mut arranged = Vec::with_capacity(items.len());
    for place in order {
        arranged.extend(items.get_mut(*place).and_then(Option::take));
    }
    arranged
}

/// A key that is ordered as the number is, by `f64::total_cmp`.
pub fn key(number: f64) -> u64 {
    let bits = number.to_bits();
    // Negative numbers are ordered the other way round, below the others.
    if bits >> 63 == 1 {
        !bits
    } else {
        bits | 1 << 63
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_stable_sort(keys in proptest::collection::vec(0_u64..9, 0..50)) {
            let mut expected: Vec<(u64, usize)> = keys.iter().copied().zip(0..).collect();
            expected.sort_by_key(|(key, _)| *key);
            let arranged = arrange(keys.iter().copied().zip(0..).collect(), &order(keys.iter().copied()));
            prop_assert_eq!(arranged, expected);
        }

        #[test]
        fn keys_are_ordered_as_numbers_are(a: f64, b: f64) {
            prop_assert_eq!(key(a).cmp(&key(b)), a.total_cmp(&b));
        }
    }
}
