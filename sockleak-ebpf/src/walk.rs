//! The walk of `__inet_hash_connect` over the port range, as arithmetic (net/ipv4/inet_hashtables.c).
//!
//! Without IP_LOCAL_PORT_RANGE: `remaining` is the size of the range made even; the walk starts
//! at an even offset and steps by 2 over all even offsets, then over all odd ones. With it, on
//! kernels whose `inet_sk_get_local_port_range` returns a bool (6.8+): one pass in steps of 1.

/// A range as the walk sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    /// First port.
    pub low: u32,
    /// Last port.
    pub high: u32,
    /// Steps of 1 in one pass, not two passes in steps of 2.
    pub one_pass: bool,
}

/// Where a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Ports examined, the chosen one included.
    pub candidates: u32,
    /// In the second pass.
    pub second_parity: bool,
}

impl Walk {
    /// Ports that a walk in vain examines.
    #[inline(always)]
    pub const fn remaining(&self) -> u32 {
        if self.high < self.low {
            return 0;
        }
        let size = self.high - self.low + 1;
        if self.one_pass || size == 1 {
            size
        } else {
            size & !1
        }
    }

    /// Offset at which the walk begins, before its lowest bit is cleared: `perturb` is
    /// `table_perturb[port_offset & 0xffff]` before the call.
    #[inline(always)]
    pub const fn start(&self, perturb: u32, port_offset: u64) -> u32 {
        let sum = perturb.wrapping_add((port_offset >> 32) as u32);
        match sum.checked_rem(self.remaining()) {
            Some(start) => start,
            None => 0,
        }
    }

    /// Whether a port belongs to the second pass.
    #[inline(always)]
    pub const fn is_second(&self, port: u32) -> bool {
        !self.one_pass && port.wrapping_sub(self.low) & 1 == 1
    }

    /// What a walk from `start` to the chosen `port` has examined.
    #[inline(always)]
    pub const fn reached(&self, start: u32, port: u32) -> Reached {
        let remaining = self.remaining();
        let second_parity = self.is_second(port);
        let (start, step_log2) = if self.one_pass {
            (start, 0)
        } else {
            ((start & !1) + second_parity as u32, 1)
        };
        let offset = port.wrapping_sub(self.low);
        let walked = if offset >= start {
            offset - start
        } else {
            offset.wrapping_add(remaining).wrapping_sub(start)
        };
        let mut candidates = (walked >> step_log2) + 1;
        if second_parity {
            candidates += remaining >> 1;
        }
        Reached {
            candidates,
            second_parity,
        }
    }

    /// As [`Self::reached`] from [`Self::start`], in fewer steps where there are two passes.
    #[inline(always)]
    pub const fn reached_from(&self, perturb: u32, port_offset: u64, port: u32) -> Reached {
        if self.one_pass || self.high <= self.low {
            return self.reached(self.start(perturb, port_offset), port);
        }
        let remaining = (self.high - self.low + 1) & !1;
        let sum = perturb.wrapping_add((port_offset >> 32) as u32);
        let offset = port.wrapping_sub(self.low);
        let parity = offset & 1;
        let start = match sum.checked_rem(remaining) {
            Some(start) => (start & !1) + parity,
            None => 0,
        };
        let mut walked = offset.wrapping_sub(start);
        if offset < start {
            walked = walked.wrapping_add(remaining);
        }
        let mut candidates = (walked >> 1) + 1;
        if parity != 0 {
            candidates += remaining >> 1;
        }
        Reached {
            candidates,
            second_parity: parity != 0,
        }
    }

    /// Whether a search that came to this may have let its slot of `table_perturb` grow by `growth`: by
    /// `max(i, random) + step`, where `i` grows by `step` per port, and `random` is at most 7 steps (none
    /// before 5.18).
    #[inline(always)]
    pub const fn explains(&self, reached: &Reached, growth: u32) -> bool {
        let step_log2 = if self.one_pass { 0 } else { 1 };
        let passed = if reached.second_parity {
            self.remaining() >> 1
        } else {
            0
        };
        let steps = reached.candidates.wrapping_sub(passed);
        let grown = growth >> step_log2;
        grown << step_log2 == growth && (grown == steps || (grown > steps && grown <= 8))
    }

    /// The same where the stride is random (`ip_local_port_step_width`, 7.1+): the walk adds
    /// `max(i, random) + step` to its slot of `table_perturb`, where `i` grows by `step` (2, or
    /// 1 in one pass) per port and `random` is at most 7 steps. `None` when `random` may have
    /// been the greater one.
    #[inline(always)]
    pub const fn reached_by_growth(&self, growth: u32, port: u32) -> Option<Reached> {
        let walked = if self.one_pass { growth } else { growth >> 1 };
        let second_parity = self.is_second(port);
        let remaining = self.remaining();
        let pass = if self.one_pass {
            remaining
        } else {
            remaining >> 1
        };
        if walked <= 8 || walked > pass {
            return None;
        }
        let before = if second_parity { remaining >> 1 } else { 0 };
        Some(Reached {
            candidates: before + walked,
            second_parity,
        })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;

    /// The loop of `__inet_hash_connect`, port by port: what it examines and what it chooses.
    fn replay(walk: &Walk, offset: u32, is_free: impl Fn(u32) -> bool) -> (u32, Option<u32>) {
        let high = walk.high + 1;
        let mut remaining = high - walk.low;
        if !walk.one_pass && remaining > 1 {
            remaining &= !1;
        }
        let step = if walk.one_pass { 1 } else { 2 };
        let mut offset = offset % remaining;
        if !walk.one_pass {
            offset &= !1;
        }
        let mut examined = 0;
        loop {
            let mut port = walk.low + offset;
            let mut i = 0;
            while i < remaining {
                if port >= high {
                    port -= remaining;
                }
                examined += 1;
                if is_free(port) {
                    return (examined, Some(port));
                }
                i += step;
                port += step;
            }
            if walk.one_pass {
                return (examined, None);
            }
            offset += 1;
            if offset & 1 == 0 || remaining == 1 {
                return (examined, None);
            }
        }
    }

    /// Sets of free ports, from one bit pattern each.
    fn patterns() -> impl Iterator<Item = u64> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        (0..60).map(move |round| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            match round % 3 {
                0 => state,
                1 => state & state.rotate_left(17) & state.rotate_left(31),
                _ => 1 << (state & 63),
            }
        })
    }

    #[test]
    fn arithmetic_agrees_with_the_walk() {
        for low in [1, 100, 32_767] {
            for size in 1..=34 {
                for one_pass in [false, true] {
                    let walk = Walk {
                        low,
                        high: low + size - 1,
                        one_pass,
                    };
                    for free in patterns() {
                        let is_free = |port: u32| free >> (port - low) & 1 == 1;
                        for offset in 0..size {
                            let start = walk.start(offset, 0);
                            let (examined, chosen) = replay(&walk, offset, is_free);
                            let Some(port) = chosen else {
                                assert_eq!(examined, walk.remaining(), "{walk:?}");
                                continue;
                            };
                            let reached = walk.reached(start, port);
                            assert_eq!(walk.reached_from(offset, 0, port), reached);
                            assert_eq!(
                                walk.reached_from(0, u64::from(offset) << 32, port),
                                reached
                            );
                            assert_eq!(
                                reached.candidates, examined,
                                "{walk:?} from {offset} to {port}"
                            );
                            let second = examined > walk.remaining() / 2;
                            if !one_pass && size > 1 {
                                assert_eq!(reached.second_parity, second);
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn growth_tells_what_a_random_stride_examined() {
        let walk = Walk {
            low: 100,
            high: 199,
            one_pass: false,
        };
        // The tenth port of the first pass: i = 18, and 18 + 2 is added.
        let reached = walk.reached_by_growth(20, 120).unwrap();
        assert_eq!((reached.candidates, reached.second_parity), (10, false));
        let reached = walk.reached_by_growth(20, 121).unwrap();
        assert_eq!((reached.candidates, reached.second_parity), (60, true));
        assert_eq!(
            walk.reached_by_growth(16, 120),
            None,
            "the random part may be more"
        );
        assert_eq!(
            walk.reached_by_growth(102, 120),
            None,
            "others have moved it, too"
        );
    }

    #[test]
    fn a_senseless_range_is_no_division_by_zero() {
        let walk = Walk {
            low: 2,
            high: 1,
            one_pass: false,
        };
        assert_eq!((walk.remaining(), walk.start(7, 7 << 32)), (0, 0));
        let wide: Vec<u32> = [0, 65_535].into();
        let walk = Walk {
            low: wide[0],
            high: wide[1],
            one_pass: true,
        };
        assert_eq!(walk.remaining(), 65_536);
    }
}
