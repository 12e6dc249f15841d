//! Who has one address pair: a lookup instead of a dump.

use std::net::SocketAddr;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use netlink_packet_sock_diag::message::SockDiagMessage;

use super::message::Answer;
use super::{DiagSocket, DumpError, Dumper, refused};

/// Any cookie will do (include/uapi/linux/inet_diag.h `INET_DIAG_NOCOOKIE`, twice).
const NO_COOKIE: [u8; 8] = [0xff; 8];

impl Dumper {
    /// The socket with these addresses, a TIME_WAIT one included; `None` when there is none.
    ///
    /// The kernel looks it up as it does for a packet (net/ipv4/inet_diag.c
    /// `inet_diag_find_one_icsk`), so where no connection has the pair, a listener on the local
    /// port may be the answer.
    ///
    /// # Errors
    /// When the netlink socket fails, or the kernel refuses.
    pub fn find(
        &mut self,
        local: SocketAddr,
        peer: SocketAddr,
    ) -> Result<Option<DiagSocket>, DumpError> {
        let request = request(local, peer, self.next_sequence());
        self.ask(&request, |answer, _| match answer {
            Answer::Socket(socket) => Some(Ok(Some(socket))),
            Answer::Error(errno) if errno == rustix::io::Errno::NOENT.raw_os_error() => {
                Some(Ok(None))
            }
            Answer::Error(errno) => Some(Err(refused(errno))),
            Answer::Done => Some(Ok(None)),
            Answer::Ignored(_) => None,
        })
    }
}

/// Bytes of a request for the one socket with these addresses.
fn request(local: SocketAddr, peer: SocketAddr, sequence: u32) -> Vec<u8> {
    let (family, mut socket_id) = match local {
        SocketAddr::V4(_) => (AF_INET, SocketId::new_v4()),
        SocketAddr::V6(_) => (AF_INET6, SocketId::new_v6()),
    };
    socket_id.source_address = local.ip();
    socket_id.source_port = local.port();
    socket_id.destination_address = peer.ip();
    socket_id.destination_port = peer.port();
    socket_id.cookie = NO_COOKIE;
    let request = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::empty(),
        socket_id,
    };
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    header.sequence_number = sequence;
    let payload = NetlinkPayload::from(SockDiagMessage::InetRequest(request));
    let mut message = NetlinkMessage::new(header, payload);
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{Shutdown, TcpListener, TcpStream};

    use super::*;
    use crate::model::TcpState;

    #[test]
    fn finds_a_connection_then_its_time_wait_and_nothing_else() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let peer = listener.local_addr().unwrap();
            let mut client = TcpStream::connect(peer).unwrap();
            let local = client.local_addr().unwrap();
            let (server, _) = listener.accept().unwrap();
            let mut dumper = Dumper::open().unwrap();

            let found = dumper.find(local, peer).unwrap().unwrap();
            assert_eq!(found.state, TcpState::Established);
            assert_eq!((found.local, found.peer), (local, Some(peer)));
            assert!(!found.is_time_wait);

            client.shutdown(Shutdown::Write).unwrap();
            drop(server);
            // The FIN of the server has arrived when there is nothing more to read.
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
            drop(client);
            let found = dumper.find(local, peer).unwrap().unwrap();
            assert!(found.is_time_wait, "{found:?}");

            let mut other = peer;
            other.set_port(1);
            assert_eq!(dumper.find(local, other).unwrap(), None);
        }
    }
}
