//! What aya has to know of the kernel's types: the ids by which programs attach, and nothing else.
//!
//! aya looks ids up by name in a parsed copy of the kernel's whole BTF: 13 MB of small pieces, and a walk
//! over a hundred thousand names for every program that is loaded. But [`Facts`] has the ids already, of
//! exactly the functions and tracepoints whose prototypes the plan has compared. So aya gets BTF in
//! which only these have names; what lies between them only makes the ids right.

use std::collections::BTreeMap;

use aya::{Btf, BtfError, Endianness};

use super::{
    catalog::{self, Target},
    facts::{ITER_FILES, ITER_TCP},
};
use crate::kernel::Facts;

/// Numbers of include/uapi/linux/btf.h.
const MAGIC: u16 = 0xeb9f;
const VERSION: u8 = 1;
const HEADER_BYTES: u32 = 24;
const KIND_FWD: u32 = 7;
const KIND_TYPEDEF: u32 = 8;
const KIND_FUNC: u32 = 12;
/// Every kind used here has no more than the common part.
const TYPE_BYTES: u32 = 12;
/// Ids beyond are nonsense: the largest kernels have some 300,000 types.
const MAX_ID: u32 = 1 << 24;

/// Types by id: kind and name.
type Named = BTreeMap<u32, (u32, String)>;

/// BTF for [`aya::programs`], with every name that a program of the catalog attaches to.
pub(super) fn of(facts: &Facts) -> Result<Btf, BtfError> {
    Btf::parse(&bytes(&named(facts)), Endianness::Little)
}

fn named(facts: &Facts) -> Named {
    let function = |name: &str| {
        let id = facts.function(name)?.id;
        Some((id, (KIND_FUNC, name.to_owned())))
    };
    let tracepoint = |name: &str| {
        let id = facts.tracepoint(name)?.id;
        Some((id, (KIND_TYPEDEF, format!("btf_trace_{name}"))))
    };
    let attachments = catalog::all().flat_map(|variant| variant.attachments);
    let targets = attachments.filter_map(|attachment| match attachment.target {
        Target::Fentry(name, _) | Target::Fexit(name, _) => function(name),
        Target::TpBtf(name, _) => tracepoint(name),
        Target::IterFiles | Target::IterFilesByOperations => function(ITER_FILES),
        Target::IterTcp => function(ITER_TCP),
        Target::Kprobe(_)
        | Target::Kretprobe(_)
        | Target::Event(..)
        | Target::CgroupCreate
        | Target::CgroupRelease => None,
    });
    targets
        .filter(|(id, _)| (1..=MAX_ID).contains(id))
        .collect()
}

fn bytes(named: &Named) -> Vec<u8> {
    let last = named.keys().next_back().copied().unwrap_or(0);
    let mut strings = vec![0];
    let mut types = Vec::with_capacity((last * TYPE_BYTES) as usize);
    for id in 1..=last {
        let (kind, name_off) = match named.get(&id) {
            Some((kind, name)) => {
                let at = strings.len();
                strings.extend(name.as_bytes());
                strings.push(0);
                (*kind, u32::try_from(at).unwrap_or(0))
            }
            None => (KIND_FWD, 0),
        };
        for word in [name_off, kind << 24, 0] {
            types.extend(word.to_le_bytes());
        }
    }
    let types_len = last * TYPE_BYTES;
    let mut out = Vec::with_capacity(HEADER_BYTES as usize + types.len() + strings.len());
    out.extend(MAGIC.to_le_bytes());
    out.extend([VERSION, 0]);
    let strings_len = u32::try_from(strings.len()).unwrap_or(0);
    for word in [HEADER_BYTES, 0, types_len, types_len, strings_len] {
        out.extend(word.to_le_bytes());
    }
    out.extend(types);
    out.extend(strings);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Btf as OurBtf, FuncProto, samples};

    fn proto(id: u32) -> FuncProto {
        FuncProto {
            id,
            params: Vec::new(),
            ret: "int".to_owned(),
        }
    }

    #[test]
    fn every_name_has_the_id_that_the_kernel_gave_it() {
        let mut facts = samples::everything_works();
        let answers = facts.btf.as_mut().expect("the sample has BTF");
        let put = |map: &mut BTreeMap<String, FuncProto>, name: &str, id| {
            map.insert(name.to_owned(), proto(id));
        };
        put(&mut answers.functions, "tcp_v4_init_sock", 700);
        put(&mut answers.functions, ITER_FILES, 3);
        put(&mut answers.functions, "not_attached_to", 5);
        put(&mut answers.tracepoints, "tcp_destroy_sock", 42);
        let bytes = bytes(&named(&facts));
        let btf = OurBtf::parse(&bytes).expect("it is BTF");
        assert_eq!(btf.len(), 700);
        let kinds = [
            (3, KIND_FUNC, "bpf_iter_task_file"),
            (42, KIND_TYPEDEF, "btf_trace_tcp_destroy_sock"),
            (700, KIND_FUNC, "tcp_v4_init_sock"),
        ];
        let expected: Named = kinds
            .into_iter()
            .map(|(id, kind, name)| (id, (kind, name.to_owned())))
            .collect();
        assert_eq!(named(&facts), expected);
        assert!(of(&facts).is_ok());
    }

    #[test]
    fn nothing_to_attach_to_and_absurd_ids_are_survived() {
        let mut facts = samples::everything_works();
        assert!(of(&facts).is_ok());
        let answers = facts.btf.as_mut().expect("the sample has BTF");
        for (name, id) in [("tcp_v4_init_sock", u32::MAX), ("tcp_v6_init_sock", 0)] {
            answers.functions.insert(name.to_owned(), proto(id));
        }
        assert!(named(&facts).is_empty());
        facts.btf = Err("no BTF".to_owned());
        assert!(of(&facts).is_ok());
    }
}
