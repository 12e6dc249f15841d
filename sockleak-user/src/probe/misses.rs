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

/// Births and deaths of sockets that no program saw because the kernel skipped its run.
///
/// A trampoline runs its programs with preemption on, and skips a program that a preempted task
/// is in the middle of on the same CPU (`__bpf_prog_enter_recur`, 5.12+). So with fentry a
/// creation goes unseen now and then on a busy host with a preemptible kernel, but it is
/// counted, one run per socket. The other functions are called with softirqs off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unseen {
    /// Sockets created.
    pub created: u64,
    /// Sockets destroyed.
    pub destroyed: u64,
}

impl Unseen {
    /// From the skipped runs of every program, by its name.
    pub fn of<'a>(missed: impl IntoIterator<Item = (&'a str, u64)>) -> Self {
        let mut unseen = Self::default();
        for (program, runs) in missed {
            if program.ends_with("_init_v4") || program.ends_with("_init_v6") {
                unseen.created += runs;
            } else if program.ends_with("_destroy") {
                unseen.destroyed += runs;
            }
        }
        unseen
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_births_and_deaths_change_the_balance() {
        let missed = [
            ("fentry_init_v4", 2),
            ("kprobe_init_v6", 3),
            ("fentry_destroy", 4),
            ("fentry_release", 50),
            ("fexit_accept", 60),
        ];
        let expected = Unseen {
            created: 5,
            destroyed: 4,
        };
        assert_eq!(Unseen::of(missed), expected);
    }
}
