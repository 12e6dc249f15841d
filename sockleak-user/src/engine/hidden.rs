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

/// Inodes of the sockets behind descriptors that sock_diag lists as well: all that are not
/// CLOSED.
#[derive(Debug, Default)]
pub struct Shown(HashSet<u64>);

impl Shown {
    /// Notes a descriptor.
    pub fn add(&mut self, socket: &HeldSocket) {
        if socket.state != TcpState::Close {
            // sock_diag has 32 bits for it, and so has the allocator of socket inodes.
            self.0.insert(socket.inode & u64::from(u32::MAX));
        }
    }

    /// Asks sock_diag in every network namespace for sockets that have an inode, and so an owner
    /// of some kind, but no descriptor that was seen. Orphans, children that wait to be accepted
    /// and TIME_WAIT have none. `None` when no namespace could be asked.
    pub fn hidden(&self) -> Option<Hidden> {
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
        let inode = u64::from(socket.inode);
        if inode == 0 || closed || socket.is_time_wait || self.0.contains(&inode) {
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
