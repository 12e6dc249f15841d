//! Sockets that exist, are in use, and belong to nobody who can be seen.

use std::collections::HashSet;

use crate::{
    model::{HeldSocket, TcpState},
    source::{
        netns::{Namespaces, in_netns},
        sock_diag::{self, DiagSocket, States},
    },
    tracker::Hidden,
};

/// Examples that are put in words.
const EXAMPLES: usize = 5;
/// Namespaces that are asked at most.
const NAMESPACES: usize = 256;
/// Sockets behind descriptors that are remembered at most: 9 MiB of them, a hash table of 4-byte keys.
const SOCKETS: usize = 7 << 18;

/// Said when there are more sockets than [`Shown`] remembers.
pub const TOO_MANY: &str = "too many sockets have a descriptor to tell which of the others belong to a \
                            process that cannot be looked into";

/// Inodes of the sockets behind descriptors that sock_diag lists as well: all that are not
/// CLOSED.
#[derive(Debug, Default)]
pub struct Shown {
    inodes: HashSet<u32>,
    dropped: bool,
}

impl Shown {
    /// Notes a descriptor.
    pub fn add(&mut self, socket: &HeldSocket) {
        if socket.state != TcpState::Close {
            self.insert(socket.inode, SOCKETS);
        }
    }

    /// There were more than are remembered.
    pub fn is_full(&self) -> bool {
        self.dropped
    }

    fn insert(&mut self, inode: u64, most: usize) {
        // sock_diag has 32 bits for it, and so has the allocator of socket inodes.
        let inode = (inode & u64::from(u32::MAX)) as u32;
        match self.inodes.len() < most {
            true => drop(self.inodes.insert(inode)),
            false => self.dropped |= !self.inodes.contains(&inode),
        }
    }

    /// Asks sock_diag in every network namespace for sockets that have an inode, and so an owner
    /// of some kind, but no descriptor that was seen. Orphans, children that wait to be accepted
    /// and TIME_WAIT have none. `None` when no namespace could be asked, or when
    /// there were too many sockets to remember whose they are.
    pub fn hidden(&self) -> Option<Hidden> {
        if self.dropped {
            return None;
        }
        let namespaces = Namespaces::enumerate().ok()?;
        let mut found = None;
        for inode in namespaces.inodes().take(NAMESPACES) {
            let listed = namespaces.open(inode).and_then(|handle| {
                in_netns(&handle, || {
                    sock_diag::dump(States::ALL, |hidden: &mut Hidden, socket| {
                        self.note(hidden, &socket, inode);
                    })
                })
            });
            if let Ok(Ok((hidden, _))) = listed {
                let all: &mut Hidden = found.get_or_insert_default();
                all.count += hidden.count;
                all.examples.extend(hidden.examples);
                all.examples.truncate(EXAMPLES);
            }
        }
        found
    }

    fn note(&self, hidden: &mut Hidden, socket: &DiagSocket, netns: u32) {
        let closed = matches!(socket.state, TcpState::Close | TcpState::BoundInactive);
        let inode = socket.inode;
        if inode == 0 || closed || socket.is_time_wait || self.inodes.contains(&inode) {
            return;
        }
        hidden.count += 1;
        if hidden.examples.len() < EXAMPLES {
            let peer = match socket.peer {
                Some(peer) => format!(" to {peer}"),
                None => String::new(),
            };
            hidden.examples.push(format!(
                "{} {}{peer} in namespace {netns}",
                socket.state.name(),
                socket.local
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_too_many_sockets_nobody_is_called_hidden() {
        let mut shown = Shown::default();
        for inode in [7, 8, 7, 8] {
            shown.insert(inode, 2);
        }
        assert!(!shown.dropped, "the same ones need no more room");
        shown.insert(9, 2);
        assert!(shown.dropped);
        assert_eq!(shown.inodes.len(), 2);
        assert_eq!(shown.hidden(), None);
    }
}
