//! Runs of a program that the kernel skipped, and the time it took.
//!
//! There are three ways to be skipped, and two places that count them:
//! - A trampoline runs its programs with preemption on, and skips a program that a preempted task
//!   is in the middle of on the same CPU (`__bpf_prog_enter_recur`): `recursion_misses` of the
//!   program, 5.12+. So do raw tracepoints in 7.x.
//! - A kprobe's program is skipped while any other of a kprobe, tracepoint or perf event runs on
//!   that CPU (`trace_call_bpf`, `bpf_prog_active`): `recursion_misses` as well, 6.7+.
//! - A kprobe is skipped altogether when it is hit in a softirq that interrupts the handler of
//!   another (`kprobe_running`), a kretprobe also when too many calls are under way (maxactive):
//!   `missed` of the link, 6.7+.
//!
//! Where the kernel does not count, nobody knows; see [`ProbeLink`] for how that shows.

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
};

use sockleak_ebpf::names::programs;

/// `BPF_OBJ_GET_INFO_BY_FD` (include/uapi/linux/bpf.h).
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;

/// Offsets in `struct bpf_prog_info`, append-only since 4.13; `recursion_misses` is the last
/// that is read (5.12+).
mod program {
    pub(super) const ID: usize = 4;
    pub(super) const RUN_TIME_NS: usize = 192;
    pub(super) const RECURSION_MISSES: usize = 208;
    pub(super) const INFO_LEN: usize = 216;
}

/// Offsets in `struct bpf_link_info` and values; append-only since 5.8. What is said of perf
/// events came with 6.6, `perf_event.kprobe.missed` with 6.7.
mod link {
    pub(super) const TYPE: usize = 0;
    pub(super) const PROGRAM: usize = 8;
    pub(super) const EVENT_TYPE: usize = 16;
    pub(super) const MISSED: usize = 48;
    pub(super) const INFO_LEN: usize = 56;
    /// `BPF_LINK_TYPE_PERF_EVENT`
    pub(super) const PERF_EVENT: u32 = 7;
    /// `BPF_PERF_EVENT_KPROBE` and `BPF_PERF_EVENT_KRETPROBE`
    pub(super) const PROBES: [u32; 2] = [3, 4];
}

/// What the kernel keeps about a program's runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// The program's id.
    pub id: u32,
    /// Time spent in it, ns; 0 unless kernel.bpf_stats_enabled.
    pub run_time_ns: u64,
    /// Runs skipped because the program, or another of its kind, was already running on that
    /// CPU; `None` before 5.12.
    pub misses: Option<u64>,
}

/// Births and deaths of sockets that no program saw because the kernel skipped its run: one run
/// per socket.
///
/// With fentry a creation goes unseen now and then on a busy host with a preemptible kernel; the
/// other functions are called with softirqs off. With kprobes it is what happens in softirqs:
/// connections that are born, and sockets that end there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unseen {
    /// Sockets created.
    pub created: u64,
    /// Connections born from a listener. One that came to nothing for want of memory cannot be
    /// told from these.
    pub children: u64,
    /// Sockets destroyed.
    pub destroyed: u64,
}

impl Unseen {
    /// From the skipped runs of every program, by its name.
    pub fn of<'a>(missed: impl IntoIterator<Item = (&'a str, u64)>) -> Self {
        let mut unseen = Self::default();
        for (program, runs) in missed {
            match program {
                programs::FENTRY_INIT_V4 | programs::FENTRY_INIT_V6 | programs::KPROBE_INIT => {
                    unseen.created += runs;
                }
                programs::FEXIT_CHILD | programs::KRETPROBE_CHILD => unseen.children += runs,
                programs::FENTRY_DESTROY | programs::KPROBE_DESTROY | programs::TP_DESTROY => {
                    unseen.destroyed += runs;
                }
                _ => {}
            }
        }
        unseen
    }
}

/// Asks the kernel about the program behind `program`.
///
/// # Errors
/// What bpf(2) answers.
pub fn runs(program: BorrowedFd<'_>) -> io::Result<Runs> {
    let mut info = [0; program::INFO_LEN];
    let info = object_info(program, &mut info)?;
    Ok(Runs {
        id: number(info, program::ID).map_or(0, u32::from_ne_bytes),
        run_time_ns: number(info, program::RUN_TIME_NS).map_or(0, u64::from_ne_bytes),
        misses: number(info, program::RECURSION_MISSES).map(u64::from_ne_bytes),
    })
}

/// What one of our kprobes or kretprobes hangs on, if the kernel counts there what it skips.
/// Where it does not (before 6.7; without perf links, before 5.15) there is none of these.
///
/// aya keeps its links' descriptors to itself, so this is a duplicate, and the probe stays in
/// place until both are closed.
#[derive(Debug)]
pub struct ProbeLink {
    link: OwnedFd,
    program: u32,
}

impl ProbeLink {
    /// All that this process has; needs no capability.
    ///
    /// # Errors
    /// When /proc/self/fd cannot be read.
    pub fn all() -> io::Result<Vec<Self>> {
        let mut links = Vec::new();
        for entry in fs::read_dir("/proc/self/fd")? {
            let entry = entry?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.parse::<RawFd>().ok());
            let is_link = fs::read_link(entry.path())
                .is_ok_and(|target| target.as_os_str() == "anon_inode:bpf_link");
            if let Some(number) = number.filter(|_| is_link) {
                // SAFETY: it was open a moment ago, and is only duplicated; if another thread
                // has closed it, that fails, or gives a file that is asked what it is.
                let link = unsafe { BorrowedFd::borrow_raw(number) }.try_clone_to_owned();
                links.extend(link.ok().and_then(Self::of));
            }
        }
        Ok(links)
    }

    fn of(link: OwnedFd) -> Option<Self> {
        let (program, _) = probe(object_info(link.as_fd(), &mut [0; link::INFO_LEN]).ok()?)?;
        Some(Self { link, program })
    }

    /// Hits that were skipped so far.
    fn missed(&self) -> Option<u64> {
        let mut info = [0; link::INFO_LEN];
        Some(probe(object_info(self.link.as_fd(), &mut info).ok()?)?.1)
    }
}

/// Hits that were skipped at all links of a program; `None` when the kernel does not tell.
pub fn missed(links: &[ProbeLink], program: u32) -> Option<u64> {
    let of_program = links.iter().filter(|link| link.program == program);
    let counts: Vec<u64> = of_program.map(ProbeLink::missed).collect::<Option<_>>()?;
    (!counts.is_empty()).then(|| counts.iter().sum())
}

/// The program's id and the hits that were skipped, from the `bpf_link_info` of a kprobe or
/// kretprobe; `None` when it is another link or does not say.
fn probe(info: &[u8]) -> Option<(u32, u64)> {
    let word = |at| number(info, at).map(u32::from_ne_bytes);
    let is_probe =
        word(link::TYPE)? == link::PERF_EVENT && link::PROBES.contains(&word(link::EVENT_TYPE)?);
    let missed = number(info, link::MISSED).map(u64::from_ne_bytes)?;
    Some((word(link::PROGRAM)?, missed)).filter(|_| is_probe)
}

/// The bytes of a number, if the kernel has filled in so much.
fn number<const N: usize>(info: &[u8], at: usize) -> Option<[u8; N]> {
    info.get(at..)?.first_chunk().copied()
}

/// `BPF_OBJ_GET_INFO_BY_FD`; returns the part of `info` that this kernel knows.
fn object_info<'i>(object: BorrowedFd<'_>, info: &'i mut [u8]) -> io::Result<&'i [u8]> {
    #[repr(C)]
    struct Attr {
        fd: u32,
        info_len: u32,
        info: u64,
    }
    let mut attr = Attr {
        fd: object.as_raw_fd().cast_unsigned(),
        info_len: u32::try_from(info.len()).unwrap_or(u32::MAX),
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
        return Err(io::Error::last_os_error());
    }
    Ok(info.get(..attr.info_len as usize).unwrap_or(info))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_births_and_deaths_change_the_balance() {
        let missed = [
            ("fentry_init_v4", 2),
            ("kprobe_init", 3),
            ("kretprobe_child", 7),
            ("fentry_destroy", 4),
            ("fentry_release", 50),
            ("kprobe_accept", 60),
        ];
        let expected = Unseen {
            created: 5,
            children: 7,
            destroyed: 4,
        };
        assert_eq!(Unseen::of(missed), expected);
    }

    /// As 6.18 fills it in for a kprobe of program 77 that missed five hits.
    fn kprobe_info() -> Vec<u8> {
        let words: [u32; 14] = [7, 31, 77, 0, 3, 0, 0, 0, 20, 0, 0, 0, 5, 0];
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn a_probe_says_what_it_missed() {
        let mut info = kprobe_info();
        assert_eq!(info.len(), link::INFO_LEN);
        assert_eq!(probe(&info), Some((77, 5)));
        info[link::EVENT_TYPE] = 4;
        assert_eq!(probe(&info), Some((77, 5)), "kretprobe");
        info[link::EVENT_TYPE] = 5;
        assert_eq!(probe(&info), None, "tracepoint");
        let mut iterator = kprobe_info();
        iterator[link::TYPE] = 4;
        assert_eq!(probe(&iterator), None, "another link");
    }

    #[test]
    fn an_older_kernel_says_less() {
        let info = kprobe_info();
        for length in 0..link::INFO_LEN {
            assert_eq!(probe(&info[..length]), None, "{length} bytes");
        }
        // 5.15 to 6.5 know the structure for other links only.
        let mut silent = info;
        silent[link::EVENT_TYPE] = 0;
        assert_eq!(probe(&silent), None);
        assert_eq!(missed(&[], 77), None);
    }

    #[test]
    fn descriptors_of_other_kinds_are_no_links() {
        // The tests have no BPF links; what they have (files, pipes, sockets) must not confuse.
        assert!(ProbeLink::all().unwrap().is_empty());
        let file = fs::File::open("/proc/self/stat").unwrap();
        assert!(object_info(file.as_fd(), &mut [0; 8]).is_err());
    }
}
