//! First phase: which descriptors of which processes are TCP sockets.

use std::fmt::Write as _;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{getxattr, readlinkat_raw};
use rustix::io::Errno;

use super::tables::{self, Distinct};
use crate::model::{Family, ProcessId};
use crate::sanitize::printable;
use crate::source::netns::Namespaces;
use crate::source::pid_dir::{self, PidDir, parse_socket_link};

/// Name of the socket's protocol (`sk->sk_prot_creator->name` at the descriptor's birth;
/// net/socket.c `sockfs_xattr_get`), present since 3.7.
const PROTOCOL_NAME: &str = "system.sockprotoname";

/// A descriptor that may be a TCP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Descriptor {
    /// Inode number of the socket; first, to sort by.
    pub inode: u32,
    /// Index into [`Walked::tables`].
    pub table: u32,
    /// Number.
    pub fd: u32,
    /// The socket's name.
    pub protocol: Protocol,
}

/// What `system.sockprotoname` says.
///
/// A socket that was accepted from an MPTCP listener keeps the listener's name also when the
/// peer spoke plain TCP, so an MPTCP name says nothing certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Protocol {
    Tcp,
    TcpV6,
    Mptcp,
    MptcpV6,
}

impl Protocol {
    fn parse(name: &[u8]) -> Option<Self> {
        match name.strip_suffix(b"\0").unwrap_or(name) {
            b"TCP" => Some(Self::Tcp),
            b"TCPv6" => Some(Self::TcpV6),
            b"MPTCP" => Some(Self::Mptcp),
            b"MPTCPv6" => Some(Self::MptcpV6),
            _ => None,
        }
    }

    pub fn is_mptcp(self) -> bool {
        matches!(self, Self::Mptcp | Self::MptcpV6)
    }

    pub fn family(self) -> Family {
        match self {
            Self::Tcp | Self::Mptcp => Family::V4,
            Self::TcpV6 | Self::MptcpV6 => Family::V6,
        }
    }
}

/// A descriptor table and the process it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub process: ProcessId,
    /// A thread that uses it, when the leader does not.
    pub tid: Option<u32>,
}

/// What the walk found.
#[derive(Default)]
pub(super) struct Walked {
    pub tables: Vec<Table>,
    pub descriptors: Vec<Descriptor>,
    /// Namespaces of the processes.
    pub namespaces: Namespaces,
    /// Processes looked at.
    pub processes: u64,
    /// Processes that ended meanwhile.
    pub vanished: u64,
    /// Pid and printable name of the processes that may not be looked at.
    pub denied: Vec<(u32, String)>,
    /// The same of processes that could not be read for another reason, and that reason.
    pub failed: Vec<(u32, String, io::Error)>,
    /// Processes whose threads could not be compared, and the reason.
    pub uncompared: u64,
    pub uncompared_because: Option<Errno>,
}

/// Why one process was not read to the end.
enum Miss {
    Gone,
    Denied,
    Failed(io::Error),
}

impl From<io::Error> for Miss {
    fn from(e: io::Error) -> Self {
        match Errno::from_io_error(&e) {
            Some(Errno::NOENT | Errno::SRCH) => Self::Gone,
            Some(Errno::ACCESS | Errno::PERM) => Self::Denied,
            _ => Self::Failed(e),
        }
    }
}

impl From<Errno> for Miss {
    fn from(errno: Errno) -> Self {
        io::Error::from(errno).into()
    }
}

/// Walks the descriptors of every process.
pub(super) fn walk() -> io::Result<Walked> {
    let mut walked = Walked::default();
    walked.namespaces.add_mounts();
    for pid in pid_dir::pids()? {
        walked.process(pid);
    }
    Ok(walked)
}

impl Walked {
    fn process(&mut self, pid: u32) {
        let tables = self.tables.len();
        let descriptors = self.descriptors.len();
        match self.read_process(pid) {
            Ok(true) => self.processes += 1,
            Ok(false) => {}
            Err(miss) => {
                self.tables.truncate(tables);
                self.descriptors.truncate(descriptors);
                match miss {
                    Miss::Gone => self.vanished += 1,
                    Miss::Denied => self.denied.push((pid, name_of(pid))),
                    Miss::Failed(e) => self.failed.push((pid, name_of(pid), e)),
                }
            }
        }
    }

    /// `false` for a kernel thread, which has no descriptors.
    fn read_process(&mut self, pid: u32) -> Result<bool, Miss> {
        let dir = PidDir::open(pid)?;
        let stat = dir.stat()?;
        if stat.is_kernel_thread() {
            return Ok(false);
        }
        if let Ok(inode) = dir.netns() {
            self.namespaces.add_process(inode, pid);
        }
        let process = ProcessId {
            pid,
            start_ticks: stat.start_ticks,
        };
        self.read_table(&dir, Table { process, tid: None })?;
        if stat.threads > 1 {
            let threads = tables::distinct(&dir, pid)?;
            if let Distinct::Unknown(errno) = threads {
                self.uncompared += 1;
                self.uncompared_because = Some(errno);
            }
            for tid in threads.tids() {
                let table = Table {
                    process,
                    tid: Some(*tid),
                };
                match self.read_table(&dir, table) {
                    // The thread ended, the process need not have.
                    Err(Miss::Gone) => {}
                    other => other?,
                }
            }
        }
        // Still alive: every path with its pid was its own.
        dir.start_ticks()?;
        Ok(true)
    }

    fn read_table(&mut self, dir: &PidDir, table: Table) -> Result<(), Miss> {
        let subdir = table
            .tid
            .map_or_else(|| "fd".to_owned(), |tid| format!("task/{tid}/fd"));
        let fds = dir.subdir(&subdir)?;
        let index = u32::try_from(self.tables.len()).unwrap_or(u32::MAX);
        self.tables.push(table);
        let prefix = format!("/proc/{}/{subdir}/", table.process.pid);
        let mut path = prefix.clone();
        for fd in pid_dir::numbered_entries(fds.as_fd())? {
            path.truncate(prefix.len());
            // Writing to a String cannot fail.
            let _ = write!(path, "{fd}");
            let name = path.get(prefix.len()..).unwrap_or_default();
            let Some(inode) = socket_inode(fds.as_fd(), name)? else {
                continue;
            };
            if let Some(protocol) = protocol(&path)? {
                self.descriptors.push(Descriptor {
                    inode,
                    table: index,
                    fd,
                    protocol,
                });
            }
        }
        Ok(())
    }
}

/// Inode number of the socket behind a descriptor; `None` when it is something else, or closed
/// by now. Only the link is read: following it could block on a dead network file system.
fn socket_inode(fds: BorrowedFd<'_>, name: &str) -> Result<Option<u32>, Miss> {
    let mut buffer = [0_u8; 64];
    match readlinkat_raw(fds, name, &mut buffer) {
        Ok(len) => Ok(buffer.get(..len).and_then(parse_socket_link)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Protocol of the socket at `path`; `None` when it is not TCP or closed by now.
fn protocol(path: &str) -> Result<Option<Protocol>, Miss> {
    let mut buffer = [0_u8; 32];
    match getxattr(path, PROTOCOL_NAME, &mut buffer) {
        Ok(len) => Ok(buffer.get(..len).and_then(Protocol::parse)),
        // Closed, or replaced by a descriptor of something else, with or without attributes.
        Err(Errno::NOENT | Errno::NODATA | Errno::NOTSUP | Errno::RANGE) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn name_of(pid: u32) -> String {
    let comm = PidDir::open(pid).and_then(|dir| dir.read("comm"));
    comm.map(|comm| printable(comm.strip_suffix(b"\n").unwrap_or(&comm)))
        .unwrap_or_default()
}
