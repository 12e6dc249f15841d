//! `/tmp/perf-PID.map`: what just-in-time compilers say about the code they made
//! (tools/perf/Documentation/jit-interface.txt): lines of `START SIZE name`, numbers in
//! hexadecimal. Whoever owns the process writes it, so anything can be in it.

mod open;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Read};

pub use open::open;

use super::maps::hex;

/// Bounds on a map.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes that are read; what comes behind is ignored.
    pub bytes: u64,
    /// Functions that are kept.
    pub functions: usize,
    /// Longest line; a longer one is skipped.
    pub line: usize,
    /// Bytes of a name that are kept.
    pub name: usize,
}

/// With these a map takes at most some 190 MiB while it is read and half of it afterwards.
pub const BOUNDS: Bounds = Bounds {
    bytes: 64 << 20,
    functions: 1 << 20,
    line: 4096,
    name: 256,
};

/// The functions that a process says it has compiled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PerfMap {
    /// Disjoint pieces by address.
    pieces: Vec<Piece>,
    names: Vec<u8>,
    /// What could not be used.
    pub ignored: Ignored,
}

/// What of a map could not be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ignored {
    /// Lines that make no sense or are too long.
    pub bad_lines: u64,
    /// There was more than the bounds allow.
    pub cut_off: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    start: u64,
    end: u64,
    name_at: u32,
    name_len: u16,
}

/// A line of the map.
#[derive(Clone, Copy, Debug)]
struct Function {
    start: u64,
    end: u64,
    name_at: u32,
    name_len: u16,
}

impl PerfMap {
    /// Reads a map. A last line without its end is ignored: the compiler is still writing it.
    ///
    /// # Errors
    /// Those of `from`.
    pub fn read(from: impl Read, bounds: &Bounds) -> io::Result<Self> {
        let mut reader = Reader::new(bounds);
        reader.read(from)?;
        let Reader {
            functions,
            names,
            ignored,
            ..
        } = reader;
        Ok(Self {
            pieces: disjoint(&functions),
            names,
            ignored,
        })
    }

    /// The name of the function that has an address. Code is moved and freed, so of several
    /// that claim it the one written last has it.
    pub fn find(&self, address: u64) -> Option<&[u8]> {
        let behind = self.pieces.partition_point(|piece| piece.start <= address);
        let piece = self.pieces.get(behind.checked_sub(1)?)?;
        if address >= piece.end {
            return None;
        }
        let at = usize::try_from(piece.name_at).ok()?;
        self.names
            .get(at..at.checked_add(usize::from(piece.name_len))?)
    }

    /// Bytes it takes.
    pub fn size(&self) -> usize {
        self.pieces.len() * size_of::<Piece>() + self.names.len()
    }
}

struct Reader<'a> {
    bounds: &'a Bounds,
    functions: Vec<Function>,
    names: Vec<u8>,
    ignored: Ignored,
    line: Vec<u8>,
    /// The line is longer than the bound; the rest of it is skipped.
    too_long: bool,
}

impl<'a> Reader<'a> {
    fn new(bounds: &'a Bounds) -> Self {
        Self {
            bounds,
            functions: Vec::new(),
            names: Vec::new(),
            ignored: Ignored::default(),
            line: Vec::new(),
            too_long: false,
        }
    }

    fn read(&mut self, from: impl Read) -> io::Result<()> {
        let mut from = from.take(self.bounds.bytes);
        let mut buffer = vec![0; 64 << 10];
        loop {
            let len = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(len) => len,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            let mut rest = buffer.get(..len).unwrap_or_default();
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                self.extend(rest.get(..end).unwrap_or_default());
                self.end_line();
                rest = rest.get(end + 1..).unwrap_or_default();
            }
            self.extend(rest);
            if self.functions.len() >= self.bounds.functions {
                self.ignored.cut_off = true;
                return Ok(());
            }
        }
        // Nothing is left to take; whether there was more, the source knows.
        self.ignored.cut_off |= from.limit() == 0;
        Ok(())
    }

    fn extend(&mut self, bytes: &[u8]) {
        if self.too_long || self.line.len() + bytes.len() > self.bounds.line {
            self.too_long = true;
        } else {
            self.line.extend_from_slice(bytes);
        }
    }

    fn end_line(&mut self) {
        let full = self.functions.len() >= self.bounds.functions;
        let parsed = parse_line(&self.line).filter(|_| !self.too_long);
        match parsed {
            Some(_) if full => self.ignored.cut_off = true,
            Some((start, end, name)) => {
                let name = name.get(..self.bounds.name).unwrap_or(name);
                let at = u32::try_from(self.names.len());
                if let (Ok(name_at), Ok(name_len)) = (at, u16::try_from(name.len())) {
                    self.names.extend_from_slice(name);
                    self.functions.push(Function {
                        start,
                        end,
                        name_at,
                        name_len,
                    });
                }
            }
            None if self.line.is_empty() && !self.too_long => {}
            None => self.ignored.bad_lines += 1,
        }
        self.line.clear();
        self.too_long = false;
    }
}

/// First address, address behind the last, name.
fn parse_line(line: &[u8]) -> Option<(u64, u64, &[u8])> {
    let mut fields = line.splitn(3, |byte| *byte == b' ');
    let mut number = || {
        let digits = fields.next()?;
        hex(digits.strip_prefix(b"0x").unwrap_or(digits))
    };
    let (start, size) = (number()?, number()?);
    let name = fields.next()?.trim_ascii();
    if size == 0 || name.is_empty() {
        return None;
    }
    Some((start, start.checked_add(size)?, name))
}

/// Cuts functions that overlap into pieces, each with the function that was written last.
fn disjoint(functions: &[Function]) -> Vec<Piece> {
    let mut by_start: Vec<usize> = (0..functions.len()).collect();
    by_start.sort_by_key(|index| functions.get(*index).map(|function| function.start));
    let mut pieces: Vec<Piece> = Vec::with_capacity(functions.len());
    // Functions that have begun, the one written last on top.
    let mut open: BinaryHeap<(usize, Reverse<u64>)> = BinaryHeap::new();
    let mut starts = by_start.into_iter().peekable();
    let mut at = 0_u64;
    loop {
        while open.peek().is_some_and(|(_, Reverse(end))| *end <= at) {
            open.pop();
        }
        let next = starts
            .peek()
            .and_then(|index| Some((*index, functions.get(*index)?)));
        let current = open
            .peek()
            .and_then(|(index, _)| Some((*index, functions.get(*index)?)));
        match (current, next) {
            (None, None) => return pieces,
            (None, Some((index, function))) => {
                starts.next();
                at = function.start;
                open.push((index, Reverse(function.end)));
            }
            (Some((_, function)), next) => {
                // Up to its end, or to where another begins.
                let begins = next.map_or(u64::MAX, |(_, next)| next.start);
                let until = function.end.min(begins);
                push(&mut pieces, function, at, until);
                at = until;
                if let Some((index, next)) = next
                    && next.start <= at
                {
                    starts.next();
                    open.push((index, Reverse(next.end)));
                }
            }
        }
    }
}

fn push(pieces: &mut Vec<Piece>, function: &Function, start: u64, end: u64) {
    if start >= end {
        return;
    }
    if let Some(last) = pieces.last_mut()
        && last.end == start
        && last.name_at == function.name_at
    {
        last.end = end;
        return;
    }
    pieces.push(Piece {
        start,
        end,
        name_at: function.name_at,
        name_len: function.name_len,
    });
}

#[cfg(test)]
#[path = "perf_map_tests.rs"]
mod tests;
