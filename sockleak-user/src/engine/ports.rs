//! `ports`: one look at the ports of one network namespace.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Result;

use super::{
    clock,
    look::{Look, Way, look},
    snapshot::shows,
};
use crate::{
    enrich::processes::Processes,
    model::{Filter, ProcessId, ProcessInfo},
    probe::Attached,
    report::OccupancyReport,
    source::netns::{NetnsHandle, listing, source_address},
    tracker::{self, Occupancy, OccupancyInput, PortHolders, ProcessInfos, Selection},
};

/// What to look at and how.
#[derive(Clone, Debug, Default)]
pub struct PortsSettings {
    /// Holders to show; namespace and family do not matter here.
    pub filter: Filter,
    /// Destination to ask about, and the source address; the kernel's choice without one.
    pub to: Option<(Option<IpAddr>, SocketAddr)>,
    /// Rows of each kind; `None` for all.
    pub top: Option<usize>,
}

/// Takes one look at `netns`; at descriptors by the iterator of `attached`, or by /proc without
/// it.
///
/// # Errors
/// When descriptors cannot be read at all, or the namespace cannot be entered.
pub fn ports(
    attached: Option<&mut Attached>,
    netns: &NetnsHandle,
    settings: &PortsSettings,
) -> Result<OccupancyReport> {
    let started_ns = clock::monotonic_ns();
    let way = attached.map_or(Way::Proc, Way::best);
    let mut holders = PortHolders::default();
    let Look {
        inventory,
        method,
        mut incomplete,
        undecodable,
        ..
    } = look(way, &Filter::default(), |socket, _| holders.add(socket))?;
    if undecodable > 0 {
        incomplete.push(format!(
            "{undecodable} records of the kernel could not be decoded"
        ));
    }
    if holders.dropped() > 0 {
        incomplete.push(format!(
            "{} descriptors did not fit into the bounds on memory",
            holders.dropped()
        ));
    }
    let to = settings.to.map(|(src, dst)| {
        let src = src.filter(|src| !src.is_unspecified());
        (src.or_else(|| source_address(netns, dst)), dst)
    });
    let listing = listing(netns, None)?;
    incomplete.extend(listing.incomplete);
    let occupancy = Occupancy::new(&listing.sockets, &holders);
    let infos = infos(&occupancy);
    let keep = |process: ProcessId, info: &ProcessInfo| shows(&settings.filter, process, info);
    let input = OccupancyInput {
        occupancy: &occupancy,
        method,
        incomplete: &incomplete,
        census: &inventory.census,
        time_wait_count: listing.time_wait_count,
        infos: &infos,
        selection: Selection {
            top: settings.top,
            keep: Some(&keep),
        },
        to,
        took_ns: clock::monotonic_ns().saturating_sub(started_ns),
    };
    Ok(tracker::port_use(&input))
}

fn infos(occupancy: &Occupancy<'_>) -> ProcessInfos {
    let now_ns = clock::monotonic_ns();
    let mut processes = Processes::new(1 << 16, Duration::MAX);
    let holders = occupancy.held();
    holders
        .map(|(process, _)| (process, processes.get(process, now_ns).clone()))
        .collect()
}
