//! Foreign bytes become printable text where they enter, so that nothing behind this point can
//! write to the user's terminal.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Printable form of bytes that somebody else chose: process names, paths, cgroup names.
///
/// Invalid UTF-8 and every character that a terminal or a reader could be misled by (C0, DEL,
/// C1, line and paragraph separators, bidirectional controls, zero-width characters, BOM) are
/// written as `\xNN` or `\u{NNNN}`; a backslash is doubled, so the form is unambiguous.
pub fn printable(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                c => push_defused(&mut out, c),
            }
        }
        for byte in chunk.invalid() {
            push_escape(&mut out, format_args!("\\x{byte:02x}"));
        }
    }
    out
}

/// The same for a C string in a fixed-size buffer such as `task->comm`: up to the first NUL.
pub fn printable_c(bytes: &[u8]) -> String {
    printable(bytes.split(|byte| *byte == 0).next().unwrap_or_default())
}

/// Text that is written as it is, except that nothing harmful passes: the last guard of a
/// renderer. Text that went through [`printable`] is unchanged.
pub fn defused(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_harmless) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        push_defused(&mut out, c);
    }
    Cow::Owned(out)
}

fn push_defused(out: &mut String, c: char) {
    match u32::from(c) {
        _ if is_harmless(c) => out.push(c),
        code @ 0..0x100 => push_escape(out, format_args!("\\x{code:02x}")),
        code => push_escape(out, format_args!("\\u{{{code:x}}}")),
    }
}

fn push_escape(out: &mut String, escape: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(escape);
}

/// Neither a terminal nor a reader can be misled by this character.
pub fn is_harmless(c: char) -> bool {
    !(c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_names_are_unchanged() {
        assert_eq!(printable(b"java"), "java");
        assert_eq!(printable("größe-日本".as_bytes()), "größe-日本");
        assert_eq!(printable_c(b"nginx\0\0\0garbage"), "nginx");
    }

    #[test]
    fn escape_sequences_are_defused() {
        assert_eq!(printable(b"\x1b[31mred\x07"), "\\x1b[31mred\\x07");
        assert_eq!(printable("a\u{9b}31m".as_bytes()), "a\\x9b31m");
        assert_eq!(printable("x\u{202e}gpj".as_bytes()), "x\\u{202e}gpj");
        assert_eq!(printable(b"\xff\xfe"), "\\xff\\xfe");
        assert_eq!(printable(b"two\nlines"), "two\\x0alines");
        assert_eq!(printable(b"\\x1b"), "\\\\x1b");
    }

    proptest! {
        #[test]
        fn nothing_harmful_survives(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let text = printable(&bytes);
            prop_assert!(text.chars().all(is_harmless));
            prop_assert_eq!(defused(&text), text.as_str());
        }

        #[test]
        fn the_last_guard_holds(text in any::<String>()) {
            prop_assert!(defused(&text).chars().all(is_harmless));
        }

        #[test]
        fn distinct_ascii_stays_distinct(a in proptest::collection::vec(0u8..0x80, 0..8),
                                         b in proptest::collection::vec(0u8..0x80, 0..8)) {
            prop_assume!(a != b);
            prop_assert_ne!(printable(&a), printable(&b));
        }
    }
}
