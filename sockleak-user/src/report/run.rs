//! What a command left open, and where that was created.

use std::collections::BTreeMap;

use serde::Serialize;

use super::After;
use crate::model::SocketClass;

/// `run`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunReport {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Its exit status; `None` when a signal ended it.
    pub status: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// How long it took, seconds.
    pub duration_s: f64,
    /// Processes followed: the command and its descendants.
    pub processes: u64,
    /// TCP sockets that they created.
    pub created: u64,
    /// Sockets that they closed.
    pub closed: u64,
    /// Sockets that were open when the last process that had them exited.
    pub open_at_exit: u64,
    /// Of those, sockets that were good for nothing any more.
    pub leaked: u64,
    /// Whether there are any.
    pub leak: bool,
    /// Those, by what they have in common, most first.
    pub left_open: Vec<OpenSockets>,
    /// The others: listeners and connections.
    pub in_use: Vec<OpenSockets>,
    /// Sockets of processes that the command left behind.
    pub left_behind: Vec<OpenSockets>,
    /// Processes that the command left behind.
    pub processes_left_behind: u64,
    /// Nothing was missed.
    pub complete: bool,
    /// What was missed.
    pub incomplete: Vec<String>,
    /// What can be done to see more.
    pub hints: Vec<String>,
    /// What was lost, by name; empty in a good run.
    pub loss: BTreeMap<String, u64>,
}

/// Sockets with the same past, of any number of processes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OpenSockets {
    /// Their class.
    pub class: SocketClass,
    /// What had happened to them; `None` when they are in use.
    pub after: Option<After>,
    /// To whom the connection was that ended with an error.
    pub peer: Option<String>,
    /// That error.
    pub errno: Option<String>,
    /// They came from accept(), not from socket().
    pub accepted: bool,
    /// How many.
    pub count: u64,
    /// How many processes had them.
    pub processes: u64,
    /// One of these processes.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// Age of the oldest when its process exited, or now, seconds; `None` when accepted.
    pub oldest_age_s: Option<f64>,
    /// Where they were created, outermost frame last; `None` when that is not known.
    pub stack: Option<Vec<String>>,
    /// Name of the thread that created them; test runners name threads after tests.
    pub thread: Option<String>,
    /// Why it is not, or why not every frame has a name.
    pub stack_incomplete: Option<String>,
}
