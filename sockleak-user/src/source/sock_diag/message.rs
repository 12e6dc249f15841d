//! The bytes of a sock_diag dump: request and answers (include/uapi/linux/inet_diag.h).

use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer,
    NetlinkHeader, NetlinkMessage, NetlinkPayload, Parseable,
};
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP, SOCK_DIAG_BY_FAMILY};
use netlink_packet_sock_diag::inet::{
    ExtensionFlags, InetRequest, InetResponseHeader, SocketId, StateFlags, Timer,
};
use netlink_packet_sock_diag::message::SockDiagMessage;

use super::{DiagSocket, States};
use crate::model::{Family, TcpState};

/// What one netlink message of an answer means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// A socket.
    Socket(DiagSocket),
    /// The dump is over.
    Done,
    /// The kernel refused or broke off, with this errno.
    Error(i32),
    /// Not understood, or not for us.
    Ignored(Ignored),
}

/// Why a message was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ignored {
    /// Another sequence number or message type: not an answer to this request.
    Foreign,
    /// Shorter than its kind, or with an address family or state that is unknown.
    Malformed,
}

/// Bytes of a request for all TCP sockets of `family` in `states`.
pub(super) fn request(family: Family, states: States, sequence: u32) -> Vec<u8> {
    let (family, socket_id) = match family {
        Family::V4 => (AF_INET, SocketId::new_v4()),
        Family::V6 => (AF_INET6, SocketId::new_v6()),
    };
    let request = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::from_bits_retain(states.bits()),
        socket_id,
    };
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    header.sequence_number = sequence;
    let payload = NetlinkPayload::from(SockDiagMessage::InetRequest(request));
    let mut message = NetlinkMessage::new(header, payload);
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// The messages of one datagram, in order; stops at the first whose length is impossible.
///
/// Each comes with whether the kernel marked the dump as interrupted (NLM_F_DUMP_INTR).
pub(super) fn answers(datagram: &[u8], sequence: u32) -> impl Iterator<Item = (Answer, bool)> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Ok(message) = NetlinkBuffer::new_checked(rest) else {
            rest = &[];
            return Some((Answer::Ignored(Ignored::Malformed), false));
        };
        let aligned = (message.length() as usize).next_multiple_of(4);
        rest = rest.get(aligned..).unwrap_or_default();
        let interrupted = message.flags() & NLM_F_DUMP_INTR != 0;
        Some((answer(&message, sequence), interrupted))
    })
}

fn answer(message: &NetlinkBuffer<&[u8]>, sequence: u32) -> Answer {
    if message.sequence_number() != sequence {
        return Answer::Ignored(Ignored::Foreign);
    }
    let payload = message.payload();
    match message.message_type() {
        NLMSG_DONE => match errno(payload) {
            None | Some(0) => Answer::Done,
            Some(errno) => Answer::Error(errno),
        },
        NLMSG_ERROR => match errno(payload) {
            None => Answer::Ignored(Ignored::Malformed),
            Some(0) => Answer::Ignored(Ignored::Foreign),
            Some(errno) => Answer::Error(errno),
        },
        SOCK_DIAG_BY_FAMILY => {
            socket(payload).map_or(Answer::Ignored(Ignored::Malformed), Answer::Socket)
        }
        _ => Answer::Ignored(Ignored::Foreign),
    }
}

/// The negative errno that `NLMSG_DONE` and `NLMSG_ERROR` begin with, made positive.
fn errno(payload: &[u8]) -> Option<i32> {
    let raw = i32::from_ne_bytes(*payload.first_chunk()?);
    Some(raw.saturating_neg())
}

/// Length of `struct inet_diag_msg`.
const MESSAGE: usize = 72;
/// Where its `idiag_expires` begins, ms. The library drops it for TIME_WAIT.
const EXPIRES: usize = 52;
/// `INET_DIAG_SKV6ONLY`, an attribute of one byte.
const SKV6ONLY: u16 = 11;

/// Decodes `struct inet_diag_msg` and the one attribute behind it that is needed.
fn socket(payload: &[u8]) -> Option<DiagSocket> {
    let raw = InetResponseHeader::parse(payload).ok()?;
    let id = &raw.socket_id;
    let local = address(id.source_address, id.source_port, id.interface_id);
    let peer = address(id.destination_address, id.destination_port, id.interface_id);
    Some(DiagSocket {
        family: match raw.family {
            AF_INET => Family::V4,
            AF_INET6 => Family::V6,
            _ => return None,
        },
        state: TcpState::try_from(raw.state).ok()?,
        is_time_wait: raw.timer == Some(Timer::TimeWait),
        local,
        peer: (peer.port() != 0).then_some(peer),
        inode: raw.inode,
        uid: raw.uid,
        rqueue: raw.recv_queue,
        wqueue: raw.send_queue,
        is_probing: matches!(raw.timer, Some(Timer::Probe(_))),
        expires_ms: (raw.timer == Some(Timer::TimeWait))
            .then(|| payload.get(EXPIRES..)?.first_chunk().copied())
            .flatten()
            .map(u32::from_ne_bytes),
        v6only: attribute(payload.get(MESSAGE..).unwrap_or_default(), SKV6ONLY)
            .and_then(|value| value.first())
            .map(|value| *value != 0),
    })
}

/// Value of the first attribute of a type (`struct nlattr`: length, type, value, padded to four
/// bytes); a length that is impossible ends the search.
fn attribute(mut rest: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let [a, b, c, d] = *rest.first_chunk()?;
        let len = usize::from(u16::from_ne_bytes([a, b]));
        let value = rest.get(4..len)?;
        if u16::from_ne_bytes([c, d]) == wanted {
            return Some(value);
        }
        rest = rest.get(len.next_multiple_of(4)..)?;
    }
}

/// Like getsockname(), which gives a scope to link-local addresses only.
fn address(ip: IpAddr, port: u16, interface: u32) -> SocketAddr {
    match ip {
        IpAddr::V4(ip) => SocketAddr::V4(SocketAddrV4::new(ip, port)),
        IpAddr::V6(ip) => {
            let scope = if ip.is_unicast_link_local() {
                interface
            } else {
                0
            };
            SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope))
        }
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{Emitable, NLM_F_MULTIPART};
    use netlink_packet_sock_diag::inet::InetResponseHeader;
    use proptest::prelude::*;

    use super::*;

    fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&(16 + payload.len() as u32).to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&0_u32.to_ne_bytes());
        bytes.extend_from_slice(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn listener() -> Vec<u8> {
        let header = InetResponseHeader {
            family: AF_INET,
            state: 10,
            timer: None,
            socket_id: SocketId {
                source_port: 8080,
                source_address: IpAddr::from([127, 0, 0, 1]),
                ..SocketId::new_v4()
            },
            recv_queue: 3,
            send_queue: 128,
            uid: 1000,
            inode: 4711,
        };
        let mut bytes = vec![0; header.buffer_len()];
        header.emit(&mut bytes);
        bytes
    }

    fn all(datagram: &[u8], sequence: u32) -> Vec<(Answer, bool)> {
        answers(datagram, sequence).collect()
    }

    #[test]
    fn a_request_is_what_the_kernel_expects() {
        let bytes = request(Family::V6, States::ALL, 9);
        assert_eq!(bytes.len(), 72);
        assert_eq!(bytes.get(16..19), Some(&[10, 6, 0][..]));
        assert_eq!(
            bytes.get(20..24),
            Some(&States::ALL.bits().to_ne_bytes()[..])
        );
    }

    #[test]
    fn a_whole_answer() {
        let mut datagram = message(SOCK_DIAG_BY_FAMILY, NLM_F_MULTIPART, 7, &listener());
        datagram.extend(message(
            NLMSG_DONE,
            NLM_F_MULTIPART,
            7,
            &0_i32.to_ne_bytes(),
        ));
        let expected = DiagSocket {
            family: Family::V4,
            state: TcpState::Listen,
            is_time_wait: false,
            local: "127.0.0.1:8080".parse().unwrap(),
            peer: None,
            inode: 4711,
            uid: 1000,
            rqueue: 3,
            wqueue: 128,
            is_probing: false,
            expires_ms: None,
            v6only: None,
        };
        assert_eq!(
            all(&datagram, 7),
            [(Answer::Socket(expected), false), (Answer::Done, false)]
        );
        assert_eq!(
            all(&datagram, 8),
            [
                (Answer::Ignored(Ignored::Foreign), false),
                (Answer::Ignored(Ignored::Foreign), false)
            ]
        );
    }

    #[test]
    fn refusals_and_interruptions() {
        let refused = message(NLMSG_ERROR, 0, 7, &(-libc::ENOENT).to_ne_bytes());
        let not_found = Answer::Error(libc::ENOENT);
        assert_eq!(all(&refused, 7), [(not_found, false)]);
        let failed_dump = message(NLMSG_DONE, 0, 7, &(-libc::ENOMEM).to_ne_bytes());
        let no_memory = Answer::Error(libc::ENOMEM);
        assert_eq!(all(&failed_dump, 7), [(no_memory, false)]);
        let interrupted = message(NLMSG_DONE, NLM_F_DUMP_INTR, 7, &[]);
        assert_eq!(all(&interrupted, 7), [(Answer::Done, true)]);
    }

    #[test]
    fn truncated_and_unknown() {
        let malformed = [(Answer::Ignored(Ignored::Malformed), false)];
        let whole = message(SOCK_DIAG_BY_FAMILY, 0, 7, &listener());
        for len in 1..whole.len() {
            assert_eq!(all(&whole[..len], 7), malformed, "{len}");
        }
        for (offset, value) in [(0, 99), (1, 77)] {
            let mut payload = listener();
            payload[offset] = value;
            assert_eq!(
                all(&message(SOCK_DIAG_BY_FAMILY, 0, 7, &payload), 7),
                malformed
            );
        }
        assert_eq!(
            all(&message(SOCK_DIAG_BY_FAMILY, 0, 7, &[2, 1]), 7),
            malformed
        );
    }

    fn decoded(payload: &[u8]) -> DiagSocket {
        match all(&message(SOCK_DIAG_BY_FAMILY, 0, 7, payload), 7).as_slice() {
            [(Answer::Socket(socket), _)] => *socket,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_rest_of_a_time_wait() {
        let mut payload = listener();
        // idiag_state, idiag_timer, idiag_expires
        payload[1] = 6;
        payload[2] = 3;
        payload[52..56].copy_from_slice(&41_234_u32.to_ne_bytes());
        let socket = decoded(&payload);
        assert_eq!(
            (socket.is_time_wait, socket.expires_ms),
            (true, Some(41_234))
        );
        // Other timers' times are not of interest.
        payload[2] = 1;
        assert_eq!(decoded(&payload).expires_ms, None);
    }

    #[test]
    fn ipv6_only_is_an_attribute_behind_others() {
        let with = |value: u8| {
            let mut payload = listener();
            for (kind, value) in [(8_u16, 0_u8), (SKV6ONLY, value)] {
                payload.extend(5_u16.to_ne_bytes());
                payload.extend(kind.to_ne_bytes());
                payload.extend([value, 0, 0, 0]);
            }
            payload
        };
        assert_eq!(decoded(&with(1)).v6only, Some(true));
        assert_eq!(decoded(&with(0)).v6only, Some(false));
        assert_eq!(decoded(&listener()).v6only, None);
        let mut endless = listener();
        endless.extend([0; 8]);
        assert_eq!(decoded(&endless).v6only, None);
    }

    proptest! {
        #[test]
        fn any_attributes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut payload = listener();
            payload.extend(bytes);
            decoded(&payload);
        }

        #[test]
        fn any_datagram_ends(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(answers(&bytes, 1).count() <= bytes.len() / 16 + 1);
        }

        #[test]
        fn any_damage_to_a_real_answer_is_survived(
            position in 0_usize..88, value: u8, cut in 0_usize..=88,
        ) {
            let mut bytes = message(SOCK_DIAG_BY_FAMILY, 0, 7, &listener());
            if let Some(byte) = bytes.get_mut(position) {
                *byte = value;
            }
            bytes.truncate(cut);
            prop_assert!(answers(&bytes, 7).count() <= 6);
        }
    }
}
