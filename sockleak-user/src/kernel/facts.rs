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
    /// Symbols of `/proc/kallsyms`. Reading it costs tens of milliseconds; with none it is not
    /// read.
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

    /// Whether the kernel has this tracepoint and accepts tp_btf programs.
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
                Ok(member) => drop(facts.fields.insert(global, member)),
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
    match fits {
        true => Ok(member),
        false => Err(format!(
            "{path} has {} bytes on this kernel, {size} are expected",
            member.byte_size
        )),
    }
}
