//! The nouns that the whole pipeline shares: plain data, no I/O, no clock.

mod arrange;
mod counters;
mod filter;
mod left;
mod past;
mod port_set;
mod ports;
mod process;
mod search;
mod socket;
mod system;

pub use arrange::Arrange;
pub use counters::{Counters, ProcessCounters, total};
pub use filter::{Filter, Subject};
pub use left::{Code, CodeFrame, Left, NamedCode, RunEvent, RunTotals};
pub use past::{Ending, Past, Site, Stack};
pub use port_set::PortSet;
pub use ports::{ListedSocket, PortSettings};
pub use process::{NS_PER_TICK, ProcessId, ProcessInfo};
pub use search::{Cause, FailureCounters, FailureId, Op, PortOptions, SearchCounters, SearchId};
pub use socket::{Birth, Family, HeldSocket, SocketClass, TcpState};
pub use system::{FileLimits, NamespacePorts, Sockstat};
