//! Threads that do not share their process's descriptor table.

use std::os::fd::AsFd;

use rustix::io::Errno;

use crate::source::pid_dir::{PidDir, numbered_entries};

/// `KCMP_FILES` of include/uapi/linux/kcmp.h.
const KCMP_FILES: libc::c_int = 2;

/// One thread for each descriptor table of a process other than the leader's.
pub(super) enum Distinct {
    /// These.
    Tids(Vec<u32>),
    /// Threads cannot be compared here: the kernel has no kcmp(), or it is refused.
    Unknown(Errno),
}

impl Distinct {
    pub fn tids(&self) -> &[u32] {
        match self {
            Self::Tids(tids) => tids,
            Self::Unknown(_) => &[],
        }
    }
}

/// Finds threads of `pid` that made a descriptor table of their own (unshare(CLONE_FILES)), and
/// one of those that go on after their leader has exited, which leaves it without a table.
pub(super) fn distinct(dir: &PidDir, pid: u32) -> std::io::Result<Distinct> {
    let mut representatives = vec![pid];
    let threads = numbered_entries(dir.subdir("task")?.as_fd())?;
    for tid in threads.into_iter().filter(|tid| *tid != pid) {
        let mut is_new = true;
        // The newest representative first: after a dead leader it is the one that all share.
        for other in representatives.iter().rev() {
            match same_table(*other, tid) {
                Ok(false) => {}
                // A thread that has ended has no table.
                Ok(true) | Err(Errno::SRCH) => {
                    is_new = false;
                    break;
                }
                Err(errno) => return Ok(Distinct::Unknown(errno)),
            }
        }
        if is_new {
            representatives.push(tid);
        }
    }
    representatives.remove(0);
    Ok(Distinct::Tids(representatives))
}

/// Two threads use the same descriptor table.
fn same_table(a: u32, b: u32) -> Result<bool, Errno> {
    // SAFETY: kcmp() takes five integers here (KCMP_FILES ignores the last two) and touches no
    // memory of ours.
    let order = unsafe {
        libc::syscall(
            libc::SYS_kcmp,
            libc::c_long::from(a),
            libc::c_long::from(b),
            libc::c_long::from(KCMP_FILES),
            0 as libc::c_ulong,
            0 as libc::c_ulong,
        )
    };
    match order {
        0 => Ok(true),
        1.. => Ok(false),
        _ => Err(std::io::Error::last_os_error()
            .raw_os_error()
            .map_or(Errno::IO, Errno::from_raw_os_error)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn a_thread_with_its_own_table_is_found() {
        let pid = std::process::id();
        let dir = PidDir::open(pid).unwrap();
        let (tell, told) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            // SAFETY: only this thread, which opens no descriptors afterwards, gets a copy of
            // the table.
            unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::FILES) }.unwrap();
            let tid = rustix::thread::gettid().as_raw_nonzero().get();
            tell.send(u32::try_from(tid).unwrap()).unwrap();
            let _ = released.recv();
        });
        let tid = told.recv().unwrap();
        let found = distinct(&dir, pid).unwrap();
        drop(release);
        thread.join().unwrap();
        match found {
            Distinct::Tids(tids) => assert!(tids.contains(&tid), "{tids:?} lacks {tid}"),
            Distinct::Unknown(errno) => eprintln!("SKIPPED: kcmp() does not work here: {errno}"),
        }
    }

    #[test]
    fn a_thread_shares_its_own_table() {
        let pid = std::process::id();
        match same_table(pid, pid) {
            Ok(same) => assert!(same),
            Err(errno) => eprintln!("SKIPPED: kcmp() does not work here: {errno}"),
        }
    }
}
