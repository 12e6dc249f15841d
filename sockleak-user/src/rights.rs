//! What is given up as soon as it is no longer needed. Capabilities belong to threads, so every thread
//! gives up its own; one that is started later has those of the thread that starts it.
//!
//! What each is for, and what is said without it, is in SECURITY.md.

use caps::{CapSet, Capability, CapsHashSet, errors::CapsError};
use log::{debug, warn};

/// In force while hooks are attached and processes are followed.
pub const WATCHING: [Capability; 3] = [
    // bpf(2) at all, where kernel.unprivileged_bpf_disabled is set; reading the maps.
    Capability::CAP_BPF,
    // /proc/PID/{fd,ns} of other users, pidfd_getfd.
    Capability::CAP_SYS_PTRACE,
    // Directories that only their owner may search, such as mount points of network namespaces.
    Capability::CAP_DAC_READ_SEARCH,
];

/// Not in force, but within reach: a thread that enters a network namespace takes the first, the helper
/// that names functions the second.
pub const IN_RESERVE: [Capability; 2] = [
    Capability::CAP_SYS_ADMIN,
    Capability::CAP_CHECKPOINT_RESTORE,
];

/// What it takes to look into other users' processes and files, and nothing else.
pub const LOOKING: [Capability; 3] = [
    // /proc/PID/{maps,root,exe}
    Capability::CAP_SYS_PTRACE,
    // /proc/PID/map_files
    Capability::CAP_CHECKPOINT_RESTORE,
    // Binaries that only their owner may read.
    Capability::CAP_DAC_READ_SEARCH,
];

/// The hooks are attached: nothing is loaded, created or signalled any more.
pub fn keep_for_watching() {
    let reach: Vec<Capability> = WATCHING.into_iter().chain(IN_RESERVE).collect();
    if let Err(error) = keep(&WATCHING, &reach) {
        warn!("rights that are no longer needed could not be given up: {error}");
    }
}

/// For a thread or process that looks at foreign files.
pub fn keep_for_looking() {
    told(keep(&LOOKING, &LOOKING));
}

/// For a thread that works on what is open already.
pub fn keep_none() {
    told(keep(&[], &[]));
}

/// For a thread that ends when it has done what it needs this for. Without the right the kernel
/// refuses what comes next, and its error says more.
pub fn take_reserve(wanted: Capability) {
    let within_reach = caps::has_cap(None, CapSet::Permitted, wanted).unwrap_or(false);
    if within_reach {
        told(caps::raise(None, CapSet::Effective, wanted));
    }
}

fn told(result: Result<(), CapsError>) {
    if let Err(error) = result {
        debug!("changing the rights of a thread: {error}");
    }
}

/// Keeps of the rights that this thread has those in `force`, and may take those `within` reach again.
/// No program that it starts gets more.
fn keep(force: &[Capability], within: &[Capability]) -> Result<(), CapsError> {
    let held = caps::read(None, CapSet::Permitted)?;
    let of = |wanted: &[Capability]| -> CapsHashSet {
        wanted
            .iter()
            .copied()
            .filter(|c| held.contains(c))
            .collect()
    };
    let (force, within) = (of(force), of(within));
    // First, while the thread has CAP_SETPCAP; without it there is none to be lost by exec(2) either,
    // because of the last line.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        for capability in caps::read(None, CapSet::Bounding)?.difference(&within) {
            caps::drop(None, CapSet::Bounding, *capability)?;
        }
    }
    for set in [CapSet::Ambient, CapSet::Inheritable] {
        let inherited = caps::read(None, set)?;
        caps::set(
            None,
            set,
            &inherited.intersection(&within).copied().collect(),
        )?;
    }
    caps::set(None, CapSet::Effective, &force)?;
    caps::set(None, CapSet::Permitted, &within)?;
    // Programs with the setuid bit or file capabilities give nothing either.
    rustix::thread::set_no_new_privs(true).map_err(|errno| CapsError::from(errno.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets() -> [CapsHashSet; 2] {
        [CapSet::Effective, CapSet::Permitted].map(|set| caps::read(None, set).unwrap())
    }

    /// A thread of its own: other tests keep what they have.
    fn in_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        std::thread::spawn(work).join().expect("it does not panic")
    }

    #[test]
    fn what_is_kept_was_there_before() {
        let [_, held] = sets();
        let [force, reach] = in_a_thread(|| {
            keep_for_watching();
            sets()
        });
        let of = |wanted: &[Capability]| -> CapsHashSet {
            wanted
                .iter()
                .copied()
                .filter(|c| held.contains(c))
                .collect()
        };
        let all: Vec<_> = WATCHING.into_iter().chain(IN_RESERVE).collect();
        assert_eq!((force, reach), (of(&WATCHING), of(&all)));
        assert_eq!(sets()[1], held, "the other threads keep theirs");
    }

    #[test]
    fn only_what_is_in_reserve_comes_back() {
        let [_, held] = sets();
        let (taken, lost) = in_a_thread(|| {
            keep_for_watching();
            take_reserve(Capability::CAP_SYS_ADMIN);
            take_reserve(Capability::CAP_NET_ADMIN);
            let [force, _] = sets();
            let has = |capability| force.contains(&capability);
            (
                has(Capability::CAP_SYS_ADMIN),
                has(Capability::CAP_NET_ADMIN),
            )
        });
        assert_eq!(taken, held.contains(&Capability::CAP_SYS_ADMIN));
        assert!(!lost);
    }

    #[test]
    fn a_program_that_is_started_gets_no_more() {
        let [bounding, permitted, no_new] = in_a_thread(|| {
            keep_none();
            let status = std::process::Command::new("cat")
                .arg("/proc/self/status")
                .output();
            let status = String::from_utf8(status.expect("cat is there").stdout).unwrap();
            ["CapBnd:", "CapPrm:", "NoNewPrivs:"].map(|name| {
                let line = status.lines().find_map(|line| line.strip_prefix(name));
                u64::from_str_radix(line.expect("a line of it").trim(), 16).unwrap()
            })
        });
        assert_eq!((permitted, no_new), (0, 1));
        let may = caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP).unwrap();
        assert!(!may || bounding == 0, "{bounding:x}");
    }
}
