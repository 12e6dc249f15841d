//! The bytes: header, kinds and lengths.
//!
//! Format: Documentation/bpf/btf.rst and include/uapi/linux/btf.h of the kernel. Newer kernels
//! widen `vlen` to 24 and the kind to 7 bits (the added bits were zero before) and may add a
//! layout section that gives the length of every kind, so that kinds unknown here can be stepped
//! over.

use super::BtfError;

pub(super) const MAGIC: u16 = 0xeb9f;
pub(super) const TYPE_BYTES: usize = 12;
pub(super) const MEMBER_BYTES: usize = 12;
pub(super) const PARAM_BYTES: usize = 8;
pub(super) const ENUM_BYTES: usize = 8;
pub(super) const ENUM64_BYTES: usize = 12;

/// Kind numbers of `BTF_KIND_*`.
pub(super) mod kind {
    pub const VOID: u8 = 0;
    pub const INT: u8 = 1;
    pub const PTR: u8 = 2;
    pub const ARRAY: u8 = 3;
    pub const STRUCT: u8 = 4;
    pub const UNION: u8 = 5;
    pub const ENUM: u8 = 6;
    pub const FWD: u8 = 7;
    pub const TYPEDEF: u8 = 8;
    pub const VOLATILE: u8 = 9;
    pub const CONST: u8 = 10;
    pub const RESTRICT: u8 = 11;
    pub const FUNC: u8 = 12;
    pub const FUNC_PROTO: u8 = 13;
    pub const VAR: u8 = 14;
    pub const DATASEC: u8 = 15;
    pub const FLOAT: u8 = 16;
    pub const DECL_TAG: u8 = 17;
    pub const TYPE_TAG: u8 = 18;
    pub const ENUM64: u8 = 19;
}

/// One type record; `body` is the offset of what follows its 12 common bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Type {
    pub id: u32,
    pub name_off: u32,
    pub kind: u8,
    pub kind_flag: bool,
    pub vlen: u32,
    /// Size in bytes, or the id of another type, as the kind says.
    pub size_or_type: u32,
    /// Byte offset in the data.
    pub body: usize,
}

impl Type {
    /// Id 0, which has no record.
    pub const VOID: Self = Self {
        id: 0,
        name_off: 0,
        kind: kind::VOID,
        kind_flag: false,
        vlen: 0,
        size_or_type: 0,
        body: 0,
    };

    pub fn read(data: &[u8], at: usize, id: u32) -> Option<Self> {
        let record: &[u8; TYPE_BYTES] = data.get(at..)?.first_chunk()?;
        let [n0, n1, n2, n3, i0, i1, i2, i3, s0, s1, s2, s3] = *record;
        let info = u32::from_le_bytes([i0, i1, i2, i3]);
        Some(Self {
            id,
            name_off: u32::from_le_bytes([n0, n1, n2, n3]),
            kind: i3 & 0x7f,
            kind_flag: info >> 31 == 1,
            vlen: info & 0x00ff_ffff,
            size_or_type: u32::from_le_bytes([s0, s1, s2, s3]),
            body: at + TYPE_BYTES,
        })
    }

    pub fn is_aggregate(&self) -> bool {
        matches!(self.kind, kind::STRUCT | kind::UNION)
    }

    /// Kinds that only add a name or a qualifier to another type.
    pub fn is_transparent(&self) -> bool {
        matches!(
            self.kind,
            kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG
        )
    }
}

/// Where the sections lie, as byte offsets in the data; checked to be inside it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub types: (usize, usize),
    pub strings: (usize, usize),
    layout: (usize, usize),
}

pub(super) fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    data.get(at..)?
        .first_chunk()
        .map(|bytes| u32::from_le_bytes(*bytes))
}

impl Header {
    pub fn read(data: &[u8]) -> Result<Self, BtfError> {
        const SHORT: BtfError = BtfError::Truncated {
            what: "the header",
            at: 0,
        };
        let [m0, m1, version, _flags] = *data.first_chunk().ok_or(SHORT)?;
        match u16::from_le_bytes([m0, m1]) {
            MAGIC => {}
            found if found == MAGIC.swap_bytes() => return Err(BtfError::WrongEndian),
            found => return Err(BtfError::BadMagic { found }),
        }
        if version != 1 {
            return Err(BtfError::BadVersion { found: version });
        }
        let word = |index: usize| u32_at(data, index * 4).map(|value| value as usize);
        let header_len = word(1).ok_or(SHORT)?;
        if header_len < 24 || header_len > data.len() {
            return Err(SHORT);
        }
        let section = |index: usize, what| {
            let (offset, len) = word(index).zip(word(index + 1)).ok_or(SHORT)?;
            let start = header_len
                .checked_add(offset)
                .ok_or(BtfError::Truncated { what, at: 0 })?;
            let end = start
                .checked_add(len)
                .ok_or(BtfError::Truncated { what, at: start })?;
            if end > data.len() {
                return Err(BtfError::Truncated { what, at: start });
            }
            Ok((start, end))
        };
        let types = section(2, "the type section")?;
        let strings = section(4, "the string section")?;
        let layout = match header_len {
            32.. => section(6, "the layout section")?,
            _ => (0, 0),
        };
        // Names can then be read up to their NUL without a further bound.
        if data.get(strings.0..strings.1).and_then(<[u8]>::last) != Some(&0) {
            return Err(BtfError::Truncated {
                what: "the string section",
                at: strings.0,
            });
        }
        Ok(Self {
            types,
            strings,
            layout,
        })
    }

    /// Bytes that follow the common 12 of this type.
    pub fn body_len(&self, data: &[u8], ty: &Type) -> Result<usize, BtfError> {
        let count = ty.vlen as usize;
        Ok(match ty.kind {
            kind::PTR | kind::FWD | kind::TYPEDEF | kind::VOLATILE | kind::CONST => 0,
            kind::RESTRICT | kind::FUNC | kind::FLOAT | kind::TYPE_TAG => 0,
            kind::INT | kind::VAR | kind::DECL_TAG => 4,
            kind::ARRAY => 12,
            kind::STRUCT | kind::UNION => count * MEMBER_BYTES,
            kind::ENUM => count * ENUM_BYTES,
            kind::ENUM64 => count * ENUM64_BYTES,
            kind::FUNC_PROTO => count * PARAM_BYTES,
            kind::DATASEC => count * 12,
            unknown => {
                let (start, end) = self.layout;
                let [info, element, ..] = data
                    .get(start..end)
                    .and_then(|layout| layout.get(usize::from(unknown) * 4..))
                    .and_then(<[u8]>::first_chunk::<4>)
                    .filter(|_| unknown != kind::VOID)
                    .ok_or(BtfError::UnknownKind {
                        id: ty.id,
                        kind: unknown,
                    })?;
                usize::from(*info) + count * usize::from(*element)
            }
        })
    }
}
