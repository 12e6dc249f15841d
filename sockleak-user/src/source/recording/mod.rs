//! The file of `watch --record`, described in `docs/recording.md`.
//!
//! It begins with [`MAGIC`] and the version of the format, u32; then come frames, each with the
//! length of its payload (u32), its kind (u8), the CRC-32 of these five bytes and the payload
//! (u32), and the payload. Integers are little endian. Payloads are lines of JSON as `watch
//! --json` prints them, without the line feed, so the file shows all that was said, with names and
//! stacks as they were resolved then, and needs nothing of the host it was made on.
//!
//! A file may be cut off anywhere. What is in front of the cut is whole: a frame counts only with
//! its checksum, and [`Kind::Mark`] says that an interval has all its lines.

mod batch;
mod disk;
mod frame;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use batch::Lost;
pub use disk::{Disk, Summary, Tell};
pub use frame::{FORMAT, Kind, MAGIC, MAX_PAYLOAD, encode, opening};
pub use reader::{Ending, Item, Malformed, Reader};
pub use writer::{LIMIT, Recorder};
