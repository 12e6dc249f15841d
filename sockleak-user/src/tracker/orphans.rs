//! Orphans: when they are many, whose they are, what they mean and what to change.
//!
//! The kernel's rules (5.10 to 7.2): close() resets at once when `tcp_check_oom(sk, 0)` finds more
//! orphans than net.ipv4.tcp_max_orphans (net/ipv4/tcp.c `__tcp_close`). The timers of an orphan
//! with undelivered data come to `tcp_out_of_resources` (net/ipv4/tcp_timer.c), which counts
//! every orphan twice when nothing could be sent for two maximal timeouts (240 s) or the retries
//! are over, and twice more after an ICMP error. Both count TCPAbortOnMemory.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use crate::model::Arrange as _;
use crate::model::{ProcessId, TcpState};
use crate::report::words::{count, counted};
use crate::report::{Holder, OrphanPeer, OrphansReport};

/// Peers that are counted singly in one look.
const PEERS: usize = 4096;
/// Peers and processes that a report lists.
const LISTED: usize = 10;

/// When orphans are worth a look.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OrphanRules {
    /// This many are,
    pub many: u64,
    /// or this share of tcp_max_orphans,
    pub share: f64,
    /// if they are at least so many.
    pub least: u64,
    /// From this share of the effective limit on it has to be raised, or orphans prevented.
    pub near: f64,
}

impl Default for OrphanRules {
    fn default() -> Self {
        Self {
            many: 256,
            share: 1.0 / 16.0,
            least: 16,
            near: 0.25,
        }
    }
}

impl OrphanRules {
    /// Whether `count` orphans of a host with this tcp_max_orphans are many.
    pub fn are_many(&self, count: u64, max: Option<u64>) -> bool {
        let large_share = max.is_some_and(|max| count as f64 >= self.share * max as f64);
        count >= self.many || large_share && count >= self.least
    }
}

/// One orphan as the namespace's list shows it.
#[derive(Clone, Copy, Debug)]
pub struct Orphan {
    /// Its state.
    pub state: TcpState,
    /// Local address and port.
    pub local: SocketAddr,
    /// Peer.
    pub peer: SocketAddr,
    /// `idiag_wqueue`: sequence numbers that are not acknowledged, that of the FIN included.
    pub unacknowledged: u32,
    /// The timer that probes a closed window is running.
    pub probing: bool,
    /// Something listens on its local port.
    pub accepted: bool,
}

/// To whom orphans are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Towards {
    /// Connections made from here.
    Server(SocketAddr),
    /// Connections that this peer had made to a local address.
    Client(IpAddr, SocketAddr),
}

/// Orphans to one peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Share {
    count: u64,
    unsent: u64,
}

/// Orphans of all namespaces, added up; bounded.
#[derive(Clone, Debug, Default)]
pub struct OrphanTally {
    listed: u64,
    fin_wait1: u64,
    fin_wait2: u64,
    closing: u64,
    with_unsent: u64,
    window_closed: u64,
    unsent_bytes: u64,
    peers: HashMap<(u32, Towards), Share>,
}

impl OrphanTally {
    /// Adds one orphan of namespace `netns`.
    pub fn add(&mut self, netns: u32, orphan: &Orphan) {
        self.listed += 1;
        match orphan.state {
            TcpState::FinWait1 => self.fin_wait1 += 1,
            TcpState::FinWait2 => self.fin_wait2 += 1,
            _ => self.closing += 1,
        }
        // In these states a FIN is behind the data; it takes one sequence number.
        let unsent = match orphan.state {
            TcpState::FinWait2 => 0,
            _ => u64::from(orphan.unacknowledged.saturating_sub(1)),
        };
        if unsent > 0 {
            self.with_unsent += 1;
            self.unsent_bytes += unsent;
            self.window_closed += u64::from(orphan.probing);
        }
        let towards = if orphan.accepted {
            Towards::Client(orphan.peer.ip(), orphan.local)
        } else {
            Towards::Server(orphan.peer)
        };
        let key = (netns, towards);
        if self.peers.len() < PEERS || self.peers.contains_key(&key) {
            let share = self.peers.entry(key).or_default();
            share.count += 1;
            share.unsent += unsent;
        }
    }

    /// Adds those of another namespace.
    pub fn merge(&mut self, other: Self) {
        for (sum, part) in [
            (&mut self.listed, other.listed),
            (&mut self.fin_wait1, other.fin_wait1),
            (&mut self.fin_wait2, other.fin_wait2),
            (&mut self.closing, other.closing),
            (&mut self.with_unsent, other.with_unsent),
            (&mut self.window_closed, other.window_closed),
            (&mut self.unsent_bytes, other.unsent_bytes),
        ] {
            *sum += part;
        }
        for (key, share) in other.peers {
            if self.peers.len() >= PEERS {
                break;
            }
            self.peers.insert(key, share);
        }
    }

    fn peers(&self) -> Vec<OrphanPeer> {
        let mut peers: Vec<_> = self.peers.iter().collect();
        peers.arrange_by_key(|(key, share)| (Reverse(share.count), **key));
        let shown = peers.into_iter().take(LISTED);
        shown
            .map(|((netns, towards), share)| {
                let (peer, local) = match towards {
                    Towards::Server(peer) => (peer.to_string(), None),
                    Towards::Client(ip, local) => (ip.to_string(), Some(local.to_string())),
                };
                OrphanPeer {
                    netns: *netns,
                    peer,
                    local,
                    count: share.count,
                    unsent_bytes: share.unsent,
                }
            })
            .collect()
    }
}

/// What a look at the orphans has found.
#[derive(Clone, Debug, Default)]
pub struct OrphanLook {
    /// When, ns.
    pub at_ns: u64,
    /// `orphan` of sockstat then.
    pub count: u64,
    /// `net.ipv4.tcp_max_orphans`.
    pub max: Option<u64>,
    /// What the namespaces' lists show.
    pub tally: OrphanTally,
    /// Who created them, most first; `None` when that is not seen.
    pub creators: Option<Vec<(ProcessId, u64)>>,
    /// Namespaces whose lists could not be read.
    pub unread: u64,
    /// TCPAbortOnMemory and TCPAbortOnTimeout since `since_ns`, of all namespaces.
    pub aborted: Option<(u64, u64)>,
    /// When those were first read, ns.
    pub since_ns: u64,
    /// `net.ipv4.tcp_fin_timeout` is above 60 in a namespace.
    pub slow_fin: bool,
}

/// What is said about a look at `now_ns`; `comm` names a process.
pub fn orphans(
    look: &OrphanLook,
    now_ns: u64,
    rules: &OrphanRules,
    comm: impl Fn(ProcessId) -> String,
) -> OrphansReport {
    let tally = &look.tally;
    let effective_max = look.max.map(|max| effective(max, tally));
    let creators = look.creators.as_deref().unwrap_or_default();
    let attributed: u64 = creators.iter().map(|(_, count)| count).sum();
    let processes: Vec<Holder> = (creators.iter().take(LISTED))
        .map(|(process, count)| Holder {
            pid: process.pid,
            comm: comm(*process),
            count: *count,
        })
        .collect();
    let peers = tally.peers();
    let shown: u64 = peers.iter().map(|peer| peer.count).sum();
    OrphansReport {
        count: look.count,
        max: look.max,
        effective_max,
        listed: tally.listed,
        fin_wait1: tally.fin_wait1,
        fin_wait2: tally.fin_wait2,
        closing: tally.closing,
        with_unsent: tally.with_unsent,
        window_closed: tally.window_closed,
        unsent_bytes: tally.unsent_bytes,
        unattributed: look.count.saturating_sub(attributed),
        processes,
        other_peers: tally.listed.saturating_sub(shown),
        peers,
        aborted_on_memory: look.aborted.map(|(memory, _)| memory),
        aborted_on_timeout: look.aborted.map(|(_, timeout)| timeout),
        since_s: look.at_ns.saturating_sub(look.since_ns) as f64 / 1e9,
        age_s: now_ns.saturating_sub(look.at_ns) as f64 / 1e9,
        evidence: evidence(look, effective_max),
        remedy: remedy(look, effective_max, rules),
        coverage: coverage(look, attributed),
    }
}

/// Half of the limit, as soon as an orphan's timers can come to the penalty.
fn effective(max: u64, tally: &OrphanTally) -> u64 {
    if tally.with_unsent > 0 { max >> 1 } else { max }
}

fn evidence(look: &OrphanLook, effective_max: Option<u64>) -> Vec<String> {
    let tally = &look.tally;
    let mut lines = Vec::new();
    if tally.with_unsent > 0 {
        lines.push(format!(
            "{} of {} hold data that the peer has not acknowledged, {} bytes in all; the peers of \
             {} of them do not read (their window is closed)",
            count(tally.with_unsent),
            count(tally.listed),
            count(tally.unsent_bytes),
            count(tally.window_closed)
        ));
    }
    if tally.fin_wait2 > 0 {
        lines.push(format!(
            "{} are in FIN_WAIT2: the peer has everything and has not closed",
            count(tally.fin_wait2)
        ));
    }
    if let (Some(max), Some(effective)) = (look.max, effective_max) {
        let penalty = if effective == max {
            String::new()
        } else {
            format!(
                "; those whose peer takes nothing for 240 s are reset from {} on, after \
                 an ICMP error from {} on",
                count(effective),
                count(max >> 2)
            )
        };
        lines.push(format!(
            "close() resets connections from tcp_max_orphans = {} on{penalty}",
            count(max)
        ));
    }
    if let Some((memory @ 1.., _)) = look.aborted {
        lines.push(format!(
            "the kernel has reset {} for this or for want of memory \
             (TCPAbortOnMemory): \"too many orphaned sockets\" in its log",
            counted(memory, "connection")
        ));
    }
    lines
}

fn remedy(look: &OrphanLook, effective_max: Option<u64>, rules: &OrphanRules) -> Vec<String> {
    let tally = &look.tally;
    let mut lines = Vec::new();
    if tally.with_unsent > 0 {
        lines.push(
            "do not close() with data on its way: shutdown(SHUT_WR), read() until it returns 0, \
             then close(); the process then sees who does not read, and can count and limit them"
                .to_owned(),
        );
        lines.push(
            "set TCP_USER_TIMEOUT before close() (5000, in ms): the kernel gives an orphan up \
             when its peer has taken nothing for so long"
                .to_owned(),
        );
        lines.push(
            "where the rest may be lost: SO_LINGER {1, 0} before close() resets the connection \
             and frees it at once; never a long l_linger, which is in seconds and blocks close()"
                .to_owned(),
        );
        if tally.window_closed < tally.with_unsent {
            lines.push(
                "lower net.ipv4.tcp_orphan_retries (0 means 8) to 3 for peers that do not answer \
                 at all; it does not help against peers that answer and do not read"
                    .to_owned(),
            );
        }
    }
    if tally.fin_wait2 > 0 && look.slow_fin {
        lines.push(
            "set net.ipv4.tcp_fin_timeout to 60 or less: above that every FIN_WAIT2 stays a whole \
             socket and an orphan for all that time"
                .to_owned(),
        );
    }
    let near = effective_max.is_some_and(|max| look.count as f64 >= rules.near * max as f64);
    if near && let Some(max) = look.max {
        let twice = max.saturating_mul(2);
        lines.push(format!(
            "to gain time: net.ipv4.tcp_max_orphans={twice} on the host (there is none per \
             container); each orphan can hold up to 64 KiB that cannot be swapped, so up to {} MiB",
            count(twice / 16)
        ));
    }
    lines.push(
        "what concerns TIME_WAIT (tcp_tw_reuse, tcp_max_tw_buckets) changes nothing here; \
         tcp_tw_recycle is gone since Linux 4.12"
            .to_owned(),
    );
    lines
}

fn coverage(look: &OrphanLook, attributed: u64) -> Vec<String> {
    let mut lines = Vec::new();
    match look.creators {
        None => lines.push("which process closes a socket is not seen: no hook".to_owned()),
        Some(_) if attributed < look.count => lines.push(format!(
            "who closed {} of {} is not known: accepted connections are not recorded one by one, \
             nor are those older than sockleak",
            count(look.count - attributed),
            count(look.count)
        )),
        Some(_) => {}
    }
    if look.tally.listed < look.count {
        lines.push(format!(
            "{} of {} are in no list: they came or went meanwhile, or their network namespace has \
             no process and no mount",
            count(look.count - look.tally.listed),
            count(look.count)
        ));
    }
    if look.unread > 0 {
        lines.push(format!(
            "{} could not be read",
            counted(look.unread, "network namespace")
        ));
    }
    if look.max.is_none() {
        lines.push(
            "net.ipv4.tcp_max_orphans can be read in the initial network namespace only".to_owned(),
        );
    }
    lines
}
