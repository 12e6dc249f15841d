//! What the phases learn about a socket.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::ask::Answer;
use crate::model::{Family, HeldSocket, Past, ProcessId, SocketClass, TcpState};
use crate::source::sock_diag::DiagSocket;

/// What is known about one socket, whoever holds it.
pub(super) struct Found {
    pub netns: Option<u32>,
    pub family: Family,
    pub state: TcpState,
    pub local: SocketAddr,
    pub peer: Option<SocketAddr>,
    pub accept_queue: u32,
    pub mptcp: bool,
}

impl Found {
    pub fn from_dump(socket: &DiagSocket, netns: u32, mptcp: bool) -> Self {
        let is_listener = socket.state == TcpState::Listen;
        Self {
            netns: Some(netns),
            family: socket.family,
            // sk_state of a bound socket is CLOSED, however sock_diag calls it.
            state: match socket.state {
                TcpState::BoundInactive => TcpState::Close,
                state => state,
            },
            local: socket.local,
            peer: socket.peer.filter(|_| socket.state != TcpState::Close),
            accept_queue: if is_listener { socket.rqueue } else { 0 },
            mptcp,
        }
    }

    pub fn from_answer(answer: &Answer) -> Self {
        Self {
            netns: answer.netns,
            family: answer.family,
            state: answer.state,
            local: answer.local,
            peer: answer.peer,
            accept_queue: answer.accept_queue,
            mptcp: false,
        }
    }

    /// A TCP socket that no dump shows and nobody may ask.
    pub fn closed(family: Family) -> Self {
        Self {
            netns: None,
            family,
            state: TcpState::Close,
            local: match family {
                Family::V4 => (Ipv4Addr::UNSPECIFIED, 0).into(),
                Family::V6 => (Ipv6Addr::UNSPECIFIED, 0).into(),
            },
            peer: None,
            accept_queue: 0,
            mptcp: false,
        }
    }

    /// What a descriptor of it is.
    pub fn held(&self, inode: u32, holder: ProcessId, fd: u32) -> HeldSocket {
        HeldSocket {
            sk: 0,
            inode: u64::from(inode),
            holder,
            fd,
            netns: self.netns,
            family: self.family,
            state: self.state,
            class: SocketClass::of(self.state, self.local.port()),
            local: self.local,
            peer: self.peer,
            attempted: None,
            accept_queue: self.accept_queue,
            mptcp: self.mptcp,
            port_bound: None,
            birth: None,
            past: Past::default(),
        }
    }
}
