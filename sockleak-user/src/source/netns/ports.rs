//! What decides about local ports in one network namespace.

use std::io;

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::{NetnsError, NetnsHandle, in_netns};
use crate::model::{NamespacePorts, TimeWait};
use crate::source::sock_diag::{self, States};
use crate::source::sockstat;

/// `net.ipv4.ip_local_reserved_ports` answers the first read and nothing after it (kernel/sysctl.c
/// `proc_do_large_bitmap`), so that read must be able to take every second port: 197 kB.
const LARGEST_PORT_LIST: usize = 256 << 10;

/// Gathers the port settings and the TIME_WAIT sockets of `netns`.
///
/// Without sock_diag `time_wait` is empty while `time_wait_count` is not.
pub fn ports(netns: &NetnsHandle) -> Result<NamespacePorts, NetnsError> {
    let read = |what, source| NetnsError::Read {
        inode: netns.inode(),
        what,
        source,
    };
    in_netns(netns, || {
        let range = sysctl("ip_local_port_range", parse_port_range)
            .map_err(|e| read("net.ipv4.ip_local_port_range", e))?;
        let reserved = sysctl("ip_local_reserved_ports", parse_port_list)
            .map_err(|e| read("net.ipv4.ip_local_reserved_ports", e))?;
        let sockstat = sockstat::read().map_err(|e| read("sockstat", e))?;
        let time_wait = sock_diag::dump(States::TIME_WAIT, |found: &mut Vec<TimeWait>, socket| {
            if let (true, Some(peer)) = (socket.is_time_wait, socket.peer) {
                found.push(TimeWait {
                    local: socket.local,
                    peer,
                });
            }
        });
        Ok(NamespacePorts {
            netns: netns.inode(),
            range,
            reserved,
            time_wait: time_wait.map(|(found, _)| found).unwrap_or_default(),
            time_wait_count: sockstat.tw,
        })
    })?
}

/// Parses `net.ipv4.ip_local_port_range`: first and last port.
pub fn parse_port_range(text: &str) -> Option<(u16, u16)> {
    let mut words = text.split_ascii_whitespace().map(str::parse);
    let range = (words.next()?.ok()?, words.next()?.ok()?);
    (words.next().is_none() && range.0 <= range.1).then_some(range)
}

/// Parses a list such as `8080,9000-9010` into sorted, distinct ports.
pub fn parse_port_list(text: &str) -> Option<Vec<u16>> {
    let mut ports = Vec::new();
    for item in text.trim().split(',').filter(|item| !item.is_empty()) {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
        if first > last {
            return None;
        }
        ports.extend(first..=last);
        if ports.len() > 1 << 17 {
            // Foreign text with endless repetitions.
            ports.sort_unstable();
            ports.dedup();
        }
    }
    ports.sort_unstable();
    ports.dedup();
    Some(ports)
}

/// Reads a file below `/proc/sys/net/ipv4` of the calling thread's namespace with a single read.
fn sysctl<T>(name: &str, parse: impl FnOnce(&str) -> Option<T>) -> io::Result<T> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = openat(
        CWD,
        format!("/proc/sys/net/ipv4/{name}"),
        flags,
        Mode::empty(),
    )?;
    let mut buffer = vec![0; LARGEST_PORT_LIST];
    let len = rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut buffer))?;
    let text = buffer
        .get(..len)
        .and_then(|text| std::str::from_utf8(text).ok());
    text.and_then(parse)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "its text is not understood"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(parse_port_range("32768\t60999\n"), Some((32768, 60999)));
        assert_eq!(parse_port_range("1 1"), Some((1, 1)));
        for text in ["", "1", "1 2 3", "2 1", "1 65536", "a b", "-1 5"] {
            assert_eq!(parse_port_range(text), None, "{text:?}");
        }
    }

    #[test]
    fn lists() {
        assert_eq!(parse_port_list("\n"), Some(vec![]));
        assert_eq!(
            parse_port_list("8080,9000-9002,1\n"),
            Some(vec![1, 8080, 9000, 9001, 9002])
        );
        assert_eq!(parse_port_list("5,3-6,5"), Some(vec![3, 4, 5, 6]));
        assert_eq!(parse_port_list("0-65535").map(|p| p.len()), Some(65536));
        for text in ["a", "1-", "-1", "2-1", "65536", "1-2-3"] {
            assert_eq!(parse_port_list(text), None, "{text:?}");
        }
    }

    #[test]
    fn this_namespace() {
        let here = NetnsHandle::current().unwrap();
        let ports = ports(&here).unwrap();
        assert_eq!(ports.netns, here.inode());
        assert!(ports.range.0 < ports.range.1);
    }

    proptest! {
        #[test]
        fn a_list_is_its_set(items in proptest::collection::vec((1_u16.., 0_u16..30), 0..20)) {
            let mut set = std::collections::BTreeSet::new();
            let texts: Vec<String> = items.iter().map(|(first, more)| {
                let last = first.saturating_add(*more);
                set.extend(*first..=last);
                if *more == 0 { first.to_string() } else { format!("{first}-{last}") }
            }).collect();
            prop_assert_eq!(parse_port_list(&texts.join(",")), Some(set.into_iter().collect()));
        }

        #[test]
        fn never_panics(text in "[0-9,\\-\n ]{0,40}") {
            let _ = (parse_port_list(&text), parse_port_range(&text));
        }
    }
}
