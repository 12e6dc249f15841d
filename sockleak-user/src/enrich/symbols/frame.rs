//! One line of a stack, as far as it could be named.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::sanitize::printable;

/// Bytes of a function or file name that are shown; names made of generics or templates can be
/// of any length.
const LONGEST_NAME: usize = 512;

/// What an address of a stack stands for. Strings are printable and of bounded length.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// Demangled name of the function.
    pub function: Option<String>,
    /// Path of the mapped file as the process sees it, or the kernel's name such as `[vdso]`.
    pub module: Option<String>,
    /// Where in whatever [`counted_from`](Self::counted_from) says.
    pub offset: u64,
    /// What the offset is counted from.
    pub counted_from: Base,
    /// Source file and line, when there is debug information.
    pub source: Option<(String, u32)>,
    /// The compiler put this function's code into that of the next frame.
    pub inlined: bool,
    /// What kind of code it is.
    pub kind: Kind,
}

/// What [`Frame::offset`] is counted from. It is that of the call, one byte before the address
/// to which it returns, so that `addr2line` names the line of the call and not the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Base {
    /// The beginning of the function; for an inlined one, of the function that it is part of.
    Function,
    /// An address as the module's own tables have it: what `addr2line -e MODULE` takes.
    Module,
    /// The beginning of the module's file, whose headers could not be read.
    File,
    /// None: an address of the process.
    Process,
}

/// What kind of code an address is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Code of a mapped file.
    Native,
    /// Code made at run time.
    Jit,
    /// Nothing that is mapped, as far as is known.
    Unknown,
}

impl Frame {
    /// An address about which nothing is known.
    pub fn unknown(address: u64) -> Self {
        Self {
            function: None,
            module: None,
            offset: address,
            counted_from: Base::Process,
            source: None,
            inlined: false,
            kind: Kind::Unknown,
        }
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == Kind::Jit {
            f.write_str("[jit] ")?;
        }
        let module = self.module.as_deref().map(file_name);
        match (&self.function, &self.source, module) {
            (Some(function), Some((file, line)), _) => {
                write!(f, "{function} ({}:{line})", file_name(file))
            }
            (Some(function), None, _) if self.kind == Kind::Jit => f.write_str(function),
            (Some(function), None, Some(module)) => {
                write!(f, "{function}+{:#x} [{module}]", self.offset)
            }
            (Some(function), None, None) => write!(f, "{function}+{:#x}", self.offset),
            (None, _, Some(module)) => {
                write!(f, "{module}+{:#x}", self.offset)?;
                match self.counted_from {
                    Base::File => f.write_str(" (file offset)"),
                    _ => Ok(()),
                }
            }
            (None, _, None) => write!(f, "{:#x}", self.offset),
        }
    }
}

/// The last part of a path, without the kernel's mark for a file that has been removed.
fn file_name(path: &str) -> &str {
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    match path.rsplit_once('/') {
        Some((_, name)) if !name.is_empty() => name,
        _ => path,
    }
}

/// A name that somebody else chose, printable and not too long.
pub(super) fn name(bytes: &[u8]) -> String {
    if bytes.len() <= LONGEST_NAME {
        return printable(bytes);
    }
    // A character cut in two would be shown as invalid bytes.
    let cut = bytes
        .iter()
        .take(LONGEST_NAME + 1)
        .rposition(|byte| byte & 0xc0 != 0x80)
        .unwrap_or(LONGEST_NAME);
    let mut text = printable(bytes.get(..cut).unwrap_or(bytes));
    text.push('…');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: Option<&str>, module: Option<&str>, source: Option<&str>) -> Frame {
        Frame {
            function: function.map(str::to_owned),
            module: module.map(str::to_owned),
            offset: 0x1f,
            counted_from: Base::Function,
            source: source.map(|file| (file.to_owned(), 42)),
            inlined: false,
            kind: Kind::Native,
        }
    }

    #[test]
    fn what_is_known_is_shown() {
        let lib = Some("/usr/lib/libfoo.so");
        let shown = |frame: Frame| frame.to_string();
        assert_eq!(
            shown(frame(Some("leak_here"), lib, Some("/src/app.rs"))),
            "leak_here (app.rs:42)"
        );
        assert_eq!(
            shown(frame(Some("func"), lib, None)),
            "func+0x1f [libfoo.so]"
        );
        assert_eq!(shown(frame(Some("func"), None, None)), "func+0x1f");
        let stripped = Frame {
            counted_from: Base::Module,
            ..frame(None, lib, None)
        };
        assert_eq!(shown(stripped), "libfoo.so+0x1f");
        let unread = Frame {
            counted_from: Base::File,
            ..frame(None, Some("/srv/app (deleted)"), None)
        };
        assert_eq!(shown(unread), "app+0x1f (file offset)");
        assert_eq!(shown(Frame::unknown(0x7f01)), "0x7f01");
        let jit = Frame {
            kind: Kind::Jit,
            ..frame(Some("Lcom/acme/Foo;::leak"), None, None)
        };
        assert_eq!(shown(jit), "[jit] Lcom/acme/Foo;::leak");
        let jit = Frame {
            kind: Kind::Jit,
            ..Frame::unknown(0x7f01)
        };
        assert_eq!(shown(jit), "[jit] 0x7f01");
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        assert_eq!(name(b"short\x1b"), "short\\x1b");
        let exact = "x".repeat(LONGEST_NAME);
        assert_eq!(name(exact.as_bytes()), exact);
        let long = format!("{}ä{}", "x".repeat(LONGEST_NAME - 1), "y".repeat(100));
        assert_eq!(
            name(long.as_bytes()),
            format!("{}…", "x".repeat(LONGEST_NAME - 1))
        );
        let invalid = name(&[0x80; 2000]);
        assert!(invalid.starts_with("\\x80") && invalid.ends_with('…'));
    }
}
