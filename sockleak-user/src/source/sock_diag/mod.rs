//! Dumps of TCP sockets through NETLINK_SOCK_DIAG, in the calling thread's network namespace.
//!
//! A dump walks the kernel's hash tables of listeners, bound sockets (6.8+) and connections. A
//! CLOSED socket without a port is in none of them, so no dump shows it.

mod find;
mod message;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::model::{Family, ListedSocket, TcpState};
use message::{Answer, Ignored};

/// The kernel fills at most 32 KiB per datagram (net/netlink/af_netlink.c `netlink_dump`).
const DATAGRAM: usize = 64 << 10;
/// A dump answers at once; this long a silence means that the answer is not coming.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a dump that the kernel calls inconsistent is started again.
const ATTEMPTS: u32 = 3;

/// A TCP socket as sock_diag shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiagSocket {
    /// Address family.
    pub family: Family,
    /// State; a CLOSED socket with a port appears as [`TcpState::Close`] (6.8 to 6.18).
    pub state: TcpState,
    /// A TIME_WAIT mini-socket. Those that still wait for a FIN have the state FIN_WAIT2
    /// (net/ipv4/inet_diag.c `inet_twsk_diag_fill` shows `tw_substate`).
    pub is_time_wait: bool,
    /// Local address and port.
    pub local: SocketAddr,
    /// Peer; `None` without a peer port.
    pub peer: Option<SocketAddr>,
    /// Inode number; 0 for what has no descriptor: TIME_WAIT, requests, orphans, connections
    /// that are not accepted yet.
    pub inode: u32,
    /// Owner.
    pub uid: u32,
    /// Listeners: length of the accept queue. Others: unread bytes.
    pub rqueue: u32,
    /// Listeners: its limit. Others: unacknowledged bytes.
    pub wqueue: u32,
    /// The timer that probes the peer's closed window is running.
    pub is_probing: bool,
    /// TIME_WAIT: time left, ms.
    pub expires_ms: Option<u32>,
    /// IPV6_V6ONLY, of listeners and CLOSED sockets (net/ipv4/inet_diag.c
    /// `inet_diag_msg_attrs_fill`).
    pub v6only: Option<bool>,
}

impl From<DiagSocket> for ListedSocket {
    fn from(socket: DiagSocket) -> Self {
        Self {
            local: socket.local,
            peer: socket.peer,
            state: socket.state,
            is_time_wait: socket.is_time_wait,
            inode: socket.inode,
            expires_ms: socket.expires_ms,
            v6only: socket.v6only,
        }
    }
}

/// The sockets of a datagram, and whether the dump was interrupted.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(
    datagram: &[u8],
    sequence: u32,
) -> impl Iterator<Item = (Option<DiagSocket>, bool)> {
    message::answers(datagram, sequence).map(|(answer, interrupted)| match answer {
        Answer::Socket(socket) => (Some(socket), interrupted),
        Answer::Done | Answer::Error(_) | Answer::Ignored(_) => (None, interrupted),
    })
}

/// Set of TCP states to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct States(u32);

impl States {
    /// Every state, CLOSED sockets with a port (6.8+) included.
    pub const ALL: Self = Self((1 << 14) - 2);
    /// Every state in which TIME_WAIT mini-sockets are, see [`DiagSocket::is_time_wait`].
    pub const TIME_WAIT: Self =
        Self(1 << TcpState::TimeWait as u32 | 1 << TcpState::FinWait2 as u32);
    /// CLOSED sockets with a port alone; kernels before 6.8 answer with nothing.
    pub const BOUND_INACTIVE: Self = Self::only(TcpState::BoundInactive);
    /// What descriptors can refer to: everything but TIME_WAIT and connection requests.
    pub const HELD: Self =
        Self(Self::ALL.0 & !(1 << TcpState::TimeWait as u32) & !(1 << TcpState::NewSynRecv as u32));

    /// What a socket that its process has closed can be in, and listeners, which a dump begins
    /// with.
    pub const ORPHANS: Self = Self(
        1 << TcpState::Listen as u32
            | 1 << TcpState::FinWait1 as u32
            | 1 << TcpState::FinWait2 as u32
            | 1 << TcpState::Closing as u32
            | 1 << TcpState::LastAck as u32,
    );

    /// One state.
    pub const fn only(state: TcpState) -> Self {
        Self(1 << state as u32)
    }

    fn bits(self) -> u32 {
        self.0
    }
}

/// Why a dump failed.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// No netlink socket, or it could not be used.
    #[error("cannot {0} the sock_diag netlink socket: {1}")]
    Socket(&'static str, #[source] io::Error),
    /// The kernel answered with an error; ENOENT means that it has no tcp_diag.
    #[error("the kernel refuses a sock_diag dump of TCP sockets: {0} (is tcp_diag available?)")]
    Refused(#[source] io::Error),
}

/// How a dump went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dumped {
    /// Messages that were not understood.
    pub malformed: u64,
    /// The kernel said to the last that sockets changed under the walk.
    pub interrupted: bool,
}

/// A netlink socket for dumps of one network namespace: the one its opener was in, whichever
/// thread uses it later.
#[derive(Debug)]
pub struct Dumper {
    socket: OwnedFd,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Dumper {
    /// Opens one for the calling thread's network namespace.
    pub fn open() -> Result<Self, DumpError> {
        Ok(Self {
            socket: open().map_err(|e| DumpError::Socket("open", e))?,
            buffer: vec![0; DATAGRAM],
            sequence: 0,
        })
    }

    /// Dumps all TCP sockets in `states`, IPv4 and IPv6.
    ///
    /// A dump that the kernel marks as interrupted (NLM_F_DUMP_INTR) starts again, up to three
    /// times in all. `fold` adds a socket to the fresh `S` of the attempt, so a repetition counts
    /// nothing twice; the result of the last attempt stands.
    pub fn dump<S: Default>(
        &mut self,
        states: States,
        mut fold: impl FnMut(&mut S, DiagSocket),
    ) -> Result<(S, Dumped), DumpError> {
        let mut attempt = 0;
        loop {
            let mut result = S::default();
            let mut dumped = Dumped::default();
            for family in [Family::V4, Family::V6] {
                self.run(family, states, &mut dumped, |socket| {
                    fold(&mut result, socket);
                })?;
            }
            attempt += 1;
            if !dumped.interrupted || attempt == ATTEMPTS {
                return Ok((result, dumped));
            }
        }
    }

    /// Sends one request and reads to the end of its answer.
    fn run(
        &mut self,
        family: Family,
        states: States,
        dumped: &mut Dumped,
        mut each: impl FnMut(DiagSocket),
    ) -> Result<(), DumpError> {
        let request = message::request(family, states, self.next_sequence());
        self.ask(&request, |answer, interrupted| {
            dumped.interrupted |= interrupted;
            match answer {
                Answer::Socket(socket) => each(socket),
                Answer::Done => return Some(Ok(())),
                Answer::Error(errno) => return Some(Err(refused(errno))),
                Answer::Ignored(Ignored::Foreign) => {}
                Answer::Ignored(Ignored::Malformed) => dumped.malformed += 1,
            }
            None
        })
    }

    fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Sends a request with the newest sequence number and hands what the kernel answers, and
    /// whether it calls that inconsistent, to `each` until that has a result.
    fn ask<T>(
        &mut self,
        request: &[u8],
        mut each: impl FnMut(Answer, bool) -> Option<Result<T, DumpError>>,
    ) -> Result<T, DumpError> {
        rustix::net::send(&self.socket, request, SendFlags::empty())
            .map_err(|e| DumpError::Socket("write to", e.into()))?;
        loop {
            let flags = RecvFlags::empty();
            let (len, sender) =
                match rustix::net::recvfrom(&self.socket, &mut self.buffer[..], flags) {
                    Ok((len, _, sender)) => (len, sender),
                    Err(rustix::io::Errno::INTR) => continue,
                    Err(e) => return Err(DumpError::Socket("read from", e.into())),
                };
            let from_kernel = sender
                .and_then(|sender| SocketAddrNetlink::try_from(sender).ok())
                .is_some_and(|sender| sender.pid() == 0);
            if !from_kernel {
                continue;
            }
            let datagram = self.buffer.get(..len).unwrap_or_default();
            for (answer, interrupted) in message::answers(datagram, self.sequence) {
                if let Some(result) = each(answer, interrupted) {
                    return result;
                }
            }
        }
    }
}

fn refused(errno: i32) -> DumpError {
    DumpError::Refused(io::Error::from_raw_os_error(errno))
}

impl AsFd for Dumper {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// [`Dumper::dump`] in the calling thread's network namespace.
pub fn dump<S: Default>(
    states: States,
    fold: impl FnMut(&mut S, DiagSocket),
) -> Result<(S, Dumped), DumpError> {
    Dumper::open()?.dump(states, fold)
}

/// Asks the kernel whether its dumps show CLOSED sockets that hold a port (6.8+), with a socket
/// of our own; `None` when no port could be had for it.
pub fn shows_bound_inactive() -> Option<bool> {
    use rustix::net::{SocketAddrV4, bind, getsockname, socket_with};
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).ok()?;
    // Ports are taken per address: hardly anybody binds to these, even when the range is used up.
    // On kernels up to 6.12 a bind() to a port that connections use takes that port away from
    // connect() until they end, so ports come first that connect() does not use by default.
    let [a, b] = (std::process::id() as u16).to_be_bytes();
    let here = [127, 255, a, b | 1];
    let ports = (65_528..=65_535).map(|port| (here, port));
    let any_port = [(here, 0), ([127, 0, 0, 1], 0), ([0, 0, 0, 0], 0)];
    ports
        .chain(any_port)
        .find(|(ip, port)| bind(&socket, &SocketAddrV4::new((*ip).into(), *port)).is_ok())?;
    let inode = u32::try_from(rustix::fs::fstat(&socket).ok()?.st_ino).ok()?;
    let local = SocketAddr::try_from(getsockname(&socket).ok()?).ok()?;
    let shown = dump(States::BOUND_INACTIVE, |shown: &mut bool, socket| {
        *shown |= socket.inode == inode && socket.local == local;
    });
    shown.ok().map(|(shown, _)| shown)
}

fn open() -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(SOCK_DIAG),
    )?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    rustix::net::connect(&socket, &SocketAddrNetlink::new(0, 0))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn finds_a_listener_and_its_queue() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let local = listener.local_addr().unwrap();
            let _client = std::net::TcpStream::connect(local).unwrap();
            let (found, dumped) = dump(States::HELD, |found: &mut Vec<DiagSocket>, socket| {
                if socket.local == local {
                    found.push(socket);
                }
            })
            .unwrap();
            assert_eq!(dumped, Dumped::default());
            let listening: Vec<_> = found
                .iter()
                .filter(|s| s.state == TcpState::Listen)
                .collect();
            assert_eq!(listening.len(), 1, "{found:?}");
            assert_eq!((listening[0].rqueue, listening[0].peer), (1, None));
            let child = found.iter().find(|s| s.state == TcpState::Established);
            assert!(child.is_some_and(|c| c.inode == 0 && c.peer.is_some()));
        }
    }

    #[test]
    fn sets_of_states() {
        assert_eq!(States::ALL.bits(), 0x3ffe);
        assert_eq!(States::HELD.bits(), 0x3ffe & !(1 << 6) & !(1 << 12));
        assert_eq!(States::BOUND_INACTIVE.bits(), 1 << 13);
    }
}
