//! Enumerators: which helpers, states and limits a kernel knows.

use super::wire::{self, Type, kind};
use super::{Btf, BtfError};

impl Btf<'_> {
    /// The value of an enumerator, in whichever enum it is; most of the kernel's are in enums
    /// without a name. The presence of `BPF_FUNC_sock_from_file`, for example, says that the
    /// kernel has this helper.
    ///
    /// Looks through all enums, up to 0.1 ms on a vmlinux; prefer [`Btf::enumerator`] where the
    /// enum has a name.
    #[must_use]
    pub fn enum_value(&self, enumerator: &str) -> Option<i64> {
        let mut enums = self.enums.iter().filter_map(|id| self.ty(*id).ok());
        enums.find_map(|ty| self.value_in(&ty, enumerator).ok().flatten())
    }

    /// The value of an enumerator of a named enum, such as `bpf_func_id`.
    #[must_use]
    pub fn enumerator(&self, enum_name: &str, enumerator: &str) -> Option<i64> {
        self.named(enum_name)
            .filter(|ty| matches!(ty.kind, kind::ENUM | kind::ENUM64))
            .find_map(|ty| self.value_in(&ty, enumerator).ok().flatten())
    }

    fn value_in(&self, ty: &Type, enumerator: &str) -> Result<Option<i64>, BtfError> {
        let stride = match ty.kind {
            kind::ENUM => wire::ENUM_BYTES,
            _ => wire::ENUM64_BYTES,
        };
        for index in 0..ty.vlen as usize {
            let at = ty.body + index * stride;
            if !self.name_is(self.u32_at(at, ty.id)?, enumerator.as_bytes()) {
                continue;
            }
            let low = self.u32_at(at + 4, ty.id)?;
            return Ok(Some(match ty.kind {
                kind::ENUM if ty.kind_flag => i64::from(low.cast_signed()),
                // Kernels before 6.0 do not set the flag on signed enums either.
                kind::ENUM => i64::from(low),
                _ => {
                    let high = self.u32_at(at + 8, ty.id)?;
                    (u64::from(high) << 32 | u64::from(low)).cast_signed()
                }
            }));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::super::builder::Builder;
    use super::Btf;

    #[test]
    fn finds_enumerators_by_name_in_named_and_anonymous_enums() {
        let mut b = Builder::default();
        b.enumeration("", &[("TCP_ESTABLISHED", 1), ("TCP_CLOSE", 7)]);
        b.enumeration(
            "bpf_func_id",
            &[("BPF_FUNC_unspec", 0), ("BPF_FUNC_x", 162)],
        );
        b.signed_enumeration("neg", &[("MINUS", -1)]);
        b.enumeration("mask", &[("ALL_ONES", -1)]);
        b.enumeration64("big", &[("BIG", 1 << 40), ("BIGMINUS", -2)]);
        let bytes = b.build();
        let btf = Btf::parse(&bytes).unwrap();
        assert_eq!(btf.enum_value("TCP_CLOSE"), Some(7));
        assert_eq!(btf.enum_value("TCP_CLOS"), None);
        assert_eq!(btf.enum_value("TCP_CLOSED"), None);
        assert_eq!(btf.enum_value("BIG"), Some(1 << 40));
        assert_eq!(btf.enum_value("BIGMINUS"), Some(-2));
        assert_eq!(btf.enum_value("MINUS"), Some(-1));
        assert_eq!(btf.enum_value("ALL_ONES"), Some(0xffff_ffff));
        assert_eq!(btf.enumerator("bpf_func_id", "BPF_FUNC_x"), Some(162));
        assert_eq!(btf.enumerator("bpf_func_id", "TCP_CLOSE"), None);
        assert_eq!(btf.enumerator("nothing", "TCP_CLOSE"), None);
    }
}
