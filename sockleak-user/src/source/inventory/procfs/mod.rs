//! Inventory without BPF: `/proc/PID/fd`, the `system.sockprotoname` attribute, sock_diag and
//! pidfd_getfd().
//!
//! 1. Walk the descriptors of every process and keep the TCP sockets among them, by inode.
//! 2. Dump the TCP sockets of every network namespace. Those that the walk met are done.
//! 3. The rest is CLOSED, or lives in a namespace that no process is in: copy a descriptor of
//!    each and ask the socket itself. Dumping after walking means that what was still connecting
//!    during the walk is either in the dump or here.
//! 4. CLOSED sockets that name a port are looked up once more among those that own a bind bucket,
//!    because the name of a port outlives its possession (see [`verdict`]).

mod ask;
mod found;
mod pidfds;
mod tables;
mod verdict;
mod walk;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;

use crate::model::{HeldSocket, SocketClass, TcpState};
use crate::source::netns::{self, in_netns};
use crate::source::sock_diag::{self, DiagSocket, Dumper, States};
use ask::{Answer, Silence, SocketNamespaces};
use found::Found;
use pidfds::Pidfds;
use verdict::{Gaps, closed_with_port};
use walk::{Descriptor, Walked};

/// How an inventory went; the sockets themselves go to its callback as they are found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Processes that were looked at.
    pub processes: u64,
    /// Descriptors of TCP sockets: how often the callback was called.
    pub descriptors: u64,
    /// Processes whose descriptors could not be read for lack of rights.
    pub denied: u64,
    /// Processes that ended during the look.
    pub vanished: u64,
    /// MPTCP sockets without a visible TCP socket inside: those that are not connected, where it
    /// is made late or has no port, and those in namespaces that could not be dumped.
    pub mptcp_hidden: u64,
    /// What is missing or uncertain in the result, one printable sentence each; empty means
    /// that every process was seen and every socket classified exactly.
    pub incomplete: Vec<String>,
}

/// Finds every TCP socket that a descriptor of a process refers to, also those without a port,
/// and gives each descriptor to `each`, in no particular order.
///
/// Processes that may not be read, and what can only be guessed for lack of rights or on an old
/// kernel, are counted and named in the result. Not seen by this method: sockets in flight over
/// SCM_RIGHTS, io_uring's fixed files, connections waiting to be accepted, and the further
/// subflows of MPTCP connections.
///
/// # Errors
///
/// When /proc cannot be listed at all.
pub fn scan(each: impl FnMut(HeldSocket)) -> io::Result<Outcome> {
    let mut walked = walk::walk()?;
    walked.descriptors.sort_unstable();
    let mut scan = Scan {
        done: vec![false; walked.descriptors.len()],
        walked,
        each,
        outcome: Outcome::default(),
        gaps: Gaps::default(),
        subflows: HashMap::new(),
        socket_namespaces: SocketNamespaces::default(),
        shows_bound: false,
    };
    scan.match_dumps();
    scan.ask_rest();
    Ok(scan.finish())
}

struct Scan<F> {
    walked: Walked,
    /// Per descriptor: given to `each`.
    done: Vec<bool>,
    each: F,
    outcome: Outcome,
    gaps: Gaps,
    /// First subflow of the MPTCP sockets that the walk met, by the MPTCP socket's inode, which
    /// the kernel gives to the subflows too (net/mptcp/subflow.c `mptcp_subflow_create_socket`).
    subflows: HashMap<u32, (DiagSocket, u32)>,
    socket_namespaces: SocketNamespaces,
    /// Dumps on this kernel list CLOSED sockets that own a bind bucket.
    shows_bound: bool,
}

impl<F: FnMut(HeldSocket)> Scan<F> {
    /// Phase 2.
    fn match_dumps(&mut self) {
        let inodes: Vec<u32> = self.walked.namespaces.inodes().collect();
        for inode in inodes {
            // Without a dump every socket of the namespace is asked itself.
            let _ = self.match_dump(inode);
        }
    }

    fn match_dump(&mut self, netns: u32) -> Result<(), String> {
        let mut dumper = self.dumper(netns)?;
        self.socket_namespaces.learn(dumper.as_fd(), netns);
        let dumped = dumper.dump(States::HELD, |(): &mut (), socket| {
            self.match_socket(&socket, netns);
        });
        let ((), dumped) = dumped.map_err(|e| e.to_string())?;
        self.gaps.malformed += dumped.malformed;
        Ok(())
    }

    /// A netlink socket in that namespace.
    fn dumper(&self, netns: u32) -> Result<Dumper, String> {
        let dumper = if netns::current().is_ok_and(|here| here == netns) {
            Dumper::open()
        } else if let Some(handle) = self.socket_namespaces.handle(netns) {
            in_netns(handle, Dumper::open).map_err(|e| e.to_string())?
        } else {
            let handle = self.walked.namespaces.open(netns);
            handle
                .and_then(|handle| in_netns(&handle, Dumper::open))
                .map_err(|e| e.to_string())?
        };
        dumper.map_err(|e| e.to_string())
    }

    fn match_socket(&mut self, socket: &DiagSocket, netns: u32) {
        let is_closed = matches!(socket.state, TcpState::Close | TcpState::BoundInactive);
        self.shows_bound |= is_closed;
        if socket.inode == 0 || socket.is_time_wait {
            return;
        }
        let all = &self.walked.descriptors;
        let start = all.partition_point(|d| d.inode < socket.inode);
        let group = group_at(all, start);
        match all.get(start) {
            Some(first) if first.inode == socket.inode => {
                if first.protocol.is_mptcp() {
                    self.subflows
                        .entry(socket.inode)
                        .or_insert((*socket, netns));
                } else {
                    self.give(group, &Found::from_dump(socket, netns, false));
                }
            }
            _ => {}
        }
    }

    /// Phases 3 and 4.
    fn ask_rest(&mut self) {
        let mut pidfds = Pidfds::default();
        let mut with_port = Vec::new();
        let mut unasked = Unasked::default();
        let mut start = 0;
        while start < self.walked.descriptors.len() {
            let group = group_at(&self.walked.descriptors, start);
            start = group.end;
            if self.done.get(group.start).is_none_or(|done| *done) {
                continue;
            }
            self.ask_group(group, &mut pidfds, &mut with_port, &mut unasked);
        }
        self.settle_ports(&with_port);
        self.gaps.unasked = unasked.because.map(|errno| {
            let processes = unasked.processes.len() as u64;
            (
                unasked.sockets,
                processes,
                io::Error::from(errno).to_string(),
            )
        });
        self.outcome.vanished += pidfds.gone.len() as u64;
    }

    /// Finds out about one socket through whichever descriptor answers.
    fn ask_group(
        &mut self,
        group: Range<usize>,
        pidfds: &mut Pidfds,
        with_port: &mut Vec<(Range<usize>, Answer)>,
        unasked: &mut Unasked,
    ) {
        let Some(first) = self.walked.descriptors.get(group.start).copied() else {
            return;
        };
        let mut silence = Silence::Gone;
        let mut copy = None;
        for descriptor in self
            .walked
            .descriptors
            .get(group.clone())
            .unwrap_or_default()
        {
            match pidfds.copy(&self.walked, descriptor) {
                Ok(socket) => {
                    copy = Some(socket);
                    break;
                }
                Err(Silence::Gone) => {}
                Err(other) => silence = other,
            }
        }
        if first.protocol.is_mptcp() {
            let is_tcp = copy.as_ref().is_some_and(|copy| ask::is_tcp(copy.as_fd()));
            if let Some((socket, netns)) = self.subflows.get(&first.inode).copied() {
                return self.give(group, &Found::from_dump(&socket, netns, !is_tcp));
            }
            if !is_tcp {
                self.outcome.mptcp_hidden += u64::from(silence != Silence::Gone || copy.is_some());
                return;
            }
        }
        let answer = copy.and_then(|copy| ask::ask(copy.as_fd(), &mut self.socket_namespaces));
        match (answer, silence) {
            (Some(answer), _) if answer.state == TcpState::Close && answer.local.port() != 0 => {
                with_port.push((group, answer));
            }
            (Some(answer), _) => self.give(group, &Found::from_answer(&answer)),
            // The socket was closed meanwhile.
            (None, Silence::Gone) => {}
            (None, Silence::Denied(errno) | Silence::Unsupported(errno)) => {
                unasked.sockets += 1;
                unasked.because = Some(errno);
                let holders = self.walked.descriptors.get(group.clone());
                for descriptor in holders.unwrap_or_default() {
                    let table = self.walked.tables.get(descriptor.table as usize);
                    unasked
                        .processes
                        .extend(table.map(|table| table.process.pid));
                }
                self.give(group, &Found::closed(first.protocol.family()));
            }
        }
    }

    /// Phase 4.
    fn settle_ports(&mut self, with_port: &[(Range<usize>, Answer)]) {
        let mut bound = BTreeMap::new();
        let namespaces: BTreeSet<u32> = with_port
            .iter()
            .filter_map(|(_, answer)| answer.netns)
            .collect();
        for netns in namespaces {
            match self.bound_sockets(netns) {
                Ok(sockets) => {
                    self.shows_bound |= !sockets.is_empty();
                    bound.insert(netns, sockets);
                }
                Err(error) => self.gaps.undumped.push((netns, error)),
            }
        }
        if !with_port.is_empty() && !self.shows_bound {
            self.shows_bound = sock_diag::shows_bound_inactive() == Some(true);
        }
        for (group, answer) in with_port {
            let inode = self.walked.descriptors.get(group.start).map(|d| d.inode);
            let listed = answer
                .netns
                .filter(|_| self.shows_bound)
                .and_then(|netns| bound.get(&netns))
                .and_then(|sockets| Some(sockets.contains(&inode?)));
            let verdict = closed_with_port(listed, answer.was_connected);
            self.gaps.guessed += u64::from(!verdict.certain);
            let mut found = Found::from_answer(answer);
            if verdict.class == SocketClass::Unbound {
                found.local.set_port(0);
            }
            self.give(group.clone(), &found);
        }
    }

    /// Inodes of the CLOSED sockets of a namespace that own a bind bucket.
    fn bound_sockets(&self, netns: u32) -> Result<HashSet<u32>, String> {
        let mut dumper = self.dumper(netns)?;
        let dumped = dumper.dump(
            States::BOUND_INACTIVE,
            |bound: &mut HashSet<u32>, socket| {
                bound.insert(socket.inode);
            },
        );
        dumped.map(|(bound, _)| bound).map_err(|e| e.to_string())
    }

    /// Gives all descriptors of a socket to the callback, unless that is done.
    fn give(&mut self, group: Range<usize>, found: &Found) {
        for index in group {
            let (Some(descriptor), Some(done)) =
                (self.walked.descriptors.get(index), self.done.get_mut(index))
            else {
                continue;
            };
            let table = self.walked.tables.get(descriptor.table as usize);
            let (false, Some(table)) = (std::mem::replace(done, true), table) else {
                continue;
            };
            self.outcome.descriptors += 1;
            (self.each)(found.held(descriptor.inode, table.process, descriptor.fd));
        }
    }

    fn finish(mut self) -> Outcome {
        let walked = self.walked;
        self.outcome.processes = walked.processes;
        self.outcome.denied = walked.denied.len() as u64;
        self.outcome.vanished += walked.vanished;
        self.gaps.denied = walked.denied;
        self.gaps.hidden = std::fs::metadata("/proc/1").is_err();
        let failed = walked.failed.into_iter();
        self.gaps.failed = failed
            .map(|(pid, name, e)| (pid, name, e.to_string()))
            .collect();
        self.gaps.uncompared = walked
            .uncompared_because
            .map(|errno| (walked.uncompared, io::Error::from(errno).to_string()));
        self.outcome.incomplete = self.gaps.sentences();
        self.outcome
    }
}

/// The descriptors from `start` on that refer to the same socket.
fn group_at(descriptors: &[Descriptor], start: usize) -> Range<usize> {
    let rest = descriptors.get(start..).unwrap_or_default();
    let inode = rest.first().map(|d| d.inode);
    let len = rest.iter().take_while(|d| Some(d.inode) == inode).count();
    start..start + len
}

/// CLOSED sockets that could not be asked.
#[derive(Default)]
struct Unasked {
    sockets: u64,
    processes: BTreeSet<u32>,
    because: Option<rustix::io::Errno>,
}
