//! A range of ports and its two halves.

/// Ports from `low` to `high`, both included; empty when `low > high`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First port.
    pub low: u16,
    /// Last port.
    pub high: u16,
}

impl From<(u16, u16)> for Range {
    fn from((low, high): (u16, u16)) -> Self {
        Self { low, high }
    }
}

impl Range {
    /// Number of ports.
    pub fn size(self) -> u64 {
        match self.high.checked_sub(self.low) {
            Some(last) => u64::from(last) + 1,
            None => 0,
        }
    }

    /// Whether a port is in it.
    pub fn contains(self, port: u16) -> bool {
        (self.low..=self.high).contains(&port)
    }

    /// The ports in ascending order.
    pub fn ports(self) -> impl Iterator<Item = u16> {
        self.low..=self.high
    }

    /// Whether connect() tries the port in its first pass: those at an even distance from the
    /// range's first port. bind(0) tries them last (net/ipv4/inet_hashtables.c
    /// `__inet_hash_connect`, net/ipv4/inet_connection_sock.c `inet_csk_find_open_port`).
    pub fn is_first_parity(self, port: u16) -> bool {
        port.wrapping_sub(self.low) & 1 == 0
    }

    /// One search looks at an even number of ports (`remaining &= ~1U` in both functions): of an
    /// odd number it leaves out the first or the last one, depending on where it starts.
    pub fn one_is_left_out(self) -> bool {
        self.size() > 1 && self.size() % 2 == 1
    }
}
