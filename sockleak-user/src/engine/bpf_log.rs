//! The log of the BPF programs, for objects built with `cargo xtask build-bpf --log`: read by a
//! thread of its own and printed like our own log, at the level that `-v` asks for.

use std::{
    os::fd::AsFd as _,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use aya_log::EbpfLogger;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use crate::probe::Attached;

/// How soon a request to stop is noticed, ns.
const POLL_NS: i64 = 100_000_000;

/// The reading thread. Dropping it stops the thread.
pub struct BpfLog {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl BpfLog {
    /// Starts the thread; `None`, with a warning, when there is nothing to read or no way to.
    pub fn start(attached: &mut Attached) -> Option<Self> {
        let logger = match attached.take_log() {
            Ok(logger) => logger,
            Err(error) => {
                log::warn!("no log of the BPF programs: {error}");
                return None;
            }
        };
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::Builder::new().name("bpf-log".to_owned()).spawn({
            let stop = Arc::clone(&stop);
            move || drain(logger, &stop)
        });
        match thread {
            Ok(thread) => Some(Self {
                stop,
                thread: Some(thread),
            }),
            Err(error) => {
                log::warn!("no log of the BPF programs: cannot start a thread: {error}");
                None
            }
        }
    }
}

impl Drop for BpfLog {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::warn!("the thread that reads the log of the BPF programs has panicked");
        }
    }
}

fn drain(mut logger: EbpfLogger<&'static dyn log::Log>, stop: &AtomicBool) {
    let timeout = Timespec {
        tv_sec: 0,
        tv_nsec: POLL_NS,
    };
    loop {
        let last = stop.load(Ordering::Relaxed);
        if !survives(|| logger.flush()) {
            log::warn!("a log record of the BPF programs made no sense; their log ends here");
            return;
        }
        if last {
            return;
        }
        match poll(
            &mut [PollFd::new(&logger.as_fd(), PollFlags::IN)],
            Some(&timeout),
        ) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => {
                log::warn!("waiting for the log of the BPF programs: {error}; it ends here");
                return;
            }
        }
    }
}

/// Whether `flush` returned. aya-log unwraps what it decodes: a record that does not decode is
/// the end of the log, not of the run. Only unwinding can be contained, hence
/// [`Attached::take_log`] refuses in a build that aborts.
fn survives(flush: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(flush)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_panics_the_decoder_is_contained() {
        assert!(survives(|| {}));
        assert!(!survives(|| panic!("malformed record")));
    }
}
