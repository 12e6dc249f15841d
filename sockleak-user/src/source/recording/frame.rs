//! Bytes of the file.

/// First bytes of every recording.
pub const MAGIC: [u8; 8] = *b"sockleak";

/// Version of the format, behind [`MAGIC`].
pub const FORMAT: u32 = 1;

/// Longest payload, bytes. The last report of a host with 50,000 processes takes half of it.
pub const MAX_PAYLOAD: usize = 64 << 20;

/// Bytes of a frame in front of its payload.
pub(super) const HEADER: usize = 9;

/// Bytes in front of the first frame.
pub(super) const OPENING: usize = 12;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// First frame: an object of type `recording`.
    Header,
    /// A line of `watch --json`, or one of type `gap`.
    Line,
    /// All lines of an interval are in front of this; no payload.
    Mark,
    /// Of a later version, to be skipped.
    Unknown(u8),
}

impl Kind {
    /// As a byte of the file.
    pub fn code(self) -> u8 {
        match self {
            Self::Header => 1,
            Self::Line => 2,
            Self::Mark => 3,
            Self::Unknown(code) => code,
        }
    }

    /// From a byte of the file.
    pub fn of(code: u8) -> Self {
        match code {
            1 => Self::Header,
            2 => Self::Line,
            3 => Self::Mark,
            other => Self::Unknown(other),
        }
    }
}

/// Bytes in front of the first frame.
pub fn opening() -> [u8; OPENING] {
    let mut bytes = [0; OPENING];
    let (magic, format) = bytes.split_at_mut(MAGIC.len());
    magic.copy_from_slice(&MAGIC);
    format.copy_from_slice(&FORMAT.to_le_bytes());
    bytes
}

/// Appends a frame. `None`, and nothing appended, when the payload is longer than
/// [`MAX_PAYLOAD`].
pub fn encode(kind: Kind, payload: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let length = u32::try_from(payload.len()).ok()?;
    if payload.len() > MAX_PAYLOAD {
        return None;
    }
    let [a, b, c, d] = length.to_le_bytes();
    let start = [a, b, c, d, kind.code()];
    out.reserve(HEADER + payload.len());
    out.extend_from_slice(&start);
    out.extend_from_slice(&checksum(&start, payload).to_le_bytes());
    out.extend_from_slice(payload);
    Some(())
}

/// CRC-32 (IEEE) over length and kind as they are in the file, and the payload.
pub(super) fn checksum(start: &[u8], payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(start);
    crc.update(payload);
    crc.finalize()
}
