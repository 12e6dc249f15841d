//! Ring buffer events, with `--events`.

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns};
use sockleak_ebpf::{EventKind, EventRecord};

use crate::hooks::search::Outcome;

use crate::{
    constants::EMIT_EVENTS,
    kernel::{CurrentTask, Reader, Sock, current_task},
    maps::EVENTS,
    percpu::count,
};

/// Whether events are written; a constant to the verifier: when not, nothing of this file is left.
#[inline(always)]
pub fn wanted() -> bool {
    EMIT_EVENTS.load() == 1
}

/// Writes an event about `sk`, whose creation was at `birth_ns` (0 = unknown).
#[inline(always)]
pub fn event<R: Reader>(kind: EventKind, sk: &Sock<R>, birth_ns: u64) {
    if wanted() {
        event_of(kind, sk, birth_ns);
    }
}

/// A function of its own, so that the object has it once and not in every hook.
#[inline(never)]
fn event_of<R: Reader>(kind: EventKind, sk: &Sock<R>, birth_ns: u64) {
    reserve_and_fill(kind, &about(sk, birth_ns));
}

/// Writes an event about a search.
#[inline(always)]
pub fn search<R: Reader>(kind: EventKind, sk: &Sock<R>, outcome: Outcome) {
    if wanted() {
        search_of(kind, sk, &outcome);
    }
}

/// As [`event_of`].
#[inline(never)]
fn search_of<R: Reader>(kind: EventKind, sk: &Sock<R>, outcome: &Outcome) {
    let mut socket = about(sk, 0);
    socket.search_ns = outcome.search_ns;
    socket.candidates = outcome.candidates;
    socket.start = outcome.start;
    socket.range = outcome.range;
    socket.result = (outcome.errno as i32).wrapping_neg();
    reserve_and_fill(kind, &socket);
}

#[inline(always)]
fn about<R: Reader>(sk: &Sock<R>, birth_ns: u64) -> Socket {
    let (local, peer) = sk.addresses();
    Socket {
        sk: sk.addr(),
        birth_ns,
        netns: sk.netns(),
        family: sk.family(),
        local_port: sk.num(),
        peer_port_be: sk.dport_be(),
        state: u16::from(sk.state()),
        local,
        peer,
        search_ns: 0,
        candidates: 0,
        start: 0,
        range: 0,
        result: 0,
    }
}

/// What an event says about its socket.
pub struct Socket {
    /// Address of the `struct sock`.
    pub sk: u64,
    /// Creation, 0 unknown.
    pub birth_ns: u64,
    /// Network namespace, 0 unknown.
    pub netns: u32,
    /// `skc_family`
    pub family: u16,
    /// `skc_num`
    pub local_port: u16,
    /// `skc_dport`
    pub peer_port_be: u16,
    /// `skc_state`
    pub state: u16,
    /// Local address.
    pub local: [u64; 2],
    /// Peer address.
    pub peer: [u64; 2],
    /// As in [`EventRecord`], like all below.
    pub search_ns: u64,
    /// Ports examined.
    pub candidates: u32,
    /// Begin of the walk.
    pub start: u32,
    /// Range.
    pub range: u32,
    /// Return value.
    pub result: i32,
}

/// Writes an event about a socket of which only `socket` is known.
#[inline(always)]
pub fn write(kind: EventKind, socket: Socket) {
    if wanted() {
        reserve_and_fill(kind, &socket);
    }
}

#[inline(always)]
fn reserve_and_fill(kind: EventKind, socket: &Socket) {
    let Some(mut entry) = EVENTS.reserve(0) else {
        // The index is not a constant here, and the verifier must see its bound.
        match kind {
            EventKind::Alloc => count!(dropped[0]),
            EventKind::Accept => count!(dropped[1]),
            EventKind::Destroy => count!(dropped[2]),
            EventKind::Release => count!(dropped[3]),
            EventKind::Connect => count!(dropped[4]),
            EventKind::Bind => count!(dropped[5]),
        }
        return;
    };
    let comm = match current_task() {
        CurrentTask::Typed(task) => task.leader().comm(),
        CurrentTask::Plain(task) => task.leader().comm(),
    };
    let pid_tgid = bpf_get_current_pid_tgid();
    entry.write(EventRecord {
        // SAFETY: a helper without arguments.
        time_ns: unsafe { bpf_ktime_get_ns() },
        sk: socket.sk,
        birth_ns: socket.birth_ns,
        kind: kind as u32,
        tgid: (pid_tgid >> 32) as u32,
        tid: pid_tgid as u32,
        netns: socket.netns,
        family: socket.family,
        local_port: socket.local_port,
        peer_port_be: socket.peer_port_be,
        state: socket.state,
        local: socket.local,
        peer: socket.peer,
        comm,
        search_ns: socket.search_ns,
        candidates: socket.candidates,
        start: socket.start,
        range: socket.range,
        result: socket.result,
    });
    entry.submit(0);
}
