//! How the allocator is told to keep little.

/// Larger pieces of memory go back to the system as soon as they are freed, bytes.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE: libc::c_int = 128 << 10;

/// To be called before anything large is allocated. glibc raises this limit to the size of every large
/// piece that is freed, up to 32 MiB: after the kernel's BTF has been read once, inventories would come from
/// a heap that never shrinks.
pub fn keep_little() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt takes two integers and no other thread exists yet.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        libc::mallopt(libc::M_TRIM_THRESHOLD, LARGE);
        // Threads are few and short: the arena of each would stay.
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives back what small pieces left behind; takes about a millisecond, so not for every interval.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
