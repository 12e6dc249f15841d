//! What the watch has to say to the screen, within bounds: the oldest is thrown away, and counted.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::event::{EventfdFlags, eventfd};

use super::app::Batch;
use crate::report::Report;

/// Intervals that may wait.
const INTERVALS: usize = 16;
/// Events that may wait.
const EVENTS: usize = 4_096;
/// Messages that may wait.
const MESSAGES: usize = 16;

/// Between the watch and the screen's thread.
#[derive(Debug)]
pub struct Mailbox {
    inner: Mutex<Inner>,
    /// Readable when there is something.
    wake: OwnedFd,
}

#[derive(Debug, Default)]
struct Inner {
    intervals: VecDeque<Vec<Report>>,
    events: VecDeque<Report>,
    messages: VecDeque<String>,
    missed_intervals: u64,
    missed_events: u64,
    closing: bool,
}

/// What has come since the last time.
#[derive(Debug, Default)]
pub struct Mail {
    /// Reports; `None` when none has come.
    pub batch: Option<Batch>,
    /// Messages for the user.
    pub messages: Vec<String>,
    /// The watch is over.
    pub closing: bool,
}

impl Mailbox {
    /// An empty one.
    ///
    /// # Errors
    /// When the kernel has no eventfd left.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            inner: Mutex::default(),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    /// The lines of an interval, or others that belong together.
    pub fn interval(&self, reports: Vec<Report>) {
        let mut inner = self.lock();
        if inner.intervals.len() >= INTERVALS {
            inner.intervals.pop_front();
            inner.missed_intervals += 1;
        }
        inner.intervals.push_back(reports);
        self.ring();
    }

    /// An event.
    pub fn event(&self, report: Report) {
        let mut inner = self.lock();
        if inner.events.len() >= EVENTS {
            inner.events.pop_front();
            inner.missed_events += 1;
        }
        inner.events.push_back(report);
        self.ring();
    }

    /// Something to be said to the user; of too many at a time, the newest.
    pub fn say(&self, text: String) {
        let mut inner = self.lock();
        if inner.messages.len() >= MESSAGES {
            inner.messages.pop_front();
        }
        inner.messages.push_back(text);
        self.ring();
    }

    /// The watch is over.
    pub fn close(&self) {
        self.lock().closing = true;
        self.ring();
    }

    /// Readable when there is something to take.
    pub fn wake(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Takes everything.
    pub fn take(&self) -> Mail {
        // Before the rest: what comes meanwhile rings again.
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.wake, &mut count);
        let mut inner = self.lock();
        let has_reports = !inner.intervals.is_empty() || !inner.events.is_empty();
        let intervals = std::mem::take(&mut inner.intervals).into_iter().flatten();
        let events = std::mem::take(&mut inner.events);
        let batch = Batch {
            reports: intervals.chain(events).collect(),
            missed_intervals: std::mem::take(&mut inner.missed_intervals),
            missed_events: std::mem::take(&mut inner.missed_events),
        };
        Mail {
            batch: has_reports.then_some(batch),
            messages: std::mem::take(&mut inner.messages).into(),
            closing: inner.closing,
        }
    }

    fn ring(&self) {
        // Fails when it has rung 2^64 - 1 times and nobody has listened: it is readable then.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Whoever panicked with it left complete values behind.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::fixtures;

    fn one() -> Report {
        let (_, report) = fixtures::all().remove(0);
        report
    }

    #[test]
    fn what_nobody_takes_is_thrown_away_and_counted() {
        let mailbox = Mailbox::new().expect("an eventfd");
        for n in 0..INTERVALS + 3 {
            mailbox.interval(vec![one(); n % 2 + 1]);
        }
        for _ in 0..EVENTS + 5 {
            mailbox.event(one());
        }
        for n in 0..MESSAGES + 1 {
            mailbox.say(n.to_string());
        }
        let mail = mailbox.take();
        let batch = mail.batch.expect("reports");
        assert_eq!((batch.missed_intervals, batch.missed_events), (3, 5));
        // Of 16 intervals, every second one has two lines.
        assert_eq!(batch.reports.len(), EVENTS + INTERVALS + INTERVALS / 2);
        assert_eq!(mail.messages.len(), MESSAGES);
        assert_eq!(mail.messages.first().map(String::as_str), Some("1"));
        assert!(!mail.closing);

        let again = mailbox.take();
        assert!(again.batch.is_none() && again.messages.is_empty());
        mailbox.close();
        assert!(mailbox.take().closing);
    }

    #[test]
    fn it_wakes_whoever_waits() {
        use rustix::event::{PollFd, PollFlags, poll};
        let mailbox = Mailbox::new().expect("an eventfd");
        let is_ready = || {
            let mut fds = [PollFd::new(&mailbox, PollFlags::IN)];
            let at_once = rustix::event::Timespec::default();
            poll(&mut fds, Some(&at_once)).expect("it can be polled") == 1
        };
        assert!(!is_ready());
        mailbox.event(one());
        assert!(is_ready());
        mailbox.take();
        assert!(!is_ready());
    }

    impl AsFd for Mailbox {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.wake()
        }
    }
}
