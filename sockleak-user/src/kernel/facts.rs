//! Everything sockleak asks the running system, as one plain value.

use std::collections::BTreeMap;

use super::btf::{self, Btf, BtfError, FuncProto, Member};
use super::features::{Features, Support};
use super::privileges::Privileges;
use super::symbols::Symbols;

/// A struct member whose offset the kernel side needs.
#[derive(Clone, Copy, Debug)]
pub struct FieldSpec<'a> {
    /// Name of the load-time global that receives it, and the key in [`BtfFacts::fields`].
    pub global: &'a str,
    /// `struct.member.member`; alternatives are separated by `|` and tried in order.
    pub path: &'a str,
    /// Size in bytes that the kernel side reads; an alternative of another size is refused.
    /// 0 for any size. A bitfield fits when it lies within that many bytes.
    pub size: u32,
}

/// What to look up while BTF and the symbol table are at hand.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// Struct members.
    pub fields: &'a [FieldSpec<'a>],
    /// Kernel functions.
    pub functions: &'a [&'a str],
    /// Tracepoints, without `btf_trace_`.
    pub tracepoints: &'a [&'a str],
    /// Enumerators such as `TCP_BOUND_INACTIVE`.
    pub enumerators: &'a [&'a str],
    /// Symbols of `/proc/kallsyms`. Reading it to the end, as it takes to see that one is absent,
    /// costs 40 ms; with none it is not read.
    pub symbols: &'a [&'a str],
}

/// What the kernel's BTF says about [`Wanted`].
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct BtfFacts {
    /// Size of the BTF in bytes.
    pub bytes: usize,
    /// Number of types in it.
    pub types: usize,
    /// Offset of each wanted field that exists, by the name of its global.
    pub fields: BTreeMap<String, Member>,
    /// Ids of the structs that these are members of, by their names.
    #[serde(skip)]
    pub structures: BTreeMap<String, u32>,
    /// Why a wanted field is not in `fields`.
    pub missing_fields: BTreeMap<String, String>,
    /// Prototype of each wanted function that exists.
    pub functions: BTreeMap<String, FuncProto>,
    /// Arguments of each wanted tracepoint that exists.
    pub tracepoints: BTreeMap<String, FuncProto>,
    /// Value of each wanted enumerator that exists.
    pub enumerators: BTreeMap<String, i64>,
}

/// The running system, as far as sockleak depends on it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Facts {
    /// Kernel release, for messages only: `6.18.44-fc-v445`.
    pub release: String,
    /// Machine: `x86_64`.
    pub machine: String,
    /// Answers from BTF, or why there are none.
    pub btf: Result<BtfFacts, String>,
    /// Answers from the symbol table, or why there are none.
    pub symbols: Result<Symbols, String>,
    /// What the kernel accepts.
    pub features: Features,
    /// What this process may do.
    pub privileges: Privileges,
}

impl Facts {
    /// Asks the running system. Loads a few two-instruction BPF programs to see whether they are
    /// accepted and removes them at once.
    #[must_use]
    pub fn gather(wanted: &Wanted<'_>) -> Self {
        let uname = rustix::system::uname();
        let privileges = Privileges::gather();
        let btf = Btf::load(btf::VMLINUX);
        let features = Features::probe(btf.as_ref().ok(), &privileges);
        Self {
            release: uname.release().to_string_lossy().into_owned(),
            machine: uname.machine().to_string_lossy().into_owned(),
            btf: btf
                .map(|btf| BtfFacts::resolve(&btf, wanted))
                .map_err(|error| error.to_string()),
            symbols: Symbols::load(wanted.symbols).map_err(|error| error.to_string()),
            features,
            privileges,
        }
    }

    /// Major and minor version; for messages and the few facts that nothing else tells.
    #[must_use]
    pub fn version(&self) -> Option<(u32, u32)> {
        let mut numbers = self
            .release
            .split(|c: char| !c.is_ascii_digit())
            .map_while(|number| number.parse().ok());
        numbers.next().zip(numbers.next())
    }

    /// Prototype of a function, if this kernel has it.
    #[must_use]
    pub fn function(&self, name: &str) -> Option<&FuncProto> {
        self.btf.as_ref().ok()?.functions.get(name)
    }

    /// Offset of a field, by the name of its global.
    #[must_use]
    pub fn field(&self, global: &str) -> Option<Member> {
        self.btf.as_ref().ok()?.fields.get(global).copied()
    }

    /// Arguments of a tracepoint, if this kernel has it.
    #[must_use]
    pub fn tracepoint(&self, name: &str) -> Option<&FuncProto> {
        self.btf.as_ref().ok()?.tracepoints.get(name)
    }

    /// Whether any backend that sees kernel functions is accepted.
    #[must_use]
    pub fn can_hook_functions(&self) -> bool {
        [&self.features.fentry, &self.features.kprobe]
            .iter()
            .any(|support| matches!(support, Support::Yes))
    }
}

impl BtfFacts {
    /// Looks everything up; what is missing is recorded, not an error.
    #[must_use]
    pub fn resolve(btf: &Btf<'_>, wanted: &Wanted<'_>) -> Self {
        let mut facts = Self {
            bytes: btf.data_len(),
            types: btf.len(),
            functions: found(wanted.functions, |name| btf.func(name)),
            tracepoints: found(wanted.tracepoints, |name| btf.tracepoint(name)),
            enumerators: found(wanted.enumerators, |name| btf.enum_value(name)),
            ..Self::default()
        };
        for spec in wanted.fields {
            let global = spec.global.to_owned();
            match resolve_field(btf, spec) {
                Ok(member) => {
                    facts.fields.insert(global, member);
                    if let Some((name, _)) = spec.path.split_once('.')
                        && let Some(id) = btf.struct_id(name)
                    {
                        facts.structures.insert(name.to_owned(), id);
                    }
                }
                Err(reason) => drop(facts.missing_fields.insert(global, reason)),
            }
        }
        facts
    }
}

fn found<T>(names: &[&str], look_up: impl Fn(&str) -> Option<T>) -> BTreeMap<String, T> {
    names
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), look_up(name)?)))
        .collect()
}

fn resolve_field(btf: &Btf<'_>, spec: &FieldSpec<'_>) -> Result<Member, String> {
    let mut reasons = Vec::new();
    for alternative in spec.path.split('|') {
        match look_up(btf, alternative, spec.size) {
            Ok(member) => return Ok(member),
            Err(reason) => reasons.push(reason),
        }
    }
    Err(reasons.join("; "))
}

fn look_up(btf: &Btf<'_>, path: &str, size: u32) -> Result<Member, String> {
    let bad_path = || BtfError::BadPath {
        path: path.to_owned(),
    };
    let (type_name, members) = path.split_once('.').ok_or_else(|| bad_path().to_string())?;
    let member = btf
        .member(type_name, members)
        .map_err(|error| error.to_string())?;
    let fits = match (size, member.is_bitfield()) {
        (0, _) => true,
        (size, false) => member.byte_size == size,
        (size, true) => member.bit_shift() + member.bit_size <= size * 8,
    };
    match (fits, member.is_bitfield()) {
        (true, _) => Ok(member),
        (false, false) => Err(format!(
            "{path} has {} bytes on this kernel, {size} are expected",
            member.byte_size
        )),
        (false, true) => Err(format!(
            "{path} has {} bits from bit {} on, which is beyond {size} bytes",
            member.bit_size,
            member.bit_shift()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::btf::builder::Builder;
    use super::super::samples::everything_works;
    use super::*;

    /// `sk_userlocks` as 5.10 has it in one struct and as 6.12 has it in the other.
    fn kernel() -> Vec<u8> {
        let mut b = Builder::default();
        let int = b.int("unsigned int", 4);
        let byte = b.int("unsigned char", 1);
        b.bitfields("old", 8, &[("locks", byte, 36, 4), ("wide", int, 28, 6)]);
        b.structure("new", 8, &[("locks", byte, 24), ("range", int, 32)]);
        let sock = b.structure("sock", 8, &[]);
        let sock_ptr = b.ptr(sock);
        let proto = b.proto(int, &[("sk", sock_ptr)]);
        b.func("tcp_v4_init_sock", proto);
        b.enumeration("", &[("TCP_BOUND_INACTIVE", 13)]);
        b.build()
    }

    fn field<'a>(global: &'a str, path: &'a str, size: u32) -> FieldSpec<'a> {
        FieldSpec { global, path, size }
    }

    #[test]
    fn alternatives_are_tried_in_order_and_sizes_are_checked() {
        let bytes = kernel();
        let btf = Btf::parse(&bytes).unwrap();
        let fields = [
            field("FIRST", "old.locks|new.locks", 1),
            field("SECOND", "old.gone|new.locks", 1),
            field("WRONG_SIZE", "new.range", 8),
            field("ANY_SIZE", "new.range", 0),
            field("SPILLS", "old.wide", 1),
            field("FITS", "old.wide", 2),
            field("GONE", "old.gone|nothing.x", 4),
            field("NO_MEMBER", "old", 4),
        ];
        let wanted = Wanted {
            fields: &fields,
            functions: &["tcp_v4_init_sock", "absent"],
            tracepoints: &["absent"],
            enumerators: &["TCP_BOUND_INACTIVE", "TCP_ABSENT"],
            symbols: &[],
        };
        let facts = BtfFacts::resolve(&btf, &wanted);
        let found: Vec<_> = facts.fields.keys().map(String::as_str).collect();
        assert_eq!(found, ["ANY_SIZE", "FIRST", "FITS", "SECOND"]);
        assert_eq!(facts.fields["FIRST"].bit_size, 4);
        assert_eq!(facts.fields["SECOND"].byte_offset(), 3);
        let why = |global: &str| facts.missing_fields[global].as_str();
        assert_eq!(
            why("WRONG_SIZE"),
            "new.range has 4 bytes on this kernel, 8 are expected"
        );
        assert!(why("SPILLS").contains("bits"), "{}", why("SPILLS"));
        assert!(
            why("GONE").contains("old has no member gone"),
            "{}",
            why("GONE")
        );
        assert!(
            why("GONE").contains("no struct or union nothing"),
            "{}",
            why("GONE")
        );
        assert_eq!(why("NO_MEMBER"), "\"old\" is not a member path");
        assert_eq!(facts.functions.len(), 1);
        assert!(facts.functions["tcp_v4_init_sock"].takes(&["struct sock *"]));
        assert!(facts.tracepoints.is_empty());
        assert_eq!(facts.enumerators["TCP_BOUND_INACTIVE"], 13);
        assert_eq!(facts.enumerators.len(), 1);
    }

    #[test]
    fn the_version_is_read_from_any_release() {
        let mut facts = everything_works();
        for (release, version) in [
            ("6.12.107+deb13-cloud-amd64", Some((6, 12))),
            ("5.10.0", Some((5, 10))),
            ("7.3-rc1", Some((7, 3))),
            ("mainline", None),
            ("", None),
        ] {
            facts.release = release.to_owned();
            assert_eq!(facts.version(), version, "{release}");
        }
    }

    #[test]
    fn facts_are_plain_data() {
        let json = serde_json::to_value(everything_works()).unwrap();
        assert_eq!(json["features"]["fentry"]["state"], "yes");
        assert_eq!(json["privileges"]["capabilities"][0], "CAP_BPF");
        assert_eq!(json["privileges"]["lockdown"], "none");
    }
}
