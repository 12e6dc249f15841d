//! One look: what the kernel counts, who holds it, and what no descriptor shows.

use super::super::columns::{Align, Columns, maybe, number, text};
use super::super::page::{Page, Style};
use super::super::units::{count, counted, duration, signed};
use super::{TEXT, ports, process, processes};
use crate::report::{
    Family, PortsReport, ProcessReport, SnapshotReport, SocketClass, SocketReport, SockstatReport,
    Unattributed,
};

pub fn put(page: &mut Page, look: &SnapshotReport) {
    put_closed(page, look);
    put_sockstat(page, &look.sockstat);
    let namespaces = namespaces(&look.processes, &look.ports);
    if namespaces > 1 {
        let text = format!(
            "{namespaces} network namespaces are in use. ss -s prints as \"closed\" the \
             difference of alloc, which counts the whole host, and inuse, which counts one \
             namespace: sockets of the others are in it. The line \"closed\" above has the sockets \
             that really are."
        );
        page.labelled(0, "ss -s", TEXT, Style::Normal, &text);
    }
    put_unattributed(page, look.seen, look.unattributed, &look.unattributed_kinds);
    for why in &look.incomplete {
        page.labelled(0, "unseen", TEXT, Style::Warn, why);
    }
    if !look.complete && look.incomplete.is_empty() {
        let text = "not every process could be read";
        page.labelled(0, "unseen", TEXT, Style::Warn, text);
    }
    let how = match look.method {
        "bpf" => "BPF iterator over all descriptors (iter/task_file)",
        "proc" => "/proc, socket attributes and sock_diag, without BPF",
        other => other,
    };
    let text = format!("{how}, {}", duration(look.took_s));
    page.labelled(0, "method", TEXT, Style::Faint, &text);

    if look.processes.is_empty() {
        page.gap();
        let text = match look.complete {
            true => "No process holds a TCP socket.",
            false => "No process that could be read holds a TCP socket.",
        };
        page.line(Style::Normal, text);
    } else {
        page.gap();
        let processes: Vec<_> = look.processes.iter().collect();
        processes::put_classes(page, &processes);
    }
    ports::put(page, &look.ports);
    if let Some(sockets) = &look.sockets {
        put_sockets(page, sockets);
    }
}

/// The answer first: how many are CLOSED, and who has most of them.
fn put_closed(page: &mut Page, look: &SnapshotReport) {
    let of = |process: &ProcessReport| process.unbound.saturating_add(process.bound);
    let sum = |class: fn(&ProcessReport) -> u64| {
        let each = look.processes.iter().map(class);
        each.fold(0_u64, u64::saturating_add)
    };
    let (unbound, bound) = (sum(|p| p.unbound), sum(|p| p.bound));
    // Shared sockets are in the count of every holder.
    let shared = look
        .processes
        .iter()
        .any(|process| process.shared > 0 && of(process) > 0);
    let closed = unbound.saturating_add(bound);
    if closed == 0 {
        let text = match (look.complete, look.seen) {
            (false, _) => "none seen, but not every process could be read",
            (true, 0) => "none",
            (true, _) => "none: every socket is listening, connecting or connected",
        };
        page.labelled(0, "closed", TEXT, Style::Normal, text);
        return;
    }
    let mut text = format!(
        "{} without a port, {} with one, of {}",
        count(unbound),
        count(bound),
        counted(look.seen, "socket"),
    );
    if shared {
        text.push_str(", shared ones counted for each holder");
    }
    if let Some(most) = look.processes.iter().max_by_key(|process| of(process)) {
        let name = process(&most.comm, most.pid);
        text.push_str(&format!("; most in {name}: {}", count(of(most))));
    }
    page.labelled(0, "closed", TEXT, Style::Strong, &text);
}

pub fn put_sockstat(page: &mut Page, sockstat: &SockstatReport) {
    let text = format!(
        "alloc {}, orphan {}, mem {} host-wide; inuse {}, tw {} in this namespace",
        count(sockstat.alloc),
        count(sockstat.orphan),
        counted(sockstat.mem_pages, "page"),
        count(sockstat.inuse),
        count(sockstat.tw),
    );
    page.labelled(0, "sockstat", TEXT, Style::Normal, &text);
}

fn put_unattributed(page: &mut Page, seen: u64, unattributed: i64, kinds: &Unattributed) {
    let text = match unattributed {
        0 => format!("{}, each with a descriptor", counted(seen, "socket")),
        1.. => format!(
            "{} with a descriptor, {} without: {}",
            count(seen),
            signed(unattributed),
            kinds_text(kinds)
        ),
        _ => format!(
            "{} with a descriptor, {} more than the kernel counted: sockets came or went during \
             the look",
            count(seen),
            count(unattributed.unsigned_abs()),
        ),
    };
    page.labelled(0, "seen", TEXT, Style::Normal, &text);
}

/// `9 in accept queues, 2 orphans, ...`
pub fn kinds_text(kinds: &Unattributed) -> String {
    let mut parts = Vec::new();
    if kinds.accept_queue != 0 {
        parts.push(format!("{} in accept queues", count(kinds.accept_queue)));
    }
    if kinds.orphan != 0 {
        parts.push(counted(kinds.orphan, "orphan"));
    }
    if let Some(kernel @ 1..) = kinds.kernel {
        parts.push(format!("{} of the kernel's own", count(kernel)));
    }
    if let Some(hidden @ 1..) = kinds.hidden {
        parts.push(format!(
            "{} of a process that cannot be looked into, in flight between processes, or io_uring \
             files ({})",
            count(hidden),
            kinds.hidden_examples.join(", ")
        ));
    }
    if kinds.unknown != 0 {
        let perhaps = match kinds.kernel {
            None => "the kernel's own, ",
            Some(_) => "",
        };
        parts.push(format!(
            "{} unexplained ({perhaps}CLOSED and out of sight, or changed during the look)",
            signed(kinds.unknown)
        ));
    }
    if parts.is_empty() {
        return "none".to_owned();
    }
    parts.join(", ")
}

fn namespaces(processes: &[ProcessReport], ports: &[PortsReport]) -> usize {
    let of_processes = processes.iter().filter_map(|process| process.netns);
    let of_ports = ports.iter().map(|ports| ports.netns);
    of_processes
        .chain(of_ports)
        .collect::<std::collections::BTreeSet<_>>()
        .len()
}

fn put_sockets(page: &mut Page, sockets: &[SocketReport]) {
    page.gap();
    let mut table = Columns::new(&[
        ("PID", Align::Right),
        ("COMM", Align::Left),
        ("FD", Align::Right),
        ("CLASS", Align::Left),
        ("FAMILY", Align::Left),
        ("LOCAL", Align::Left),
        ("PEER", Align::Left),
        ("NETNS", Align::Right),
        ("INODE", Align::Right),
    ]);
    for socket in sockets {
        let family = match (socket.family, socket.mptcp) {
            (Family::V4, false) => "v4",
            (Family::V6, false) => "v6",
            (Family::V4, true) => "v4,mptcp",
            (Family::V6, true) => "v6,mptcp",
        };
        table.row(vec![
            number(socket.pid.into()),
            text(&socket.comm),
            number(socket.fd.into()),
            text(class(socket.class)),
            text(family),
            text(&socket.src),
            maybe(socket.dst.as_deref(), str::to_owned),
            maybe(socket.netns, |netns| netns.to_string()),
            number(socket.inode),
        ]);
    }
    table.put(page);
}

fn class(class: SocketClass) -> &'static str {
    match class {
        SocketClass::Unbound => "unbound",
        SocketClass::Bound => "bound",
        SocketClass::Listen => "listen",
        SocketClass::Connecting => "connecting",
        SocketClass::Established => "established",
        SocketClass::CloseWait => "close_wait",
        SocketClass::Closing => "closing",
    }
}
