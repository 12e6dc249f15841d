//! Opens the files that are mapped into a process.
//!
//! Nothing is opened by a path alone: a mapped file is reached through `/proc/PID/map_files`,
//! or below the process's root, or, when the process is gone, in our own mount namespace, and
//! then only if it is the same file.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat, openat2, statat,
};

use super::elf;
use crate::enrich::symbols::maps::{Mapping, Object};
use crate::source::pid_dir::PidDir;

/// Files that are open at a time: each takes two descriptors.
const MOST: usize = 200;

/// Which contents: a file that was written to since is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    device: u64,
    inode: u64,
    size: i64,
    changed: (i64, u64),
}

impl FileId {
    fn of(stat: &Stat) -> Self {
        #[allow(
            clippy::unnecessary_cast,
            reason = "types differ between architectures"
        )]
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size,
            changed: (stat.st_mtime as i64, stat.st_mtime_nsec as u64),
        }
    }
}

/// A file that is open.
#[derive(Debug)]
pub struct Module {
    /// A path that opens this very file, for libraries that take paths.
    pub path: PathBuf,
    head: Vec<u8>,
    _file: File,
}

impl Module {
    fn new(file: File) -> io::Result<Self> {
        let mut head = vec![0; elf::HEAD];
        let mut len = 0;
        while let Some(rest) = head.get_mut(len..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, len as u64) {
                Ok(0) => break,
                Ok(more) => len += more,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        head.truncate(len);
        Ok(Self {
            path: PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())),
            head,
            _file: file,
        })
    }

    /// Address of the byte at a file offset, as the file's own tables have it.
    pub fn address_of(&self, offset: u64) -> Option<u64> {
        elf::address_of(&self.head, offset)
    }
}

/// Files that are open.
#[derive(Debug, Default)]
pub struct Modules(HashMap<FileId, Rc<Module>>);

impl Modules {
    /// No room for another.
    pub fn is_full(&self) -> bool {
        self.0.len() >= MOST
    }

    /// Opens what is mapped. `process` is `None` when it is gone or has replaced its program
    /// since; `id` is what [`identify`] said while it was there.
    pub fn open(
        &mut self,
        process: Option<&PidDir>,
        mapping: &Mapping,
        id: Option<FileId>,
    ) -> io::Result<Rc<Module>> {
        if let Some(module) = id.and_then(|id| self.0.get(&id)) {
            return Ok(Rc::clone(module));
        }
        let found = match process {
            // It may end at any moment.
            Some(process) => find(process, mapping).or_else(|error| match id {
                Some(_) => find_by_path(CWD, &mapping.object, id),
                None => Err(error),
            })?,
            None => find_by_path(CWD, &mapping.object, id)?,
        };
        let id = FileId::of(&fstat(&found)?);
        if let Some(module) = self.0.get(&id) {
            return Ok(Rc::clone(module));
        }
        // Only now that it is known to be a regular file: opening a device can do things.
        let path = format!("/proc/self/fd/{}", found.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = openat(CWD, path, flags, Mode::empty())?;
        let module = Rc::new(Module::new(File::from(file))?);
        self.0.insert(id, Rc::clone(&module));
        Ok(module)
    }
}

/// Which file is mapped, to know it again when the process is gone.
pub fn identify(process: &PidDir, mapping: &Mapping) -> Option<FileId> {
    let link = map_file(mapping);
    let stat = match statat(process, link, AtFlags::empty()) {
        Ok(stat) => stat,
        Err(_) => fstat(find(process, mapping).ok()?).ok()?,
    };
    Some(FileId::of(&stat))
}

fn map_file(mapping: &Mapping) -> String {
    format!("map_files/{:x}-{:x}", mapping.start, mapping.end)
}

/// A handle (O_PATH) of the regular file that is mapped.
fn find(process: &PidDir, mapping: &Mapping) -> io::Result<OwnedFd> {
    // Leads to the file itself, wherever it is and whatever has become of its name. Takes
    // CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN (fs/proc/base.c, proc_map_files_get_link).
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    if let Ok(file) = openat(process, map_file(mapping), flags, Mode::empty()) {
        return regular(file);
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(process, "root", flags, Mode::empty())?;
    find_by_path(root, &mapping.object, None)
}

/// The same by its path, below `root`, if it is still the same file.
fn find_by_path(root: impl AsFd, object: &Object, id: Option<FileId>) -> io::Result<OwnedFd> {
    let path = Path::new(std::ffi::OsStr::from_bytes(&object.name));
    let path = path.strip_prefix("/").unwrap_or(path);
    let file = openat2(
        root,
        path,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS,
    )?;
    let file = regular(file)?;
    let stat = fstat(&file)?;
    let same = match id {
        Some(id) => FileId::of(&stat) == id,
        None => stat.st_ino == object.inode && same_device(stat.st_dev, object.device),
    };
    if !same {
        return Err(io::Error::other("it has been replaced since"));
    }
    Ok(file)
}

/// btrfs and overlayfs give files devices of their own (major 0), which the mappings do not
/// show; there the inode has to do.
fn same_device(shown: u64, mapped: u64) -> bool {
    shown == mapped || (rustix::fs::major(shown) == 0 && rustix::fs::major(mapped) == 0)
}

fn regular(file: OwnedFd) -> io::Result<OwnedFd> {
    let mode = fstat(&file)?.st_mode;
    if FileType::from_raw_mode(mode) != FileType::RegularFile {
        return Err(io::Error::other("it is no regular file"));
    }
    Ok(file)
}
