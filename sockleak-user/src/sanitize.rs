//! Foreign bytes become printable text where they enter, so that nothing behind this point can
//! write to the user's terminal.

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
                c if is_harmless(c) => out.push(c),
                c if u32::from(c) < 0x100 => {
                    push_escape(&mut out, format_args!("\\x{:02x}", u32::from(c)))
                }
                c => push_escape(&mut out, format_args!("\\u{{{:x}}}", u32::from(c))),
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

fn push_escape(out: &mut String, escape: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(escape);
}

fn is_harmless(c: char) -> bool {
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
        }

        #[test]
        fn distinct_ascii_stays_distinct(a in proptest::collection::vec(0u8..0x80, 0..8),
                                         b in proptest::collection::vec(0u8..0x80, 0..8)) {
            prop_assume!(a != b);
            prop_assert_ne!(printable(&a), printable(&b));
        }
    }
}
