//! How often the kernel had to give up connections: `TcpExt` of /proc/net/netstat.

use std::io;

/// Through `thread-self`, for the namespace of the calling thread.
const PATH: &str = "/proc/thread-self/net/netstat";

/// Connections that the kernel has ended by itself, of one network namespace since it exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Aborts {
    /// TCPAbortOnMemory: too many orphans, or no memory for TCP.
    pub memory: u64,
    /// TCPAbortOnTimeout: the peer did not answer in time.
    pub timeout: u64,
}

/// Those of the calling thread's network namespace.
///
/// # Errors
/// When the file cannot be read, or does not have the counters.
pub fn aborts() -> io::Result<Aborts> {
    let text = std::fs::read_to_string(PATH)?;
    parse(&text).ok_or_else(|| {
        let text = format!("{PATH} has no TcpExt counter TCPAbortOnMemory");
        io::Error::new(io::ErrorKind::InvalidData, text)
    })
}

/// What the kernel has dropped for want of room, of one network namespace since it exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overflows {
    /// ListenOverflows: connections for which an accept queue had no room.
    pub listen: u64,
    /// TCPTimeWaitOverflow: TIME_WAIT sockets that were not made because of tcp_max_tw_buckets.
    pub time_wait: u64,
}

/// Those of the calling thread's network namespace; `None` when they cannot be read.
pub fn overflows() -> Option<Overflows> {
    let text = std::fs::read_to_string(PATH).ok()?;
    let [listen, time_wait] = named(&text, ["ListenOverflows", "TCPTimeWaitOverflow"])?;
    Some(Overflows { listen, time_wait })
}

/// Parses the file: per group a line of names and a line of numbers. By name, because the
/// kernel inserts counters in between (net/ipv4/proc.c `snmp4_net_list`).
pub fn parse(text: &str) -> Option<Aborts> {
    let [memory, timeout] = named(text, ["TCPAbortOnMemory", "TCPAbortOnTimeout"])?;
    Some(Aborts { memory, timeout })
}

/// Counters of `TcpExt` by name.
fn named<const N: usize>(text: &str, wanted: [&str; N]) -> Option<[u64; N]> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let mut found = [0; N];
    for (value, wanted) in found.iter_mut().zip(wanted) {
        let mut pairs = names
            .split_ascii_whitespace()
            .zip(numbers.split_ascii_whitespace());
        *value = pairs.find(|(name, _)| *name == wanted)?.1.parse().ok()?;
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn by_name() {
        let text = "TcpExt: SyncookiesSent TCPAbortOnMemory TCPAbortOnTimeout TCPAbortOnLinger\n\
            TcpExt: 1 22 333 4444\nIpExt: InNoRoutes\nIpExt: 0\n";
        let expected = Aborts {
            memory: 22,
            timeout: 333,
        };
        assert_eq!(parse(text), Some(expected));
        for bad in [
            "",
            "TcpExt: TCPAbortOnMemory TCPAbortOnTimeout\n",
            "TcpExt: TCPAbortOnMemory TCPAbortOnTimeout\nTcpExt: 1\n",
            "TcpExt: TCPAbortOnMemory TCPAbortOnTimeout\nTcpExt: 1 many\n",
        ] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn this_kernel_has_them() {
        assert!(aborts().is_ok());
        assert!(overflows().is_some());
    }

    proptest! {
        #[test]
        fn never_panics(text in "(TcpExt:|TCPAbortOnMemory|[0-9 -]|\n|\\PC){0,60}") {
            let _ = parse(&text);
        }
    }
}
