//! Where processes create sockets.
//!
//! As with endings, a place is kept once and entries refer to it by a hash.

use crate::mix;

/// A place in a program; key of the sites map.
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
pub struct Site {
    /// What was on top of the user stack. The function that makes a system call mostly has no
    /// frame, and then this is where it returns to: its caller, which the walk along frame
    /// pointers leaves out. 0 not known.
    pub top: u64,
    /// Key of the stack in the stack map.
    pub stack: u32,
    /// [`crate::names::maps::STACK_EPOCH`] when it was taken: the key means another stack in another one.
    pub epoch: u32,
}

impl Site {
    /// Hash by which entries refer to it; neither 0 nor [`crate::STACK_FAILED`].
    #[inline(always)]
    pub const fn id(&self) -> u32 {
        let hash = mix(mix((self.epoch as u64) << 32 | self.stack as u64) ^ self.top);
        let id = (hash ^ hash >> 32) as u32;
        if id == 0 || id == crate::STACK_FAILED {
            1
        } else {
            id
        }
    }
}

const _: () = assert!(size_of::<Site>() == 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stack_top_and_epoch_all_count() {
        let site = |top, stack, epoch| Site { top, stack, epoch }.id();
        assert_ne!(site(0x5555_0000, 1, 0), site(0x5555_0000, 2, 0));
        assert_ne!(site(0x5555_0000, 1, 0), site(0x5555_0010, 1, 0));
        assert_ne!(site(0x5555_0000, 1, 0), site(0x5555_0000, 1, 2));
        assert_ne!(site(0, 0, 0), 0);
    }
}
