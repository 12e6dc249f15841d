//! The end of a recording that touches the disk.

use std::{fs::File, io, os::unix::fs::FileExt};

use super::{
    batch::{Batch, Lost},
    frame::{Kind, encode, opening},
};

/// What became of a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Lines in the file.
    pub lines: u64,
    /// Its length, bytes.
    pub bytes: u64,
    /// Lines that are not in it.
    pub lost: u64,
    /// Why the first of those are not.
    pub reason: Option<String>,
}

/// Says in a line of JSON what is missing.
pub type Tell = fn(&Lost) -> Vec<u8>;

/// Where frames go.
pub trait Disk: Send + 'static {
    /// Writes at this offset.
    fn write(&mut self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Makes it this long.
    fn cut(&mut self, length: u64) -> io::Result<()>;
    /// What a crash of the host shall not take.
    fn sync(&mut self) -> io::Result<()>;
}

impl Disk for File {
    fn write(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Puts batches behind each other.
pub struct Writer<D> {
    disk: D,
    tell: Tell,
    limit: u64,
    /// Bytes of whole frames in the file.
    length: u64,
    /// Not yet said in the file.
    lost: Option<Lost>,
    /// The file ends in something that could not be taken back: nothing may be added.
    broken: Option<String>,
    summary: Summary,
}

impl<D: Disk> Writer<D> {
    /// Writes the first frame, `header`. The file shall not get longer than `limit` bytes, but
    /// for the end.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn new(mut disk: D, header: &[u8], tell: Tell, limit: u64) -> io::Result<Self> {
        let mut first = opening().to_vec();
        encode(Kind::Header, header, &mut first).ok_or(io::ErrorKind::InvalidInput)?;
        disk.write(&first, 0)?;
        Ok(Self {
            disk,
            tell,
            limit,
            length: first.len() as u64,
            lost: None,
            broken: None,
            summary: Summary::default(),
        })
    }

    /// Writes a batch, or counts what is lost with it.
    pub fn write(&mut self, mut batch: Batch) {
        self.lose(batch.lost.take());
        if let Some(reason) = self.broken.clone() {
            return self.lose(batch.into_lost(&reason));
        }
        let mut bytes = Vec::new();
        if let Some(lost) = &self.lost {
            // It is short.
            let _ = encode(Kind::Line, &(self.tell)(lost), &mut bytes);
        }
        bytes.append(&mut batch.frames);
        let longer = self.length.saturating_add(bytes.len() as u64);
        if longer > self.limit && !batch.last {
            let reason = format!("the limit of {} MiB is reached", self.limit >> 20);
            return self.lose(batch.into_lost(&reason));
        }
        match self.disk.write(&bytes, self.length) {
            Ok(()) => {
                self.length = longer;
                self.summary.lines += batch.lines;
                self.lost = None;
            }
            Err(error) => {
                let reason = error.to_string();
                // Whatever part of it is there would hide all that follows.
                if self.disk.cut(self.length).is_err() {
                    self.broken = Some(reason.clone());
                }
                self.lose(batch.into_lost(&reason));
            }
        }
    }

    fn lose(&mut self, lost: Option<Lost>) {
        let Some(lost) = lost else { return };
        self.summary.lost = self.summary.lost.saturating_add(lost.lines);
        if self.summary.reason.is_none() {
            log::warn!(
                target: "recording",
                "{}: what cannot be recorded is left out and counted; the watch goes on",
                lost.reason
            );
            self.summary.reason = Some(lost.reason.clone());
        }
        self.lost = Lost::merge(self.lost.take(), Some(lost));
    }

    /// Says what is still to be said.
    pub fn finish(mut self) -> Summary {
        if self.lost.is_some() {
            self.write(Batch::new(true));
        }
        if let Err(error) = self.disk.sync() {
            log::warn!(target: "recording", "it may not survive a crash of the host: {error}");
        }
        Summary {
            bytes: self.length,
            ..self.summary
        }
    }
}
