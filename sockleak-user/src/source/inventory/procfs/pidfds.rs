//! Reaching into processes.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::{AsFd, OwnedFd};

use super::ask::{self, Silence};
use super::walk::{Descriptor, Walked};

/// Open pidfds at a time.
const MAX_PIDFDS: usize = 128;

/// pidfds of the processes whose sockets are being asked.
#[derive(Default)]
pub(super) struct Pidfds {
    open: HashMap<u32, Result<OwnedFd, Silence>>,
    /// Pids that are gone.
    pub gone: BTreeSet<u32>,
}

impl Pidfds {
    /// Copies a descriptor's socket.
    pub fn copy(&mut self, walked: &Walked, descriptor: &Descriptor) -> Result<OwnedFd, Silence> {
        let table = walked.tables.get(descriptor.table as usize);
        let table = table.ok_or(Silence::Gone)?;
        if self.open.len() >= MAX_PIDFDS && !self.open.contains_key(&descriptor.table) {
            self.open.clear();
        }
        let pidfd = self
            .open
            .entry(descriptor.table)
            .or_insert_with(|| ask::open(table));
        match pidfd {
            Ok(pidfd) => ask::copy(pidfd.as_fd(), descriptor.fd, descriptor.inode),
            Err(silence) => {
                if (*silence, table.tid) == (Silence::Gone, None) {
                    self.gone.insert(table.process.pid);
                }
                Err(*silence)
            }
        }
    }
}
