//! aya's loader, without a look at the kernel's types.

use std::thread;

use aya::EbpfLoader;
use rustix::{
    process::chroot,
    thread::{UnshareFlags, unshare_unsafe},
};

/// A directory in which no other file is.
const EMPTY: &str = "/proc/self/fdinfo";

/// A loader of objects that need no relocation against the kernel's types, as ours.
///
/// [`EbpfLoader::new`] parses all of /sys/kernel/btf/vmlinux whether it is asked to or not: 40 ms and 20 MB
/// at their peak, more than all that a start does besides in user space. A thread that has its own, empty root finds no
/// such file; without CAP_SYS_CHROOT it takes the longer time.
pub(super) fn loader() -> EbpfLoader<'static> {
    let blind = thread::scope(|scope| {
        let made = thread::Builder::new().spawn_scoped(scope, || {
            // SAFETY: only CLONE_FS is passed: this thread, which ends here, gets its own root and
            // working directory, and the descriptor table stays shared.
            let apart = unsafe { unshare_unsafe(UnshareFlags::FS) };
            if let Err(error) = apart.and_then(|()| chroot(EMPTY)) {
                log::debug!("cannot keep aya from reading the kernel's types: {error}");
            }
            EbpfLoader::new()
        });
        made.ok()?.join().ok()
    });
    let mut loader = blind.unwrap_or_default();
    loader.btf(None);
    loader
}
