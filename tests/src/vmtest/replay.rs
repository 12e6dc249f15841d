//! connect()'s search for a port, step by step, as __inet_hash_connect does it.

use std::collections::BTreeSet;

/// The ports that the kernel looks at, in order, until one is free.
///
/// The walk begins `start` ports above the range's first one. It goes over the ports of that
/// one's parity by steps of two and then over the other's, or in `one_pass` over all by steps of
/// one. Going on beyond the end means going back by the (even) size of the range.
pub(super) fn walk(
    [low, high]: [u16; 2],
    start: u32,
    one_pass: bool,
    taken: &BTreeSet<u16>,
) -> Walk {
    let (low, high) = (u32::from(low), u32::from(high));
    let (remaining, start, step, passes) = match one_pass {
        true => (high + 1 - low, start, 1, 1),
        false => ((high + 1 - low) & !1, start & !1, 2, 2),
    };
    let mut candidates = 0;
    for pass in 0..passes {
        let mut port = low + start + pass;
        for _ in (0..remaining).step_by(step) {
            if port > high {
                port -= remaining;
            }
            candidates += 1;
            let this = port as u16;
            if !taken.contains(&this) {
                return Walk {
                    port: Some(this),
                    candidates,
                    is_second: pass == 1,
                };
            }
            port += step as u32;
        }
    }
    Walk {
        port: None,
        candidates,
        is_second: false,
    }
}

/// Where a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Walk {
    /// The free port.
    pub(super) port: Option<u16>,
    /// Ports looked at, the last one included.
    pub(super) candidates: u64,
    /// The port is of the parity that is tried second.
    pub(super) is_second: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(start: u32, one_pass: bool, taken: &[u16]) -> (Option<u16>, u64) {
        let taken = taken.iter().copied().collect();
        let walk = walk([10, 15], start, one_pass, &taken);
        (walk.port, walk.candidates)
    }

    #[test]
    fn the_walk_takes_the_first_free_port_parity_by_parity() {
        assert_eq!(ended(0, false, &[]), (Some(10), 1));
        // An odd start is rounded down.
        assert_eq!(ended(3, false, &[]), (Some(12), 1));
        // 12, 14, and round to 10.
        assert_eq!(ended(3, false, &[12, 14]), (Some(10), 3));
        // All three of the first parity, then 13, 15 and 11 of the second.
        assert_eq!(ended(2, false, &[10, 12, 14, 13, 15]), (Some(11), 6));
        let all = [10, 11, 12, 13, 14, 15];
        assert_eq!(ended(2, false, &all), (None, 6));
        assert_eq!(ended(5, true, &[15, 10]), (Some(11), 3));
        assert_eq!(ended(5, true, &all), (None, 6));
    }

    #[test]
    fn an_odd_range_wraps_by_its_even_size() {
        let taken = BTreeSet::from([14, 16]);
        // 14 and 16, then 18 - 6 = 12.
        let walk = walk([10, 16], 4, false, &taken);
        assert_eq!((walk.port, walk.candidates), (Some(12), 3));
    }
}
