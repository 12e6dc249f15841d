//! How full the agent's BPF maps are, straight from bpf(2).

use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

/// Of `enum bpf_cmd` and `enum bpf_map_type` (include/uapi/linux/bpf.h).
const MAP_GET_NEXT_KEY: libc::c_long = 4;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const MAP_TYPE_HASH: u32 = 1;
/// A walk over a map that changes may begin again; it ends here at the latest.
const MOST: u64 = 1 << 23;

/// The first members of `struct bpf_map_info`.
#[repr(C)]
#[derive(Default)]
struct Info {
    kind: u32,
    id: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    name: [u8; 16],
}

/// Elements of each hash map that `pid` has open, by its name.
pub fn usage(pid: u32) -> Result<BTreeMap<String, u64>> {
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let process = pidfd_open(process.context("no pid")?, PidfdFlags::empty())?;
    let mut usage = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        // It may be closed by now.
        let is_map =
            fs::read_link(entry.path()).is_ok_and(|link| link.ends_with("anon_inode:bpf-map"));
        if !is_map {
            continue;
        }
        let number = entry.file_name().to_string_lossy().parse()?;
        let Ok(map) = pidfd_getfd(&process, number, PidfdGetfdFlags::empty()) else {
            continue;
        };
        let info = info(&map)?;
        if info.kind == MAP_TYPE_HASH {
            let name = info
                .name
                .split(|byte| *byte == 0)
                .next()
                .unwrap_or_default();
            let name = String::from_utf8_lossy(name).into_owned();
            usage.insert(name, elements(&map, info.key_size)?);
        }
    }
    Ok(usage)
}

fn info(map: &OwnedFd) -> Result<Info> {
    let mut info = Info::default();
    let mut attributes = [0u64; 2];
    let size = u64::try_from(size_of::<Info>())?;
    attributes[0] = u64::try_from(map.as_raw_fd())? | size << 32;
    attributes[1] = std::ptr::from_mut(&mut info).expose_provenance() as u64;
    // SAFETY: the kernel writes at most `size_of::<Info>()` bytes to `info`, which outlives the call.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut attributes) }.context("asking for a map's layout")?;
    Ok(info)
}

fn elements(map: &OwnedFd, key_size: u32) -> Result<u64> {
    let mut key = vec![0u8; key_size as usize];
    let mut next = key.clone();
    let mut begun = false;
    for count in 0..MOST {
        let from = match begun {
            true => key.as_ptr().expose_provenance() as u64,
            false => 0,
        };
        let to = next.as_mut_ptr().expose_provenance() as u64;
        let mut attributes = [u64::try_from(map.as_raw_fd())?, from, to, 0];
        // SAFETY: both keys have the map's key size and outlive the call.
        match unsafe { bpf(MAP_GET_NEXT_KEY, &mut attributes) } {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(count),
            Err(error) => return Err(error).context("walking over a map"),
        }
        begun = true;
        std::mem::swap(&mut key, &mut next);
    }
    Ok(MOST)
}

/// # Safety
/// `attributes` must be what `command` reads, and the pointers in it valid for the call.
unsafe fn bpf<const N: usize>(command: libc::c_long, attributes: &mut [u64; N]) -> io::Result<()> {
    let size = size_of_val(attributes);
    // SAFETY: `attributes` is as large as said; the caller vouches for what is in it.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size) };
    match result {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
