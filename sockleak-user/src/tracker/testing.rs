//! Builders that the tests of this module share.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::LazyLock;

use super::{
    Baseline, CallsInput, Census, Config, Inventory, PortFeatures, PortOwners, ProcessInfos,
    RangeUse, Sample, Surroundings, Tracker,
};
use crate::model::{
    Birth, Counters, FailureId, Family, HeldSocket, NamespacePorts, ProcessId, ProcessInfo,
    SocketClass, Sockstat, TcpState,
};
use crate::report::Leak;

pub(super) const S: u64 = 1_000_000_000;
pub(super) const NETNS: u32 = 4_026_531_840;

pub(super) fn process(pid: u32) -> ProcessId {
    ProcessId {
        pid,
        start_ticks: 1000 + u64::from(pid),
    }
}

pub(super) fn state_of(class: SocketClass) -> TcpState {
    match class {
        SocketClass::Unbound | SocketClass::Bound => TcpState::Close,
        SocketClass::Listen => TcpState::Listen,
        SocketClass::Connecting => TcpState::SynSent,
        SocketClass::Established => TcpState::Established,
        SocketClass::CloseWait => TcpState::CloseWait,
        SocketClass::Closing => TcpState::FinWait1,
    }
}

/// A socket with number `n`, held by `holder`.
pub(super) fn socket(n: u64, holder: ProcessId, class: SocketClass) -> HeldSocket {
    let port = match class {
        SocketClass::Unbound => 0,
        _ => 10_000 + (n % 50_000) as u16,
    };
    HeldSocket {
        // An odd factor: distinct numbers are distinct addresses.
        sk: n.wrapping_add(1).wrapping_mul(0x9_81),
        inode: 100_000 + n,
        holder,
        fd: n as u32,
        netns: Some(NETNS),
        family: Family::V4,
        state: state_of(class),
        class,
        local: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port),
        peer: None,
        attempted: None,
        accept_queue: 0,
        mptcp: false,
        port_bound: None,
        birth: None,
        past: crate::model::Past::default(),
    }
}

/// The same, created by `creator` at `at_ns`.
pub(super) fn born(mut socket: HeldSocket, creator: ProcessId, at_ns: u64) -> HeldSocket {
    socket.birth = Some(Birth {
        at_ns,
        creator,
        accepted: false,
    });
    socket
}

/// Everything is shown, and nothing is known about anybody.
pub(super) fn all_calls() -> CallsInput<'static> {
    type Nothing = (
        ProcessInfos,
        PortFeatures,
        HashMap<FailureId, RangeUse>,
        HashMap<FailureId, PortOwners>,
    );
    static NOTHING: LazyLock<Nothing> = LazyLock::new(Nothing::default);
    CallsInput {
        infos: &NOTHING.0,
        keep: &|_, _| true,
        features: &NOTHING.1,
        ranges: &NOTHING.2,
        owners: &NOTHING.3,
    }
}

/// A tracker whose inventories are given directly.
pub(super) struct Watched {
    pub(super) tracker: Tracker,
    pub(super) infos: ProcessInfos,
    pub(super) namespaces: Vec<NamespacePorts>,
    pub(super) complete: bool,
    pub(super) lost: u64,
    /// Pages of memory that TCP takes.
    pub(super) mem_pages: u64,
}

impl Watched {
    pub(super) fn new() -> Self {
        Self::with(Config::default())
    }

    pub(super) fn with(config: Config) -> Self {
        Self {
            tracker: Tracker::new(config, Baseline::default()),
            infos: ProcessInfos::new(),
            namespaces: Vec::new(),
            complete: true,
            lost: 0,
            mem_pages: 0,
        }
    }

    pub(super) fn name(&mut self, process: ProcessId, comm: &str) -> &mut ProcessInfo {
        let info = self.infos.entry(process).or_default();
        comm.clone_into(&mut info.comm);
        info
    }

    /// An inventory at `at_s` seconds.
    pub(super) fn inventory(&mut self, at_s: u64, sockets: impl IntoIterator<Item = HeldSocket>) {
        let mut census = Census::new();
        for socket in sockets {
            census.add(&socket);
        }
        let at_ns = at_s * S;
        self.tracker.observe(Sample {
            at_ns,
            before: Counters::default(),
            sockstat: Sockstat {
                mem_pages: self.mem_pages,
                ..Sockstat::default()
            },
            counters: Counters::default(),
            processes: &[],
            inventory: Some(Inventory {
                at_ns,
                totals: census.totals(),
                census,
                complete: self.complete,
            }),
            infos: &self.infos,
        });
    }

    /// A sample at `at_s` seconds without an inventory.
    pub(super) fn without_inventory(&mut self, at_s: u64) {
        self.tracker.observe(Sample {
            at_ns: at_s * S,
            before: Counters::default(),
            sockstat: Sockstat {
                mem_pages: self.mem_pages,
                ..Sockstat::default()
            },
            counters: Counters::default(),
            processes: &[],
            inventory: None,
            infos: &self.infos,
        });
    }

    pub(super) fn leaks(&self) -> Vec<Leak> {
        self.tracker.leaks(&Surroundings {
            infos: &self.infos,
            namespaces: &self.namespaces,
            files: None,
            tcp_mem: None,
            lost: self.lost,
            pasts: super::Pasts::default(),
            coverage: &[],
        })
    }
}
