//! Writes a recording, and never stops the watch for it: a thread of its own does the writing.
//! What it cannot write is counted, said once, and has a line of type `gap` in its place as soon
//! as something can be written again.

use std::{
    fs::OpenOptions,
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel},
    thread,
    time::{Duration, Instant},
};

use super::{
    batch::Batch,
    disk::{Disk, Summary, Tell, Writer},
};
use crate::rights;

/// Most bytes of a recording, but for the last report.
pub const LIMIT: u64 = 1 << 30;
/// Bytes collected before they are handed to the thread.
const BATCH: usize = 64 << 10;
/// Batches that may wait for the disk.
const QUEUE: usize = 64;
/// How long the end of the watch waits for the disk.
const PATIENCE: Duration = Duration::from_secs(10);

/// A recording that is being made.
#[derive(Debug)]
pub struct Recorder {
    batch: Batch,
    queue: SyncSender<Batch>,
    done: Receiver<Summary>,
    /// Until when the disk is waited for, at the end.
    deadline: Option<Instant>,
}

impl Recorder {
    /// Makes the file, which only its owner can read, and writes `header` into it; `tell` words
    /// the lines about what is missing.
    ///
    /// # Errors
    /// When there is something of this name already, or it cannot be written.
    pub fn create(path: &Path, header: &[u8], tell: Tell) -> io::Result<Self> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        Self::start(file, header, tell, LIMIT)
    }

    /// The same on any disk, with any limit.
    ///
    /// # Errors
    /// When the header cannot be written.
    pub fn start(disk: impl Disk, header: &[u8], tell: Tell, limit: u64) -> io::Result<Self> {
        let mut writer = Writer::new(disk, header, tell, limit)?;
        let (queue, batches) = sync_channel::<Batch>(QUEUE);
        let (tell_done, done) = channel();
        let run = move || {
            // The file is open.
            rights::keep_none();
            for batch in batches {
                writer.write(batch);
            }
            // Nobody waits any more when this fails.
            let _ = tell_done.send(writer.finish());
        };
        thread::Builder::new()
            .name("recording".to_owned())
            .spawn(run)?;
        Ok(Self {
            batch: Batch::default(),
            queue,
            done,
            deadline: None,
        })
    }

    /// Adds a line of JSON, without its end, made at `ts` (RFC 3339).
    pub fn line(&mut self, line: &[u8], ts: &str) {
        self.batch.line(line, ts);
        if self.batch.frames.len() >= BATCH {
            self.flush();
        }
    }

    /// An interval has all its lines: they go to the disk.
    pub fn mark(&mut self) {
        self.batch.mark();
        self.flush();
    }

    /// From here on it is the end, which is recorded whatever the length of the file, and for
    /// which the disk is waited for.
    pub fn begin_end(&mut self) {
        self.deadline = Some(Instant::now() + PATIENCE);
        self.flush();
        self.batch.last = true;
    }

    /// Waits until all is written; `None` when patience ends before.
    pub fn finish(mut self) -> Option<Summary> {
        let deadline = *self
            .deadline
            .get_or_insert_with(|| Instant::now() + PATIENCE);
        self.flush();
        if self.batch.lost.is_some() {
            let rest = std::mem::take(&mut self.batch);
            self.hand_over(rest).ok()?;
        }
        drop(self.queue);
        let left = deadline.saturating_duration_since(Instant::now());
        self.done.recv_timeout(left).ok()
    }

    fn flush(&mut self) {
        if self.batch.frames.is_empty() {
            return;
        }
        let next = Batch::new(self.batch.last);
        let batch = std::mem::replace(&mut self.batch, next);
        if let Err(refused) = self.hand_over(batch) {
            let (batch, reason) = *refused;
            self.batch.lost = batch.into_lost(reason);
        }
    }

    /// At once, or before the deadline when there is one.
    fn hand_over(&self, batch: Batch) -> Result<(), Box<(Batch, &'static str)>> {
        let mut batch = batch;
        loop {
            batch = match self.queue.try_send(batch) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Disconnected(batch)) => {
                    return Err((batch, "the thread that writes is gone").into());
                }
                Err(TrySendError::Full(batch)) => batch,
            };
            if self
                .deadline
                .is_none_or(|deadline| Instant::now() >= deadline)
            {
                return Err((batch, "the disk does not keep up").into());
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}
