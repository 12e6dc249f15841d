//! The ports that the sockets of one network namespace hold.

use crate::model::{PortSet, SocketClass};

/// Local ports that descriptors of one network namespace hold, by what holds them.
#[derive(Clone, Debug, Default)]
pub struct NamespaceUse {
    /// Inode number of the namespace; `None` for sockets whose namespace is unknown.
    pub netns: Option<u32>,
    /// Held by CLOSED sockets.
    pub bound: PortSet,
    /// Held by connections in any state, also accepted ones on their listener's port.
    pub connected: PortSet,
    /// Held by listeners.
    pub listening: PortSet,
}

impl NamespaceUse {
    /// Records that a socket of `class` holds `port` (0 = none).
    pub(super) fn add(&mut self, class: SocketClass, port: u16) {
        if port == 0 {
            return;
        }
        match class {
            SocketClass::Unbound | SocketClass::Bound => &mut self.bound,
            SocketClass::Listen => &mut self.listening,
            SocketClass::Connecting
            | SocketClass::Established
            | SocketClass::CloseWait
            | SocketClass::Closing => &mut self.connected,
        }
        .insert(port);
    }
}
