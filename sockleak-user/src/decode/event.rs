//! Ring buffer records.

use std::net::SocketAddr;

use sockleak_ebpf::{EventRecord, UNKNOWN};

use super::{DecodeError, address, bytes16, exactly, family, peer};
use crate::{model::Family, sanitize::printable_c};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A socket was created.
    Alloc,
    /// A connection was accepted.
    Accept,
    /// A socket was destroyed.
    Destroy,
    /// The last descriptor was closed.
    Release,
    /// A port search for connect() is over.
    Connect,
    /// A port search or check for bind() or listen() is over.
    Bind,
}

impl EventKind {
    /// Name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Alloc => "alloc",
            Self::Accept => "accept",
            Self::Destroy => "destroy",
            Self::Release => "release",
            Self::Connect => "connect",
            Self::Bind => "bind",
        }
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// When, `CLOCK_MONOTONIC` ns.
    pub time_ns: u64,
    /// Address of the socket.
    pub sk: u64,
    /// Age of the socket in ns, when its creation was seen.
    pub age_ns: Option<u64>,
    /// Process that was running.
    pub pid: u32,
    /// Thread that was running.
    pub tid: u32,
    /// Its process's name, printable.
    pub comm: String,
    /// Network namespace.
    pub netns: Option<u32>,
    /// Address family.
    pub family: Family,
    /// Local address, when it has a port.
    pub local: Option<SocketAddr>,
    /// Peer, when it has one.
    pub peer: Option<SocketAddr>,
    /// What a search came to, for [`EventKind::Connect`] and [`EventKind::Bind`].
    pub search: Option<SearchEvent>,
}

/// What a search came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SearchEvent {
    /// 0, or errno.
    pub errno: i32,
    /// Time in it, ns.
    pub search_ns: Option<u64>,
    /// Ports examined.
    pub candidates: Option<u32>,
    /// Where in the range the walk began.
    pub start: Option<u32>,
    /// The range, both ends included.
    pub range: Option<(u16, u16)>,
}

/// Decodes one [`EventRecord`].
///
/// # Errors
/// When the bytes are not a record, or hold a kind or family that is not sent.
pub fn event(bytes: &[u8]) -> Result<Event, DecodeError> {
    let record: EventRecord = exactly("event record", bytes)?;
    let kind = match record.kind {
        0 => EventKind::Alloc,
        1 => EventKind::Accept,
        2 => EventKind::Destroy,
        3 => EventKind::Release,
        4 => EventKind::Connect,
        5 => EventKind::Bind,
        other => return Err(DecodeError::Kind(other)),
    };
    let family = family(record.family)?;
    Ok(Event {
        kind,
        time_ns: record.time_ns,
        sk: record.sk,
        age_ns: (record.birth_ns != 0).then(|| record.time_ns.saturating_sub(record.birth_ns)),
        pid: record.tgid,
        tid: record.tid,
        comm: printable_c(&bytes16(record.comm)),
        netns: (record.netns != 0).then_some(record.netns),
        family,
        local: (record.local_port != 0).then(|| address(family, record.local, record.local_port)),
        peer: peer(family, record.peer, record.peer_port_be),
        search: matches!(kind, EventKind::Connect | EventKind::Bind).then(|| SearchEvent {
            errno: record.result.saturating_neg(),
            search_ns: (record.search_ns != UNKNOWN).then_some(record.search_ns),
            candidates: (record.candidates != u32::MAX).then_some(record.candidates),
            start: (record.start != u32::MAX).then_some(record.start),
            range: (record.range != 0)
                .then_some(((record.range & 0xffff) as u16, (record.range >> 16) as u16)),
        }),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_event_is_read_field_by_field() {
        let mut bytes = Vec::new();
        for word in [5_000u64, 0xabc, 2_000] {
            bytes.extend(word.to_ne_bytes());
        }
        for word in [2u32, 10, 11, 0] {
            bytes.extend(word.to_ne_bytes());
        }
        for half in [10u16, 80, 0, 7] {
            bytes.extend(half.to_ne_bytes());
        }
        bytes.extend(std::net::Ipv6Addr::LOCALHOST.octets());
        bytes.extend([0; 16]);
        bytes.extend(*b"\x1b]0;evil\x07\0\0\0\0\0\0\0");
        bytes.extend([0; 24]);
        let event = event(&bytes).unwrap();
        assert_eq!(event.kind, EventKind::Destroy);
        assert_eq!(event.age_ns, Some(3_000));
        assert_eq!((event.pid, event.tid, event.netns), (10, 11, None));
        assert_eq!(event.local, Some("[::1]:80".parse().unwrap()));
        assert_eq!(event.peer, None);
        assert_eq!(event.comm, "\\x1b]0;evil\\x07");
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = event(&bytes);
        }
    }
}
