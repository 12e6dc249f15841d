//! Who holds which local port: the part of an inventory that questions about ports need.

use std::net::{IpAddr, Ipv4Addr};

use super::super::hash::FastMap;
use crate::model::{HeldSocket, ProcessId, SocketClass};

/// Most descriptors remembered; 24 bytes each.
const MOST: usize = 1 << 20;

/// What a descriptor's socket does with its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// CLOSED: bind() and nothing since.
    Closed,
    Listening,
    Connected,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Holder {
    netns: u32,
    /// Index of the process.
    pub(super) process: u32,
    /// As sock_diag has it: 32 bits.
    pub(super) inode: u32,
    address: u32,
    pub(super) port: u16,
    pub(super) uses: Use,
    /// Whether the kernel counts the port's bucket as bound; `None` when it was not asked.
    pub(super) bucket: Option<bool>,
}

/// The descriptors of an inventory whose sockets hold a local port, by network namespace.
///
/// Fill it while an inventory runs: [`PortHolders::add`] every socket. Sockets without a port
/// cost nothing here, others 24 bytes.
#[derive(Clone, Debug)]
pub struct PortHolders {
    limit: usize,
    holders: Vec<Holder>,
    processes: Vec<ProcessId>,
    index: FastMap<ProcessId, u32>,
    addresses: Vec<IpAddr>,
    address_index: std::collections::HashMap<IpAddr, u32>,
    /// Inventories walk process by process.
    last: Option<(ProcessId, u32)>,
    last_address: Option<(IpAddr, u32)>,
    dropped: u64,
}

impl Default for PortHolders {
    fn default() -> Self {
        Self::with_limit(MOST)
    }
}

impl PortHolders {
    /// Empty, with room for so many descriptors.
    pub fn with_limit(limit: usize) -> Self {
        Self {
            limit,
            holders: Vec::new(),
            processes: Vec::new(),
            index: FastMap::default(),
            addresses: Vec::new(),
            address_index: std::collections::HashMap::new(),
            last: None,
            last_address: None,
            dropped: 0,
        }
    }

    /// Notes a descriptor; does nothing when its socket has no port or an unknown namespace.
    pub fn add(&mut self, socket: &HeldSocket) {
        let port = socket.local.port();
        let Some(netns) = socket.netns.filter(|_| port != 0) else {
            return;
        };
        if self.holders.len() >= self.limit {
            self.dropped += 1;
            return;
        }
        let holder = Holder {
            netns,
            process: self.process(socket.holder),
            // The allocator of socket inodes has 32 bits, too.
            inode: (socket.inode & u64::from(u32::MAX)) as u32,
            address: self.address(socket.local.ip().to_canonical()),
            port,
            uses: match socket.class {
                SocketClass::Unbound | SocketClass::Bound => Use::Closed,
                SocketClass::Listen => Use::Listening,
                SocketClass::Connecting
                | SocketClass::Established
                | SocketClass::CloseWait
                | SocketClass::Closing => Use::Connected,
            },
            bucket: socket.port_bound,
        };
        self.holders.push(holder);
    }

    /// Everybody who holds a port.
    pub fn processes(&self) -> impl Iterator<Item = ProcessId> {
        self.processes.iter().copied()
    }

    /// Descriptors that did not fit.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Number of descriptors kept.
    pub fn len(&self) -> usize {
        self.holders.len()
    }

    /// Nobody holds a port.
    pub fn is_empty(&self) -> bool {
        self.holders.is_empty()
    }

    /// Those of one namespace, ordered by inode.
    pub(super) fn in_netns(&self, netns: u32) -> Vec<Holder> {
        let here = self.holders.iter().filter(|holder| holder.netns == netns);
        let mut found: Vec<Holder> = here.copied().collect();
        found.sort_unstable_by_key(|holder| (holder.inode, holder.process));
        found
    }

    pub(super) fn process_at(&self, index: u32) -> Option<ProcessId> {
        self.processes.get(index as usize).copied()
    }

    /// Local address of a holder's socket.
    pub(super) fn address_of(&self, holder: &Holder) -> IpAddr {
        let known = self.addresses.get(holder.address as usize).copied();
        known.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }

    fn process(&mut self, id: ProcessId) -> u32 {
        if let Some((last, index)) = self.last
            && last == id
        {
            return index;
        }
        let next = self.processes.len() as u32;
        let index = *self.index.entry(id).or_insert(next);
        if index == next {
            self.processes.push(id);
        }
        self.last = Some((id, index));
        index
    }

    fn address(&mut self, address: IpAddr) -> u32 {
        if let Some((last, index)) = self.last_address
            && last == address
        {
            return index;
        }
        let next = self.addresses.len() as u32;
        let index = *self.address_index.entry(address).or_insert(next);
        if index == next {
            self.addresses.push(address);
        }
        self.last_address = Some((address, index));
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracker::testing::{process, socket};

    #[test]
    fn what_does_not_fit_is_counted_and_takes_no_room() {
        let mut holders = PortHolders::with_limit(3);
        for n in 0..10 {
            let mut bound = socket(n, process(1), SocketClass::Bound);
            bound.local.set_port(4000 + n as u16);
            holders.add(&bound);
        }
        let mut unbound = socket(11, process(1), SocketClass::Unbound);
        unbound.local.set_port(0);
        holders.add(&unbound);
        assert_eq!((holders.len(), holders.dropped()), (3, 7));
    }
}
