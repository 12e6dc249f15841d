//! Inventory records.

use sockleak_ebpf::{
    InventoryRecord, SOCKET_ACCEPTED, SOCKET_MPTCP, SOCKET_PORT_BOUND, SOCKET_PORT_KNOWN,
    SOCKET_TRIED, STACK_FAILED,
};

use super::{DecodeError, address, exactly, family, peer};
use crate::model::{Birth, HeldSocket, Past, ProcessId, SocketClass, Stack, TcpState};

/// Decodes one [`InventoryRecord`].
///
/// # Errors
/// When the bytes are not a record, or hold a family or state that no kernel has.
pub fn held_socket(bytes: &[u8]) -> Result<HeldSocket, DecodeError> {
    let record: InventoryRecord = exactly("inventory record", bytes)?;
    let family = family(record.family)?;
    let state = u8::try_from(record.state)
        .ok()
        .and_then(|raw| TcpState::try_from(raw).ok())
        .ok_or(DecodeError::State(record.state))?;
    let birth = (record.birth_ns != 0 && record.creator_tgid != 0).then(|| Birth {
        at_ns: record.birth_ns,
        creator: ProcessId::from_kernel(record.creator_tgid, record.creator_start_ns),
        accepted: record.flags & SOCKET_ACCEPTED != 0,
    });
    Ok(HeldSocket {
        sk: record.sk,
        inode: record.inode,
        holder: ProcessId::from_kernel(record.holder_tgid, record.holder_start_ns),
        fd: record.fd,
        netns: (record.netns != 0).then_some(record.netns),
        family,
        state,
        class: SocketClass::of(state, record.local_port),
        local: address(family, record.local, record.local_port),
        peer: peer(family, record.peer, record.peer_port_be),
        attempted: (state == TcpState::Close && record.peer_port_be == 0)
            .then(|| address(family, record.peer, 0).ip())
            .filter(|ip| !ip.to_canonical().is_unspecified()),
        accept_queue: if state == TcpState::Listen {
            record.ack_backlog
        } else {
            0
        },
        mptcp: record.flags & SOCKET_MPTCP != 0,
        port_bound: (record.flags & SOCKET_PORT_KNOWN != 0)
            .then_some(record.flags & SOCKET_PORT_BOUND != 0),
        birth,
        past: Past {
            tried: record.flags & SOCKET_TRIED != 0,
            stack: match record.stack {
                0 => Stack::None,
                STACK_FAILED => Stack::Failed,
                id => Stack::Id(id),
            },
            ending: record.ending,
        },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Family;

    /// A record as the kernel side lays it out, field by field.
    fn record() -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [
            0xffff_8880_1234_5678u64,
            4242,
            70_000_000,
            9_000,
            60_000_000,
        ] {
            bytes.extend(word.to_ne_bytes());
        }
        for word in [17u32, 23, 5, 4_026_531_840, 3, 0] {
            bytes.extend(word.to_ne_bytes());
        }
        for half in [2u16, 8080, 443u16.to_be(), 1] {
            bytes.extend(half.to_ne_bytes());
        }
        bytes.extend([127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend([10, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        for word in [8u32, 0xdead_beef] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn a_connection_is_read_field_by_field() {
        let socket = held_socket(&record()).unwrap();
        assert_eq!(socket.sk, 0xffff_8880_1234_5678);
        assert_eq!(socket.inode, 4242);
        assert_eq!(
            socket.holder,
            ProcessId {
                pid: 23,
                start_ticks: 7
            }
        );
        assert_eq!(socket.fd, 5);
        assert_eq!(socket.netns, Some(4_026_531_840));
        assert_eq!(socket.family, Family::V4);
        assert_eq!(socket.class, SocketClass::Established);
        assert_eq!(socket.local, "127.0.0.1:8080".parse().unwrap());
        assert_eq!(socket.peer, Some("10.0.0.9:443".parse().unwrap()));
        assert_eq!(socket.accept_queue, 0, "only listeners have one");
        let birth = socket.birth.unwrap();
        assert_eq!(
            (birth.at_ns, birth.creator.pid, birth.creator.start_ticks),
            (9_000, 17, 6)
        );
        assert_eq!(
            socket.past,
            Past {
                tried: false,
                stack: Stack::Id(8),
                ending: 0xdead_beef
            }
        );
    }

    #[test]
    fn a_closed_socket_still_has_the_address_of_a_connect_that_failed() {
        let mut bytes = record();
        bytes[68..70].copy_from_slice(&0_u16.to_ne_bytes());
        assert_eq!(
            held_socket(&bytes).unwrap().attempted,
            None,
            "it is connected"
        );
        bytes[70..72].copy_from_slice(&7_u16.to_ne_bytes());
        let closed = held_socket(&bytes).unwrap();
        assert_eq!(closed.attempted, Some([10, 0, 0, 9].into()));
        assert_eq!(closed.peer, None);
        // Never used; and one that has its peer's port still.
        let mut unused = bytes.clone();
        unused[88..92].fill(0);
        assert_eq!(held_socket(&unused).unwrap().attempted, None);
        bytes[68..70].copy_from_slice(&443_u16.to_be_bytes());
        assert_eq!(held_socket(&bytes).unwrap().attempted, None);
    }

    #[test]
    fn wrong_sizes_families_and_states_are_errors() {
        let mut bytes = record();
        assert!(matches!(
            held_socket(&bytes[1..]),
            Err(DecodeError::Size { .. })
        ));
        bytes[64] = 1;
        assert_eq!(held_socket(&bytes), Err(DecodeError::Family(1)));
        bytes[64] = 2;
        bytes[70] = 99;
        assert_eq!(held_socket(&bytes), Err(DecodeError::State(99)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..220)) {
            let _ = held_socket(&bytes);
        }
    }
}
