//! Actors that do what well-behaved servers and clients do.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::time::Duration;

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, Timespec};

use super::ProcessTruth;
use super::role::{Arguments, Role};

/// Listens and never accepts, as a super-server for services that nobody calls.
pub(super) struct Listeners {
    account: ProcessTruth,
    listeners: Vec<TcpListener>,
}

impl Listeners {
    pub(super) fn open(arguments: &Arguments) -> anyhow::Result<Self> {
        let listeners = listen_on(arguments)?;
        let mut account = arguments.account("listens", false);
        account.created = listeners.len() as u64;
        account.held.listen = listeners.len() as u64;
        Ok(Self { account, listeners })
    }
}

impl Role for Listeners {
    fn act(&mut self) -> anyhow::Result<Option<Duration>> {
        Ok(None)
    }

    fn count(&mut self) -> anyhow::Result<Vec<ProcessTruth>> {
        self.account.held.listen = self.listeners.len() as u64;
        Ok(vec![self.account.clone()])
    }
}

/// Opens the listeners that `--listen=ADDRESS,...` names.
pub(super) fn listen_on(arguments: &Arguments) -> anyhow::Result<Vec<TcpListener>> {
    arguments
        .list::<SocketAddr>("listen")?
        .into_iter()
        .map(|address| {
            TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))
        })
        .collect()
}

/// Returns every byte to its sender; closes when the peer has closed. Its listeners are its
/// own or, with `--inherit=FD,...`, its parent's.
pub(super) struct EchoServer {
    account: ProcessTruth,
    listeners: Vec<TcpListener>,
    connections: Vec<TcpStream>,
}

impl EchoServer {
    pub(super) fn open(arguments: &Arguments) -> anyhow::Result<Self> {
        let mut account = arguments.account("serves", false);
        let mut listeners = listen_on(arguments)?;
        account.created = listeners.len() as u64;
        for fd in arguments.list::<RawFd>("inherit")? {
            // SAFETY: the parent left this descriptor open for us across exec and told nobody
            // else in this process about it.
            listeners.push(TcpListener::from(unsafe { OwnedFd::from_raw_fd(fd) }));
            account.held.shared += 1;
        }
        for listener in &listeners {
            listener.set_nonblocking(true)?;
        }
        Ok(Self {
            account,
            listeners,
            connections: Vec::new(),
        })
    }

    /// Waits up to `patience` for something to do and does it; false when there was nothing.
    fn serve(&mut self, patience: Duration) -> anyhow::Result<bool> {
        let mut polled: Vec<PollFd<'_>> = (self.listeners.iter().map(|one| one.as_fd()))
            .chain(self.connections.iter().map(|one| one.as_fd()))
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        let patience = Timespec::try_from(patience)?;
        let woken = rustix::event::poll(&mut polled, Some(&patience)).context("poll failed")?;
        drop(polled);
        if woken == 0 {
            return Ok(false);
        }
        self.connections
            .retain(|connection| echo(connection).is_ok());
        for listener in &self.listeners {
            // Whoever comes second of the preforked workers finds nothing: EAGAIN.
            while let Ok((connection, _)) = listener.accept() {
                connection.set_nonblocking(true)?;
                self.account.accepted += 1;
                self.connections.push(connection);
            }
        }
        Ok(true)
    }
}

/// Echoes what is there; an error when the connection is over.
fn echo(mut connection: &TcpStream) -> io::Result<()> {
    let mut buffer = [0; 512];
    loop {
        match connection.read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => connection.write_all(buffer.get(..length).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

impl Role for EchoServer {
    fn act(&mut self) -> anyhow::Result<Option<Duration>> {
        self.serve(Duration::from_millis(20))?;
        Ok(Some(Duration::ZERO))
    }

    fn come_to_rest(&mut self) -> anyhow::Result<()> {
        // The clients are at rest already: what is still to come is on loopback.
        while self.serve(Duration::from_millis(250))? {}
        Ok(())
    }

    fn count(&mut self) -> anyhow::Result<Vec<ProcessTruth>> {
        self.account.held.listen = self.listeners.len() as u64;
        self.account.held.established = self.connections.len() as u64;
        Ok(vec![self.account.clone()])
    }
}

/// Keeps `--size=N` connections to `--to=ADDRESS,...` and uses them in turn.
pub(super) struct PoolClient {
    account: ProcessTruth,
    connections: Vec<TcpStream>,
    next: usize,
}

impl PoolClient {
    pub(super) fn open(arguments: &Arguments) -> anyhow::Result<Self> {
        let servers = arguments.list::<SocketAddr>("to")?;
        let size = arguments.number("size")?;
        let connections = (servers.iter().cycle().take(size))
            .map(|server| connect(*server))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let mut account = arguments.account("keeps a pool of connections", false);
        account.created = connections.len() as u64;
        Ok(Self {
            account,
            connections,
            next: 0,
        })
    }
}

/// A connection that has been answered once, so that the server has accepted it.
pub(super) fn connect(server: SocketAddr) -> anyhow::Result<TcpStream> {
    let connection =
        TcpStream::connect(server).with_context(|| format!("cannot connect to {server}"))?;
    request(&connection)?;
    Ok(connection)
}

fn request(mut connection: &TcpStream) -> anyhow::Result<()> {
    connection.set_read_timeout(Some(Duration::from_secs(60)))?;
    connection
        .write_all(b"?")
        .context("cannot send a request")?;
    let mut answer = [0];
    connection
        .read_exact(&mut answer)
        .context("no answer to a request")
}

impl Role for PoolClient {
    fn act(&mut self) -> anyhow::Result<Option<Duration>> {
        if let Some(connection) = self.connections.get(self.next) {
            request(connection)?;
            self.next += 1;
        } else {
            self.next = 0;
        }
        Ok(Some(Duration::from_millis(5)))
    }

    fn count(&mut self) -> anyhow::Result<Vec<ProcessTruth>> {
        self.account.held.established = self.connections.len() as u64;
        Ok(vec![self.account.clone()])
    }
}
