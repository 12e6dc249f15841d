//! What a row, a detail or an export is about.

use super::known::FailureKey;
use crate::report::{LeakClass, Op};

/// Something that has a name of its own while figures change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A process.
    Process(u32),
    /// A leak: whose, and of which class.
    Leak(u32, LeakClass),
    /// A kind of failure.
    Failure(FailureKey),
    /// Port searches: whose, by which call, towards whom, in which namespace.
    Search(u32, Op, Option<String>, u32),
    /// A destination, in a network namespace.
    Destination(String, u32),
    /// The ports of a network namespace.
    Namespace(u32),
    /// An event, by its number.
    Event(u64),
}

/// A screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// The host, what was found, and its processes.
    #[default]
    Overview,
    /// Leaks.
    Leaks,
    /// Failed calls.
    Failures,
    /// What the search for ports costs.
    Searches,
    /// The same by destination.
    Destinations,
    /// Port use of namespaces, and a map of one.
    Ports,
    /// Single events.
    Events,
}

impl View {
    /// All, in the order of their numbers, from 1.
    pub const ALL: [Self; 7] = [
        Self::Overview,
        Self::Leaks,
        Self::Failures,
        Self::Searches,
        Self::Destinations,
        Self::Ports,
        Self::Events,
    ];

    /// Its place in [`View::ALL`].
    pub fn index(self) -> usize {
        Self::ALL.iter().position(|view| *view == self).unwrap_or(0)
    }

    /// Its title.
    pub fn title(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Leaks => "Leaks",
            Self::Failures => "Failures",
            Self::Searches => "Search",
            Self::Destinations => "Dest",
            Self::Ports => "Ports",
            Self::Events => "Events",
        }
    }

    /// Its name in the name of a file.
    pub fn slug(self) -> &'static str {
        match self {
            Self::Overview => "overview",
            Self::Leaks => "leaks",
            Self::Failures => "failures",
            Self::Searches => "search",
            Self::Destinations => "destinations",
            Self::Ports => "ports",
            Self::Events => "events",
        }
    }
}
