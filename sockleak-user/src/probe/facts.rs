//! What the catalog needs to know of the running system.

use std::collections::BTreeSet;

use sockleak_ebpf::FIELDS;

use super::catalog::{self, Target};
use crate::kernel::{Facts, FieldSpec, Symbols, Wanted};

/// Data symbol that 5.10 needs for the inventory.
const SOCKET_FILE_OPS: &str = "socket_file_ops";

/// Data symbol: where each destination's next walk over the ports begins.
pub const TABLE_PERTURB: &str = "table_perturb";
/// There is IP_LOCAL_PORT_RANGE where it exists; its return type says whether that range is
/// searched in one pass (net/ipv4/inet_connection_sock.c).
pub const LOCAL_PORT_RANGE: &str = "inet_sk_get_local_port_range";
/// Has a parameter `rcu_lookup` where the search takes no lock (net/ipv4/inet_hashtables.c).
pub const CHECK_ESTABLISHED: &str = "__inet_check_established";

/// What iterators over all descriptors attach to.
pub const ITER_FILES: &str = "bpf_iter_task_file";
/// What iterators over the connections of a network namespace attach to.
pub const ITER_TCP: &str = "bpf_iter_tcp";

/// Asks the running system everything that [`super::plan::plan`] and the loader need.
pub fn gather() -> Facts {
    let fields: Vec<FieldSpec<'_>> = FIELDS
        .iter()
        .map(|spec| FieldSpec {
            global: spec.global,
            path: spec.path,
            size: spec.size,
        })
        .collect();
    let mut functions = BTreeSet::new();
    let mut tracepoints = BTreeSet::new();
    for attachment in catalog::all().flat_map(|variant| variant.attachments) {
        match attachment.target {
            Target::Fentry(name, _)
            | Target::Fexit(name, _)
            | Target::Kprobe(name)
            | Target::Kretprobe(name) => drop(functions.insert(name)),
            Target::TpBtf(name, _) => drop(tracepoints.insert(name)),
            _ => {}
        }
    }
    let functions: Vec<&str> = functions.into_iter().collect();
    let tracepoints: Vec<&str> = tracepoints.into_iter().collect();
    // Their prototypes say what can be done about ports; nothing is attached to them, so the
    // symbol table is not read when there is none.
    let asked: Vec<&str> = functions
        .iter()
        .copied()
        .chain([LOCAL_PORT_RANGE, CHECK_ESTABLISHED, ITER_FILES, ITER_TCP])
        .collect();
    let mut facts = Facts::gather(&Wanted {
        fields: &fields,
        functions: &asked,
        tracepoints: &tracepoints,
        ..Wanted::default()
    });
    // Reading /proc/kallsyms takes longer than everything else together, so it is read only
    // when BTF leaves something open: functions without BTF, and the way round
    // bpf_sock_from_file.
    let mut symbols: Vec<&str> = functions
        .iter()
        .copied()
        .filter(|name| facts.function(name).is_none())
        .collect();
    if facts.can_hook_functions() {
        symbols.push(TABLE_PERTURB);
    }
    if !facts.features.helper("sock_from_file") {
        symbols.push(SOCKET_FILE_OPS);
    }
    facts.symbols = Symbols::load(&symbols).map_err(|error| error.to_string());
    facts
}
