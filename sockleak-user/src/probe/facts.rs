//! What the catalog needs to know of the running system.

use std::collections::BTreeSet;

use sockleak_ebpf::FIELDS;

use super::catalog::{Target, VARIANTS};
use crate::kernel::{Facts, FieldSpec, Symbols, Wanted};

/// Data symbol that 5.10 needs for the inventory.
const SOCKET_FILE_OPS: &str = "socket_file_ops";

/// Data symbol: where each destination's next walk over the ports begins.
pub const TABLE_PERTURB: &str = "table_perturb";
/// Its return type says whether IP_LOCAL_PORT_RANGE is searched in one pass.
const LOCAL_PORT_RANGE: &str = "inet_sk_get_local_port_range";

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
    for attachment in VARIANTS.iter().flat_map(|variant| variant.attachments) {
        match attachment.target {
            Target::Fentry(name, _)
            | Target::Fexit(name, _)
            | Target::Kprobe(name)
            | Target::Kretprobe(name) => drop(functions.insert(name)),
            Target::TpBtf(name, _) => drop(tracepoints.insert(name)),
            _ => {}
        }
    }
    functions.insert(LOCAL_PORT_RANGE);
    let functions: Vec<&str> = functions.into_iter().collect();
    let tracepoints: Vec<&str> = tracepoints.into_iter().collect();
    let mut facts = Facts::gather(&Wanted {
        fields: &fields,
        functions: &functions,
        tracepoints: &tracepoints,
        ..Wanted::default()
    });
    // Reading /proc/kallsyms takes longer than everything else together, so it is read only
    // when BTF leaves something open: functions without BTF, and the way round
    // bpf_sock_from_file.
    let mut symbols: Vec<&str> = functions
        .iter()
        .copied()
        .filter(|name| *name != LOCAL_PORT_RANGE && facts.function(name).is_none())
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
