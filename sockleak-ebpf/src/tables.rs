//! Hash tables in array maps.
//!
//! An array lookup is a few instructions that the kernel inlines; inserting into a hash map and deleting from
//! it are four hundred each. So what every socket needs is kept in arrays, and what makes a hash table
//! of them is done here. A place is claimed by adding 1 to its claim and reading it back: whoever
//! reads 1 has it, everybody else takes the 1 back. That needs no instruction that 5.10 lacks
//! (compare-and-exchange came with 5.12), and at most one can read 1 while all keep what they have added.
//!
//! Places of processes and searches are given back by user space: it clears the element, then writes 0 to its
//! claim. Claims are a map of their own so that this is one store of one byte that is not 0 already.

use crate::{ProcessKey, ProcessStats, SearchKey, SearchStats, SocketEntry};

/// Sockets in a bucket: as many keys as a cache line has.
pub const WAYS: usize = 8;
/// Places of a process or a search: the first that its hash names, and those that follow it.
pub const PROBES: u32 = 8;
/// Instead of a place: there is none.
pub const NO_SLOT: u32 = u32::MAX;

/// Element of the socket map. The keys lie together, so that a search which finds nothing reads one line.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct SocketBucket {
    /// Addresses of `struct sock`s; 0 none.
    pub keys: [u64; WAYS],
    /// 0: the place is free.
    pub claims: [u32; WAYS],
    /// Not 0: some socket found no place here and is in its second bucket, or in the overflow map.
    pub spilled: u32,
    /// Zero.
    pub pad: u32,
    /// The number of each place that was ever used: an entry is reached through what is read here, which the
    /// verifier does not know. It would follow every place apart, and all that comes after, if it did.
    pub ways: [u8; WAYS],
    /// Zero.
    pub rest: [u64; 2],
    /// What is known about each.
    pub entries: [SocketEntry; WAYS],
}

/// Element of the process map.
#[derive(Clone, Copy)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
#[repr(C)]
pub struct ProcessSlot {
    /// Who.
    pub key: ProcessKey,
    /// 1: key and value are there.
    pub ready: u32,
    /// Its [`ProcessKey::mark`], once `ready`; 0 in a free place.
    pub mark: u32,
    /// What is known; zeros in a free place.
    pub stats: ProcessStats,
}

/// Element of the search map.
#[derive(Clone, Copy)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
#[repr(C)]
pub struct SearchSlot {
    /// Who searched what.
    pub key: SearchKey,
    /// 1: key and value are there.
    pub ready: u32,
    /// [`ProcessKey::mark`] of who searches, once `ready`; 0 in a free place.
    pub mark: u32,
    /// What is known; zeros in a free place.
    pub stats: SearchStats,
}

/// 2^64 divided by the golden ratio: spreads what differs in few bits (Knuth, TAOCP 3, 6.4).
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
/// A multiplier of splitmix64 (Steele, Lea and Flood 2014).
const SPREAD: u64 = 0xbf58_476d_1ce4_e5b9;

/// A number below `count`, by the upper half of a hash.
#[inline(always)]
pub const fn scaled(hash: u64, count: u32) -> u32 {
    (((hash >> 32) * count as u64) >> 32) as u32
}

/// Hash of the lower half of a socket's address; sockets begin at multiples of 64.
#[inline(always)]
pub const fn socket_hash(low: u32) -> u64 {
    ((low >> 6) as u64).wrapping_mul(GOLDEN)
}

/// Hash that names the second bucket of the sockets with this hash.
#[inline(always)]
pub const fn second_hash(hash: u64) -> u64 {
    (hash ^ hash >> 29).wrapping_mul(SPREAD)
}

impl ProcessKey {
    /// Hash that names the first place.
    #[inline(always)]
    pub const fn hash(&self) -> u64 {
        (self.tgid as u64).wrapping_mul(GOLDEN)
    }

    /// What tells this process from another one that has its place later; never 0.
    #[inline(always)]
    pub const fn mark(&self) -> u32 {
        self.start_boottime_ns as u32 ^ self.tgid.rotate_left(16) | 1
    }
}

impl SearchKey {
    /// The words that it is in memory.
    #[inline(always)]
    pub const fn words(&self) -> [u64; 5] {
        let rest = self.netns as u64
            | (self.dst_port_be as u64) << 32
            | (self.op as u64) << 48
            | (self.family as u64) << 56;
        let [high, low] = self.dst;
        [
            self.process.start_boottime_ns,
            self.process.tgid as u64,
            high,
            low,
            rest,
        ]
    }

    /// Hash of the [`Self::words`], of which the upper half names the first place.
    #[inline(always)]
    pub const fn hash([start, tgid, high, low, rest]: [u64; 5]) -> u64 {
        let who = (start ^ tgid << 40).wrapping_mul(GOLDEN);
        let hash = (who ^ rest).wrapping_mul(SPREAD);
        let hash = (hash ^ hash >> 32 ^ high).wrapping_mul(GOLDEN);
        (hash ^ hash >> 32 ^ low).wrapping_mul(SPREAD)
    }
}

const _: () = {
    assert!(size_of::<SocketBucket>() == 512);
    assert!(core::mem::offset_of!(SocketBucket, entries) == 128);
    assert!(size_of::<ProcessSlot>() == 24 + size_of::<ProcessStats>());
    assert!(size_of::<SearchSlot>() == 48 + size_of::<SearchStats>());
};

#[cfg(test)]
mod tests {
    extern crate std;
    use std::{vec, vec::Vec};

    use super::*;

    /// How many of `count` sockets find no place in either bucket.
    fn spilled(buckets: u32, count: usize, address: impl Fn(u64) -> u64) -> usize {
        let mut used = vec![0; buckets as usize];
        let mut spilled = 0;
        for n in 0..count as u64 {
            let hash = socket_hash(address(n) as u32);
            let first = scaled(hash, buckets) as usize;
            let second = scaled(second_hash(hash), buckets) as usize;
            if used[first] < WAYS {
                used[first] += 1;
            } else if used[second] < WAYS {
                used[second] += 1;
            } else {
                spilled += 1;
            }
        }
        spilled
    }

    #[test]
    fn few_sockets_overflow_at_the_load_that_is_allowed() {
        // 14 sockets of 2,304 bytes in slabs of 32 KiB, which lie anywhere or side by side.
        let slab = |n: u64| 0xffff_8880_0000_0000 + n / 14 * 32_768 + n % 14 * 2_304;
        let scattered = |n: u64| {
            let place = crate::mix(n / 14) >> 44;
            0xffff_8880_0000_0000 + place * 32_768 + n % 14 * 2_304
        };
        for buckets in [171_u32, 2_731, 43_691] {
            let slots = buckets as usize * WAYS;
            for address in [&slab as &dyn Fn(u64) -> u64, &scattered] {
                assert!(spilled(buckets, slots * 3 / 4, address) <= slots * 2 / 100);
                assert!(spilled(buckets, slots / 2, address) <= slots / 200);
            }
        }
    }

    #[test]
    fn processes_that_follow_each_other_have_places_apart() {
        let mut used = vec![0_u8; 32_768];
        for tgid in 300..16_684_u32 {
            let key = ProcessKey {
                start_boottime_ns: 7,
                tgid,
                pad: 0,
            };
            used[scaled(key.hash(), 32_768) as usize] += 1;
        }
        assert!(used.iter().all(|count| *count <= 2));
    }

    #[test]
    fn searches_that_differ_in_anything_have_different_hashes() {
        let key = SearchKey {
            process: ProcessKey {
                start_boottime_ns: 1 << 40,
                tgid: 4_711,
                pad: 0,
            },
            dst: [0x0100_007f, 0],
            netns: 4_026_531_840,
            dst_port_be: 0x5000,
            op: 0,
            family: 2,
        };
        let mut others = vec![key, SearchKey { op: 1, ..key }];
        others.push(SearchKey { family: 10, ..key });
        others.push(SearchKey {
            netns: 4_026_531_841,
            ..key
        });
        others.push(SearchKey {
            dst_port_be: 0x5100,
            ..key
        });
        others.push(SearchKey {
            dst: [0x0100_007f, 1],
            ..key
        });
        for host in 0..200_u64 {
            let dst = [0x0000_000a | host << 24, 0];
            others.push(SearchKey { dst, ..key });
        }
        let mut hashes: Vec<u64> = others
            .iter()
            .map(|key| SearchKey::hash(key.words()))
            .collect();
        hashes.sort_unstable();
        assert!(hashes.windows(2).all(|pair| pair[0] != pair[1]));
        let mut places: Vec<u32> = hashes.iter().map(|hash| scaled(*hash, 4096)).collect();
        places.dedup();
        assert!(places.len() > 190, "{}", places.len());
    }
}
