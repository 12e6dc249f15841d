//! `snapshot`: one look, no tracing.

use std::time::Duration;

use anyhow::Result;

use super::{
    clock,
    hidden::{Shown, TOO_MANY},
    look::{Look, Way, look},
    names, namespaces,
};
use crate::report::words::counted;
use crate::{
    enrich::{boot, processes::Processes},
    model::{Filter, HeldSocket, ProcessId, ProcessInfo, Subject},
    probe::Attached,
    report::{SnapshotReport, SocketReport},
    source::sockstat,
    tracker::{self, ProcessInfos, Selection, SnapshotInput},
};

/// What to look at and how.
#[derive(Clone, Debug, Default)]
pub struct SnapshotSettings {
    /// Whom to show.
    pub filter: Filter,
    /// List every socket.
    pub sockets: bool,
}

/// Takes one look; by the iterator of `attached`, or by /proc without it.
///
/// # Errors
/// When descriptors or sockstat cannot be read at all.
pub fn snapshot(
    attached: Option<&mut Attached>,
    settings: &SnapshotSettings,
) -> Result<SnapshotReport> {
    let way = attached.map_or(Way::Proc, Way::Iterator);
    let filter = &settings.filter;
    let mut listed: Vec<HeldSocket> = Vec::new();
    let mut shown = Shown::default();
    let Look {
        inventory,
        method,
        mut incomplete,
        undecodable,
        took_ns,
    } = look(way, filter, |socket, wanted| {
        shown.add(socket);
        if settings.sockets && wanted {
            listed.push(socket.clone());
        }
    })?;
    if undecodable > 0 {
        incomplete.push(format!(
            "{} of the kernel could not be decoded",
            counted(undecodable, "record")
        ));
    }
    if shown.is_full() {
        incomplete.push(TOO_MANY.to_owned());
    }
    let sockstat = sockstat::read()?;
    let hidden = (sockstat.alloc > inventory.totals.seen)
        .then(|| shown.hidden())
        .flatten();
    let mut processes = Processes::new(1 << 16, Duration::MAX);
    let now_ns = clock::monotonic_ns();
    let infos = names::infos(&mut processes, Some(&inventory.census), &[], now_ns);
    let (ports, gaps) = namespaces::ports(&inventory.census);
    incomplete.extend(gaps);
    let keep = |process: ProcessId, info: &ProcessInfo| shows(filter, process, info);
    let sockets = settings
        .sockets
        .then(|| socket_reports(&listed, &infos, &keep));
    let input = SnapshotInput {
        method,
        census: &inventory.census,
        totals: inventory.totals,
        incomplete: &incomplete,
        sockstat: &sockstat,
        kernel_sockets: None,
        hidden: hidden.as_ref(),
        infos: &infos,
        namespaces: &ports,
        boot_unix_ns: u64::try_from(boot::boot_unix_ns()).unwrap_or(0),
        selection: Selection {
            top: None,
            keep: Some(&keep),
        },
        took_ns,
    };
    Ok(tracker::snapshot(&input, sockets))
}

/// Whether a process passes the filter.
pub fn shows(filter: &Filter, process: ProcessId, info: &ProcessInfo) -> bool {
    // The namespace filter is about sockets, which the census has sorted out already.
    let about_processes = Filter {
        netns: None,
        family: None,
        ..filter.clone()
    };
    about_processes.matches(&Subject {
        pid: process.pid,
        comm: &info.comm,
        cgroup: info.cgroup.as_deref(),
        ..Subject::default()
    })
}

fn socket_reports(
    listed: &[HeldSocket],
    infos: &ProcessInfos,
    keep: &dyn Fn(ProcessId, &ProcessInfo) -> bool,
) -> Vec<SocketReport> {
    let nobody = ProcessInfo::default();
    listed
        .iter()
        .map(|socket| (socket, infos.get(&socket.holder).unwrap_or(&nobody)))
        .filter(|(socket, info)| keep(socket.holder, info))
        .map(|(socket, info)| SocketReport {
            pid: socket.holder.pid,
            comm: info.comm.clone(),
            fd: socket.fd,
            inode: socket.inode,
            class: socket.class,
            family: socket.family,
            netns: socket.netns,
            src: socket.local.to_string(),
            dst: socket.peer.map(|peer| peer.to_string()),
            mptcp: socket.mptcp,
        })
        .collect()
}
