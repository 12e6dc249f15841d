//! What decides about local ports in one network namespace.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::str::FromStr;
use std::sync::OnceLock;

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::{NetnsError, NetnsHandle, in_netns};
use crate::model::{NamespacePorts, PortSet, PortSettings};
use crate::report::words::counted;
use crate::source::sock_diag::{self, States};
use crate::source::sockstat;
use crate::tracker::NetnsSockets;

/// `net.ipv4.ip_local_reserved_ports` answers the first read and nothing after it (kernel/sysctl.c
/// `proc_do_large_bitmap`), so that read must be able to take every second port: 197 kB.
const LARGEST_PORT_LIST: usize = 256 << 10;

/// Gathers the port settings and the TIME_WAIT sockets of `netns`.
///
/// Without sock_diag `time_wait` is empty while `time_wait_count` is not.
pub fn ports(netns: &NetnsHandle) -> Result<NamespacePorts, NetnsError> {
    in_netns(netns, || {
        let settings = settings(netns.inode())?;
        let sockstat = sockstat::read().map_err(|source| NetnsError::Read {
            inode: netns.inode(),
            what: "sockstat",
            source,
        })?;
        let time_wait = sock_diag::dump(States::TIME_WAIT, |found: &mut PortSet, socket| {
            if socket.is_time_wait {
                found.insert(socket.local.port());
            }
        });
        Ok(NamespacePorts {
            netns: settings.netns,
            range: settings.range,
            reserved: settings.reserved.into_iter().collect(),
            time_wait: time_wait.map(|(found, _)| found).unwrap_or_default(),
            time_wait_count: sockstat.tw,
        })
    })?
}

/// The port settings of `netns` alone.
pub fn port_settings(netns: &NetnsHandle) -> Result<PortSettings, NetnsError> {
    in_netns(netns, || settings(netns.inode()))?
}

/// What is known about the sockets of a namespace besides themselves.
#[derive(Debug)]
pub struct Listing {
    /// Settings, and every socket that holds a port, if they could be listed.
    pub sockets: NetnsSockets,
    /// `tw` of the namespace's sockstat, if it could be read.
    pub time_wait_count: Option<u64>,
    /// What is missing in the list, one printable sentence each.
    pub incomplete: Vec<String>,
}

/// Lists every socket of `netns` that holds a port. `own_range` is an IP_LOCAL_PORT_RANGE that
/// questions will be asked about. Costs a dump of all TCP sockets of the namespace.
///
/// Without sock_diag the list is empty, says so ([`NetnsSockets::is_listed`]), and `incomplete`
/// has the reason.
pub fn listing(netns: &NetnsHandle, own_range: Option<(u16, u16)>) -> Result<Listing, NetnsError> {
    in_netns(netns, || {
        let mut sockets = NetnsSockets::new(settings(netns.inode())?, own_range);
        let mut incomplete = Vec::new();
        let dumped = sock_diag::dump(States::ALL, |begun: &mut bool, socket| {
            if !std::mem::replace(begun, true) {
                // A dump that starts again counts from the beginning.
                sockets.clear();
            }
            sockets.add(&socket.into());
        });
        match dumped {
            Ok((_, dumped)) => {
                sockets.listed(lists_closed());
                if dumped.interrupted {
                    incomplete.push(
                        "sockets came and went while the kernel listed them: the list may have \
                         one twice or miss one"
                            .to_owned(),
                    );
                }
                if dumped.malformed > 0 {
                    incomplete.push(format!(
                        "{} in the kernel's list made no sense",
                        counted(dumped.malformed, "socket")
                    ));
                }
            }
            Err(error) => incomplete.push(error.to_string()),
        }
        if sockets.dropped() > 0 {
            incomplete.push(format!(
                "{} did not fit into the bounds on memory",
                counted(sockets.dropped(), "socket")
            ));
        }
        Ok(Listing {
            sockets,
            time_wait_count: sockstat::read().ok().map(|sockstat| sockstat.tw),
            incomplete,
        })
    })?
}

/// Whether this kernel lists CLOSED sockets that hold a port (6.8+). Asked once: it takes a
/// socket of our own, so who counts sockets asks before.
pub fn lists_closed() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    if let Some(known) = ANSWER.get() {
        return *known;
    }
    let answer = sock_diag::shows_bound_inactive();
    // Where no port could be had, the question may be asked again.
    answer.is_some_and(|answer| *ANSWER.get_or_init(|| answer))
}

/// The source address that the kernel would choose for a connection from `netns` to `dst`, by
/// asking for a UDP socket, which sends nothing. `None` when there is no route.
pub fn source_address(netns: &NetnsHandle, dst: SocketAddr) -> Option<IpAddr> {
    let ask = || {
        let any: IpAddr = match dst.ip().to_canonical() {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect((dst.ip().to_canonical(), dst.port())).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    in_netns(netns, ask).ok().flatten()
}

/// Settings of the calling thread's namespace, which is `inode`.
fn settings(inode: u32) -> Result<PortSettings, NetnsError> {
    let read = |what| {
        move |source| NetnsError::Read {
            inode,
            what,
            source,
        }
    };
    Ok(PortSettings {
        netns: inode,
        range: sysctl("ip_local_port_range", parse_port_range)
            .map_err(read("net.ipv4.ip_local_port_range"))?,
        reserved: sysctl("ip_local_reserved_ports", parse_port_list)
            .map_err(read("net.ipv4.ip_local_reserved_ports"))?,
        tw_reuse: sysctl("tcp_tw_reuse", parse_number).ok(),
        tw_reuse_delay_ms: sysctl("tcp_tw_reuse_delay", parse_number).ok(),
        timestamps: sysctl("tcp_timestamps", parse_number).ok(),
    })
}

fn parse_number<T: FromStr>(text: &str) -> Option<T> {
    text.trim().parse().ok()
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
