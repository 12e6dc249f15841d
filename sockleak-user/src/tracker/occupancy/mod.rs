//! What the ports of one network namespace are used for, and what room that leaves.
//!
//! Two views are joined, by inode number: the kernel's list of sockets ([`NetnsSockets`]), which
//! has those that no descriptor refers to and their addresses, and an inventory
//! ([`PortHolders`]), which has the processes, CLOSED sockets on kernels that do not list them,
//! and what the kernel thinks of a port's bucket.
//!
//! The list is the fresh half: it is cheap and grows with the namespace alone. The inventory, which
//! looks at every descriptor of the host, may be older: it only says whose the listed sockets
//! are. Every count is right then; holders of sockets that are younger than it are missing.
//!
//! connect() without a port (`__inet_hash_connect`) walks the range. It leaves out reserved ports
//! and those whose bind bucket counts as bound (`fastreuse >= 0 || fastreuseport >= 0`), whatever
//! the addresses; takes a port that has no bucket; and otherwise takes it if no connection and no
//! TIME_WAIT has the same source, port and destination. bind() to port 0
//! (`inet_csk_find_open_port`) leaves out reserved ports and those that any socket has on a
//! conflicting address. Buckets are per VRF (l3mdev), which no list tells: sockets in different
//! VRFs of a namespace are taken together here, and room may be larger than said.

mod binders;
mod holders;
mod range;
mod room;
mod rooms;
mod sockets;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use binders::Binder;
pub use holders::PortHolders;
pub use range::Range;
pub use room::{Blocker, Destination, Half, PortClass, Room};
pub use sockets::NetnsSockets;

use crate::model::PortSet;
use crate::model::{PortSettings, ProcessId};
use holders::{Holder, Use};
use sockets::{Kind, Record};

/// Reserved.
const RESERVED: u8 = 1;
/// A CLOSED socket has it.
const CLOSED: u8 = 2;
/// A listener has it.
const LISTENING: u8 = 4;
/// A connection has it.
const CONNECTED: u8 = 8;
/// A TIME_WAIT has it.
const TIME_WAIT: u8 = 16;
/// The kernel says that its bucket counts as bound.
const BUCKET_BOUND: u8 = 32;
/// A process that is known has it.
const OWNED: u8 = 64;
/// A connection has it whose bucket the kernel was not asked about.
const BUCKET_UNKNOWN: u8 = 128;

const IN_USE: u8 = CLOSED | LISTENING | CONNECTED | TIME_WAIT;
const BOUND: u8 = CLOSED | LISTENING | BUCKET_BOUND;

/// Ports that one process holds in the namespace, inside and outside of the range.
#[derive(Clone, Debug, Default)]
pub struct HeldPorts {
    /// Through CLOSED sockets.
    pub bound: PortSet,
    /// Through connections.
    pub connected: PortSet,
    /// Through listeners.
    pub listening: PortSet,
}

/// The ports of one namespace at one moment.
#[derive(Debug)]
pub struct Occupancy<'a> {
    sockets: &'a NetnsSockets,
    processes: &'a PortHolders,
    /// Those of the namespace, by inode.
    holders: Vec<Holder>,
    range: Range,
    /// By port.
    flags: Vec<u8>,
    held: BTreeMap<ProcessId, HeldPorts>,
}

impl<'a> Occupancy<'a> {
    /// Joins the kernel's list with an inventory. The inventory may be older: who holds a port
    /// is taken from it only for sockets that are in the list, but for CLOSED ones on kernels
    /// that do not list these.
    pub fn new(sockets: &'a NetnsSockets, processes: &'a PortHolders) -> Self {
        let settings = &sockets.settings;
        let mut occupancy = Self {
            sockets,
            processes,
            holders: processes.in_netns(settings.netns),
            range: settings.range.into(),
            flags: vec![0; 1 << 16],
            held: BTreeMap::new(),
        };
        for port in &settings.reserved {
            occupancy.mark(*port, RESERVED);
        }
        for record in &sockets.records {
            occupancy.take(record);
        }
        let holders = std::mem::take(&mut occupancy.holders);
        for holder in &holders {
            if !occupancy.is_unlisted(holder) {
                continue;
            }
            occupancy.mark(holder.port, flag(holder.uses) | OWNED | bucket(holder));
            occupancy.credit(holder, holder.uses, holder.port);
        }
        occupancy.holders = holders;
        occupancy
    }

    /// A socket of a kind that the kernel's list does not have.
    fn is_unlisted(&self, holder: &Holder) -> bool {
        match holder.uses {
            Use::Closed => !self.sockets.lists_closed,
            Use::Listening | Use::Connected => !self.sockets.is_listed,
        }
    }

    fn take(&mut self, record: &Record) {
        let (flag, uses) = match record.kind {
            Kind::Request => return,
            Kind::TimeWait | Kind::TimeWaitFin => return self.mark(record.port, TIME_WAIT),
            Kind::Closed => (CLOSED, Use::Closed),
            Kind::Listening => (LISTENING, Use::Listening),
            Kind::Connected => (CONNECTED, Use::Connected),
        };
        self.mark(record.port, flag);
        let owners = self.owner_range(record.inode);
        for index in owners {
            let Some(holder) = self.holders.get(index).copied() else {
                continue;
            };
            self.mark(record.port, OWNED | bucket(&holder));
            self.credit(&holder, uses, record.port);
        }
    }

    fn mark(&mut self, port: u16, flags: u8) {
        if let Some(known) = self.flags.get_mut(usize::from(port)) {
            *known |= flags;
        }
    }

    fn credit(&mut self, holder: &Holder, uses: Use, port: u16) {
        let Some(process) = self.processes.process_at(holder.process) else {
            return;
        };
        let held = self.held.entry(process).or_default();
        match uses {
            Use::Closed => &mut held.bound,
            Use::Listening => &mut held.listening,
            Use::Connected => &mut held.connected,
        }
        .insert(port);
    }

    /// Indices of the descriptors of a socket.
    fn owner_range(&self, inode: u32) -> std::ops::Range<usize> {
        if inode == 0 {
            return 0..0;
        }
        let start = self.holders.partition_point(|holder| holder.inode < inode);
        let rest = self.holders.get(start..).unwrap_or_default();
        start..start + rest.partition_point(|holder| holder.inode == inode)
    }

    fn owners(&self, inode: u32) -> impl Iterator<Item = ProcessId> + '_ {
        let owners = self.holders.get(self.owner_range(inode));
        let owners = owners.unwrap_or_default().iter();
        owners.filter_map(|holder| self.processes.process_at(holder.process))
    }

    fn flags(&self, port: u16) -> u8 {
        self.flags.get(usize::from(port)).copied().unwrap_or(0)
    }

    /// Settings of the namespace.
    pub fn settings(&self) -> &'a PortSettings {
        &self.sockets.settings
    }

    /// `ip_local_port_range`.
    pub fn range(&self) -> Range {
        self.range
    }

    /// Ports of each process that holds any, inside and outside of the range.
    pub fn held(&self) -> impl Iterator<Item = (ProcessId, &HeldPorts)> {
        self.held.iter().map(|(process, held)| (*process, held))
    }

    /// Whether any socket has this port.
    pub fn is_in_use(&self, port: u16) -> bool {
        self.flags(port) & IN_USE != 0
    }

    /// Whether only TIME_WAIT has this port.
    pub fn is_time_wait_only(&self, port: u16) -> bool {
        self.flags(port) & IN_USE == TIME_WAIT
    }

    /// Whether a socket has this port, and no process is known to hold one that does. TIME_WAIT,
    /// which has no owner in the kernel, alone does not count.
    pub fn is_unowned(&self, port: u16) -> bool {
        self.flags(port) & (IN_USE & !TIME_WAIT) != 0 && self.flags(port) & OWNED == 0
    }

    /// Why a port counts as bound; `None` when it does not. A listener comes before a CLOSED
    /// socket, and that before a connection.
    pub fn bound_by(&self, port: u16) -> Option<BoundBy> {
        let flags = self.flags(port);
        if flags & LISTENING != 0 {
            Some(BoundBy::Listener)
        } else if flags & CLOSED != 0 {
            Some(BoundBy::Closed)
        } else if flags & BUCKET_BOUND != 0 {
            Some(BoundBy::Connection)
        } else {
            None
        }
    }

    /// Whether the kernel was asked about the bucket of every connection of the range that a
    /// known process holds.
    pub fn buckets_are_known(&self) -> bool {
        let unknown = |port| self.flags(port) & (BOUND | BUCKET_UNKNOWN) == BUCKET_UNKNOWN;
        !self.range.ports().any(unknown)
    }

    /// Ports of the range that only connections have about whose bucket the kernel was not asked:
    /// they may count as bound after all.
    pub fn unknown_buckets(&self) -> u64 {
        let unknown = |port: &u16| {
            let flags = self.flags(*port);
            let unasked = flags & BUCKET_UNKNOWN != 0 || flags & (CONNECTED | OWNED) == CONNECTED;
            flags & (BOUND | RESERVED) == 0 && unasked
        };
        self.range.ports().filter(unknown).count() as u64
    }

    /// Class of a port for all destinations: [`PortClass::Connected`] for one that any
    /// connection has, [`PortClass::TimeWait`] for one that only TIME_WAIT has.
    pub fn class(&self, port: u16) -> PortClass {
        match self.flags(port) {
            flags if flags & RESERVED != 0 => PortClass::Reserved,
            flags if flags & BOUND != 0 => PortClass::Bound,
            flags if flags & CONNECTED != 0 => PortClass::Connected,
            flags if flags & TIME_WAIT != 0 => PortClass::TimeWait,
            _ => PortClass::Free,
        }
    }

    /// TIME_WAIT sockets of the namespace, with the time that each has left where it is known,
    /// ms.
    pub fn time_waits(&self) -> impl Iterator<Item = Option<u32>> {
        let records = self.sockets.records.iter();
        let records = records.filter(|record| record.is_time_wait());
        records.map(Record::expires_ms)
    }
}

/// What makes a port count as bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoundBy {
    /// A listener.
    Listener,
    /// A CLOSED socket.
    Closed,
    /// A connection whose socket was bound before, or that somebody bound to as well.
    Connection,
}

fn flag(uses: Use) -> u8 {
    match uses {
        Use::Closed => CLOSED,
        Use::Listening => LISTENING,
        Use::Connected => CONNECTED,
    }
}

fn bucket(holder: &Holder) -> u8 {
    match (holder.bucket, holder.uses) {
        (Some(true), _) => BUCKET_BOUND,
        (None, Use::Connected) => BUCKET_UNKNOWN,
        (Some(false) | None, _) => 0,
    }
}
