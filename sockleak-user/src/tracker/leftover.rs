//! What the processes of a command had open when they exited, by what it has in common.

use std::collections::{HashMap, HashSet};

use super::idle::leak_class;
use super::origins::Origin;
use super::provenance::{Pasts, after};
use crate::model::Arrange as _;
use crate::model::{Left, NamedCode, Past, ProcessId, SocketClass, Stack};
use crate::report::{After, OpenSockets, errno_name};

/// Kinds that are kept; there are as many as paths of code that create sockets and forget them.
const MOST: usize = 1 << 16;
/// Processes that are told from each other, of all kinds together.
const MOST_PROCESSES: usize = 1 << 20;

/// What was left open, added up.
#[derive(Clone, Debug, Default)]
pub struct Leftover {
    kinds: HashMap<Kind, Tally>,
    processes: usize,
    unplaced: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Kind {
    stack: Stack,
    ending: u32,
    class: SocketClass,
    tried: bool,
    seen: bool,
}

#[derive(Clone, Debug, Default)]
struct Tally {
    count: u64,
    processes: HashSet<ProcessId>,
    age_ns: Option<u64>,
    example: Option<(ProcessId, String)>,
}

/// What groups have in common in the report.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Shown {
    class: SocketClass,
    after: Option<After>,
    peer: Option<String>,
    errno: Option<String>,
    accepted: bool,
    stack: Option<Vec<String>>,
    why: Option<String>,
    thread: Option<String>,
}

impl Leftover {
    /// Adds sockets that one process left open.
    pub fn add(&mut self, left: &Left) {
        let kind = Kind {
            stack: left.stack,
            ending: left.ending,
            class: left.class,
            tried: left.tried,
            seen: left.seen,
        };
        if self.kinds.len() >= MOST && !self.kinds.contains_key(&kind) {
            self.unplaced += left.count;
            return;
        }
        let tally = self.kinds.entry(kind).or_default();
        tally.count += left.count;
        tally.age_ns = tally.age_ns.max(left.age_ns);
        if self.processes < MOST_PROCESSES && tally.processes.insert(left.process) {
            self.processes += 1;
        }
        if tally.example.is_none() {
            tally.example = Some((left.process, left.comm.clone()));
        }
    }

    /// Sockets that are in no group: there are too many kinds.
    pub fn unplaced(&self) -> u64 {
        self.unplaced
    }

    /// Stacks that are referred to.
    pub fn stacks(&self) -> HashSet<u32> {
        let ids = self.kinds.keys().filter_map(|kind| match kind.stack {
            Stack::Id(id) => Some(id),
            Stack::None | Stack::Failed => None,
        });
        ids.collect()
    }

    /// Groups, most sockets first: those that are leaked, and those that were in use.
    pub fn groups(
        &self,
        pasts: Pasts<'_>,
        stacks: &HashMap<u32, NamedCode>,
    ) -> (Vec<OpenSockets>, Vec<OpenSockets>) {
        // Different stacks and endings may look the same in words.
        let mut shown: HashMap<Shown, Tally> = HashMap::new();
        for (kind, tally) in &self.kinds {
            let merged = shown.entry(words(kind, pasts, stacks)).or_default();
            merged.count += tally.count;
            merged.processes.extend(&tally.processes);
            merged.age_ns = merged.age_ns.max(tally.age_ns);
            // The same one whatever the order.
            if merged.example.is_none() || tally.example < merged.example {
                merged.example.clone_from(&tally.example);
            }
        }
        let mut groups: Vec<OpenSockets> = shown.into_iter().map(group).collect();
        groups.arrange_by(|a, b| {
            (b.count, b.processes, a.class, &a.stack, &a.peer, a.pid).cmp(&(
                a.count,
                a.processes,
                b.class,
                &b.stack,
                &b.peer,
                b.pid,
            ))
        });
        groups
            .into_iter()
            .partition(|group| leak_class(group.class).is_some())
    }
}

fn words(kind: &Kind, pasts: Pasts<'_>, stacks: &HashMap<u32, NamedCode>) -> Shown {
    let origin = Origin {
        past: Past {
            tried: kind.tried,
            stack: kind.stack,
            ending: kind.ending,
        },
        seen: kind.seen,
        far: None,
    };
    let (after, errno, peer) = match leak_class(kind.class) {
        Some(class) => {
            let (after, errno, peer) = after(class, origin, pasts);
            (Some(after), errno, peer)
        }
        None => (None, None, None),
    };
    let (stack, why) = match kind.stack {
        _ if !kind.seen => (None, Some("accept() made them, not socket()".to_owned())),
        Stack::None => (None, Some("no stack was taken".to_owned())),
        Stack::Failed => (None, Some("the kernel could not give the stack".to_owned())),
        Stack::Id(id) => match stacks.get(&id) {
            Some(named) if named.lines.is_empty() => (None, named.why.clone()),
            Some(named) => (Some(named.lines.clone()), named.why.clone()),
            None => (None, Some("the stack could not be read".to_owned())),
        },
    };
    let thread = match kind.stack {
        Stack::Id(id) => stacks.get(&id).map(|named| named.thread.clone()),
        Stack::None | Stack::Failed => None,
    };
    Shown {
        class: kind.class,
        after,
        peer,
        errno: errno.filter(|errno| *errno != 0).map(errno_name),
        accepted: !kind.seen,
        stack,
        why,
        thread,
    }
}

fn group((shown, tally): (Shown, Tally)) -> OpenSockets {
    let (process, comm) = tally.example.unwrap_or((
        ProcessId {
            pid: 0,
            start_ticks: 0,
        },
        String::new(),
    ));
    OpenSockets {
        class: shown.class,
        after: shown.after,
        peer: shown.peer,
        errno: shown.errno,
        accepted: shown.accepted,
        count: tally.count,
        processes: tally.processes.len() as u64,
        pid: process.pid,
        comm,
        oldest_age_s: tally.age_ns.map(|ns| ns as f64 / 1e9),
        stack: shown.stack,
        stack_incomplete: shown.why,
        thread: shown.thread,
    }
}

#[cfg(test)]
#[path = "leftover_tests.rs"]
mod tests;
