//! Addresses and sockets of a scene.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_linger};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// A scene's addresses.
#[derive(Clone, Copy)]
pub(super) struct Addresses {
    pub(super) family: AddressFamily,
    /// Source of the connections.
    pub(super) own: IpAddr,
    pub(super) any: IpAddr,
    /// Destinations.
    pub(super) a: SocketAddr,
    pub(super) b: SocketAddr,
}

impl Addresses {
    pub(super) fn new(family: AddressFamily) -> Self {
        let (own, any) = match family {
            AddressFamily::INET => ("127.0.0.1", "0.0.0.0"),
            _ => ("::1", "::"),
        };
        let own = own.parse().expect("an address");
        Self {
            family,
            own,
            any: any.parse().expect("an address"),
            a: SocketAddr::new(own, 80),
            b: SocketAddr::new(own, 81),
        }
    }

    pub(super) fn socket(&self) -> OwnedFd {
        let flags = SocketFlags::CLOEXEC;
        rustix::net::socket_with(self.family, SocketType::STREAM, flags, None).expect("socket")
    }

    pub(super) fn bound(&self, address: IpAddr, port: u16) -> OwnedFd {
        let socket = self.socket();
        rustix::net::bind(&socket, &SocketAddr::new(address, port)).expect("bind");
        socket
    }

    pub(super) fn listener(&self, port: u16) -> OwnedFd {
        let socket = self.bound(self.own, port);
        rustix::net::listen(&socket, 4096).expect("listen");
        socket
    }
}

pub(super) fn local_port(socket: &OwnedFd) -> u16 {
    let address = rustix::net::getsockname(socket).expect("getsockname");
    SocketAddr::try_from(address).expect("an address").port()
}

/// Sockets that bind() of an address to port 0 gets until it fails.
pub(super) fn bind_all(at: Addresses, address: IpAddr) -> Vec<OwnedFd> {
    let mut bound = Vec::new();
    loop {
        let socket = at.socket();
        if at.family == AddressFamily::INET6 {
            set_ipv6_v6only(&socket, false).expect("IPV6_V6ONLY");
        }
        match rustix::net::bind(&socket, &SocketAddr::new(address, 0)) {
            Ok(()) => bound.push(socket),
            Err(error) => {
                assert_eq!(error, Errno::ADDRINUSE);
                return bound;
            }
        }
    }
}

/// Sockets that connect() gets until it fails; closing them leaves nothing behind.
pub(super) fn connect_all(at: Addresses, to: SocketAddr) -> Vec<OwnedFd> {
    let mut clients = Vec::new();
    loop {
        let socket = at.socket();
        set_socket_linger(&socket, Some(Duration::ZERO)).expect("SO_LINGER");
        match rustix::net::connect(&socket, &to) {
            Ok(()) => clients.push(socket),
            Err(error) => {
                assert_eq!(error, Errno::ADDRNOTAVAIL);
                return clients;
            }
        }
    }
}
