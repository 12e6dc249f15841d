//! BPF programs and links by id, straight from bpf(2).

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};

use anyhow::Context as _;

/// Commands of `enum bpf_cmd` (include/uapi/linux/bpf.h).
const PROG_GET_NEXT_ID: libc::c_long = 11;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const LINK_GET_FD_BY_ID: libc::c_long = 30;
const LINK_GET_NEXT_ID: libc::c_long = 31;

/// Programs or links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `prog_id`
    Program,
    /// `link_id`
    Link,
}

/// The ids that a process has descriptors for, by `/proc/PID/fdinfo`.
pub(super) fn held_by(pid: u32, kind: Kind) -> anyhow::Result<BTreeSet<u32>> {
    let key = match kind {
        Kind::Program => "prog_id:",
        Kind::Link => "link_id:",
    };
    let directory = format!("/proc/{pid}/fdinfo");
    let mut ids = BTreeSet::new();
    for entry in std::fs::read_dir(&directory).with_context(|| directory.clone())? {
        // A descriptor may be closed while we look.
        let Ok(text) = std::fs::read_to_string(entry?.path()) else {
            continue;
        };
        let lines = text.lines().filter_map(|line| line.strip_prefix(key));
        ids.extend(lines.filter_map(|id| id.trim().parse::<u32>().ok()));
    }
    Ok(ids)
}

/// Every id in the system.
pub(super) fn all(kind: Kind) -> anyhow::Result<BTreeSet<u32>> {
    let command = match kind {
        Kind::Program => PROG_GET_NEXT_ID,
        Kind::Link => LINK_GET_NEXT_ID,
    };
    let mut ids = BTreeSet::new();
    let mut last = 0;
    loop {
        // start_id in, next_id and open_flags out: the attributes of BPF_*_GET_NEXT_ID.
        let mut attributes = [0u32; 32];
        attributes[0] = last;
        match bpf(command, &mut attributes) {
            Ok(_) => last = attributes[1],
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(ids),
            Err(error) => return Err(error).with_context(|| format!("cannot list {kind:?} ids")),
        }
        ids.insert(last);
    }
}

/// Something with this id exists.
pub(super) fn exists(kind: Kind, id: u32) -> anyhow::Result<bool> {
    let command = match kind {
        Kind::Program => PROG_GET_FD_BY_ID,
        Kind::Link => LINK_GET_FD_BY_ID,
    };
    let mut attributes = [0u32; 32];
    attributes[0] = id;
    match bpf(command, &mut attributes) {
        Ok(fd) => {
            let fd = i32::try_from(fd)?;
            // SAFETY: the kernel has just opened this descriptor for us.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
            Ok(true)
        }
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot look up {kind:?} {id}")),
    }
}

fn bpf(command: libc::c_long, attributes: &mut [u32; 32]) -> io::Result<libc::c_long> {
    let size = size_of_val(attributes);
    // SAFETY: `attributes` is as large as said, and these commands keep no pointer to it.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}
