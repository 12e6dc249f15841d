//! Sockets in every state, made with as little as possible between us and the kernel.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::time::Duration;

use anyhow::Context as _;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::Options;
use super::script::until;

impl Options {
    /// Loopback address of the family.
    pub(super) fn loopback(&self) -> IpAddr {
        if self.v6 {
            Ipv6Addr::LOCALHOST.into()
        } else {
            Ipv4Addr::LOCALHOST.into()
        }
    }

    fn family(&self) -> AddressFamily {
        if self.v6 {
            AddressFamily::INET6
        } else {
            AddressFamily::INET
        }
    }

    /// A TCP socket on which nothing has been done.
    pub(super) fn socket(&self) -> anyhow::Result<OwnedFd> {
        allow_descriptors(self.count);
        let flags = SocketFlags::CLOEXEC;
        rustix::net::socket_with(self.family(), SocketType::STREAM, flags, None)
            .context("cannot create a socket")
    }

    /// `count` of them.
    pub(super) fn sockets(&self, count: usize) -> anyhow::Result<Vec<OwnedFd>> {
        (0..count).map(|_| self.socket()).collect()
    }

    /// A socket bound to a port.
    pub(super) fn bound_socket(&self, port: u16) -> anyhow::Result<OwnedFd> {
        let socket = self.socket()?;
        rustix::net::bind(&socket, &SocketAddr::new(self.loopback(), port))
            .with_context(|| format!("cannot bind port {port}"))?;
        Ok(socket)
    }
}

/// Raises the descriptor limit for `count` connections with both ends in this process.
fn allow_descriptors(count: usize) {
    use rustix::process::Resource;
    let needed = 2 * count as u64 + 200;
    let limit = rustix::process::getrlimit(Resource::Nofile).current;
    if limit.is_some_and(|limit| limit < needed) {
        sockleak::demo::raise_descriptor_limit(needed);
    }
}

/// A listener with a backlog that holds all of the workload's connections.
pub(super) fn listener(options: &Options) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let socket = options.socket()?;
    rustix::net::bind(&socket, &SocketAddr::new(options.loopback(), 0)).context("cannot bind")?;
    let somaxconn = "/proc/sys/net/core/somaxconn";
    std::fs::write(somaxconn, "65535").with_context(|| format!("cannot write {somaxconn}"))?;
    rustix::net::listen(&socket, 65535).context("cannot listen")?;
    let listener = TcpListener::from(socket);
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Connections with both ends in this process.
#[derive(Debug, Default)]
pub(super) struct Connections {
    pub(super) clients: Vec<TcpStream>,
    pub(super) servers: Vec<TcpStream>,
}

impl Connections {
    /// Connects and accepts `count` times.
    pub(super) fn open(
        listener: &TcpListener,
        address: SocketAddr,
        count: usize,
    ) -> anyhow::Result<Self> {
        let mut all = Self::default();
        for _ in 0..count {
            all.clients
                .push(TcpStream::connect(address).context("cannot connect")?);
            all.servers
                .push(listener.accept().context("cannot accept")?.0);
        }
        Ok(all)
    }
}

/// Closes these ends before their peers; nothing but TIME_WAIT is left of them. The FIN goes out
/// ahead of close(): when its ACK comes between close()'s last look at the state and its giving
/// up the lock, the socket stays a full one in FIN_WAIT2 for a minute (the "bad case" of
/// tcp_rcv_state_process), an orphan that counts in this phase and in those of others.
pub(super) fn close_first(streams: Vec<TcpStream>) -> anyhow::Result<()> {
    for stream in &streams {
        stream
            .shutdown(Shutdown::Write)
            .context("cannot shut down")?;
    }
    until("the closes are acknowledged", || {
        all_in(&streams, FIN_WAIT2)
    })
}

/// Makes the next close a reset.
pub(super) fn close_by_reset(stream: impl AsFd) -> anyhow::Result<()> {
    rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO))
        .context("cannot set SO_LINGER")
}

/// The first bytes of `struct tcp_info` (include/uapi/linux/tcp.h).
fn tcp_info<const LENGTH: usize>(socket: impl AsFd) -> io::Result<[u8; LENGTH]> {
    let mut info = [0; LENGTH];
    let mut length = LENGTH as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, which is what `info` has.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    match result {
        0 => Ok(info),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Connections that wait to be accepted: `tcpi_unacked`, which is `sk_ack_backlog` for a
/// listener (tcp_get_info).
pub(super) fn accept_queue(listener: &TcpListener) -> io::Result<u32> {
    let [.., a, b, c, d] = tcp_info::<28>(listener)?;
    Ok(u32::from_ne_bytes([a, b, c, d]))
}

/// All of these sockets are in state `state`.
pub(super) fn all_in<'a>(
    sockets: impl IntoIterator<Item = &'a TcpStream>,
    state: u8,
) -> io::Result<bool> {
    for socket in sockets {
        let [now] = tcp_info(socket)?;
        if now != state {
            return Ok(false);
        }
    }
    Ok(true)
}

/// TCP_FIN_WAIT2.
const FIN_WAIT2: u8 = 5;
/// TCP_CLOSE.
pub(super) const CLOSE: u8 = 7;
/// TCP_CLOSE_WAIT.
pub(super) const CLOSE_WAIT: u8 = 8;
