//! Runs of a program that the kernel skipped, and the time it took.

use std::os::fd::{AsRawFd, BorrowedFd};

/// `BPF_OBJ_GET_INFO_BY_FD` (include/uapi/linux/bpf.h).
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;

/// Offsets in `struct bpf_prog_info`, append-only since 4.13; `recursion_misses` is the last
/// that is read (5.12+).
const RUN_TIME_NS: usize = 192;
const RECURSION_MISSES: usize = 208;
const INFO_LEN: usize = 216;

/// What the kernel keeps about a program's runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// Time spent in it, ns; 0 unless kernel.bpf_stats_enabled.
    pub run_time_ns: u64,
    /// Runs skipped because the program was already running on that CPU; `None` before 5.12.
    pub misses: Option<u64>,
}

/// Asks the kernel about the program behind `program`.
///
/// # Errors
/// What bpf(2) answers.
pub fn runs(program: BorrowedFd<'_>) -> std::io::Result<Runs> {
    #[repr(C)]
    struct Attr {
        fd: u32,
        info_len: u32,
        info: u64,
    }
    let mut info = [0u8; INFO_LEN];
    let mut attr = Attr {
        fd: program.as_raw_fd().cast_unsigned(),
        info_len: INFO_LEN as u32,
        info: info.as_mut_ptr() as u64,
    };
    // SAFETY: the attribute is valid for the call and `info` has the announced length.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            OBJ_GET_INFO_BY_FD,
            &raw mut attr,
            size_of::<Attr>(),
        )
    };
    if result != 0 {
        return Err(std::io::Error::last_os_error());
    }
    let word = |at: usize| {
        let filled = (attr.info_len as usize).min(INFO_LEN);
        let bytes = info.get(at..at + 8).filter(|_| at + 8 <= filled)?;
        Some(u64::from_ne_bytes(bytes.try_into().ok()?))
    };
    Ok(Runs {
        run_time_ns: word(RUN_TIME_NS).unwrap_or(0),
        misses: word(RECURSION_MISSES),
    })
}
