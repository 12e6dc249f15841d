//! Network namespaces: which there are, and how to look from inside one.

mod enter;
mod ports;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, fstat, openat, readlinkat};

use super::pid_dir::{PidDir, parse_ns_link};
use crate::sanitize::printable;

pub use enter::in_netns;
pub use ports::{
    Listing, listing, lists_closed, parse_port_list, parse_port_range, port_settings, ports,
    source_address,
};

/// How many ways to reach one namespace are remembered: the first may be gone when it is used.
const MAX_ORIGINS: usize = 4;

/// Why a network namespace could not be looked into.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// No process or mount gives access to it (any more).
    #[error("cannot open network namespace {inode}: {source}")]
    Open {
        /// Inode number.
        inode: u32,
        /// The last attempt's error.
        source: io::Error,
    },
    /// setns() failed; EPERM means that CAP_SYS_ADMIN is missing.
    #[error("cannot enter network namespace {inode}: {source} (needs CAP_SYS_ADMIN; run as root)")]
    Enter {
        /// Inode number.
        inode: u32,
        /// Error of setns().
        source: io::Error,
    },
    /// What was to be read inside could not be read.
    #[error("cannot read {what} of network namespace {inode}: {source}")]
    Read {
        /// Inode number.
        inode: u32,
        /// File or dump.
        what: &'static str,
        /// Its error.
        source: io::Error,
    },
}

/// An open network namespace; it lives at least as long as this.
#[derive(Debug)]
pub struct NetnsHandle {
    inode: u32,
    fd: OwnedFd,
}

impl NetnsHandle {
    /// The namespace that the leader of process `pid` is in.
    pub fn of_process(pid: u32) -> io::Result<Self> {
        Self::of_path(Path::new(&format!("/proc/{pid}/ns/net")))
    }

    /// The namespace behind a bind mount such as `/run/netns/NAME` or a link in /proc.
    pub fn of_path(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = openat(CWD, path, flags, Mode::empty())?;
        Self::of_fd(fd)
    }

    /// The namespace that the calling thread is in.
    pub fn current() -> io::Result<Self> {
        Self::of_path(Path::new("/proc/thread-self/ns/net"))
    }

    /// From a descriptor of a namespace, as SIOCGSKNS gives it for a socket.
    pub fn of_fd(fd: OwnedFd) -> io::Result<Self> {
        const NSFS_MAGIC: i64 = 0x6e73_6673;
        // The type of f_type differs between architectures.
        #[allow(clippy::unnecessary_cast)]
        let magic = rustix::fs::fstatfs(&fd)?.f_type as i64;
        let inode = u32::try_from(fstat(&fd)?.st_ino).ok();
        match inode {
            Some(inode) if magic == NSFS_MAGIC => Ok(Self { inode, fd }),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is no namespace",
            )),
        }
    }

    /// Inode number, as in `/proc/PID/ns/net` and `sk->__sk_common.skc_net.net->ns.inum`.
    pub fn inode(&self) -> u32 {
        self.inode
    }
}

impl AsFd for NetnsHandle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Inode number of the calling thread's network namespace.
pub fn current() -> io::Result<u32> {
    let link = readlinkat(CWD, "/proc/thread-self/ns/net", Vec::new())?;
    parse_ns_link(link.as_bytes()).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "/proc/thread-self/ns/net is no namespace link",
        )
    })
}

/// Network namespaces and where they can be opened.
#[derive(Debug, Default)]
pub struct Namespaces {
    by_inode: BTreeMap<u32, Vec<Origin>>,
}

/// One way to open a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    Process(u32),
    Mount(PathBuf),
}

impl Namespaces {
    /// Those of all living processes and those that are bind-mounted where sockleak can see it.
    ///
    /// Namespaces that only a descriptor, a socket, or a mount in another mount namespace keeps
    /// alive are not found. Processes that may not be inspected are left out.
    pub fn enumerate() -> io::Result<Self> {
        let mut namespaces = Self::default();
        namespaces.add_mounts();
        for pid in super::pid_dir::pids()? {
            if let Ok(inode) = PidDir::open(pid).and_then(|dir| dir.netns()) {
                namespaces.add_process(inode, pid);
            }
        }
        Ok(namespaces)
    }

    /// Adds the namespaces in sockleak's own mount table.
    pub fn add_mounts(&mut self) {
        let mounts = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
        for (inode, path) in parse_nsfs_mounts(&mounts) {
            self.add(inode, Origin::Mount(path));
        }
    }

    /// Adds the namespace of a process, read from its `ns/net`.
    pub fn add_process(&mut self, inode: u32, pid: u32) {
        self.add(inode, Origin::Process(pid));
    }

    fn add(&mut self, inode: u32, origin: Origin) {
        let origins = self.by_inode.entry(inode).or_default();
        if origins.len() < MAX_ORIGINS && !origins.contains(&origin) {
            origins.push(origin);
        }
    }

    /// Inode numbers, ascending.
    pub fn inodes(&self) -> impl Iterator<Item = u32> {
        self.by_inode.keys().copied()
    }

    /// Opens one of them.
    pub fn open(&self, inode: u32) -> Result<NetnsHandle, NetnsError> {
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        let mut last = gone();
        for origin in self.by_inode.get(&inode).into_iter().flatten() {
            let handle = match origin {
                Origin::Process(pid) => NetnsHandle::of_process(*pid),
                Origin::Mount(path) => NetnsHandle::of_path(path),
            };
            match handle {
                Ok(handle) if handle.inode == inode => return Ok(handle),
                // The pid was reused, the process moved on, or something else is mounted there.
                Ok(_) => last = gone(),
                Err(e) => last = e,
            }
        }
        Err(NetnsError::Open {
            inode,
            source: last,
        })
    }

    /// Printable paths at which a namespace is mounted, such as `/run/netns/NAME`.
    pub fn mounted_at(&self, inode: u32) -> impl Iterator<Item = String> {
        use std::os::unix::ffi::OsStrExt;
        let origins = self.by_inode.get(&inode).into_iter().flatten();
        origins.filter_map(|origin| match origin {
            Origin::Mount(path) => Some(printable(path.as_os_str().as_bytes())),
            Origin::Process(_) => None,
        })
    }
}

/// Network namespaces in a mount table (proc_pid_mountinfo(5)): the root of an nsfs mount is
/// `net:[INODE]`, and the mount point has its awkward characters written in octal.
fn parse_nsfs_mounts(mountinfo: &[u8]) -> Vec<(u32, PathBuf)> {
    use std::os::unix::ffi::OsStringExt;
    let lines = mountinfo.split(|byte| *byte == b'\n');
    lines
        .filter_map(|line| {
            let mut fields = line.split(|byte| *byte == b' ');
            let inode = parse_ns_link(fields.nth(3)?)?;
            let path = unescape_octal(fields.next()?);
            Some((inode, PathBuf::from(std::ffi::OsString::from_vec(path))))
        })
        .collect()
}

/// Undoes `\NNN` as the kernel's mangle() writes it.
fn unescape_octal(mut text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    while let Some((first, rest)) = text.split_first() {
        let escaped = match (first, rest) {
            (
                b'\\',
                [
                    a @ b'0'..=b'3',
                    b @ b'0'..=b'7',
                    c @ b'0'..=b'7',
                    after @ ..,
                ],
            ) => Some(((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'), after)),
            _ => None,
        };
        let (byte, after) = escaped.unwrap_or((*first, rest));
        plain.push(byte);
        text = after;
    }
    plain
}

/// A mount table, whatever is in it.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(mountinfo: &[u8]) {
    for (_, path) in parse_nsfs_mounts(mountinfo) {
        assert!(path.as_os_str().len() <= mountinfo.len());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn mounts_of_namespaces() {
        let table = b"22 1 254:0 / / rw,relatime - ext4 /dev/root rw\n\
            530 22 0:4 net:[4026532345] /run/netns/blue rw shared:9 - nsfs nsfs rw\n\
            531 22 0:4 mnt:[4026532346] /run/mnt/x rw - nsfs nsfs rw\n\
            532 22 0:4 net:[4026532347] /run/netns/a\\040b\\134 rw - nsfs nsfs rw\n\
            short line\n";
        let expected = [
            (4_026_532_345, PathBuf::from("/run/netns/blue")),
            (4_026_532_347, PathBuf::from("/run/netns/a b\\")),
        ];
        assert_eq!(parse_nsfs_mounts(table), expected);
    }

    #[test]
    fn our_own_namespace_is_found_and_opens() {
        let here = current().unwrap();
        assert_eq!(NetnsHandle::current().unwrap().inode(), here);
        let namespaces = Namespaces::enumerate().unwrap();
        assert!(namespaces.inodes().any(|inode| inode == here));
        assert_eq!(namespaces.open(here).unwrap().inode(), here);
    }

    #[test]
    fn what_is_no_namespace_is_refused() {
        assert!(NetnsHandle::of_path(Path::new("/proc/self/stat")).is_err());
        assert!(NetnsHandle::of_path(Path::new("/no/such/file")).is_err());
        let mut namespaces = Namespaces::default();
        namespaces.add_process(1, std::process::id());
        assert!(matches!(
            namespaces.open(1),
            Err(NetnsError::Open { inode: 1, .. })
        ));
    }

    proptest! {
        #[test]
        fn octal_round_trip(path in proptest::collection::vec(1_u8.., 0..30)) {
            let escaped: Vec<u8> = path.iter().flat_map(|byte| match byte {
                b' ' | b'\t' | b'\n' | b'\\' => format!("\\{byte:03o}").into_bytes(),
                _ => vec![*byte],
            }).collect();
            prop_assert_eq!(unescape_octal(&escaped), path);
        }

        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse_nsfs_mounts(&bytes);
        }
    }
}
