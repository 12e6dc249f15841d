//! What is known about the processes of an inventory.

use crate::{
    enrich::processes::Processes,
    model::{ProcessCounters, ProcessId, ProcessInfo},
    tracker::{Census, PortCalls, ProcessInfos},
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

/// Adds everybody whose calls the newest interval is about.
pub fn callers(processes: &mut Processes, calls: &PortCalls, infos: &mut ProcessInfos) {
    let searching = calls.searches().iter().map(|search| search.id.process);
    let failing = calls.failures().iter().map(|f| f.id.search.process);
    for process in searching.chain(failing) {
        let known = infos.get(&process);
        // Somebody who holds nothing has a name from the kernel side only.
        if known.is_none_or(|info| info.fd_used.is_none() && !info.exited) {
            let info = processes.get(process, calls.at_ns()).clone();
            infos.insert(process, info);
        }
    }
}

/// Adds the names of everybody whose calls were seen since attach, as far as they are remembered.
pub fn past_callers(processes: &Processes, calls: &PortCalls, infos: &mut ProcessInfos) {
    let searching = calls.searches_since_attach();
    let failing = calls.failures_since_attach();
    let searching = searching.iter().map(|search| search.id.process);
    let failing = failing.iter().map(|failure| failure.id.search.process);
    for process in searching.chain(failing) {
        if let (false, Some(info)) = (infos.contains_key(&process), processes.peek(process)) {
            infos.insert(process, info.clone());
        }
    }
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
