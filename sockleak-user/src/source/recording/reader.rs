//! Frames out of a file that may be cut off, damaged, or something else altogether.

use std::io::{self, Read};

use serde::de::IgnoredAny;

use super::frame::{self, FORMAT, HEADER, Kind, MAGIC, MAX_PAYLOAD};
use crate::sanitize::is_harmless;

/// What is in a recording, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// An object of type `recording`, as a line of JSON without its end.
    Header(String),
    /// A line of JSON without its end: printable, one object.
    Line(String),
    /// All lines of an interval were there.
    Mark,
}

/// Why there is no further item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The file ends behind a whole frame.
    Whole,
    /// The file ends inside of a frame.
    Truncated,
    /// What is there is no frame: which of its parts is wrong.
    Damaged(&'static str),
}

/// Why a file is no recording that can be read.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// It begins with something else.
    #[error(
        "it is no recording of sockleak: it does not begin with {:?}",
        "sockleak"
    )]
    Foreign,
    /// It is cut off before the first line.
    #[error("it is cut off before anything was recorded")]
    Empty,
    /// Another format.
    #[error(
        "it has format {0}, and this sockleak reads format {FORMAT}: use the version of sockleak \
         that wrote it, or a later one"
    )]
    Format(u32),
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads a recording. Every item it gives was written as it is, but for what CRC-32 cannot tell
/// (one change of many bits in 2^32).
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    /// Bytes up to the end of the last whole frame.
    read: u64,
    /// Bytes taken from `input`.
    taken: u64,
    ending: Option<Ending>,
    payload: Vec<u8>,
    skipped: u64,
}

impl<R: Read> Reader<R> {
    /// Checks the first bytes.
    ///
    /// # Errors
    /// When the file is no recording, or one of another format.
    pub fn new(mut input: R) -> Result<Self, Malformed> {
        let mut opening = Vec::with_capacity(frame::OPENING);
        let limit = frame::OPENING as u64;
        input.by_ref().take(limit).read_to_end(&mut opening)?;
        let (magic, format) = opening.split_at(opening.len().min(MAGIC.len()));
        if !MAGIC.starts_with(magic) {
            return Err(Malformed::Foreign);
        }
        let format = <[u8; 4]>::try_from(format).map_err(|_| Malformed::Empty)?;
        match u32::from_le_bytes(format) {
            FORMAT => Ok(Self {
                input,
                read: limit,
                taken: limit,
                ending: None,
                payload: Vec::new(),
                skipped: 0,
            }),
            other => Err(Malformed::Format(other)),
        }
    }

    /// The next item; `None` at the end, which [`Reader::ending`] then describes.
    ///
    /// # Errors
    /// When the file cannot be read, not when its content is wrong.
    pub fn next_item(&mut self) -> io::Result<Option<Item>> {
        while self.ending.is_none() {
            match self.next_frame()? {
                Ok(Some(item)) => return Ok(Some(item)),
                Ok(None) => self.skipped += 1,
                Err(ending) => self.ending = Some(ending),
            }
        }
        Ok(None)
    }

    /// Why there is no further item; `None` before the end.
    pub fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }

    /// Frames of a kind that this version does not know.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Bytes up to the end of the last whole frame.
    pub fn read_bytes(&self) -> u64 {
        self.read
    }

    /// A whole frame: its item, or `None` when its kind is not known.
    fn next_frame(&mut self) -> io::Result<Result<Option<Item>, Ending>> {
        let header = self.take(HEADER)?;
        if header == 0 {
            return Ok(Err(Ending::Whole));
        }
        let Ok([a, b, c, d, kind, crc @ ..]) = <[u8; HEADER]>::try_from(self.payload.as_slice())
        else {
            return Ok(Err(Ending::Truncated));
        };
        let start = [a, b, c, d, kind];
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if length > MAX_PAYLOAD {
            return Ok(Err(Ending::Damaged("a length is absurd")));
        }
        if self.take(length)? < length {
            return Ok(Err(Ending::Truncated));
        }
        if frame::checksum(&start, &self.payload) != u32::from_le_bytes(crc) {
            return Ok(Err(Ending::Damaged("a checksum is wrong")));
        }
        let item = match Kind::of(kind) {
            Kind::Header => line(&self.payload).map(|line| Some(Item::Header(line))),
            Kind::Line => line(&self.payload).map(|line| Some(Item::Line(line))),
            Kind::Mark => Some(Some(Item::Mark)),
            Kind::Unknown(_) => Some(None),
        };
        let Some(item) = item else {
            return Ok(Err(Ending::Damaged("a line is not printable JSON")));
        };
        self.read = self.taken;
        Ok(Ok(item))
    }

    /// Replaces `payload` by the next bytes, as many as there are. Memory is taken as they come,
    /// whatever a length in the file claims.
    fn take(&mut self, length: usize) -> io::Result<usize> {
        self.payload.clear();
        let mut limited = self.input.by_ref().take(length as u64);
        let got = limited.read_to_end(&mut self.payload)?;
        self.taken += got as u64;
        Ok(got)
    }
}

/// Checksums do not tell who wrote a file, and the line will be printed as it is.
fn line(payload: &[u8]) -> Option<String> {
    let text = str::from_utf8(payload).ok()?;
    let one_object = text.starts_with('{') && text.chars().all(is_harmless);
    if !one_object || serde_json::from_str::<IgnoredAny>(text).is_err() {
        return None;
    }
    Some(text.to_owned())
}
