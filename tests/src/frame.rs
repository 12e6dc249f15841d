//! How a guest hands the command's output to the host over one serial port: frames of a kind byte, a
//! little-endian length and that many bytes. Shared by the guest's init and xtask, which include it as a
//! module each.

use std::io::{self, Read, Write};

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The guest is set up and the command starts now; nothing in it.
    Started,
    /// Bytes of the command's standard output.
    Stdout,
    /// Bytes of the command's standard error.
    Stderr,
    /// Kernel log lines of the guest, as `priority,text` lines.
    KernelLog,
    /// The command ended: its exit status as four little-endian bytes (128 + signal if killed by one).
    Exit,
    /// init could not do its work: a message.
    InitError,
}

const KINDS: [(Kind, u8); 6] = [
    (Kind::Started, b's'),
    (Kind::Stdout, b'o'),
    (Kind::Stderr, b'e'),
    (Kind::KernelLog, b'k'),
    (Kind::Exit, b'x'),
    (Kind::InitError, b'!'),
];

/// Longest payload of one frame.
pub const MAX: usize = 64 * 1024;

/// Writes one frame; `payload` is at most [`MAX`] bytes.
pub fn write(to: &mut impl Write, kind: Kind, payload: &[u8]) -> io::Result<()> {
    let code = KINDS
        .iter()
        .find(|(k, _)| *k == kind)
        .map_or(b'!', |(_, code)| *code);
    let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
    let mut frame = Vec::with_capacity(payload.len() + 5);
    frame.push(code);
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(payload);
    to.write_all(&frame)
}

/// Reads one frame; `None` at the end of the stream.
pub fn read(from: &mut impl Read) -> io::Result<Option<(Kind, Vec<u8>)>> {
    let mut header = [0; 5];
    let mut filled = 0;
    while filled < header.len() {
        match from.read(&mut header[filled..])? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => filled += read,
        }
    }
    let [code, length @ ..] = header;
    let length = u32::from_le_bytes(length) as usize;
    let kind = KINDS
        .iter()
        .find(|(_, c)| *c == code)
        .map(|(kind, _)| *kind);
    let (Some(kind), true) = (kind, length <= MAX) else {
        return Err(io::Error::other(format!(
            "not a frame: kind {code:#x}, length {length}"
        )));
    };
    let mut payload = vec![0; length];
    from.read_exact(&mut payload)?;
    Ok(Some((kind, payload)))
}
