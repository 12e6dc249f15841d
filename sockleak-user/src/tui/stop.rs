//! Ctrl-Z, `kill -TSTP` and `fg`: the shell gets its terminal as it was, and the screen comes back.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsRawFd as _, BorrowedFd, RawFd},
    ptr,
    sync::atomic::{AtomicBool, AtomicI32, Ordering},
};

/// SIGTSTP has come.
static STOP: AtomicBool = AtomicBool::new(false);
/// SIGCONT has come.
static CONTINUED: AtomicBool = AtomicBool::new(false);
/// Whom the handler wakes: an eventfd, or -1.
static WAKE: AtomicI32 = AtomicI32::new(NOBODY);

const NOBODY: RawFd = -1;
const SIGNALS: [libc::c_int; 2] = [libc::SIGTSTP, libc::SIGCONT];

/// What has come since the last question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Came {
    /// SIGTSTP.
    pub stop: bool,
    /// SIGCONT.
    pub continued: bool,
}

/// The two signals, noted instead of obeyed until it is dropped. One at a time.
#[derive(Debug)]
pub struct Noted {
    before: [libc::sigaction; 2],
}

impl Noted {
    /// Notes them, and wakes whoever polls this eventfd, which has to live as long.
    ///
    /// # Errors
    /// Those of `sigaction(2)`; none is known for these signals.
    pub fn begin(wake: BorrowedFd<'_>) -> io::Result<Self> {
        WAKE.store(wake.as_raw_fd(), Ordering::SeqCst);
        let before = [disposition(SIGNALS[0])?, disposition(SIGNALS[1])?];
        for (signal, before) in SIGNALS.into_iter().zip(before) {
            // A shell without job control has it ignored: there is nobody to continue us.
            if before.sa_sigaction != libc::SIG_IGN {
                set(signal, &handled())?;
            }
        }
        Ok(Self { before })
    }

    /// What has come; asking forgets it.
    pub fn came() -> Came {
        Came {
            stop: STOP.swap(false, Ordering::SeqCst),
            continued: CONTINUED.swap(false, Ordering::SeqCst),
        }
    }

    /// Stops the process as SIGTSTP does by itself, and returns when it goes on. The kernel does not
    /// stop an orphaned process group (POSIX, `is_current_pgrp_orphaned()`): nobody could continue it.
    ///
    /// # Errors
    /// Those of `sigaction(2)` and `raise(3)`.
    pub fn stop(&self) -> io::Result<()> {
        let [by_default, _] = self.before;
        set(libc::SIGTSTP, &by_default)?;
        // SAFETY: raise() has no requirements. It is directed at this thread, which therefore does
        // not run on before all have stopped.
        let raised = unsafe { libc::raise(libc::SIGTSTP) };
        set(libc::SIGTSTP, &handled())?;
        CONTINUED.store(false, Ordering::SeqCst);
        match raised {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        for (signal, before) in SIGNALS.into_iter().zip(&self.before) {
            // It was accepted before.
            let _ = set(signal, before);
        }
        WAKE.store(NOBODY, Ordering::SeqCst);
    }
}

/// Ctrl-Z, which a raw terminal hands over as a character: what it would have sent to all of the job.
pub fn ask_the_job() {
    // SAFETY: kill() has no requirements; 0 is the process group of the caller.
    // It cannot fail: the caller may signal itself.
    let _ = unsafe { libc::kill(0, libc::SIGTSTP) };
}

/// Only what signal-safety(7) allows.
extern "C" fn note(signal: libc::c_int) {
    match signal {
        libc::SIGTSTP => STOP.store(true, Ordering::SeqCst),
        _ => CONTINUED.store(true, Ordering::SeqCst),
    }
    let one = 1_u64.to_ne_bytes();
    // SAFETY: `one` has the bytes that are written; a wrong descriptor is an error that write()
    // reports. errno is kept, which the interrupted code may be about to read.
    unsafe {
        let errno = libc::__errno_location();
        let kept = *errno;
        libc::write(WAKE.load(Ordering::SeqCst), one.as_ptr().cast(), one.len());
        *errno = kept;
    }
}

fn handled() -> libc::sigaction {
    // SAFETY: all of its fields may be zero: no flags, no blocked signals (sigaction(2)).
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = note as extern "C" fn(libc::c_int) as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART;
    action
}

fn disposition(signal: libc::c_int) -> io::Result<libc::sigaction> {
    let mut action = MaybeUninit::uninit();
    // SAFETY: the second pointer is to room for one, the first may be null (sigaction(2)).
    match unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) } {
        // SAFETY: it has been written.
        0 => Ok(unsafe { action.assume_init() }),
        _ => Err(io::Error::last_os_error()),
    }
}

fn set(signal: libc::c_int, action: &libc::sigaction) -> io::Result<()> {
    // SAFETY: the handler does only what is allowed in one; the third pointer may be null.
    match unsafe { libc::sigaction(signal, action, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
