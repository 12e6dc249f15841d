//! The kinds of rounds.

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    os::fd::OwnedFd,
};

use anyhow::{Context as _, Result, bail};
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, sockopt},
};

/// Addresses that every round uses.
pub struct Place {
    reset: End,
    /// At another address: what TIME_WAIT does to the search for ports is not to be measured elsewhere.
    orderly: End,
    closed: SocketAddr,
}

struct End {
    listener: OwnedFd,
    address: SocketAddr,
}

impl End {
    fn open(host: Ipv4Addr) -> Result<Self> {
        let listener = stream()?;
        let any_port = SocketAddr::V4(SocketAddrV4::new(host, 0));
        rustix::net::bind(&listener, &any_port).context("binding the listener")?;
        rustix::net::listen(&listener, 128).context("listening")?;
        let address = SocketAddr::try_from(rustix::net::getsockname(&listener)?)?;
        Ok(Self { listener, address })
    }
}

/// What is done again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Connect over loopback, accept, close both ends, the first by reset: no TIME_WAIT is left.
    Connect,
    /// The same, closed in order: one end is left in TIME_WAIT.
    Orderly,
    /// Create and close.
    Socket,
    /// Create, bind to a port of the kernel's choice, close.
    Bind,
    /// Create, connect to a port where nobody listens, close.
    Refused,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::Connect,
        Self::Socket,
        Self::Bind,
        Self::Refused,
        Self::Orderly,
    ];

    /// As it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Orderly => "orderly",
            Self::Socket => "socket",
            Self::Bind => "bind",
            Self::Refused => "refused",
        }
    }

    /// Does it once.
    pub fn once(self, place: &Place) -> Result<()> {
        let socket = stream()?;
        match self {
            Self::Socket => {}
            Self::Bind => rustix::net::bind(&socket, &any_port())?,
            Self::Refused => match rustix::net::connect(&socket, &place.closed) {
                Err(Errno::CONNREFUSED) => {}
                other => bail!("connecting to a closed port gave {other:?}"),
            },
            Self::Connect | Self::Orderly => {
                let end = match self {
                    Self::Orderly => &place.orderly,
                    _ => &place.reset,
                };
                rustix::net::connect(&socket, &end.address).context("connecting")?;
                let accepted = rustix::net::accept_with(&end.listener, SocketFlags::CLOEXEC)
                    .context("accepting")?;
                if self == Self::Connect {
                    sockopt::set_socket_linger(&socket, Some(std::time::Duration::ZERO))?;
                }
                drop(socket);
                drop(accepted);
            }
        }
        Ok(())
    }
}

impl Place {
    /// Opens the listener and finds a port that is closed.
    pub fn open() -> Result<Self> {
        // Below the ephemeral range, and nothing else runs in the guest.
        let closed = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9));
        Ok(Self {
            reset: End::open(Ipv4Addr::LOCALHOST)?,
            orderly: End::open(Ipv4Addr::new(127, 0, 0, 2))?,
            closed,
        })
    }
}

/// Opens this many sockets that do nothing.
pub fn hold(count: usize) -> Result<Vec<OwnedFd>> {
    (0..count).map(|_| stream()).collect()
}

fn any_port() -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))
}

fn stream() -> Result<OwnedFd> {
    rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .context("creating a socket")
}
