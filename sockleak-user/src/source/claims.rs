//! Which places of a table are taken, read where the kernel keeps it: without a call for each.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// An array map of `u64` that was made with `BPF_F_MMAPABLE` (Linux 5.5), mapped for reading.
pub(super) struct Claims {
    start: *const u64,
    count: usize,
}

// SAFETY: the mapping belongs to nobody else, stays until it is dropped, and is only read.
unsafe impl Send for Claims {}

impl Claims {
    /// Maps the `count` elements of `map`.
    ///
    /// # Errors
    /// When the kernel does not map it, as one that was made without the flag.
    pub(super) fn new(map: BorrowedFd<'_>, count: u32) -> io::Result<Self> {
        let count = count as usize;
        // SAFETY: a new mapping at an address that the kernel chooses touches no other memory. It refuses
        // more than the map has.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                count * size_of::<u64>(),
                libc::PROT_READ,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            start: start.cast(),
            count,
        })
    }

    /// Places that are taken, in their order. They are taken and given back meanwhile.
    pub(super) fn taken(&self) -> impl Iterator<Item = u32> {
        (0..self.count).filter_map(|place| {
            // SAFETY: within the mapping, aligned as the kernel aligns it; the kernel side writes to it while
            // we read, hence volatile.
            let claim = unsafe { self.start.add(place).read_volatile() };
            (claim != 0).then(|| u32::try_from(place).unwrap_or(u32::MAX))
        })
    }
}

impl Drop for Claims {
    fn drop(&mut self) {
        // SAFETY: exactly what mmap() gave, to which nothing refers.
        unsafe { libc::munmap(self.start.cast_mut().cast(), self.count * size_of::<u64>()) };
    }
}
