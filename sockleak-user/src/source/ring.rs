//! The ring buffer of events, drained by a thread of its own.

use std::{
    os::fd::AsFd as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result, anyhow};
use aya::maps::{MapData, RingBuf};
use bytes::{Bytes, BytesMut};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use sockleak_ebpf::{EventRecord, names::maps};
use tokio::sync::mpsc;

use crate::probe::Attached;
use crate::rights;

/// Size of one record; a batch is a whole number of them.
pub const RECORD: usize = size_of::<EventRecord>();

/// Batches that may wait for the consumer.
const QUEUE: usize = 64;
/// Records taken from the ring at a time.
const BATCH: usize = 512;
/// Bytes that may wait besides, while the queue is full: as much as the kernel side's ring.
const WAITING: usize = 1 << 20;
/// How soon a request to stop is noticed, ns.
const POLL_NS: i64 = 100_000_000;

/// The draining thread. Dropping it stops the thread.
pub struct EventReader {
    stop: Arc<AtomicBool>,
    overflow: Arc<AtomicU64>,
    thread: Option<JoinHandle<Bytes>>,
    rest: Bytes,
}

impl EventReader {
    /// Starts the thread; batches of whole records arrive on the receiver.
    ///
    /// # Errors
    /// When the object has no ring buffer or no thread can be started.
    pub fn start(attached: &mut Attached) -> Result<(Self, mpsc::Receiver<Bytes>)> {
        let map = attached
            .take_map(maps::EVENTS)
            .ok_or_else(|| anyhow!("the BPF object has no map {}", maps::EVENTS))?;
        let ring: RingBuf<MapData> = map
            .try_into()
            .with_context(|| format!("map {} is no ring buffer", maps::EVENTS))?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let stop = Arc::new(AtomicBool::new(false));
        let overflow = Arc::new(AtomicU64::new(0));
        let thread = thread::Builder::new()
            .name("events".to_owned())
            .spawn({
                let (stop, overflow) = (Arc::clone(&stop), Arc::clone(&overflow));
                move || {
                    rights::keep_none();
                    drain(ring, &sender, &stop, &overflow)
                }
            })
            .context("starting the thread that reads events")?;
        Ok((
            Self {
                stop,
                overflow,
                thread: Some(thread),
                rest: Bytes::new(),
            },
            receiver,
        ))
    }

    /// Records dropped because the consumer was slower than the kernel.
    pub fn overflow(&self) -> u64 {
        self.overflow.load(Ordering::Relaxed)
    }

    /// Ends the thread after one last look at the ring.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            None => {}
            Some(Ok(rest)) => self.rest = rest,
            Some(Err(_)) => {
                log::warn!("the thread that reads events has panicked; events are incomplete");
            }
        }
    }

    /// What was left when the thread ended and the queue was full: comes after what is in the
    /// queue.
    pub fn take_rest(&mut self) -> Bytes {
        std::mem::take(&mut self.rest)
    }
}

impl Drop for EventReader {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Moves records from the ring to the queue until told to stop. What the queue does not take
/// waits here and goes on growing up to a bound, so that a consumer may be busy for a while;
/// returns what still waits in the end.
fn drain(
    mut ring: RingBuf<MapData>,
    sender: &mpsc::Sender<Bytes>,
    stop: &AtomicBool,
    overflow: &AtomicU64,
) -> Bytes {
    let mut waiting = BytesMut::new();
    let timeout = Timespec {
        tv_sec: 0,
        tv_nsec: POLL_NS,
    };
    loop {
        let last = stop.load(Ordering::Relaxed);
        loop {
            let is_empty = fill(&mut ring, &mut waiting, overflow);
            if !waiting.is_empty() {
                match sender.try_reserve() {
                    Ok(place) => place.send(waiting.split().freeze()),
                    Err(mpsc::error::TrySendError::Full(())) => {}
                    Err(mpsc::error::TrySendError::Closed(())) => return Bytes::new(),
                }
            }
            if is_empty {
                break;
            }
        }
        if last {
            return waiting.freeze();
        }
        match poll(
            &mut [PollFd::new(&ring.as_fd(), PollFlags::IN)],
            Some(&timeout),
        ) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => {
                log::warn!("waiting for events: {error}; events end here");
                return waiting.freeze();
            }
        }
    }
}

/// Takes up to a batch of records from the ring; says whether that was all.
fn fill(ring: &mut RingBuf<MapData>, waiting: &mut BytesMut, overflow: &AtomicU64) -> bool {
    for _ in 0..BATCH {
        let Some(record) = ring.next() else {
            return true;
        };
        if waiting.len() < WAITING {
            waiting.extend_from_slice(&record);
        } else {
            overflow.fetch_add(1, Ordering::Relaxed);
        }
    }
    false
}
