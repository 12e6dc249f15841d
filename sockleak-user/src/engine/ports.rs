//! `ports`: one look at the ports of one network namespace.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Result;

use super::{
    clock,
    look::{Look, Way, look},
    snapshot::shows,
};
use crate::report::words::counted;
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
            "{} of the kernel could not be decoded",
            counted(undecodable, "record")
        ));
    }
    if holders.dropped() > 0 {
        incomplete.push(format!(
            "{} did not fit into the bounds on memory",
            counted(holders.dropped(), "descriptor")
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

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn towards(dst: SocketAddr) -> OccupancyReport {
        let netns = NetnsHandle::current().unwrap();
        let settings = PortsSettings {
            to: Some((None, dst)),
            ..PortsSettings::default()
        };
        ports(None, &netns, &settings).unwrap()
    }

    /// Without privileges, in the namespace of the tests: other sockets may be there.
    #[test]
    fn own_connections_are_in_the_way_of_their_destination_only() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let dst = listener.local_addr().unwrap();
            let clients: Vec<_> = (0..7).map(|_| TcpStream::connect(dst).unwrap()).collect();
            let report = towards(dst);
            assert!(report.bound >= 1, "the listener has a port of the range");
            let to = report.to.unwrap();
            assert_eq!((to.connected, to.time_wait, to.src), (7, 0, Some(dst.ip())));
            let me = std::process::id();
            let own = to.holders.iter().find(|one| one.pid == me).unwrap();
            assert_eq!(own.ports - own.bound, 7);

            // Closed by the client first: its ports go to TIME_WAIT, which nobody holds.
            drop(clients);
            for _ in 0..7 {
                let (mut peer, _) = listener.accept().unwrap();
                std::io::copy(&mut peer, &mut std::io::sink()).unwrap();
            }
            let to = towards(dst).to.unwrap();
            assert_eq!((to.connected, to.time_wait), (0, 7));
            assert!(to.time_wait_reusable.is_some());

            let another = TcpListener::bind((dst.ip(), 0)).unwrap();
            let to = towards(another.local_addr().unwrap()).to.unwrap();
            assert_eq!((to.connected, to.time_wait), (0, 0));
        }
    }

    #[test]
    fn an_address_has_room_of_its_own() {
        let address: IpAddr = "127.77.77.77".parse().unwrap();
        let bound = TcpListener::bind((address, 0)).unwrap();
        let report = towards(bound.local_addr().unwrap());
        let row = report.addresses.iter().find(|row| row.address == address);
        let row = row.unwrap();
        assert_eq!(row.in_use, 1);
        assert!(row.bind_free < report.size && Some(row.bind_free) >= report.bind_free);
    }
}
