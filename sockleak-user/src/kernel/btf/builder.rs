//! Writes small BTF for tests.

use super::wire::kind;

/// Collects types; each method returns the id of the type it added.
#[derive(Default)]
pub(crate) struct Builder {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
    layout: Vec<(u8, u8)>,
}

impl Builder {
    fn name(&mut self, name: &str) -> u32 {
        if self.strings.is_empty() {
            self.strings.push(0);
        }
        if name.is_empty() {
            return 0;
        }
        let offset = self.strings.len() as u32;
        self.strings.extend_from_slice(name.as_bytes());
        self.strings.push(0);
        offset
    }

    /// Any type at all.
    pub fn raw(&mut self, name: &str, info: u32, size_or_type: u32, body: &[u32]) -> u32 {
        let name = self.name(name);
        for word in [name, info, size_or_type].iter().chain(body) {
            self.types.extend_from_slice(&word.to_le_bytes());
        }
        self.count += 1;
        self.count
    }

    fn simple(&mut self, kind: u8, name: &str, target: u32) -> u32 {
        self.raw(name, u32::from(kind) << 24, target, &[])
    }

    pub fn int(&mut self, name: &str, bytes: u32) -> u32 {
        self.int_bits(name, bytes, 0, bytes * 8)
    }

    pub fn int_bits(&mut self, name: &str, bytes: u32, offset: u32, bits: u32) -> u32 {
        let info = u32::from(kind::INT) << 24;
        self.raw(name, info, bytes, &[offset << 16 | bits])
    }

    pub fn ptr(&mut self, target: u32) -> u32 {
        self.simple(kind::PTR, "", target)
    }

    pub fn typedef(&mut self, name: &str, target: u32) -> u32 {
        self.simple(kind::TYPEDEF, name, target)
    }

    pub fn qualifier(&mut self, kind: u8, target: u32) -> u32 {
        self.simple(kind, "", target)
    }

    pub fn array(&mut self, element: u32, count: u32) -> u32 {
        let info = u32::from(kind::ARRAY) << 24;
        self.raw("", info, 0, &[element, element, count])
    }

    /// Members are name, type and the offset word as it is stored.
    pub fn aggregate(
        &mut self,
        info: u32,
        name: &str,
        size: u32,
        members: &[(&str, u32, u32)],
    ) -> u32 {
        let mut body = Vec::new();
        for (member, ty, offset) in members {
            let member = self.name(member);
            body.extend([member, *ty, *offset]);
        }
        let info = info | members.len() as u32;
        self.raw(name, info, size, &body)
    }

    pub fn structure(&mut self, name: &str, size: u32, members: &[(&str, u32, u32)]) -> u32 {
        self.aggregate(u32::from(kind::STRUCT) << 24, name, size, members)
    }

    pub fn union(&mut self, name: &str, size: u32, members: &[(&str, u32, u32)]) -> u32 {
        self.aggregate(u32::from(kind::UNION) << 24, name, size, members)
    }

    /// A struct with the kind flag: members are name, type, bit offset and bitfield width.
    pub fn bitfields(&mut self, name: &str, size: u32, members: &[(&str, u32, u32, u32)]) -> u32 {
        let members: Vec<_> = members
            .iter()
            .map(|(name, ty, offset, bits)| (*name, *ty, bits << 24 | offset))
            .collect();
        let info = 1 << 31 | u32::from(kind::STRUCT) << 24;
        self.aggregate(info, name, size, &members)
    }

    pub fn enumeration(&mut self, name: &str, values: &[(&str, i32)]) -> u32 {
        self.enumeration_with(0, name, values)
    }

    /// With the kind flag, which says that the values are signed.
    pub fn signed_enumeration(&mut self, name: &str, values: &[(&str, i32)]) -> u32 {
        self.enumeration_with(1 << 31, name, values)
    }

    fn enumeration_with(&mut self, flag: u32, name: &str, values: &[(&str, i32)]) -> u32 {
        let mut body = Vec::new();
        for (value_name, value) in values {
            let value_name = self.name(value_name);
            body.extend([value_name, value.cast_unsigned()]);
        }
        let info = flag | u32::from(kind::ENUM) << 24 | values.len() as u32;
        self.raw(name, info, 4, &body)
    }

    pub fn enumeration64(&mut self, name: &str, values: &[(&str, i64)]) -> u32 {
        let mut body = Vec::new();
        for (value_name, value) in values {
            let value_name = self.name(value_name);
            let value = value.cast_unsigned();
            body.extend([value_name, value as u32, (value >> 32) as u32]);
        }
        let info = u32::from(kind::ENUM64) << 24 | values.len() as u32;
        self.raw(name, info, 8, &body)
    }

    pub fn proto(&mut self, ret: u32, params: &[(&str, u32)]) -> u32 {
        let mut body = Vec::new();
        for (param, ty) in params {
            let param = self.name(param);
            body.extend([param, *ty]);
        }
        let info = u32::from(kind::FUNC_PROTO) << 24 | params.len() as u32;
        self.raw("", info, ret, &body)
    }

    pub fn func(&mut self, name: &str, proto: u32) -> u32 {
        self.simple(kind::FUNC, name, proto)
    }

    /// Adds a layout section, as kernels from 2026 on may have: length of the fixed part and of
    /// each element, by kind.
    pub fn layout(&mut self, kinds: &[(u8, u8)]) {
        self.layout = kinds.to_vec();
    }

    /// The bytes.
    pub fn build(mut self) -> Vec<u8> {
        self.name("");
        let with_layout = !self.layout.is_empty();
        let header_len: u32 = if with_layout { 32 } else { 24 };
        let types = self.types.len() as u32;
        let strings = self.strings.len() as u32;
        let mut words = vec![header_len, 0, types, types, strings];
        if with_layout {
            words.extend([types + strings, self.layout.len() as u32 * 4]);
        }
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        bytes.extend(self.types);
        bytes.extend(self.strings);
        bytes.extend(self.layout.iter().flat_map(|(info, el)| [*info, *el, 0, 0]));
        bytes
    }
}
