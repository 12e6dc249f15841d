//! The executables and libraries that processes were seen with.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};

use super::elf::{BUILD_ID, Headers};
use crate::enrich::symbols::maps::{Mappings, Object};
use crate::model::{CodeFrame, ProcessId};
use crate::source::pid_dir::PidDir;

/// Files that are kept open: a descriptor each.
const MOST: usize = 400;

/// A file that is kept open.
#[derive(Debug)]
pub struct Known {
    /// The file itself.
    pub file: File,
    headers: Headers,
}

/// Files that are kept open.
#[derive(Debug, Default)]
pub struct Files {
    known: Vec<Known>,
    by_file: HashMap<(u64, u64), usize>,
    by_inode: HashMap<u64, usize>,
    by_build_id: HashMap<[u8; BUILD_ID], usize>,
    mapped: HashSet<(u64, u64)>,
}

impl Files {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Remembers what a process runs: an executable with this inode number, given to execve()
    /// as `path`.
    pub fn learn_executable(&mut self, process: ProcessId, inode: u64, path: &[u8]) {
        if self.by_inode.contains_key(&inode) {
            return;
        }
        // The process may be gone or run something else by now. Its path may be relative to
        // another directory; then the inode number is not the same.
        let found = by_process(process)
            .and_then(|file| has_inode(file, inode))
            .or_else(|_| by_path(path).and_then(|file| has_inode(file, inode)));
        match found.and_then(|file| self.keep(file)) {
            Ok(index) => drop(self.by_inode.insert(inode, index)),
            Err(error) => log::debug!("what process {} runs cannot be kept: {error}", process.pid),
        }
    }

    /// Remembers what is mapped into a process, if it lives.
    pub fn learn_mapped(&mut self, process: ProcessId) {
        if let Err(error) = self.try_learn_mapped(process) {
            log::debug!("what process {} has mapped: {error}", process.pid);
        }
    }

    fn try_learn_mapped(&mut self, process: ProcessId) -> io::Result<()> {
        let dir = living(process)?;
        let mappings = Mappings::parse(&dir.read("maps")?);
        for mapping in mappings.iter().filter(|mapping| mapping.object.is_file()) {
            let object = &mapping.object;
            if self.mapped.len() >= MOST || !self.mapped.insert((object.device, object.inode)) {
                continue;
            }
            let link = format!("map_files/{:x}-{:x}", mapping.start, mapping.end);
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            // The link takes rights that the path does not.
            let file = openat(&dir, link, flags, Mode::empty())
                .or_else(|_| below_root(&dir, object))
                .map_err(io::Error::from)
                .and_then(|file| has_inode(file, object.inode));
            if let Err(error) = file.and_then(|file| self.keep(file)) {
                log::debug!("a file mapped into {} is not kept: {error}", process.pid);
            }
        }
        Ok(())
    }

    /// Which of the files a frame is in, and where in it.
    pub fn find(&self, frame: CodeFrame, executable: u64) -> Option<(usize, u64)> {
        match frame {
            CodeFrame::File { build_id, offset } => {
                Some((*self.by_build_id.get(&build_id)?, offset))
            }
            CodeFrame::Program(behind) => {
                let index = *self.by_inode.get(&executable)?;
                let start = self.known.get(index)?.headers.code_offset?;
                Some((index, start.checked_add(behind)?))
            }
            CodeFrame::Address(_) => None,
        }
    }

    /// A file by what [`Self::find`] says.
    pub fn get(&self, index: usize) -> Option<&Known> {
        self.known.get(index)
    }

    fn keep(&mut self, file: OwnedFd) -> io::Result<usize> {
        let stat = fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("it is no regular file"));
        }
        let id = (stat.st_dev, stat.st_ino);
        if let Some(index) = self.by_file.get(&id) {
            return Ok(*index);
        }
        if self.known.len() >= MOST {
            return Err(io::Error::other(format!("{MOST} files are open already")));
        }
        // Only now that it is known to be a regular file: opening a device can do things.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = File::from(openat(CWD, path, flags, Mode::empty())?);
        let headers = Headers::read(&file)?;
        let index = self.known.len();
        self.known.push(Known { file, headers });
        self.by_file.insert(id, index);
        if let Some(build_id) = headers.build_id {
            self.by_build_id.insert(build_id, index);
        }
        Ok(index)
    }
}

/// The directory of a process, if it is still the same.
fn living(process: ProcessId) -> io::Result<PidDir> {
    let dir = PidDir::open(process.pid)?;
    if dir.start_ticks()? == process.start_ticks {
        Ok(dir)
    } else {
        Err(io::Error::other("the process has ended"))
    }
}

fn by_process(process: ProcessId) -> io::Result<OwnedFd> {
    let dir = living(process)?;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    Ok(openat(&dir, "exe", flags, Mode::empty())?)
}

fn by_path(path: &[u8]) -> io::Result<OwnedFd> {
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    Ok(openat(CWD, path, flags, Mode::empty())?)
}

fn below_root(dir: &PidDir, object: &Object) -> rustix::io::Result<OwnedFd> {
    let mut path = b"root".to_vec();
    path.extend_from_slice(&object.name);
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(dir, path, flags, Mode::empty())
}

/// btrfs and overlayfs number files otherwise than the kernel does inside (major 0).
fn has_inode(file: OwnedFd, inode: u64) -> io::Result<OwnedFd> {
    let stat = fstat(&file)?;
    if stat.st_ino == inode || rustix::fs::major(stat.st_dev) == 0 {
        Ok(file)
    } else {
        Err(io::Error::other("it is another file"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enrich::process::identify;

    fn own_inode() -> u64 {
        fstat(File::open("/proc/self/exe").unwrap()).unwrap().st_ino
    }

    #[test]
    fn what_a_process_runs_is_found_by_inode_and_build_id() {
        let mut files = Files::new();
        let me = identify(std::process::id()).unwrap();
        files.learn_executable(me, own_inode(), b"no-such-path");
        let (index, offset) = files.find(CodeFrame::Program(16), own_inode()).unwrap();
        let known = files.get(index).unwrap();
        assert_eq!(Some(offset - 16), known.headers.code_offset);
        assert_eq!(fstat(&known.file).unwrap().st_ino, own_inode());
        files.learn_mapped(me);
        if let Some(build_id) = files.get(index).unwrap().headers.build_id {
            let frame = CodeFrame::File {
                build_id,
                offset: 5,
            };
            assert_eq!(files.find(frame, 0), Some((index, 5)));
        }
    }

    #[test]
    fn another_file_of_the_same_path_is_not_taken() {
        let mut files = Files::new();
        let gone = ProcessId {
            pid: std::process::id(),
            start_ticks: 1,
        };
        let exe = std::env::current_exe().unwrap();
        let path = exe.as_os_str().as_bytes();
        let other_disk = rustix::fs::major(fstat(File::open(&exe).unwrap()).unwrap().st_dev) == 0;
        files.learn_executable(gone, own_inode() + 1, path);
        assert_eq!(files.known.is_empty(), !other_disk);
        files.learn_executable(gone, own_inode(), path);
        assert!(files.find(CodeFrame::Program(0), own_inode()).is_some());
    }
}
