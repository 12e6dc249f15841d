//! Asks a socket itself, through a copy of its descriptor, what it is. Nothing is changed on it.

use std::collections::HashMap;
use std::mem::size_of;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::sockopt::socket_protocol;
use rustix::net::{getpeername, getsockname, ipproto};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::walk::Table;
use crate::model::{Family, TcpState};
use crate::source::netns::NetnsHandle;
use crate::source::pid_dir::PidDir;

/// `PIDFD_THREAD` (6.9+): a pidfd of a thread that is no leader.
const PIDFD_THREAD: PidfdFlags = PidfdFlags::from_bits_retain(libc::O_EXCL as u32);
/// `SO_NETNS_COOKIE` (5.14+).
const SO_NETNS_COOKIE: libc::c_int = 71;
/// `SIOCGSKNS` (4.10+): opens the network namespace of a socket; needs CAP_NET_ADMIN in it.
const SIOCGSKNS: u32 = 0x894c;

/// Why a socket gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// The process has ended, or the descriptor is closed or another socket by now.
    Gone,
    /// pidfd_getfd() is refused: it takes the right to ptrace-attach to the process.
    Denied(Errno),
    /// The kernel cannot do it: pidfd_getfd() came with 5.6, that of a thread's own table
    /// with 6.9.
    Unsupported(Errno),
}

impl From<Errno> for Silence {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::SRCH | Errno::BADF | Errno::NOENT => Self::Gone,
            Errno::NOSYS | Errno::INVAL => Self::Unsupported(errno),
            other => Self::Denied(other),
        }
    }
}

/// What a socket says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub family: Family,
    pub state: TcpState,
    /// As getsockname() says: the port (`inet_sport`) outlives its release, so a CLOSED socket
    /// may no longer hold it.
    pub local: SocketAddr,
    pub peer: Option<SocketAddr>,
    pub accept_queue: u32,
    /// It has sent or received a SYN in its life: a path MTU was set (`icsk_pmtu_cookie`).
    pub was_connected: bool,
    /// Its network namespace, where that can be told.
    pub netns: Option<u32>,
}

/// Opens the process of a table, making sure that it is the one that was walked.
pub(super) fn open(table: &Table) -> Result<OwnedFd, Silence> {
    let (id, flags) = match table.tid {
        Some(tid) => (tid, PIDFD_THREAD),
        None => (table.process.pid, PidfdFlags::empty()),
    };
    let id = i32::try_from(id).ok().and_then(Pid::from_raw);
    let pidfd = pidfd_open(id.ok_or(Silence::Gone)?, flags)?;
    // Still the same start time after pidfd_open(): the pid was never anybody else's between.
    let start_ticks = PidDir::open(table.process.pid).and_then(|dir| dir.start_ticks());
    match start_ticks {
        Ok(ticks) if ticks == table.process.start_ticks => Ok(pidfd),
        _ => Err(Silence::Gone),
    }
}

/// Copies descriptor `fd` if it is still the socket with that inode number.
pub(super) fn copy(process: BorrowedFd<'_>, fd: u32, inode: u32) -> Result<OwnedFd, Silence> {
    let fd = i32::try_from(fd).map_err(|_| Silence::Gone)?;
    let copy = pidfd_getfd(process, fd, PidfdGetfdFlags::empty())?;
    let is_same = rustix::fs::fstat(&copy)?.st_ino == u64::from(inode);
    is_same.then_some(copy).ok_or(Silence::Gone)
}

/// The socket is TCP proper, not MPTCP.
pub(super) fn is_tcp(socket: BorrowedFd<'_>) -> bool {
    socket_protocol(socket).is_ok_and(|protocol| protocol == Some(ipproto::TCP))
}

/// Asks a TCP socket.
pub(super) fn ask(socket: BorrowedFd<'_>, namespaces: &mut SocketNamespaces) -> Option<Answer> {
    // struct tcp_info of include/uapi/linux/tcp.h; it only ever grew at its end.
    let info: [u8; 104] = getsockopt(socket, libc::IPPROTO_TCP, libc::TCP_INFO)?;
    let word = |offset: usize| {
        let bytes = info.get(offset..)?.first_chunk()?;
        Some(u32::from_ne_bytes(*bytes))
    };
    let state = TcpState::try_from(*info.first()?).ok()?;
    let (unacked, pmtu) = (word(24)?, word(60)?);
    let local = SocketAddr::try_from(getsockname(socket).ok()?).ok()?;
    let peer = match state {
        TcpState::Close | TcpState::Listen => None,
        _ => getpeername(socket)
            .ok()
            .flatten()
            .and_then(|peer| SocketAddr::try_from(peer).ok()),
    };
    Some(Answer {
        family: if local.is_ipv4() {
            Family::V4
        } else {
            Family::V6
        },
        state,
        local,
        peer,
        // tcp_get_info() puts sk_ack_backlog there for listeners.
        accept_queue: if state == TcpState::Listen {
            unacked
        } else {
            0
        },
        was_connected: pmtu != 0,
        netns: namespaces.of(socket),
    })
}

/// Network namespaces of sockets, asked once per namespace where the kernel has cookies.
#[derive(Default)]
pub(super) struct SocketNamespaces {
    by_cookie: HashMap<u64, Option<u32>>,
    /// Open namespaces that were met through sockets only.
    handles: HashMap<u32, NetnsHandle>,
}

impl SocketNamespaces {
    /// Remembers the namespace of any socket of ours, for which SIOCGSKNS may be refused.
    pub fn learn(&mut self, socket: BorrowedFd<'_>, inode: u32) {
        if let Some(cookie) = cookie(socket) {
            self.by_cookie.insert(cookie, Some(inode));
        }
    }

    /// A namespace that was met through a socket and may have no other way in.
    pub fn handle(&self, inode: u32) -> Option<&NetnsHandle> {
        self.handles.get(&inode)
    }

    fn of(&mut self, socket: BorrowedFd<'_>) -> Option<u32> {
        let cookie = cookie(socket);
        if let Some(known) = cookie.and_then(|cookie| self.by_cookie.get(&cookie)) {
            return *known;
        }
        let handle = open_netns(socket);
        let inode = handle.as_ref().map(NetnsHandle::inode);
        if let Some(handle) = handle {
            self.handles.entry(handle.inode()).or_insert(handle);
        }
        if let Some(cookie) = cookie {
            self.by_cookie.insert(cookie, inode);
        }
        inode
    }
}

fn cookie(socket: BorrowedFd<'_>) -> Option<u64> {
    let bytes: [u8; 8] = getsockopt(socket, libc::SOL_SOCKET, SO_NETNS_COOKIE)?;
    Some(u64::from_ne_bytes(bytes))
}

fn open_netns(socket: BorrowedFd<'_>) -> Option<NetnsHandle> {
    // SAFETY: the descriptor is open, and SIOCGSKNS takes no argument.
    let fd = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGSKNS as _) };
    if fd < 0 {
        return None;
    }
    // SAFETY: the kernel has just made this descriptor for us alone.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    NetnsHandle::of_fd(fd).ok()
}

/// An option's value; what the kernel does not fill stays 0.
fn getsockopt<const N: usize>(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
) -> Option<[u8; N]> {
    let mut value = [0_u8; N];
    let mut len = size_of::<[u8; N]>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes, the size of `value`, and the new length.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            value.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    (result == 0).then_some(value)
}
