//! Types as C writes them, for messages and signature checks.

use super::wire::{Type, kind};
use super::{Btf, BtfError};

/// Types that one text visits at most; what lies beyond is written as `...`. Function pointers
/// that take function pointers grow without bound in hostile data.
const MAX_VISITS: u32 = 256;

/// The kernel's own bound for a symbol (KSYM_NAME_LEN).
const MAX_NAME: usize = 512;

impl Btf<'_> {
    /// The type as C writes it: `struct sock *`, `const char *`, `int (*)(struct sock *)`.
    pub(super) fn type_text(&self, id: u32) -> String {
        self.declare(id, String::new(), &mut MAX_VISITS.clone())
    }

    /// Writes type `id` around `inner`, the part of the declarator that is already known.
    fn declare(&self, id: u32, inner: String, visits: &mut u32) -> String {
        let Some(left) = visits.checked_sub(1) else {
            return format!("...{inner}");
        };
        *visits = left;
        let Ok(ty) = self.ty(id) else {
            return format!("?{inner}");
        };
        match ty.kind {
            kind::PTR => self.declare(ty.size_or_type, format!("*{inner}"), visits),
            kind::TYPE_TAG => self.declare(ty.size_or_type, inner, visits),
            kind::CONST => self.qualify("const", &ty, inner, visits),
            kind::VOLATILE => self.qualify("volatile", &ty, inner, visits),
            kind::RESTRICT => self.qualify("restrict", &ty, inner, visits),
            kind::ARRAY => {
                let count = self.u32_at(ty.body + 8, id).unwrap_or(0);
                let element = self.u32_at(ty.body, id).unwrap_or(0);
                let inner = format!("{}[{count}]", grouped(&inner));
                self.declare(element, inner, visits)
            }
            kind::FUNC_PROTO => {
                let params = self.param_texts(&ty, visits).unwrap_or_default();
                let inner = format!("{}({})", grouped(&inner), params.join(", "));
                self.declare(ty.size_or_type, inner, visits)
            }
            _ => {
                let base = self.base(&ty);
                match inner.is_empty() || inner.starts_with('[') {
                    true => format!("{base}{inner}"),
                    false => format!("{base} {inner}"),
                }
            }
        }
    }

    /// A qualifier stands before a base type and after a pointer's star.
    fn qualify(&self, word: &str, ty: &Type, inner: String, visits: &mut u32) -> String {
        let target = self.ty(ty.size_or_type).map(|target| target.kind);
        if target == Ok(kind::PTR) {
            let blank = if inner.is_empty() { "" } else { " " };
            return self.declare(ty.size_or_type, format!(" {word}{blank}{inner}"), visits);
        }
        let rest = self.declare(ty.size_or_type, inner, visits);
        format!("{word} {rest}")
    }

    fn param_texts(&self, proto: &Type, visits: &mut u32) -> Result<Vec<String>, BtfError> {
        let params = self.param_ids(proto)?;
        Ok(params
            .iter()
            .map(|(_, id)| match id {
                0 => "...".to_owned(),
                id => self.declare(*id, String::new(), visits),
            })
            .collect())
    }

    /// A name that is safe to print: a C identifier is left as it is.
    pub(super) fn name_text(&self, offset: u32) -> String {
        let name = self.name(offset).unwrap_or(b"?");
        let bytes = name.iter().take(MAX_NAME);
        bytes
            .map(|byte| match byte {
                b' '..=b'~' => char::from(*byte),
                _ => '?',
            })
            .collect()
    }

    fn base(&self, ty: &Type) -> String {
        let name = match self.name_text(ty.name_off) {
            name if name.is_empty() => "(anonymous)".to_owned(),
            name => name,
        };
        let keyword = match (ty.kind, ty.kind_flag) {
            (kind::VOID, _) => return "void".to_owned(),
            (kind::STRUCT, _) | (kind::FWD, false) => "struct ",
            (kind::UNION, _) | (kind::FWD, true) => "union ",
            (kind::ENUM | kind::ENUM64, _) => "enum ",
            _ => "",
        };
        format!("{keyword}{name}")
    }
}

/// `*` and `*name` bind weaker than `[]` and `()`.
fn grouped(inner: &str) -> String {
    match inner.trim_start().starts_with('*') {
        true => format!("({})", inner.trim_start()),
        false => inner.to_owned(),
    }
}
