//! What each BPF program takes, from the kernel's own statistics.

use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::kinds::Kind;

/// Commands of `enum bpf_cmd` (include/uapi/linux/bpf.h).
const PROG_GET_NEXT_ID: libc::c_long = 11;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
/// Offsets in `struct bpf_prog_info`, append-only since 4.13.
const NAME: usize = 64;
const RUN_TIME_NS: usize = 192;
const RUN_CNT: usize = 200;
const INFO: usize = 216;

/// Runs and time of every program, by name; programs of one name are added up.
#[derive(Clone, Debug, Default)]
pub struct Programs(BTreeMap<String, (u64, u64)>);

impl Programs {
    /// Makes the kernel keep the figures. It then reads a clock twice around every run: what rounds take
    /// meanwhile means nothing.
    ///
    /// # Errors
    /// When the sysctl cannot be written.
    pub fn enable() -> Result<()> {
        let path = "/proc/sys/kernel/bpf_stats_enabled";
        fs::write(path, "1").with_context(|| format!("writing 1 to {path}"))
    }

    /// Reads them.
    ///
    /// # Errors
    /// What bpf(2) answers.
    pub fn read() -> Result<Self> {
        let mut all = Self::default();
        let mut id = 0;
        while let Some(next) = after(id).context("listing BPF programs")? {
            id = next;
            // It may be gone by now.
            if let Ok((name, count, time)) = about(id) {
                let entry = all.0.entry(name).or_default();
                entry.0 += count;
                entry.1 += time;
            }
        }
        Ok(all)
    }

    /// One line: what each program has taken since `before`, per round and per run.
    pub fn line(&self, before: &Self, run: &str, kind: Kind, rounds: usize) -> Value {
        let mut programs = serde_json::Map::new();
        for (name, (count, time)) in &self.0 {
            let (old_count, old_time) = before.0.get(name).copied().unwrap_or_default();
            let (count, time) = (count - old_count, time - old_time);
            if count > 0 {
                let per_round = count as f64 / rounds as f64;
                programs.insert(
                    name.clone(),
                    json!({"runs_per_round": per_round, "ns_per_run": time / count}),
                );
            }
        }
        json!({"run": run, "kind": kind.name(), "programs": programs})
    }
}

fn after(id: u32) -> io::Result<Option<u32>> {
    let mut attributes = [0_u32; 32];
    attributes[0] = id;
    match bpf(PROG_GET_NEXT_ID, &mut attributes) {
        Ok(_) => Ok(Some(attributes[1])),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

fn about(id: u32) -> io::Result<(String, u64, u64)> {
    let mut attributes = [0_u32; 32];
    attributes[0] = id;
    let fd = bpf(PROG_GET_FD_BY_ID, &mut attributes)?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just opened this descriptor.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut info = [0_u8; INFO];
    // bpf_fd, info_len, info
    let mut attributes = [0_u32; 32];
    attributes[0] = u32::try_from(fd.as_raw_fd()).map_err(io::Error::other)?;
    attributes[1] = u32::try_from(INFO).map_err(io::Error::other)?;
    let address = info.as_mut_ptr() as u64;
    attributes[2] = address as u32;
    attributes[3] = (address >> 32) as u32;
    bpf(OBJ_GET_INFO_BY_FD, &mut attributes)?;
    let number = |at: usize| {
        let bytes = info.get(at..).and_then(|rest| rest.first_chunk::<8>());
        bytes.map_or(0, |bytes| u64::from_ne_bytes(*bytes))
    };
    let name = info.get(NAME..NAME + 16).unwrap_or_default();
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(16);
    let name = String::from_utf8_lossy(name.get(..end).unwrap_or_default());
    Ok((name.into_owned(), number(RUN_CNT), number(RUN_TIME_NS)))
}

fn bpf(command: libc::c_long, attributes: &mut [u32; 32]) -> io::Result<libc::c_long> {
    // SAFETY: the attributes are as long as said, and the callers' pointers are to buffers that live.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            attributes.as_mut_ptr(),
            size_of_val(attributes),
        )
    };
    match result {
        0.. => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}
