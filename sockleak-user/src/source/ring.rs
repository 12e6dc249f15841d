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

/// Size of one record; a batch is a whole number of them.
pub const RECORD: usize = size_of::<EventRecord>();

/// Batches that may wait for the consumer.
const QUEUE: usize = 64;
/// Records in a batch at most.
const BATCH: usize = 512;
/// How soon a request to stop is noticed, ns.
const POLL_NS: i64 = 100_000_000;

/// The draining thread. Dropping it stops the thread.
pub struct EventReader {
    stop: Arc<AtomicBool>,
    overflow: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
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
                move || drain(ring, &sender, &stop, &overflow)
            })
            .context("starting the thread that reads events")?;
        Ok((
            Self {
                stop,
                overflow,
                thread: Some(thread),
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
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::warn!("the thread that reads events has panicked; events are incomplete");
        }
    }
}

impl Drop for EventReader {
    fn drop(&mut self) {
        self.stop();
    }
}

fn drain(
    mut ring: RingBuf<MapData>,
    sender: &mpsc::Sender<Bytes>,
    stop: &AtomicBool,
    overflow: &AtomicU64,
) {
    let timeout = Timespec {
        tv_sec: 0,
        tv_nsec: POLL_NS,
    };
    loop {
        let last = stop.load(Ordering::Relaxed);
        loop {
            let batch = fill(&mut ring);
            if batch.is_empty() {
                break;
            }
            let records = (batch.len() / RECORD) as u64;
            match sender.try_send(batch) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(_)) => {
                    overflow.fetch_add(records, Ordering::Relaxed);
                }
                Err(mpsc::error::TrySendError::Closed(_)) => return,
            }
        }
        if last {
            return;
        }
        match poll(
            &mut [PollFd::new(&ring.as_fd(), PollFlags::IN)],
            Some(&timeout),
        ) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => {
                log::warn!("waiting for events: {error}; events end here");
                return;
            }
        }
    }
}

fn fill(ring: &mut RingBuf<MapData>) -> Bytes {
    let mut batch = BytesMut::new();
    while batch.len() < BATCH * RECORD {
        let Some(record) = ring.next() else { break };
        batch.extend_from_slice(&record);
    }
    batch.freeze()
}
