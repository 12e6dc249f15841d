//! What the workloads of failures have in common: servers, connections and the ledger.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use anyhow::Context as _;
use rustix::net::sockopt;

use super::super::script::settle;
use super::super::{Options, Script, Truth};
use super::ledger::{Ledger, local};
use super::{Breakdown, Walks};

/// A port that no range of a workload has.
pub(super) const SERVICE: u16 = 9000;

/// A listener.
#[derive(Debug)]
pub(super) struct Server {
    listener: OwnedFd,
    /// Where it listens.
    pub(super) address: SocketAddr,
}

/// A workload under way.
#[derive(Debug)]
pub(super) struct World<'a> {
    pub(super) options: &'a Options,
    pub(super) ledger: Ledger,
    /// Sockets that stay open to the end of the phase.
    pub(super) kept: Vec<OwnedFd>,
}

impl<'a> World<'a> {
    pub(super) fn new(options: &'a Options) -> Self {
        Self {
            options,
            ledger: Ledger::default(),
            kept: Vec::new(),
        }
    }

    /// How often what fails is to fail.
    pub(super) fn times(&self) -> std::ops::Range<usize> {
        0..self.options.count
    }

    /// A new TCP socket.
    pub(super) fn socket(&self) -> anyhow::Result<OwnedFd> {
        self.options.socket()
    }

    /// A new TCP socket with SO_REUSEADDR.
    pub(super) fn reusing_socket(&self) -> anyhow::Result<OwnedFd> {
        let socket = self.socket()?;
        sockopt::set_socket_reuseaddr(&socket, true).context("cannot set SO_REUSEADDR")?;
        Ok(socket)
    }

    /// An address of this host.
    pub(super) fn here(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.options.loopback(), port)
    }

    /// The second address of lo that IPv4 has; IPv6 has only one.
    pub(super) fn other_here(&self, port: u16) -> SocketAddr {
        match self.options.loopback() {
            IpAddr::V4(_) => SocketAddr::new(Ipv4Addr::new(127, 0, 0, 9).into(), port),
            only => SocketAddr::new(only, port),
        }
    }

    /// Listens on a port.
    pub(super) fn server(&mut self, port: u16) -> anyhow::Result<Server> {
        let socket = self.socket()?;
        self.server_of(socket, port)
    }

    /// Listens on a port with this socket.
    pub(super) fn server_of(&mut self, listener: OwnedFd, port: u16) -> anyhow::Result<Server> {
        let address = self.here(port);
        self.ledger.binds(&listener, address)?;
        self.ledger.listens(&listener)?;
        Ok(Server { listener, address })
    }

    /// Connects a socket; returns both ends.
    pub(super) fn connect(
        &mut self,
        socket: OwnedFd,
        server: &Server,
    ) -> anyhow::Result<(OwnedFd, OwnedFd)> {
        self.ledger.connects(&socket, server.address)?;
        let accepted = rustix::net::accept(&server.listener).context("cannot accept")?;
        Ok((socket, accepted))
    }

    /// Makes `count` connections and keeps them.
    pub(super) fn connect_and_keep(&mut self, server: &Server, count: usize) -> anyhow::Result<()> {
        for _ in 0..count {
            let socket = self.socket()?;
            let (client, accepted) = self.connect(socket, server)?;
            self.kept.extend([client, accepted]);
        }
        Ok(())
    }

    /// Makes a connection of this socket and lets it end in TIME_WAIT on the socket's side.
    pub(super) fn pass_by(&mut self, socket: OwnedFd, server: &Server) -> anyhow::Result<()> {
        let (client, accepted) = self.connect(socket, server)?;
        close_in_turn(client, accepted)
    }

    /// Makes `count` connections that end in TIME_WAIT on this side.
    pub(super) fn connect_and_wait(&mut self, server: &Server, count: usize) -> anyhow::Result<()> {
        for _ in 0..count {
            let socket = self.socket()?;
            self.pass_by(socket, server)?;
        }
        settle(0)
    }

    /// Binds a port and keeps it.
    pub(super) fn bind_and_keep(&mut self, address: SocketAddr) -> anyhow::Result<u16> {
        let socket = self.socket()?;
        self.ledger.binds(&socket, address)?;
        let port = local(&socket)?.port();
        self.kept.push(socket);
        Ok(port)
    }

    /// Shows the end of the phase; everything is kept until then.
    pub(super) fn show(
        mut self,
        script: &mut Script,
        taken: Option<Breakdown>,
    ) -> anyhow::Result<()> {
        if let Some(taken) = taken {
            self.ledger.taken_by(taken);
        }
        self.show_with(script, None)
    }

    /// The same, with what is needed to replay port searches.
    pub(super) fn show_with(self, script: &mut Script, walks: Option<Walks>) -> anyhow::Result<()> {
        let mut phase = script.phase("over");
        phase.processes = vec![Truth::of_self()];
        for failure in &self.ledger.failures {
            if phase.processes.iter().all(|known| known.pid != failure.pid) {
                phase.processes.push(Truth {
                    pid: failure.pid,
                    ..Truth::of_self()
                });
            }
        }
        phase.ledger = self.ledger;
        phase.walks = walks;
        script.show(&phase).map(drop)
    }
}

/// Closes one end, then the other when it knows: TIME_WAIT is left on the first one's side.
pub(super) fn close_in_turn(first: OwnedFd, second: OwnedFd) -> anyhow::Result<()> {
    drop(first);
    let mut byte = [0];
    let (end, _) = rustix::net::recv(&second, &mut byte[..], rustix::net::RecvFlags::empty())
        .context("the other end of a closed connection")?;
    anyhow::ensure!(end == 0, "data on a connection that had none");
    Ok(())
}
