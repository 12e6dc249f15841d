//! Who and what has the ports of one network namespace, for whoever has to explain a failure.
//!
//! An answer joins an inventory of descriptors with a list of the namespace's sockets. The
//! inventory is dear (it looks at every descriptor of the host), the list is cheap (it grows with
//! the namespace). So an inventory is used again: let [`PortHolders::add`] see every socket of
//! the looks that are made anyway, and list anew for each question. Processes whose sockets are
//! younger than the inventory are missing among the holders then; every count is right.
//!
//! ```no_run
//! # fn main() -> Result<(), sockleak::source::netns::NetnsError> {
//! use sockleak::{engine::occupancy, source::netns::NetnsHandle, tracker::PortHolders};
//! let holders = PortHolders::default(); // filled by the last inventory
//! let netns = NetnsHandle::of_process(4684).expect("it lives");
//! let dst = "10.0.0.5:6379".parse().expect("an address");
//! if let Some(room) = occupancy::towards(&holders, &netns, None, dst, None)? {
//!     println!("{} connected, {} TIME_WAIT", room.connected, room.time_wait);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! For several questions about one namespace at one moment, call
//! [`listing`](crate::source::netns::listing) once, make an [`Occupancy`] of it, and ask that.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;

use super::look::{Way, look};
use crate::{
    model::Filter,
    probe::Attached,
    source::netns::{NetnsError, NetnsHandle, listing, source_address},
    tracker::{Occupancy, PortHolders, Range, Room},
};

/// A fresh inventory of who holds ports, by the iterator of `attached`, or by /proc without it;
/// and what is missing in it.
///
/// # Errors
/// When descriptors cannot be read at all.
pub fn holders(attached: Option<&mut Attached>) -> Result<(PortHolders, Vec<String>)> {
    let way = attached.map_or(Way::Proc, Way::best);
    let mut holders = PortHolders::default();
    let look = look(way, &Filter::default(), |socket, _| holders.add(socket))?;
    Ok((holders, look.incomplete))
}

/// Room for connect() to `dst` in `netns`, from `src` or from the address that the kernel would
/// choose, within the namespace's range or the socket's `own_range` (IP_LOCAL_PORT_RANGE).
///
/// Costs one dump of the TCP sockets of the namespace. `None` when the kernel does not list them.
///
/// # Errors
/// When the namespace cannot be entered or its range not be read.
pub fn towards(
    holders: &PortHolders,
    netns: &NetnsHandle,
    src: Option<IpAddr>,
    dst: SocketAddr,
    own_range: Option<(u16, u16)>,
) -> Result<Option<Room>, NetnsError> {
    let src = src.filter(|src| !src.is_unspecified());
    let src = src.or_else(|| source_address(netns, dst));
    let listing = listing(netns, own_range)?;
    let occupancy = Occupancy::new(&listing.sockets, holders);
    let range = own_range.map_or(occupancy.range(), Range::from);
    Ok(occupancy.towards_in(range, src, dst))
}

/// Room for bind() of `address` (`None`: any) to port 0 in `netns`, otherwise as [`towards`].
///
/// # Errors
/// As [`towards`].
pub fn for_bind(
    holders: &PortHolders,
    netns: &NetnsHandle,
    address: Option<IpAddr>,
    own_range: Option<(u16, u16)>,
) -> Result<Option<Room>, NetnsError> {
    let listing = listing(netns, own_range)?;
    let occupancy = Occupancy::new(&listing.sockets, holders);
    let range = own_range.map_or(occupancy.range(), Range::from);
    Ok(occupancy.for_bind_in(range, address))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::enrich::process::identify;

    /// Without privileges, in the namespace of the tests: other sockets may be there.
    #[test]
    fn own_connections_are_in_the_way_of_their_destination_only() {
        let netns = NetnsHandle::current().unwrap();
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let dst = listener.local_addr().unwrap();
            let clients: Vec<_> = (0..7).map(|_| TcpStream::connect(dst).unwrap()).collect();
            let (holders, _) = holders(None).unwrap();
            let room = towards(&holders, &netns, None, dst, None).unwrap().unwrap();
            assert_eq!((room.connected, room.time_wait), (7, 0));
            assert!(room.bound >= 1, "the listener has a port of the range");
            let me = identify(std::process::id()).unwrap();
            let own = room.blockers.iter().find(|one| one.process == me).unwrap();
            assert_eq!(own.ports - own.bound, 7);

            // Closed by the client first: its ports go to TIME_WAIT, which nobody holds.
            drop(clients);
            while let Ok((mut peer, _)) = listener.accept() {
                std::io::copy(&mut peer, &mut std::io::sink()).unwrap();
                drop(peer);
                let room = towards(&holders, &netns, None, dst, None).unwrap().unwrap();
                if room.connected == 0 {
                    assert_eq!(room.time_wait, 7);
                    assert!(room.time_wait_reusable.is_some());
                    break;
                }
            }

            let another = TcpListener::bind((dst.ip(), 0))
                .unwrap()
                .local_addr()
                .unwrap();
            let room = towards(&holders, &netns, Some(dst.ip()), another, None);
            let room = room.unwrap().unwrap();
            assert_eq!((room.connected, room.time_wait), (0, 0));
        }
    }

    #[test]
    fn a_bound_port_is_missing_for_its_address() {
        let netns = NetnsHandle::current().unwrap();
        let address: IpAddr = "127.77.77.77".parse().unwrap();
        let bound = TcpListener::bind((address, 0)).unwrap();
        let (holders, _) = holders(None).unwrap();
        let room = for_bind(&holders, &netns, Some(address), None);
        let room = room.unwrap().unwrap();
        let me = identify(std::process::id()).unwrap();
        let own = room.blockers.iter().find(|one| one.process == me);
        assert!(room.bound >= 1 && own.is_some_and(|own| own.bound >= 1));
        drop(bound);
    }
}
