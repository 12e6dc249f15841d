//! The kernel's own count of TCP sockets: the oracle that everything is reconciled with.

use std::io;

use crate::model::Sockstat;

/// Through `thread-self`, because `/proc/net` shows the namespace of the thread group leader and
/// this thread may have entered another one.
const PATH: &str = "/proc/thread-self/net/sockstat";

/// Why the TCP line could not be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// There is no line that begins with `TCP:`.
    #[error("it has no line \"TCP:\"")]
    NoTcpLine,
    /// A field is absent or not a number.
    #[error("its TCP line has no number \"{0}\"")]
    Field(&'static str),
}

/// Parses the text of `/proc/net/sockstat` (net/ipv4/proc.c `sockstat_seq_show`), by field name.
pub fn parse(text: &str) -> Result<Sockstat, ParseError> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("TCP:"))
        .ok_or(ParseError::NoTcpLine)?;
    let field = |name: &'static str| {
        let mut words = line.split_ascii_whitespace();
        while let (Some(key), Some(value)) = (words.next(), words.next()) {
            if key == name {
                return parse_count(value).ok_or(ParseError::Field(name));
            }
        }
        Err(ParseError::Field(name))
    };
    Ok(Sockstat {
        alloc: field("alloc")?,
        inuse: field("inuse")?,
        orphan: field("orphan")?,
        tw: field("tw")?,
        mem_pages: field("mem")?,
    })
}

/// A count as the kernel prints it with `%d` or `%ld`. The sums of per-CPU counters can be
/// briefly negative, which means none.
fn parse_count(value: &str) -> Option<u64> {
    let value: i64 = value.parse().ok()?;
    Some(u64::try_from(value).unwrap_or(0))
}

/// Reads the sockstat of the calling thread's network namespace.
///
/// `alloc`, `orphan` and `mem_pages` are host-wide wherever it is read.
pub fn read() -> io::Result<Sockstat> {
    let text = std::fs::read_to_string(PATH)
        .map_err(|e| io::Error::new(e.kind(), format!("cannot read {PATH}: {e}")))?;
    parse(&text).map_err(|e| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("cannot use {PATH}: {e}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REAL: &str = "sockets: used 14\n\
        TCP: inuse 1813 orphan 171 tw 4667 alloc 64572 mem 419992\n\
        UDP: inuse 0 mem 0\nUDPLITE: inuse 0\nRAW: inuse 0\nFRAG: inuse 0 memory 0\n";

    #[test]
    fn reads_the_tcp_line() {
        let expected = Sockstat {
            alloc: 64572,
            inuse: 1813,
            orphan: 171,
            tw: 4667,
            mem_pages: 419992,
        };
        assert_eq!(parse(REAL), Ok(expected));
    }

    #[test]
    fn goes_by_names_not_positions() {
        let moved = "TCP: mem 5 alloc 4 new 9 tw 3 orphan 2 inuse 1\n";
        let expected = Sockstat {
            alloc: 4,
            inuse: 1,
            orphan: 2,
            tw: 3,
            mem_pages: 5,
        };
        assert_eq!(parse(moved), Ok(expected));
    }

    #[test]
    fn says_what_is_missing() {
        assert_eq!(parse("UDP: inuse 0 mem 0\n"), Err(ParseError::NoTcpLine));
        let no_alloc = REAL.replace("alloc 64572 ", "");
        assert_eq!(parse(&no_alloc), Err(ParseError::Field("alloc")));
        let no_number = REAL.replace("419992", "many");
        assert_eq!(parse(&no_number), Err(ParseError::Field("mem")));
    }

    #[test]
    fn a_briefly_negative_sum_is_none() {
        let negative = REAL.replace("orphan 171", "orphan -1");
        assert_eq!(parse(&negative).map(|s| s.orphan), Ok(0));
    }

    #[test]
    fn this_kernel_has_it() {
        assert!(read().is_ok_and(|s| s.alloc > 0 || s.inuse == 0));
    }

    proptest! {
        #[test]
        fn never_panics(text in "(TCP:|[a-z ]|[0-9 -]|\n){0,80}") {
            let _ = parse(&text);
        }
    }
}
