//! MPTCP: a descriptor shows an MPTCP socket, and TCP subflows exist that no descriptor shows.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use anyhow::{Context as _, bail};
use rustix::io::Errno;
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType};

use super::{Options, Script, Truth};

/// `created`, `connected`, `closed`. When a kernel makes the subflows differs (6.1: in
/// socket(); 6.12 and later: at connect, bind or listen), so there are no totals.
pub(super) fn subflows(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    let probe = match socket(options) {
        Ok(probe) => probe,
        Err(Errno::PROTONOSUPPORT | Errno::INVAL) => {
            return script.skip("the kernel has no MPTCP (EPROTONOSUPPORT)");
        }
        Err(Errno::NOPROTOOPT) => {
            return script.skip("MPTCP is switched off (net.mptcp.enabled = 0)");
        }
        Err(error) => return Err(error).context("cannot create an MPTCP socket"),
    };
    drop(probe);
    let sockets = (0..options.count)
        .map(|_| socket(options).context("cannot create an MPTCP socket"))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut phase = script.phase("created");
    phase.processes = vec![Truth::of_self()];
    if !script.show(&phase)? {
        return Ok(());
    }

    let listener = socket(options)?;
    rustix::net::bind(&listener, &SocketAddr::new(options.loopback(), 0))?;
    rustix::net::listen(&listener, 128)?;
    let listener = TcpListener::from(listener);
    let address = listener.local_addr()?;
    let mut clients: Vec<TcpStream> = Vec::new();
    let mut servers = Vec::new();
    for socket in sockets {
        rustix::net::connect(&socket, &address).context("cannot connect over MPTCP")?;
        clients.push(TcpStream::from(socket));
        servers.push(listener.accept()?.0);
    }
    if clients.len() != servers.len() {
        bail!("{} clients and {} servers", clients.len(), servers.len());
    }
    phase.phase = "connected".to_owned();
    if !script.show(&phase)? {
        return Ok(());
    }

    drop((listener, clients, servers));
    phase.phase = "closed".to_owned();
    script.show(&phase).map(drop)
}

fn socket(options: &Options) -> rustix::io::Result<OwnedFd> {
    let family = if options.v6 {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let mptcp = Protocol::from_raw(std::num::NonZeroU32::new(262).ok_or(Errno::PROTONOSUPPORT)?);
    rustix::net::socket_with(
        family,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        Some(mptcp),
    )
}
