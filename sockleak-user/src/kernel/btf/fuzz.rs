//! Every kind of question, put to bytes that nobody wrote with good intentions.

use super::{Btf, BtfError};

/// Types whose text is asked for; a kernel has some 150,000, and all of them take too long.
const TYPES: u32 = 1 << 10;

/// Bytes that claim to be BTF.
pub fn btf(data: &[u8]) {
    let _ = ask_everything(data);
}

/// Puts every kind of question to the bytes.
pub(super) fn ask_everything(bytes: &[u8]) -> Result<(), BtfError> {
    let btf = Btf::parse(bytes)?;
    for name in ["outer", "inner", "inner_t", "bits", "e", "", "nothing"] {
        let _ = btf.struct_size(name);
        for path in [
            "a.low",
            "a.range",
            "a.range.x",
            "a.whole",
            "x",
            "y",
            "p.q",
            "",
            ".",
        ] {
            if let Ok(member) = btf.member(name, path) {
                // Never outside of its struct, or the kernel side would read foreign memory.
                let bits = match member.bit_size {
                    0 => u64::from(member.byte_size) * 8,
                    bits => u64::from(bits),
                };
                let end = u64::from(member.bit_offset) + bits;
                let sizes = btf.aggregates(name).map(|ty| u64::from(ty.size_or_type));
                assert!(sizes.max().is_some_and(|size| end <= size * 8));
            }
        }
    }
    for name in ["f", "t", "", "outer"] {
        let _ = btf.func(name).map(|proto| proto.to_string());
        let _ = btf.tracepoint(name).map(|proto| proto.to_string());
        let _ = btf.enum_value(name);
    }
    let types = u32::try_from(btf.len()).unwrap_or(u32::MAX).min(TYPES);
    for id in 0..=types + 1 {
        let text = btf.type_text(id);
        assert!(text.len() < 1 << 20, "{} bytes of text", text.len());
        let _ = btf.size_of(id);
    }
    assert!(btf.enum_value("E_ONE").is_none_or(|_| btf.len() > 1));
    Ok(())
}
