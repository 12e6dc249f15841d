//! Entries of the map of sockets, as far as orphans are concerned.

use std::mem::offset_of;

use sockleak_ebpf::{SOCKET_ADOPTED, SOCKET_KERNEL, SOCKET_RELEASED, SocketEntry};

use super::DecodeError;
use crate::model::ProcessId;

/// Who created a socket that no descriptor refers to any more; `None` for all others, and when
/// the creator is not known.
///
/// # Errors
/// When the value does not have the agreed size.
pub fn released(value: &[u8]) -> Result<Option<ProcessId>, DecodeError> {
    let entry: &[u8; size_of::<SocketEntry>()] =
        value.try_into().map_err(|_| DecodeError::Size {
            what: "socket value",
            found: value.len(),
            expected: size_of::<SocketEntry>(),
        })?;
    let flags = u32::from_ne_bytes(part(entry, offset_of!(SocketEntry, flags)));
    if flags & (SOCKET_RELEASED | SOCKET_ADOPTED | SOCKET_KERNEL) != SOCKET_RELEASED {
        return Ok(None);
    }
    let tgid = u32::from_ne_bytes(part(entry, offset_of!(SocketEntry, creator_tgid)));
    let start = u64::from_ne_bytes(part(entry, offset_of!(SocketEntry, creator_start_ns)));
    Ok(Some(ProcessId::from_kernel(tgid, start)))
}

/// `N` bytes of `entry` at `offset`, zeros where it has none.
fn part<const N: usize>(entry: &[u8], offset: usize) -> [u8; N] {
    let bytes = entry.get(offset..).and_then(|rest| rest.first_chunk());
    bytes.copied().unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZE: usize = size_of::<SocketEntry>();

    fn entry(flags: u32) -> [u8; SIZE] {
        let mut bytes = [0xa5; SIZE];
        let mut put = |offset: usize, value: &[u8]| {
            bytes[offset..offset + value.len()].copy_from_slice(value);
        };
        put(offset_of!(SocketEntry, flags), &flags.to_ne_bytes());
        let start = 12_340_000_000_u64;
        put(
            offset_of!(SocketEntry, creator_start_ns),
            &start.to_ne_bytes(),
        );
        put(offset_of!(SocketEntry, creator_tgid), &77_u32.to_ne_bytes());
        bytes
    }

    #[test]
    fn only_what_a_process_created_and_let_go() {
        let creator = ProcessId {
            pid: 77,
            start_ticks: 1_234,
        };
        assert_eq!(released(&entry(SOCKET_RELEASED)), Ok(Some(creator)));
        assert_eq!(released(&entry(SOCKET_RELEASED | 1024)), Ok(Some(creator)));
        for flags in [
            0,
            SOCKET_KERNEL,
            SOCKET_RELEASED | SOCKET_ADOPTED,
            SOCKET_RELEASED | SOCKET_KERNEL,
        ] {
            assert_eq!(released(&entry(flags)), Ok(None), "{flags}");
        }
    }

    proptest! {
        #[test]
        fn any_other_size_is_an_error(value in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(released(&value).is_ok(), value.len() == SIZE);
        }
    }
}
