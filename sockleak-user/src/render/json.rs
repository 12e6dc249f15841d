//! JSON Lines: one object per line, for programs.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::Formatter;

use super::Renderer;
use crate::report::Report;
use crate::sanitize::is_harmless;

/// One object per line, fields as in `docs/schema/`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

impl Renderer for Json {
    fn render(&self, report: &Report, out: &mut dyn Write) -> io::Result<()> {
        let mut line = Vec::with_capacity(1024);
        report.serialize(&mut serde_json::Serializer::with_formatter(
            &mut line, Escaping,
        ))?;
        line.push(b'\n');
        out.write_all(&line)?;
        out.flush()
    }
}

/// A string of JSON, as it is in such a line.
pub fn quoted(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len() + 2);
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, Escaping);
    // Memory can be written to, and all that is written is UTF-8.
    let _ = text.serialize(&mut serializer);
    String::from_utf8(out).unwrap_or_default()
}

/// Compact output that also escapes what serde_json leaves raw (DEL, C1, bidirectional and
/// zero-width characters): somebody will `cat` the file on a terminal.
struct Escaping;

impl Formatter for Escaping {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + Write,
    {
        let mut plain_from = 0;
        for (at, c) in fragment.char_indices() {
            if is_harmless(c) {
                continue;
            }
            write_bytes(writer, fragment, plain_from, at)?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            plain_from = at + c.len_utf8();
        }
        write_bytes(writer, fragment, plain_from, fragment.len())
    }
}

fn write_bytes<W>(writer: &mut W, text: &str, from: usize, to: usize) -> io::Result<()>
where
    W: ?Sized + Write,
{
    writer.write_all(text.as_bytes().get(from..to).unwrap_or_default())
}
