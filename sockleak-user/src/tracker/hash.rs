//! Hashing for keys that the kernel chose.

use std::hash::{BuildHasherDefault, Hasher};

/// Hash map over keys that are addresses, inode numbers or small integers.
///
/// These keys are given out by the kernel, so nobody can aim at collisions, and an inventory
/// looks up one per descriptor: the default hasher would be most of its cost.
pub(super) type FastMap<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<Mixer>>;

/// Hash set over the same kind of keys.
pub(super) type FastSet<K> = std::collections::HashSet<K, BuildHasherDefault<Mixer>>;

/// Hasher that mixes each integer into its state.
#[derive(Clone, Copy, Default)]
pub(super) struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = mix(self.0, u64::from(*byte));
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.0 = mix(self.0, u64::from(value));
    }

    /// Also what the discriminant of an enum comes as.
    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = mix(self.0, value);
    }
}

/// Folds `value` into `state` so that every input bit reaches every output bit.
///
/// For a fixed `state` it is a bijection of `value` (xor-shifts and odd multiplications only).
pub(super) fn mix(state: u64, value: u64) -> u64 {
    let mut x = value ^ state.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^= x >> 32;
    x = x.wrapping_mul(0xd6e8_feb8_6659_fd93);
    x ^= x >> 29;
    x = x.wrapping_mul(0xa076_1d64_78bd_642f);
    x ^ (x >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequential_inodes_and_aligned_addresses_spread() {
        for step in [1u64, 64, 2432, 4096] {
            let mut low = [0u32; 256];
            let mut high = [0u32; 128];
            for i in 0..25_600u64 {
                let hash = mix(0, 0xffff_8880_0000_0000 + i * step);
                low[(hash & 0xff) as usize] += 1;
                high[(hash >> 57) as usize] += 1;
            }
            assert!(low.iter().all(|n| (50..=170).contains(n)), "step {step}");
            assert!(high.iter().all(|n| (120..=290).contains(n)), "step {step}");
        }
    }
}
