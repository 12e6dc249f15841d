//! Opens the map that a process has written, without trusting it: it may have put a pipe, a
//! link or a device in its place to stop us or to show us somebody else's file.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat, openat2};

use crate::source::pid_dir::PidDir;

/// A map that may be read.
#[derive(Debug)]
pub struct PerfMapFile {
    /// Its contents.
    pub file: File,
    /// Its length now; it grows while the process compiles.
    pub len: u64,
}

/// Opens the map of a process: `/tmp/perf-PID.map` where the process lives, with the pid as its
/// own namespace numbers it.
///
/// # Errors
/// When there is none or it is not to be trusted; the message says why.
pub fn open(process: &PidDir) -> io::Result<PerfMapFile> {
    let status = process.read("status")?;
    let identity = Identity::parse(&status)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "status is not understood"))?;
    // A link into the process's mount namespace; following it takes the right to ptrace-read.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(process, "root", flags, Mode::empty())?;
    let path = format!("tmp/perf-{}.map", identity.pid);
    open_below(root.as_fd(), &path, &identity.uids)
}

/// The same below any directory, for files of these users.
fn open_below(root: impl AsFd, path: &str, uids: &[u32]) -> io::Result<PerfMapFile> {
    // No link anywhere on the way, and a pipe without a writer does not stop us.
    let file = openat2(
        root,
        path,
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS,
    )?;
    let stat = fstat(&file)?;
    check(&stat, uids).map_err(|what| io::Error::other(format!("/{path} {what}")))?;
    Ok(PerfMapFile {
        file: File::from(file),
        len: u64::try_from(stat.st_size).unwrap_or(0),
    })
}

fn check(stat: &Stat, uids: &[u32]) -> Result<(), &'static str> {
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err("is no regular file");
    }
    // Everybody may write to /tmp; root could have written it into the process itself.
    if stat.st_uid != 0 && !uids.contains(&stat.st_uid) {
        return Err("belongs to another user");
    }
    Ok(())
}

/// Who the process is, from `/proc/PID/status` (proc_pid_status(5)).
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    /// Pid in its own namespace, the last of `NSpid`.
    pid: u32,
    /// Real, effective, saved and file system user.
    uids: Vec<u32>,
}

impl Identity {
    fn parse(status: &[u8]) -> Option<Self> {
        let numbers = |key: &[u8]| -> Option<Vec<u32>> {
            let line = status
                .split(|byte| *byte == b'\n')
                .find_map(|line| line.strip_prefix(key))?;
            let line = std::str::from_utf8(line).ok()?;
            line.split_ascii_whitespace()
                .map(|number| number.parse().ok())
                .collect()
        };
        Some(Self {
            pid: numbers(b"NSpid:")?.pop()?,
            uids: numbers(b"Uid:")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::path::{Path, PathBuf};

    use rustix::fs::{CWD, chownat, mkfifoat};

    use super::*;

    /// A directory of its own for each test, gone with it.
    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let name = format!("sockleak-perf-map-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn open(&self, path: &str) -> io::Result<PerfMapFile> {
            let own = rustix::process::geteuid().as_raw();
            open_below(File::open(&self.0).unwrap(), path, &[own])
        }

        fn refuses(&self, path: &str) -> String {
            self.open(path).map(|_| ()).unwrap_err().to_string()
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_good_map_is_read() {
        let dir = Dir::new("good");
        std::fs::write(dir.0.join("map"), "1000 10 x\n").unwrap();
        let mut map = dir.open("map").unwrap();
        assert_eq!(map.len, 10);
        let mut text = String::new();
        map.file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "1000 10 x\n");
    }

    #[test]
    fn what_is_no_file_is_not_opened_or_not_used() {
        let dir = Dir::new("kinds");
        let fifo = dir.0.join("fifo");
        mkfifoat(CWD, &fifo, Mode::from_raw_mode(0o600)).unwrap();
        assert!(dir.refuses("fifo").contains("no regular file"));
        std::fs::create_dir(dir.0.join("dir")).unwrap();
        assert!(dir.refuses("dir").contains("no regular file"));
        let _socket = std::os::unix::net::UnixListener::bind(dir.0.join("socket")).unwrap();
        let error = dir.open("socket").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENXIO));
        let error = dir.open("none").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn no_link_is_followed() {
        let dir = Dir::new("links");
        let link =
            |to: &Path, name: &str| std::os::unix::fs::symlink(to, dir.0.join(name)).unwrap();
        std::fs::create_dir(dir.0.join("tmp")).unwrap();
        std::fs::write(dir.0.join("tmp/map"), "1000 10 x\n").unwrap();
        assert!(dir.open("tmp/map").is_ok());
        link(Path::new("/etc/passwd"), "absolute");
        link(Path::new("tmp/map"), "relative");
        link(Path::new("tmp"), "directory");
        link(Path::new("/proc/self/exe"), "magic");
        for path in ["absolute", "relative", "directory/map", "magic"] {
            let error = dir.open(path).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ELOOP), "{path}");
        }
        // Nothing above the root: there is no such file below it.
        let error = dir.open("../../etc/passwd").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_map_of_somebody_else_is_not_used() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIP: only root can give files away; not tested here: a foreign perf map");
            return;
        }
        let dir = Dir::new("owner");
        let map = dir.0.join("map");
        std::fs::write(&map, "1000 10 x\n").unwrap();
        let give = |uid| {
            chownat(
                CWD,
                &map,
                Some(rustix::fs::Uid::from_raw(uid)),
                None,
                rustix::fs::AtFlags::empty(),
            )
        };
        let open = |uids: &[u32]| open_below(File::open(&dir.0).unwrap(), "map", uids);
        give(1234).unwrap();
        let error = open(&[1000, 1001]).unwrap_err().to_string();
        assert!(error.contains("another user"), "{error}");
        assert!(open(&[1000, 1234]).is_ok());
        give(0).unwrap();
        assert!(open(&[1000]).is_ok());
    }

    #[test]
    fn who_a_process_is() {
        let status = b"Name:\tnode\nPid:\t812\nUid:\t1000\t1001\t1002\t1003\nNSpid:\t812\t17\t1\n";
        assert_eq!(
            Identity::parse(status),
            Some(Identity {
                pid: 1,
                uids: vec![1000, 1001, 1002, 1003]
            })
        );
        assert_eq!(Identity::parse(b"Uid:\t1\n"), None);
        assert_eq!(Identity::parse(b"Uid:\tx\nNSpid:\t1\n"), None);
        assert_eq!(Identity::parse(b""), None);
    }

    #[test]
    fn own_map() {
        let pid = std::process::id();
        let path = format!("/tmp/perf-{pid}.map");
        std::fs::write(&path, "1000 10 own\n").unwrap();
        let opened = open(&PidDir::open(pid).unwrap());
        std::fs::remove_file(&path).unwrap();
        assert_eq!(opened.unwrap().len, 12);
        let error = open(&PidDir::open(pid).unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
