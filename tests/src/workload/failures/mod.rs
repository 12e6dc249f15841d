//! Calls that fail for a known reason a known number of times, and calls around them that work.
//!
//! Every one of these workloads provokes one cause. Each call is made through the [`Ledger`],
//! which stops the workload when the kernel returns anything else than is meant, so that what
//! the ledger says in the end is what the calls returned.

mod bind;
mod denied;
mod exhausted;
mod forbid;
mod ledger;
mod listen;
mod storm;
mod sys;
mod tuple;
mod walk;
mod world;

pub use ledger::{Breakdown, Failure, Ledger, Searches};
pub use walk::Walks;

use super::Workload;

/// All of them: name, what happens, how.
pub const FAILURES: &[(&str, &str, Workload)] = &[
    (
        "exhausted",
        "connections to one destination take every port of the range",
        exhausted::connections,
    ),
    (
        "exhausted-nonblocking",
        "the same, seen by non-blocking connect()",
        exhausted::nonblocking,
    ),
    (
        "exhausted-fastopen",
        "the same, seen by connect() with TCP_FASTOPEN_CONNECT",
        exhausted::fastopen,
    ),
    (
        "exhausted-sendto",
        "the same, seen by sendto() with MSG_FASTOPEN",
        exhausted::sendto,
    ),
    (
        "exhausted-mptcp",
        "the same, seen by MPTCP sockets",
        exhausted::mptcp,
    ),
    (
        "exhausted-mapped",
        "the same, seen by IPv6 sockets that connect to IPv4",
        exhausted::mapped,
    ),
    (
        "exhausted-exited",
        "the same, seen by processes that exit at once",
        exhausted::exited,
    ),
    (
        "exhausted-odd",
        "connections and bound sockets take a range of odd size",
        exhausted::odd,
    ),
    (
        "exhausted-time-wait",
        "TIME_WAIT towards one destination takes every port",
        exhausted::time_wait,
    ),
    (
        "exhausted-bound",
        "bound sockets take every port",
        exhausted::bound,
    ),
    (
        "exhausted-reserved",
        "every port of the range is reserved",
        exhausted::reserved,
    ),
    (
        "exhausted-mixed",
        "all of these take a quarter of the range",
        exhausted::mixed,
    ),
    (
        "peer-refuses",
        "connect() is refused by the peer, which is no failure of ports",
        exhausted::refused,
    ),
    (
        "local-range",
        "connections take every port of a socket's own range",
        exhausted::local_range,
    ),
    (
        "duplicate-tuple",
        "a connection has the bound socket's addresses and ports",
        tuple::duplicate,
    ),
    (
        "time-wait-tuple",
        "a TIME_WAIT has the bound socket's addresses and ports",
        tuple::time_wait,
    ),
    (
        "no-source",
        "a route without an address to send from",
        tuple::no_source,
    ),
    (
        "denied-cgroup",
        "a cgroup's program forbids connect() and bind()",
        denied::by_cgroup,
    ),
    (
        "denied-lsm",
        "a security module forbids connect() and bind()",
        denied::by_landlock,
    ),
    (
        "denied-capability",
        "bind() to a privileged port without the capability",
        denied::by_capability,
    ),
    ("bind-conflict", "somebody has the port", bind::conflict),
    (
        "bind-exhausted",
        "bind() to port 0 finds no port",
        bind::exhausted,
    ),
    (
        "bind-not-local",
        "bind() to somebody else's address",
        bind::not_local,
    ),
    (
        "listen-exhausted",
        "listen() finds no port",
        listen::exhausted,
    ),
    (
        "listen-conflict",
        "another socket listens on the port already",
        listen::conflict,
    ),
    (
        "storm",
        "200 threads fail in connect() for a while",
        storm::storm,
    ),
    (
        "walk",
        "100 connections whose port search can be replayed",
        walk::in_range,
    ),
    (
        "walk-local-range",
        "the same within IP_LOCAL_PORT_RANGE",
        walk::in_local_range,
    ),
];
