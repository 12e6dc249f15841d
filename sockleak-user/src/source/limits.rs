//! Host-wide limits that a socket leak runs into.

use std::fs;

use serde::Serialize;

use crate::model::FileLimits;

/// Limits as far as they can be read where sockleak runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// `fs.file-nr`.
    pub files: Option<FileLimits>,
    /// `net.ipv4.tcp_mem`; exists only in the initial network namespace.
    pub tcp_mem: Option<TcpMem>,
    /// `net.ipv4.tcp_max_orphans`; exists only in the initial network namespace.
    pub max_orphans: Option<u64>,
}

/// `net.ipv4.tcp_mem`, in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TcpMem {
    /// Below this TCP does not regulate its memory.
    pub low: u64,
    /// Above this TCP moderates its memory.
    pub pressure: u64,
    /// Above this TCP allocates nothing and kills orphans.
    pub high: u64,
}

/// Reads what there is; what cannot be read is `None`.
pub fn read() -> Limits {
    let text = |path: &str| fs::read_to_string(path).ok();
    Limits {
        files: text("/proc/sys/fs/file-nr").and_then(|t| parse_file_nr(&t)),
        tcp_mem: text("/proc/sys/net/ipv4/tcp_mem").and_then(|t| parse_tcp_mem(&t)),
        max_orphans: text("/proc/sys/net/ipv4/tcp_max_orphans").and_then(|t| t.trim().parse().ok()),
    }
}

/// Entries of the connection tracking of this network namespace, and how many there may be; `None`
/// where the module is not loaded.
pub fn conntrack() -> Option<[u64; 2]> {
    let number = |name: &str| {
        let path = format!("/proc/sys/net/netfilter/nf_conntrack_{name}");
        fs::read_to_string(path).ok()?.trim().parse().ok()
    };
    Some([number("count")?, number("max")?])
}

/// Parses `fs.file-nr`: allocated handles, free ones of those (0 since 2.6), `fs.file-max`.
pub fn parse_file_nr(text: &str) -> Option<FileLimits> {
    let [allocated, free, max] = three_numbers(text)?;
    Some(FileLimits {
        used: allocated.saturating_sub(free),
        max,
    })
}

/// Parses `net.ipv4.tcp_mem`: low, pressure, high.
pub fn parse_tcp_mem(text: &str) -> Option<TcpMem> {
    let [low, pressure, high] = three_numbers(text)?;
    Some(TcpMem {
        low,
        pressure,
        high,
    })
}

fn three_numbers(text: &str) -> Option<[u64; 3]> {
    let mut words = text.split_ascii_whitespace().map(str::parse);
    let numbers = [
        words.next()?.ok()?,
        words.next()?.ok()?,
        words.next()?.ok()?,
    ];
    words.next().is_none().then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_the_kernel_prints() {
        assert_eq!(
            parse_file_nr("562\t0\t9223372036854775807\n"),
            Some(FileLimits {
                used: 562,
                max: 9_223_372_036_854_775_807
            })
        );
        assert_eq!(
            parse_tcp_mem("286293\t381726\t572586\n"),
            Some(TcpMem {
                low: 286_293,
                pressure: 381_726,
                high: 572_586
            })
        );
    }

    #[test]
    fn anything_else_is_unknown() {
        for text in ["", "1 2", "1 2 3 4", "a b c", "1 -2 3"] {
            assert_eq!(parse_tcp_mem(text), None, "{text:?}");
        }
    }

    #[test]
    fn this_kernel_has_file_limits() {
        assert!(read().files.is_some_and(|f| f.used > 0 && f.max > 0));
    }
}
