//! Who has connections on ports that somebody bound, and who shares such a port with whom.

use std::collections::{BTreeMap, BTreeSet};

use super::Occupancy;
use super::sockets::Kind;
use super::{BOUND, BUCKET_BOUND, CLOSED, LISTENING, RESERVED};
use crate::model::ProcessId;

/// Owners of one port that are held against each other; a port shared by more is rare.
const OWNERS: usize = 8;

/// The connections of one process on ports that count as bound because of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binder {
    /// Ports of the range.
    pub ports: u64,
    /// Of those, that a socket of another process has, too.
    pub contested: u64,
    /// The same by process.
    pub with: BTreeMap<ProcessId, u64>,
}

impl Occupancy<'_> {
    /// Processes with connections on ports of the range that count as bound although neither a
    /// listener nor a CLOSED socket has them. One socket that several processes hold (fork) is
    /// not contested.
    pub fn binders(&self) -> BTreeMap<ProcessId, Binder> {
        let mut by_port: BTreeMap<u16, BTreeMap<u32, BTreeSet<ProcessId>>> = BTreeMap::new();
        for record in &self.sockets.records {
            let flags = self.flags(record.port);
            let is_bound = flags & BUCKET_BOUND != 0
                && flags & (CLOSED | LISTENING | RESERVED) == 0
                && self.range.contains(record.port);
            if record.kind == Kind::Connected && record.inode != 0 && is_bound {
                let sockets = by_port.entry(record.port).or_default();
                let owners = self.owners(record.inode).take(OWNERS).collect();
                sockets.insert(record.inode, owners);
            }
        }
        let mut binders: BTreeMap<ProcessId, Binder> = BTreeMap::new();
        for sockets in by_port.values() {
            let all: BTreeSet<ProcessId> = sockets.values().flatten().copied().collect();
            for own in all.iter().take(OWNERS) {
                let others: BTreeSet<ProcessId> = (sockets.values())
                    .filter(|owners| !owners.contains(own))
                    .flatten()
                    .copied()
                    .collect();
                let binder = binders.entry(*own).or_default();
                binder.ports += 1;
                binder.contested += u64::from(!others.is_empty());
                for other in others.into_iter().take(OWNERS) {
                    *binder.with.entry(other).or_default() += 1;
                }
            }
        }
        binders
    }

    /// Ports of another range that connect() could take towards a destination that nobody has
    /// connected to: neither reserved nor bound.
    pub fn open_in(&self, range: super::Range) -> u64 {
        let open = |port: &u16| self.flags(*port) & (RESERVED | BOUND) == 0;
        range.ports().filter(open).count() as u64
    }
}
