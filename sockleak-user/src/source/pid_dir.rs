//! A process's directory in /proc, held open so that a reused pid cannot be mistaken for it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawDir, openat, readlinkat, statat};

/// More than any of the files read here can hold; the rest of a larger one is ignored.
const MAX_FILE: usize = 1 << 20;

/// `/proc/PID`. Every access through it fails with ESRCH or ENOENT once the process is gone,
/// also when its pid is in use again.
pub struct PidDir {
    dir: OwnedFd,
}

impl PidDir {
    /// Opens the directory of `pid`, as sockleak's own pid namespace numbers it.
    pub fn open(pid: u32) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(CWD, format!("/proc/{pid}"), flags, Mode::empty())?;
        Ok(Self { dir })
    }

    /// Opens a directory below it, such as `fd` or `task`, for listing.
    pub fn subdir(&self, path: &str) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(openat(&self.dir, path, flags, Mode::empty())?)
    }

    /// Contents of a file below it.
    pub fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = openat(&self.dir, path, flags, Mode::empty())?;
        let mut contents = vec![0; 4096];
        let mut len = 0;
        loop {
            if len == contents.len() {
                if len >= MAX_FILE {
                    break;
                }
                contents.resize(len * 2, 0);
            }
            match rustix::io::read(&file, contents.get_mut(len..).unwrap_or_default()) {
                Ok(0) => break,
                Ok(count) => len += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        contents.truncate(len);
        Ok(contents)
    }

    /// The fields of `stat` that are used here.
    pub fn stat(&self) -> io::Result<Stat> {
        Stat::parse(&self.read("stat")?).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "/proc/PID/stat is not understood",
            )
        })
    }

    /// Start time in ticks since boot, see [`Stat::start_ticks`].
    pub fn start_ticks(&self) -> io::Result<u64> {
        Ok(self.stat()?.start_ticks)
    }

    /// Inode number of the process's pid namespace; needs the right to ptrace-read it.
    pub fn pid_namespace(&self) -> io::Result<u32> {
        let link = readlinkat(&self.dir, "ns/pid", Vec::new())?;
        parse_inode(link.as_bytes(), b"pid:[").ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "/proc/PID/ns/pid is no namespace link",
            )
        })
    }

    /// Inode number of the process's network namespace; needs the right to ptrace-read it.
    pub fn netns(&self) -> io::Result<u32> {
        let link = readlinkat(&self.dir, "ns/net", Vec::new())?;
        parse_ns_link(link.as_bytes()).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "/proc/PID/ns/net is no namespace link",
            )
        })
    }

    /// Number of open descriptors as the size of `fd`, which kernels before 6.2 give as 0.
    pub fn fd_count_by_size(&self) -> Option<u64> {
        let stat = statat(&self.dir, "fd", AtFlags::empty()).ok()?;
        u64::try_from(stat.st_size).ok().filter(|count| *count > 0)
    }
}

impl AsFd for PidDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// Pids of all processes that /proc shows, ascending as it lists them.
pub fn pids() -> io::Result<Vec<u32>> {
    let proc = openat(
        CWD,
        "/proc",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    numbered_entries(proc.as_fd())
}

/// Entries of a directory whose names are numbers: processes, threads, descriptors.
pub fn numbered_entries(dir: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    let mut buffer = Vec::with_capacity(32 << 10);
    let mut entries = RawDir::new(dir, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        match entry {
            Ok(entry) => numbers.extend(parse_number(entry.file_name().to_bytes())),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(numbers)
}

/// Fields of `/proc/PID/stat` (proc_pid_stat(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Field 9: `PF_` flags of the thread group leader.
    pub flags: u32,
    /// Field 20: number of threads.
    pub threads: u32,
    /// Field 22: start time in 1/100 s since boot.
    pub start_ticks: u64,
}

impl Stat {
    /// Parses the whole line. The command name in field 2 may contain anything, also spaces,
    /// newlines and parentheses, so fields are counted from the last `)`.
    pub fn parse(stat: &[u8]) -> Option<Self> {
        let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
        let fields = std::str::from_utf8(stat.get(after_name..)?).ok()?;
        // The first word after the name is field 3.
        let mut fields = fields.split_ascii_whitespace();
        Some(Self {
            flags: fields.nth(9 - 3)?.parse().ok()?,
            threads: fields.nth(20 - 10)?.parse().ok()?,
            start_ticks: fields.nth(22 - 21)?.parse().ok()?,
        })
    }

    /// `PF_KTHREAD` (include/linux/sched.h, the same bit since 2.6).
    pub fn is_kernel_thread(self) -> bool {
        self.flags & 0x0020_0000 != 0
    }
}

/// Inode number in a link such as `net:[4026531840]` or `socket:[12345]`.
pub fn parse_ns_link(link: &[u8]) -> Option<u32> {
    parse_inode(link, b"net:[")
}

/// Inode number of the socket that a `/proc/PID/fd` link names.
pub fn parse_socket_link(link: &[u8]) -> Option<u32> {
    parse_inode(link, b"socket:[")
}

fn parse_inode(link: &[u8], prefix: &[u8]) -> Option<u32> {
    let digits = link.strip_prefix(prefix)?.strip_suffix(b"]")?;
    parse_number(digits)
}

/// A decimal number without sign or spaces.
pub fn parse_number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u32, |number, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        number.checked_mul(10)?.checked_add(u32::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stat_line(comm: &[u8], start: u64) -> Vec<u8> {
        let mut line = b"42 (".to_vec();
        line.extend_from_slice(comm);
        line.extend_from_slice(
            format!(") S 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 3 0 {start} 4096 7 18446744073709551615\n")
                .as_bytes(),
        );
        line
    }

    #[test]
    fn fields_behind_any_name() {
        for comm in ["java", "a) S 1 (b", "new\nline", ")))", "", "two words"] {
            assert_eq!(
                Stat::parse(&stat_line(comm.as_bytes(), 24_437_441)),
                Some(Stat {
                    flags: 4_194_560,
                    threads: 3,
                    start_ticks: 24_437_441
                }),
                "{comm:?}"
            );
        }
        assert_eq!(Stat::parse(b"42 (java) S 1 42"), None);
        assert_eq!(Stat::parse(b""), None);
    }

    #[test]
    fn links() {
        assert_eq!(parse_ns_link(b"net:[4026531840]"), Some(4_026_531_840));
        assert_eq!(parse_socket_link(b"socket:[1]"), Some(1));
        for link in [
            &b"socket:[]"[..],
            b"socket:[1",
            b"socket:[-1]",
            b"socket:[4294967296]",
            b"pipe:[1]",
            b"/tmp/socket:[1]",
        ] {
            assert_eq!(parse_socket_link(link), None);
        }
    }

    #[test]
    fn own_directory() {
        let dir = PidDir::open(std::process::id()).unwrap();
        assert!(dir.start_ticks().unwrap() > 0);
        assert!(dir.netns().unwrap() > 0);
        let stat = dir.stat().unwrap();
        assert!(stat.threads >= 1 && !stat.is_kernel_thread());
        let comm = dir.read("comm").unwrap();
        assert!(comm.ends_with(b"\n"));
        assert!(dir.read("no-such-file").is_err());
    }

    #[test]
    fn a_process_that_is_gone_stays_gone() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let dir = PidDir::open(child.id());
        child.wait().unwrap();
        if let Ok(dir) = dir {
            assert!(dir.start_ticks().is_err());
        }
        assert!(PidDir::open(child.id()).is_err());
    }

    proptest! {
        #[test]
        fn any_name_any_start(comm in proptest::collection::vec(any::<u8>(), 0..16), start: u64) {
            let stat = Stat::parse(&stat_line(&comm, start));
            prop_assert_eq!(stat.map(|stat| stat.start_ticks), Some(start));
        }

        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = (Stat::parse(&bytes), parse_ns_link(&bytes), parse_number(&bytes));
        }

        #[test]
        fn numbers_round_trip(number: u32) {
            prop_assert_eq!(parse_number(number.to_string().as_bytes()), Some(number));
        }
    }
}
