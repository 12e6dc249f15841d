//! Prototypes of kernel functions and of tracepoints.

use std::fmt;

use super::wire::{self, Type, kind};
use super::{Btf, BtfError};

/// The kernel passes at most 12 arguments to a traced function; hostile data may claim millions.
const MAX_PARAMS: usize = 64;

/// What a tracepoint's prototype begins with and a program never sees.
const TRACEPOINT_COOKIE: usize = 1;

/// A parameter of a function.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Param {
    /// Its name; empty where the kernel's BTF has none, as in tracepoints.
    pub name: String,
    /// Its type as C writes it, such as `struct sock *`.
    pub type_text: String,
}

/// The prototype of a kernel function or tracepoint.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct FuncProto {
    /// BTF id that a program attaches by: of the function itself, or of the tracepoint's
    /// `btf_trace_NAME` typedef.
    pub id: u32,
    /// Parameters in order. Of a tracepoint, without the leading `void *__data`.
    pub params: Vec<Param>,
    /// Type of the return value, `void` if there is none.
    pub ret: String,
}

impl FuncProto {
    /// Number of parameters, which is also the index of the return value's slot in the context of
    /// an fexit program, as long as no parameter is a struct passed by value.
    #[must_use]
    pub fn nargs(&self) -> usize {
        self.params.len()
    }

    /// Whether the parameter types are exactly these, for example
    /// `["struct sock *", "unsigned short"]`.
    #[must_use]
    pub fn takes(&self, types: &[&str]) -> bool {
        self.params
            .iter()
            .map(|param| param.type_text.as_str())
            .eq(types.iter().copied())
    }
}

impl fmt::Display for FuncProto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (", self.ret)?;
        for (index, Param { name, type_text }) in self.params.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let blank = match name.is_empty() || type_text.ends_with('*') {
                true => "",
                false => " ",
            };
            write!(f, "{comma}{type_text}{blank}{name}")?;
        }
        f.write_str(")")
    }
}

impl Btf<'_> {
    /// The prototype of a kernel function. Of several functions with one name it is the first,
    /// which is also the one that aya attaches to.
    #[must_use]
    pub fn func(&self, name: &str) -> Option<FuncProto> {
        self.named(name)
            .filter(|ty| ty.kind == kind::FUNC)
            .find_map(|ty| self.proto(ty.id, ty.size_or_type, 0).ok())
    }

    /// The prototype of a tracepoint, if the kernel has it (typedef `btf_trace_NAME`).
    #[must_use]
    pub fn tracepoint(&self, name: &str) -> Option<FuncProto> {
        let typedef = format!("btf_trace_{name}");
        self.named(&typedef)
            .filter(|ty| ty.kind == kind::TYPEDEF)
            .find_map(|ty| {
                let pointer = self.resolve(ty.size_or_type).ok()?;
                let target = (pointer.kind == kind::PTR).then_some(pointer.size_or_type)?;
                self.proto(ty.id, target, TRACEPOINT_COOKIE).ok()
            })
    }

    fn proto(&self, id: u32, proto_id: u32, skip: usize) -> Result<FuncProto, BtfError> {
        let proto = self.resolve(proto_id)?;
        if proto.kind != kind::FUNC_PROTO {
            return Err(BtfError::BadType { id: proto_id });
        }
        let params = self.param_ids(&proto)?;
        let params = params.iter().skip(skip).map(|(name_off, type_id)| {
            Ok(Param {
                name: self.name_text(*name_off),
                type_text: match type_id {
                    0 => "...".to_owned(),
                    type_id => self.type_text(*type_id),
                },
            })
        });
        Ok(FuncProto {
            id,
            params: params.collect::<Result<_, BtfError>>()?,
            ret: self.type_text(proto.size_or_type),
        })
    }

    /// Name offset and type of each parameter.
    pub(super) fn param_ids(&self, proto: &Type) -> Result<Vec<(u32, u32)>, BtfError> {
        let count = proto.vlen as usize;
        if count > MAX_PARAMS {
            return Err(BtfError::OutOfRange { id: proto.id });
        }
        (0..count)
            .map(|index| {
                let at = proto.body + index * wire::PARAM_BYTES;
                Ok((self.u32_at(at, proto.id)?, self.u32_at(at + 4, proto.id)?))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::builder::Builder;
    use super::super::wire::kind;
    use super::Btf;

    #[test]
    fn prototypes_read_like_c() {
        let mut b = Builder::default();
        let int = b.int("int", 4);
        let short = b.int("unsigned short", 2);
        let sock = b.structure("sock", 1, &[]);
        let sock_ptr = b.ptr(sock);
        let const_sock = b.qualifier(kind::CONST, sock);
        let const_sock_ptr = b.ptr(const_sock);
        let ptr_ptr = b.ptr(sock_ptr);
        let const_ptr = b.qualifier(kind::CONST, sock_ptr);
        let callback = b.proto(int, &[("", sock_ptr), ("", short)]);
        let callback_ptr = b.ptr(callback);
        let array = b.array(int, 3);
        let array_ptr = b.ptr(array);
        let gfp = b.typedef("gfp_t", int);
        let params = [
            ("sk", sock_ptr),
            ("old", const_sock_ptr),
            ("twp", ptr_ptr),
            ("fixed", const_ptr),
            ("check", callback_ptr),
            ("range", array_ptr),
            ("gfp", gfp),
            ("", 0),
        ];
        let proto = b.proto(0, &params);
        b.func("f", proto);
        let bytes = b.build();
        let f = Btf::parse(&bytes).unwrap().func("f").unwrap();
        let types: Vec<_> = f.params.iter().map(|p| p.type_text.as_str()).collect();
        assert_eq!(
            types,
            [
                "struct sock *",
                "const struct sock *",
                "struct sock **",
                "struct sock * const",
                "int (*)(struct sock *, unsigned short)",
                "int (*)[3]",
                "gfp_t",
                "...",
            ]
        );
        assert!(f.takes(&types));
        assert!(!f.takes(&types[1..]));
        assert!(
            f.to_string()
                .starts_with("void (struct sock *sk, const struct sock *old")
        );
    }

    #[test]
    fn a_tracepoint_hides_its_cookie() {
        let mut b = Builder::default();
        let int = b.int("int", 4);
        let data = b.ptr(0);
        let proto = b.proto(0, &[("", data), ("", int)]);
        let ptr = b.ptr(proto);
        let id = b.typedef("btf_trace_x", ptr);
        b.typedef("btf_trace_number", int);
        let bytes = b.build();
        let btf = Btf::parse(&bytes).unwrap();
        let x = btf.tracepoint("x").unwrap();
        assert_eq!(
            (x.id, x.nargs(), x.to_string()),
            (id, 1, "void (int)".to_owned())
        );
        assert_eq!(btf.tracepoint("number"), None);
        assert_eq!(btf.tracepoint("btf_trace_x"), None);
        assert_eq!(btf.func("x"), None);
    }
}
