//! Servers for connections by the thousand, and the sockets that clients make them with.

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::time::Duration;

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{AddressFamily, sockopt};

use super::ProcessTruth;
use super::closed_leak::{SPARE_DESCRIPTORS, bare_socket};
use super::netns::raise_roomy_limit;
use super::role::{Arguments, Role};

/// Accepts at `--listen=ADDRESS`, which it shares with others (SO_REUSEPORT), and keeps up to
/// `--most=N` connections without a word; `--receive=N` bytes are room for what nobody reads.
pub(super) struct Keeper {
    account: ProcessTruth,
    listener: TcpListener,
    connections: Vec<TcpStream>,
}

/// Longest wait for the next connection before an actor looks at its cues.
const PATIENCE: Duration = Duration::from_millis(20);

impl Keeper {
    pub(super) fn open(arguments: &Arguments) -> anyhow::Result<Self> {
        let most: u64 = arguments.number("most")?;
        raise_roomy_limit(most + SPARE_DESCRIPTORS as u64);
        let listener = listen(arguments.number("listen")?)?;
        if arguments.text("receive").is_some() {
            // Connections inherit it.
            let size = arguments.number("receive")?;
            sockopt::set_socket_recv_buffer_size(&listener, size)?;
        }
        let mut account = arguments.account("accepts connections and keeps them", false);
        account.created = 1;
        Ok(Self {
            account,
            listener,
            connections: Vec::new(),
        })
    }

    fn accept(&mut self, patience: Duration) -> anyhow::Result<bool> {
        let come = wait(&self.listener, patience)?;
        while let Ok((connection, _)) = self.listener.accept() {
            self.account.accepted += 1;
            self.connections.push(connection);
        }
        Ok(come)
    }
}

impl Role for Keeper {
    fn act(&mut self) -> anyhow::Result<Option<Duration>> {
        self.accept(PATIENCE)?;
        Ok(Some(Duration::ZERO))
    }

    fn come_to_rest(&mut self) -> anyhow::Result<()> {
        while self.accept(Duration::from_millis(250))? {}
        Ok(())
    }

    fn count(&mut self) -> anyhow::Result<Vec<ProcessTruth>> {
        self.account.held.listen = 1;
        self.account.held.established = self.connections.len() as u64;
        Ok(vec![self.account.clone()])
    }
}

/// Accepts at `--listen=ADDRESS` and closes each connection when its client has closed it.
pub(super) struct Counter {
    account: ProcessTruth,
    listener: TcpListener,
}

impl Counter {
    pub(super) fn open(arguments: &Arguments) -> anyhow::Result<Self> {
        let listener = listen(arguments.number("listen")?)?;
        let mut account = arguments.account("serves short connections", false);
        account.created = 1;
        account.held.listen = 1;
        Ok(Self { account, listener })
    }

    fn serve(&mut self, patience: Duration) -> anyhow::Result<bool> {
        let come = wait(&self.listener, patience)?;
        while let Ok((mut connection, _)) = self.listener.accept() {
            self.account.accepted += 1;
            connection.set_nonblocking(false)?;
            connection.set_read_timeout(Some(Duration::from_secs(60)))?;
            // A reset is as good an end.
            let _ = connection.read(&mut [0; 64]);
        }
        Ok(come)
    }
}

impl Role for Counter {
    fn act(&mut self) -> anyhow::Result<Option<Duration>> {
        self.serve(PATIENCE)?;
        Ok(Some(Duration::ZERO))
    }

    fn come_to_rest(&mut self) -> anyhow::Result<()> {
        while self.serve(Duration::from_millis(250))? {}
        Ok(())
    }

    fn count(&mut self) -> anyhow::Result<Vec<ProcessTruth>> {
        Ok(vec![self.account.clone()])
    }
}

/// A listener with the longest backlog there is, non-blocking.
fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let socket = socket()?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    rustix::net::bind(&socket, &address).with_context(|| format!("cannot bind {address}"))?;
    rustix::net::listen(&socket, 65_535).with_context(|| format!("cannot listen on {address}"))?;
    let listener = TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn wait(listener: &TcpListener, patience: Duration) -> anyhow::Result<bool> {
    let mut polled = [PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN)];
    let patience = Timespec::try_from(patience)?;
    let woken = rustix::event::poll(&mut polled, Some(&patience)).context("poll failed")?;
    Ok(woken > 0)
}

/// A TCP socket over IPv4.
pub(super) fn socket() -> anyhow::Result<OwnedFd> {
    bare_socket(AddressFamily::INET).context("cannot create a socket")
}

/// IP_BIND_ADDRESS_NO_PORT of include/uapi/linux/in.h (Linux 4.2).
pub(super) const IP_BIND_ADDRESS_NO_PORT: i32 = 24;
/// IP_LOCAL_PORT_RANGE (Linux 6.3).
pub(super) const IP_LOCAL_PORT_RANGE: i32 = 51;

/// Sets an option of the IP level; false when the kernel does not have it.
pub(super) fn set_ip(socket: &OwnedFd, option: i32, value: u32) -> anyhow::Result<bool> {
    // SAFETY: the kernel reads the four bytes of `value` and keeps no pointer.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            option,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    match (result, std::io::Error::last_os_error()) {
        (0, _) => Ok(true),
        (_, error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(false),
        (_, error) => Err(error).with_context(|| format!("cannot set option {option}")),
    }
}

/// How a call that may run out of ports ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It has a port.
    Done,
    /// There is none.
    NoPort,
}

/// connect(), where EADDRNOTAVAIL is an answer.
pub(super) fn connect(socket: &OwnedFd, to: SocketAddr) -> anyhow::Result<Ending> {
    match rustix::net::connect(socket, &to) {
        Ok(()) => Ok(Ending::Done),
        Err(Errno::ADDRNOTAVAIL) => Ok(Ending::NoPort),
        Err(error) => Err(error).with_context(|| format!("cannot connect to {to}")),
    }
}

/// bind(), where EADDRINUSE is an answer.
pub(super) fn bind(socket: &OwnedFd, address: SocketAddr) -> anyhow::Result<Ending> {
    match rustix::net::bind(socket, &address) {
        Ok(()) => Ok(Ending::Done),
        Err(Errno::ADDRINUSE) => Ok(Ending::NoPort),
        Err(error) => Err(error).with_context(|| format!("cannot bind {address}")),
    }
}
