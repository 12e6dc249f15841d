//! What the tracker of connect(), bind() and listen() cannot know by itself.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
};

use crate::{
    kernel::Facts,
    model::{FailureId, Filter, ProcessInfo, SearchId, Subject},
    probe::{
        Attached, Backend, Hook,
        facts::{CHECK_ESTABLISHED, LOCAL_PORT_RANGE},
    },
    source::{
        netns::{self, Namespaces, in_netns},
        pid_dir::PidDir,
        sock_diag::Dumper,
    },
    tracker::{Failure, PortCalls, PortFeatures, TupleOwner, VisibleCalls},
};

/// Address pairs looked up per sample.
const LOOKUPS: usize = 256;
/// What this kernel can do about ports.
pub fn features(facts: &Facts) -> PortFeatures {
    let range = facts.function(LOCAL_PORT_RANGE);
    let check = facts.function(CHECK_ESTABLISHED);
    PortFeatures {
        release: facts.release.clone(),
        local_port_range: range.is_some(),
        single_pass: range.is_some_and(|proto| proto.ret != "void"),
        lockless: check.is_some_and(|proto| proto.nargs() > 4),
    }
}

/// Which calls there are hooks for.
pub fn visible(attached: &Attached) -> VisibleCalls {
    let backend = |hook: Hook| {
        let mut outcomes = attached.outcomes().iter();
        let outcome = outcomes.find(|outcome| outcome.hook == hook)?;
        outcome.served.map(|variant| variant.backend)
    };
    let bind = backend(Hook::Bind);
    let connect = backend(Hook::Connect);
    VisibleCalls {
        connect: connect.is_some(),
        bind: bind.is_some(),
        // There is no tracepoint in the search for bind(): it is told from the system call.
        only_failed_binds: bind == Some(Backend::Tracepoint),
        bounded_connects: connect == Some(Backend::Tracepoint),
    }
}

/// Whether a call passes the filter.
pub fn passes(filter: &Filter, id: &SearchId, info: &ProcessInfo) -> bool {
    filter.matches(&Subject {
        pid: id.process.pid,
        comm: &info.comm,
        cgroup: info.cgroup.as_deref(),
        netns: Some(id.netns),
        family: Some(id.family),
    })
}

/// Who has the address pairs of failures that say [`crate::model::Cause::DuplicateTuple`]; those
/// that could not be looked up are missing.
pub fn owners(calls: &PortCalls) -> HashMap<FailureId, TupleOwner> {
    let mut by_netns: BTreeMap<u32, Vec<(FailureId, u32, SocketAddr, SocketAddr)>> =
        BTreeMap::new();
    let pairs = calls.doubtful().filter_map(|failure: &Failure| {
        let local = SocketAddr::new(failure.id.src?, failure.port?);
        let pid = failure.id.search.process.pid;
        Some((failure.id, pid, local, failure.id.search.dst?))
    });
    for pair in pairs.take(LOOKUPS) {
        by_netns.entry(pair.0.search.netns).or_default().push(pair);
    }
    let mut owners = HashMap::new();
    for (inode, pairs) in by_netns {
        let look = || look_up(&pairs);
        let found = if netns::current().is_ok_and(|here| here == inode) {
            Ok(look())
        } else {
            let mut namespaces = Namespaces::default();
            namespaces.add_mounts();
            for (_, pid, _, _) in &pairs {
                if PidDir::open(*pid).and_then(|dir| dir.netns()).ok() == Some(inode) {
                    namespaces.add_process(inode, *pid);
                }
            }
            namespaces
                .open(inode)
                .and_then(|handle| in_netns(&handle, look))
        };
        match found {
            Ok(found) => owners.extend(found),
            Err(error) => log::debug!("looking up address pairs: {error}"),
        }
    }
    owners
}

/// In the calling thread's network namespace.
fn look_up(pairs: &[(FailureId, u32, SocketAddr, SocketAddr)]) -> Vec<(FailureId, TupleOwner)> {
    let mut dumper = match Dumper::open() {
        Ok(dumper) => dumper,
        Err(error) => {
            log::debug!("looking up address pairs: {error}");
            return Vec::new();
        }
    };
    let mut found = Vec::with_capacity(pairs.len());
    for (id, _, local, peer) in pairs {
        match dumper.find(*local, *peer) {
            Ok(Some(socket)) if socket.is_time_wait => found.push((*id, TupleOwner::TimeWait)),
            Ok(_) => found.push((*id, TupleOwner::Other)),
            Err(error) => log::debug!("looking up {local} to {peer}: {error}"),
        }
    }
    found
}
