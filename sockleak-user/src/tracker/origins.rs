//! Where sockets come from: what those of one leak have in common.

use std::net::{IpAddr, SocketAddr};

use super::hash::FastMap;
use crate::model::{Past, Stack};

/// Most different origins in one census. Sockets beyond are taken for ones of unknown origin.
const LIMIT: usize = 1 << 12;

/// What is known of a socket besides what it is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// Its creation was seen, and so everything since.
    pub seen: bool,
    /// What had happened to it.
    pub past: Past,
    /// The other end, as far as known: who has closed it (CLOSE_WAIT), or what a connection whose
    /// end was not seen has left behind (CLOSED).
    pub far: Option<Far>,
}

/// The other end of a connection that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Far {
    /// The process had connected there.
    Server(SocketAddr),
    /// A client that had come to this local port. Its own address says little and differs each
    /// time.
    ClientOf(u16),
    /// connect() to this address has failed.
    Attempt(IpAddr),
    /// There was a connection to this peer, or an attempt at one that nobody has asked about.
    Former(SocketAddr),
}

impl Origin {
    /// Its stack was taken.
    pub fn is_stacked(&self) -> bool {
        matches!(self.past.stack, Stack::Id(_))
    }
}

/// Origins of a census, each once; the first is the unknown one.
#[derive(Clone, Debug)]
pub(super) struct Origins {
    all: Vec<Origin>,
    index: FastMap<Origin, u16>,
    /// Sockets of a process often have the same one.
    last: (Origin, u16),
}

impl Default for Origins {
    fn default() -> Self {
        Self {
            all: vec![Origin::default()],
            index: FastMap::default(),
            last: (Origin::default(), 0),
        }
    }
}

impl Origins {
    pub(super) fn index(&mut self, origin: Origin) -> u16 {
        if self.last.0 == origin {
            return self.last.1;
        }
        let index = match self.index.get(&origin) {
            Some(index) => *index,
            None if self.all.len() >= LIMIT => 0,
            None => {
                let index = u16::try_from(self.all.len()).unwrap_or(0);
                self.all.push(origin);
                self.index.insert(origin, index);
                index
            }
        };
        self.last = (origin, index);
        index
    }

    pub(super) fn at(&self, index: u16) -> Origin {
        self.all
            .get(usize::from(index))
            .copied()
            .unwrap_or_default()
    }

    pub(super) fn any(&self, is_wanted: impl Fn(&Origin) -> bool) -> bool {
        self.all.iter().any(is_wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stacked(id: u32) -> Origin {
        Origin {
            seen: true,
            past: Past {
                stack: Stack::Id(id),
                ..Past::default()
            },
            far: None,
        }
    }

    #[test]
    fn each_is_kept_once_and_too_many_are_unknown() {
        let mut origins = Origins::default();
        assert_eq!(origins.index(Origin::default()), 0);
        let first = origins.index(stacked(7));
        let second = origins.index(stacked(8));
        assert_eq!(
            [first, second],
            [origins.index(stacked(7)), origins.index(stacked(8))]
        );
        assert_eq!(origins.at(second), stacked(8));
        for id in 100..20_000 {
            let _ = origins.index(stacked(id));
        }
        let late = origins.index(stacked(20_001));
        assert_eq!(origins.at(late), Origin::default());
        assert_eq!(origins.index(stacked(7)), first);
        assert!(origins.all.len() <= LIMIT);
    }
}
