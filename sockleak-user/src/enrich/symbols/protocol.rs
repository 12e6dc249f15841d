//! What agent and helper say to each other: frames of a length (four bytes, little-endian) and
//! that many bytes of JSON.
//!
//! The helper reads hostile files, so the agent takes what it says as hostile as well: bounded,
//! parsed, and without effect but on the one answer.

use std::io::{self, Read};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Frame, Why};

/// Longest frame: 512 addresses with inlined functions of long names are below it.
pub const LONGEST: usize = 4 << 20;

/// How much of a process's files is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Depth {
    /// Only what is mapped where.
    Mappings,
    /// Symbols of ELF files, and perf maps.
    Symbols,
    /// Also debug information.
    Debug,
}

/// Agent to helper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Process id.
    pub pid: u32,
    /// Start time as in [`crate::model::ProcessId`]; 0 matches any.
    pub start_ticks: u64,
    /// Addresses to which calls return, innermost first.
    pub addresses: Vec<u64>,
    /// How much may be read to name them.
    pub depth: Depth,
}

/// Helper to agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// Frames of each address, innermost first.
    pub frames: Vec<Vec<Frame>>,
    /// Why not all have a name.
    pub why: Option<Why>,
}

/// A message as bytes.
///
/// # Errors
/// When it is longer than [`LONGEST`].
pub fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let len = bytes.len() - 4;
    if len > LONGEST {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a message of {len} bytes is longer than {LONGEST}"),
        ));
    }
    if let (Some(head), Ok(len)) = (bytes.first_chunk_mut(), u32::try_from(len)) {
        *head = len.to_le_bytes();
    }
    Ok(bytes)
}

/// Takes the first message off `buffer` when all of it is there.
///
/// # Errors
/// When it is too long or no such message.
pub fn take<T: DeserializeOwned>(buffer: &mut Vec<u8>) -> io::Result<Option<T>> {
    let Some(head) = buffer.first_chunk::<4>() else {
        return Ok(None);
    };
    let len = bounded(*head)?;
    let Some(body) = buffer.get(4..4 + len) else {
        return Ok(None);
    };
    let message = serde_json::from_slice(body)?;
    buffer.drain(..4 + len);
    Ok(Some(message))
}

/// Reads a message and waits for it; `None` at the end of the stream.
///
/// # Errors
/// Those of `from`, and when it is too long or no such message.
pub fn read<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<T>> {
    let mut head = [0; 4];
    match from.read_exact(&mut head) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(e) => return Err(e),
    }
    let mut body = vec![0; bounded(head)?];
    from.read_exact(&mut body)?;
    Ok(Some(serde_json::from_slice(&body)?))
}

fn bounded(head: [u8; 4]) -> io::Result<usize> {
    let len = usize::try_from(u32::from_le_bytes(head)).unwrap_or(usize::MAX);
    if len > LONGEST {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a message of {len} bytes is announced, more than {LONGEST}"),
        ));
    }
    Ok(len)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Base, Kind};
    use super::*;

    fn frames() -> impl Strategy<Value = Frame> {
        let kind = prop_oneof![Just(Kind::Native), Just(Kind::Jit), Just(Kind::Unknown)];
        let base = prop_oneof![
            Just(Base::Function),
            Just(Base::Module),
            Just(Base::File),
            Just(Base::Process)
        ];
        let names = (
            any::<Option<String>>(),
            any::<Option<String>>(),
            any::<Option<(String, u32)>>(),
        );
        (names, any::<u64>(), base, any::<bool>(), kind).prop_map(
            |((function, module, source), offset, counted_from, inlined, kind)| Frame {
                function,
                module,
                offset,
                counted_from,
                source,
                inlined,
                kind,
            },
        )
    }

    #[test]
    fn a_message_that_is_too_long_is_no_message() {
        let mut buffer = u32::MAX.to_le_bytes().to_vec();
        assert!(take::<Reply>(&mut buffer).is_err());
        assert!(read::<Reply>(&mut buffer.as_slice()).is_err());
        let reply = Reply {
            frames: Vec::new(),
            why: Some(Why::Denied("x".repeat(LONGEST))),
        };
        assert!(encode(&reply).is_err());
    }

    #[test]
    fn the_end_of_the_stream_is_no_error_between_messages() {
        assert!(read::<Reply>(&mut &b""[..]).unwrap().is_none());
        assert!(read::<Reply>(&mut &[2, 0, 0, 0, b'{'][..]).is_err());
    }

    proptest! {
        #[test]
        fn replies_round_trip(frames in proptest::collection::vec(proptest::collection::vec(frames(), 0..3), 0..4),
                              why in any::<Option<String>>(), cut: prop::sample::Index) {
            let reply = Reply { frames, why: why.map(Why::NoSymbols) };
            let bytes = encode(&reply).unwrap();
            prop_assert_eq!(read::<Reply>(&mut bytes.as_slice()).unwrap(), Some(reply.clone()));
            // In pieces, with a second message behind it.
            let cut = cut.index(bytes.len());
            let mut buffer = bytes[..cut].to_vec();
            prop_assert_eq!(take::<Reply>(&mut buffer).unwrap(), None);
            buffer.extend_from_slice(&bytes[cut..]);
            buffer.extend_from_slice(&bytes);
            for _ in 0..2 {
                prop_assert_eq!(take::<Reply>(&mut buffer).unwrap(), Some(reply.clone()));
            }
            prop_assert!(buffer.is_empty());
        }

        #[test]
        fn questions_round_trip(pid: u32, start_ticks: u64, addresses: Vec<u64>) {
            let question = Question { pid, start_ticks, addresses, depth: Depth::Symbols };
            let bytes = encode(&question).unwrap();
            prop_assert_eq!(read::<Question>(&mut bytes.as_slice()).unwrap(), Some(question));
        }

        #[test]
        fn never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = read::<Reply>(&mut bytes.as_slice());
            let _ = take::<Question>(&mut bytes);
        }
    }
}
