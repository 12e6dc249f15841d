//! How connections end that are still held: what the sockets of a leak have in common.
//!
//! An ending is kept once, whatever the number of sockets; a socket's entry refers to it by
//! [`Ending::id`].

use crate::{AF_INET, AF_INET6};

/// How a connection, or an attempt at one, ended; key of the endings map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(
        zerocopy::FromBytes,
        zerocopy::IntoBytes,
        zerocopy::Immutable,
        zerocopy::KnownLayout
    )
)]
#[repr(C)]
pub struct Ending {
    /// Peer: 4 or 16 bytes in network order, the rest zero.
    pub peer: [u64; 2],
    /// Its port, network order.
    pub peer_port_be: u16,
    /// `skc_family`.
    pub family: u16,
    /// What it died of, positive: `sk_err`, or what the port search returned.
    pub errno: u16,
    /// `skc_state` before: SYN_SENT for an attempt that came to nothing, CLOSE for bind().
    pub state: u8,
    /// Zero.
    pub pad: u8,
}

impl Ending {
    /// By which entries refer to it; never 0. Without a peer it says everything, so that no map needs to be asked:
    /// see [`Ending::of_id`]. With one it is a hash; two endings with the same hash cannot be told
    /// apart, which user space notices when it reads the map.
    #[inline(always)]
    pub const fn id(&self) -> u32 {
        if self.peer[0] | self.peer[1] | self.peer_port_be as u64 == 0 {
            let family = if self.family == AF_INET6 { ID_IPV6 } else { 0 };
            return ID_COMPLETE | family | (self.state as u32) << 16 | self.errno as u32;
        }
        let rest = self.peer_port_be as u64
            | (self.family as u64) << 16
            | (self.errno as u64) << 32
            | (self.state as u64) << 48;
        let hash = mix(mix(mix(rest) ^ self.peer[0]) ^ self.peer[1]);
        let id = (hash ^ hash >> 32) as u32 & !ID_COMPLETE;
        if id == 0 { 1 } else { id }
    }

    /// The ending without a peer that this id says; `None` when it is a hash, or says nothing.
    pub const fn of_id(id: u32) -> Option<Self> {
        if id & ID_COMPLETE == 0 || id & !(ID_COMPLETE | ID_IPV6 | 0xff_ffff) != 0 {
            return None;
        }
        Some(Self {
            peer: [0; 2],
            peer_port_be: 0,
            family: if id & ID_IPV6 != 0 { AF_INET6 } else { AF_INET },
            errno: id as u16,
            state: (id >> 16) as u8,
            pad: 0,
        })
    }
}

/// The id is no hash.
const ID_COMPLETE: u32 = 1 << 31;
/// The socket's family is `AF_INET6`.
const ID_IPV6: u32 = 1 << 30;

/// A round of splitmix64 (Steele, Lea and Flood 2014).
#[inline(always)]
pub(crate) const fn mix(word: u64) -> u64 {
    let mut word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

const _: () = assert!(size_of::<Ending>() == 24);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_that_differ_in_anything_have_different_ids() {
        let one = Ending {
            peer: [0x0900_000a, 0],
            peer_port_be: 2280u16.to_be(),
            family: 2,
            errno: 111,
            state: 2,
            pad: 0,
        };
        let mut ids = [
            one.id(),
            Ending { errno: 110, ..one }.id(),
            Ending { state: 1, ..one }.id(),
            Ending { family: 10, ..one }.id(),
            Ending {
                peer_port_be: 2281u16.to_be(),
                ..one
            }
            .id(),
            Ending {
                peer: [0x0800_000a, 0],
                ..one
            }
            .id(),
            Ending {
                peer: [0x0900_000a, 1],
                ..one
            }
            .id(),
        ];
        ids.sort_unstable();
        assert!(
            ids.windows(2)
                .all(|pair| pair[0] != pair[1] && pair[0] != 0)
        );
        assert_eq!(one.id(), Ending { ..one }.id());
    }

    #[test]
    fn without_a_peer_the_id_says_everything() {
        for family in [AF_INET, AF_INET6] {
            for (errno, state) in [(104, 1), (32, 8), (110, 2), (u16::MAX, u8::MAX)] {
                let ending = Ending {
                    family,
                    errno,
                    state,
                    ..Ending::default()
                };
                assert_eq!(Ending::of_id(ending.id()), Some(ending));
            }
        }
        let with_peer = Ending {
            peer: [0x0900_000a, 0],
            family: AF_INET,
            ..Ending::default()
        };
        assert_eq!(Ending::of_id(with_peer.id()), None);
        assert_eq!(Ending::of_id(0), None);
        assert_eq!(Ending::of_id(u32::MAX - 1), None);
    }
}
