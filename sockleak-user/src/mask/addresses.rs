//! Finds addresses in text. When in doubt something is an address: a symbol that is masked
//! costs a reader less than an address that is not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address and the bytes it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// First byte.
    pub start: usize,
    /// Byte behind it.
    pub end: usize,
    /// What it is.
    pub address: IpAddr,
}

/// Longest text of an IPv6 address, with an IPv4 address at its end.
const LONGEST_V6: usize = 45;

/// Every address in `text`, in order.
pub fn find(text: &str) -> Vec<Found> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    // What stands in front of an escape of `sanitize::printable` or inside of it separates.
    let mut before = None;
    while let Some(byte) = bytes.get(at) {
        if let Some(length) = escape(bytes.get(at..).unwrap_or_default()) {
            at += length;
            before = None;
            continue;
        }
        let rest = bytes.get(at..).unwrap_or_default();
        let hit = v6(rest, before)
            .or_else(|| v4(rest, before, b'.'))
            .or_else(|| v4(rest, before, b'-'));
        match hit {
            Some((address, length)) => {
                found.push(Found {
                    start: at,
                    end: at + length,
                    address,
                });
                at += length;
                before = Some(b'0');
            }
            None => {
                before = Some(*byte);
                at += 1;
            }
        }
    }
    found
}

/// Length of an escape at the beginning.
fn escape(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [b'\\', b'\\', ..] => Some(2),
        [b'\\', b'x', a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => Some(4),
        [b'\\', b'u', b'{', rest @ ..] => {
            let digits = rest.iter().take_while(|c| c.is_ascii_hexdigit()).count();
            (digits > 0 && rest.get(digits) == Some(&b'}')).then_some(digits + 4)
        }
        _ => None,
    }
}

/// Four numbers up to 255. With dots they may follow anything but a digit, with hyphens (as in
/// names of hosts) no letter either.
fn v4(bytes: &[u8], before: Option<u8>, separator: u8) -> Option<(IpAddr, usize)> {
    let glued =
        |byte: u8| byte.is_ascii_digit() || (separator == b'-' && byte.is_ascii_alphabetic());
    if before.is_some_and(glued) {
        return None;
    }
    let mut octets = [0_u8; 4];
    let mut at = 0;
    for (n, octet) in octets.iter_mut().enumerate() {
        if n > 0 {
            if bytes.get(at) != Some(&separator) {
                return None;
            }
            at += 1;
        }
        let digits = bytes.get(at..)?.iter().take_while(|c| c.is_ascii_digit());
        let digits = digits.count();
        if !(1..=3).contains(&digits) {
            return None;
        }
        let number = str::from_utf8(bytes.get(at..at + digits)?).ok()?;
        *octet = number.parse().ok()?;
        at += digits;
    }
    if bytes.get(at).copied().is_some_and(glued) {
        return None;
    }
    Some((Ipv4Addr::from(octets).into(), at))
}

/// The longest text that is an IPv6 address and no part of a word.
fn v6(bytes: &[u8], before: Option<u8>) -> Option<(IpAddr, usize)> {
    let first = bytes.first()?;
    let starts = match before {
        None => true,
        Some(b':') => *first != b':',
        Some(byte) => !is_word(byte),
    };
    if !starts || !(first.is_ascii_hexdigit() || *first == b':') {
        return None;
    }
    let run = bytes
        .iter()
        .take(LONGEST_V6)
        .take_while(|c| c.is_ascii_hexdigit() || matches!(c, b':' | b'.'))
        .count();
    for length in (2..=run).rev() {
        let behind = bytes.get(length).copied();
        if behind.is_some_and(is_word) {
            continue;
        }
        let text = str::from_utf8(bytes.get(..length)?).ok()?;
        if in_path(text, before, behind) {
            continue;
        }
        let Ok(address) = text.parse::<Ipv6Addr>() else {
            continue;
        };
        // `::` is an address only where one is meant.
        let meant = before.is_none_or(|c| matches!(c, b'[' | b' '));
        if address.is_unspecified() && length == 2 && !meant {
            return None;
        }
        return Some((address.into(), length));
    }
    None
}

/// `bad::<T>`, `<T>::add` and the like: one word of letters at the edge of a path.
fn in_path(text: &str, before: Option<u8>, behind: Option<u8>) -> bool {
    let word = |word: &str| word.bytes().all(|c| c.is_ascii_alphabetic());
    let opens = matches!(behind, Some(b'<' | b'{')) && text.strip_suffix("::").is_some_and(word);
    let closes =
        matches!(before, Some(b'>' | b')' | b'}')) && text.strip_prefix("::").is_some_and(word);
    opens || closes
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}
