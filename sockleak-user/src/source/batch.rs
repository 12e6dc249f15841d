//! All values of a map in few calls (`BPF_MAP_LOOKUP_BATCH`, Linux 5.6), which aya has not.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// `BPF_MAP_LOOKUP_BATCH` of `enum bpf_cmd`.
const MAP_LOOKUP_BATCH: libc::c_long = 24;
/// Elements asked for at a time; at 64 bytes each the buffers take 128 KiB.
const BATCH: u32 = 2048;
/// The longest chain of one bucket that is waited for.
const LONGEST: u32 = 1 << 16;

/// `batch` of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct Attr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Calls `each` with every value of the hash map or array `map`, of an array in their order, but for
/// no more than `most`. An element that
/// is inserted or removed meanwhile is seen or not; the others are seen once
/// (kernel/bpf/hashtab.c `__htab_map_lookup_and_delete_batch` goes bucket by bucket).
pub(super) fn values(
    map: BorrowedFd<'_>,
    key_size: usize,
    value_size: usize,
    most: u64,
    mut each: impl FnMut(&[u8]),
) -> io::Result<()> {
    // Where the walk stands: the number of a bucket, 32 bits.
    let (mut stand, mut next) = (0_u64, 0_u64);
    let mut room = BATCH;
    let (mut keys, mut elements) = (Vec::new(), Vec::new());
    let mut seen = 0;
    let mut begun = false;
    while seen < most {
        keys.resize(room as usize * key_size, 0_u8);
        elements.resize(room as usize * value_size, 0_u8);
        let mut attr = Attr {
            in_batch: if begun {
                std::ptr::from_ref(&stand) as u64
            } else {
                0
            },
            out_batch: std::ptr::from_mut(&mut next) as u64,
            keys: keys.as_mut_ptr() as u64,
            values: elements.as_mut_ptr() as u64,
            count: room,
            map_fd: u32::try_from(map.as_raw_fd()).unwrap_or(u32::MAX),
            ..Attr::default()
        };
        // SAFETY: `attr` is the layout that the command reads, its size is passed along, and its
        // pointers are to buffers that live through the call: of 8 bytes for the two positions,
        // of which a hash uses 4, and of `count` keys and values of the map's sizes.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                MAP_LOOKUP_BATCH,
                std::ptr::from_mut(&mut attr),
                size_of::<Attr>(),
            )
        };
        let error = (result < 0).then(io::Error::last_os_error);
        match error.as_ref().and_then(io::Error::raw_os_error) {
            None | Some(libc::ENOENT) => {}
            // The bucket at which the walk stands does not fit.
            Some(libc::ENOSPC) if room < LONGEST => {
                room *= 2;
                continue;
            }
            Some(_) => return Err(error.unwrap_or_else(|| io::Error::other("no reason given"))),
        }
        let count = attr.count.min(room) as usize;
        elements
            .chunks_exact(value_size)
            .take(count)
            .for_each(&mut each);
        seen += count as u64;
        if error.is_some() {
            // ENOENT: that was the last of it.
            return Ok(());
        }
        (stand, begun) = (next, true);
    }
    Ok(())
}
#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd};

    use super::*;

    /// bpf(2) with `words` as its attributes; the test's words are the layout of the command.
    fn bpf(command: libc::c_long, words: &mut [u64]) -> io::Result<libc::c_long> {
        // SAFETY: the size is that of `words`, and the callers pass pointers to live values.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                command,
                words.as_mut_ptr(),
                size_of_val(words),
            )
        };
        match result {
            0.. => Ok(result),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn hash_of(most: u64) -> io::Result<OwnedFd> {
        const HASH: u64 = 1;
        // map_type and key_size, value_size and max_entries: pairs of 32 bits.
        let pair = |low: u64, high: u64| low | high << 32;
        let fd = bpf(0, &mut [pair(HASH, 8), pair(8, most), 0])?;
        // SAFETY: the kernel has just made this descriptor.
        Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap()) })
    }

    #[test]
    fn every_value_once_and_no_more_than_wanted() {
        let test = "every_value_once_and_no_more_than_wanted";
        let map = match hash_of(20_000) {
            Ok(map) => map,
            Err(error) => return crate::kernel::skip_aloud(test, &format!("no map: {error}")),
        };
        let all = |most| {
            let mut found = Vec::new();
            values(map.as_fd(), 8, 8, most, |value| {
                found.push(u64::from_ne_bytes(value.try_into().unwrap()));
            })
            .unwrap();
            found
        };
        assert_eq!(all(u64::MAX), [0; 0]);
        for key in 0..20_000_u64 {
            let value = key * 3;
            let fd = u64::try_from(map.as_raw_fd()).unwrap();
            let key = std::ptr::from_ref(&key) as u64;
            bpf(2, &mut [fd, key, std::ptr::from_ref(&value) as u64, 0]).unwrap();
        }
        let found = all(u64::MAX);
        assert_eq!(found.len(), 20_000);
        let distinct: BTreeSet<u64> = found.into_iter().collect();
        assert!(distinct.into_iter().eq((0..20_000).map(|key| key * 3)));
        let some = all(5_000).len();
        assert!((5_000..5_000 + BATCH as usize).contains(&some), "{some}");
    }

    #[test]
    fn what_is_no_map_is_an_error() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(values(file.as_fd(), 8, 8, 1, |_| ()).is_err());
    }
}
