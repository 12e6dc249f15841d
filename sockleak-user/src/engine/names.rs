//! What is known about the processes of an inventory.

use crate::{
    enrich::processes::Processes,
    model::{ProcessCounters, ProcessId, ProcessInfo},
    tracker::{Census, ProcessInfos},
};

/// Looks up everybody who holds a socket, and lends the kernel side's names to those who have
/// come and gone in between.
pub fn infos(
    processes: &mut Processes,
    census: Option<&Census>,
    counters: &[ProcessCounters],
    now_ns: u64,
) -> ProcessInfos {
    let mut infos = ProcessInfos::new();
    for process in counters {
        processes.note(process.process, &process.comm, now_ns);
    }
    for holding in census.iter().flat_map(|census| census.holdings()) {
        infos.insert(
            holding.process,
            processes.get(holding.process, now_ns).clone(),
        );
    }
    for process in counters {
        infos.entry(process.process).or_insert_with(|| {
            // Somebody who holds nothing is not worth a look into /proc.
            let known = processes.peek(process.process).cloned();
            let mut info = known.unwrap_or_else(|| named(&process.comm));
            info.netns = info.netns.or(process.netns);
            info
        });
    }
    // What the counters saw first is better than nothing for those that /proc has lost.
    for process in counters {
        if let Some(info) = infos.get_mut(&process.process)
            && info.comm.is_empty()
        {
            info.comm.clone_from(&process.comm);
        }
    }
    infos
}

fn named(comm: &str) -> ProcessInfo {
    ProcessInfo {
        comm: comm.to_owned(),
        ..ProcessInfo::default()
    }
}

/// Whether a process is gone, or its pid belongs to another one.
pub fn is_gone(process: ProcessId) -> bool {
    crate::enrich::process::identify(process.pid) != Some(process)
}
