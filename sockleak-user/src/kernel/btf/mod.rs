//! A reader of BTF, the kernel's description of its own types.
//!
//! One pass over the bytes records where every type begins and sorts the names that can be asked
//! for by their hash; everything else is read from the borrowed bytes when a question comes. The
//! bytes count as hostile: no question panics, loops or allocates more than a small multiple of
//! its input.

mod enums;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod load;
mod member;
mod proto;
mod text;
mod wire;

#[cfg(test)]
pub(crate) mod builder;
#[cfg(test)]
pub(crate) mod hostile;

use std::borrow::Cow;

pub use error::BtfError;
pub use load::VMLINUX;
pub use member::Member;
pub use proto::{FuncProto, Param};
use wire::{Header, Type, kind};

/// How many references one answer follows before the data counts as circular. C types nest about
/// ten deep in the kernel.
const MAX_DEPTH: usize = 64;

/// The types of a kernel.
#[derive(Clone, Debug)]
pub struct Btf<'a> {
    data: Cow<'a, [u8]>,
    header: Header,
    /// Byte offset of type `id` at index `id - 1`.
    offsets: Vec<u32>,
    /// `hash of name << 32 | id`, sorted, of the types that can be asked for by name.
    names: Vec<u64>,
    /// Ids of the enums, whose enumerators are not in `names`.
    enums: Vec<u32>,
}

impl<'a> Btf<'a> {
    /// Reads BTF, for example the contents of `/sys/kernel/btf/vmlinux`.
    ///
    /// # Errors
    /// When the bytes are not little-endian BTF version 1, are cut short, or hold a kind of
    /// unknown length.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        Self::index(Cow::Borrowed(bytes))
    }

    /// As [`Btf::parse`], keeping the bytes.
    ///
    /// # Errors
    /// As [`Btf::parse`].
    pub fn from_vec(bytes: Vec<u8>) -> Result<Btf<'static>, BtfError> {
        Btf::index(Cow::Owned(bytes))
    }

    fn index(data: Cow<'a, [u8]>) -> Result<Self, BtfError> {
        let header = Header::read(&data)?;
        let (start, end) = header.types;
        let strings = data.get(header.strings.0..header.strings.1).unwrap_or(&[]);
        // A vmlinux has about 43 bytes per type and asks for about two thirds of them by name.
        let expected = (end - start) / 40;
        let mut offsets = Vec::with_capacity(expected);
        let mut names = Vec::with_capacity(expected);
        let mut enums = Vec::new();
        let mut at = start;
        while at < end {
            let id = u32::try_from(offsets.len() + 1).unwrap_or(u32::MAX);
            let cut = BtfError::Truncated { what: "a type", at };
            let ty = Type::read(&data, at, id).ok_or_else(|| cut.clone())?;
            let next = ty
                .body
                .checked_add(header.body_len(&data, &ty)?)
                .filter(|next| *next <= end)
                .ok_or(cut)?;
            offsets.push(u32::try_from(at).map_err(|_| BtfError::OutOfRange { id })?);
            match ty.kind {
                kind::ENUM | kind::ENUM64 => enums.push(id),
                _ => {}
            }
            if is_asked_for(ty.kind) && ty.name_off != 0 {
                let hash = hash_at(strings, ty.name_off)?;
                names.push(u64::from(hash) << 32 | u64::from(id));
            }
            at = next;
        }
        names.sort_unstable();
        Ok(Self {
            data,
            header,
            offsets,
            names,
            enums,
        })
    }

    /// Number of types, not counting void.
    #[must_use]
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Whether there is no type at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// Size in bytes of the data.
    #[must_use]
    pub fn data_len(&self) -> usize {
        self.data.len()
    }

    /// Size in bytes of a struct, union or typedef.
    ///
    /// # Errors
    /// When this kernel has no such type.
    pub fn struct_size(&self, name: &str) -> Result<u32, BtfError> {
        let ty = self
            .aggregates(name)
            .next()
            .ok_or_else(|| BtfError::NoSuchType {
                name: name.to_owned(),
            })?;
        self.size_of(ty.id)
    }

    /// Id of the struct or union `name`; of the first, where several have it.
    #[must_use]
    pub fn struct_id(&self, name: &str) -> Option<u32> {
        self.aggregates(name).next().map(|ty| ty.id)
    }

    fn ty(&self, id: u32) -> Result<Type, BtfError> {
        if id == 0 {
            return Ok(Type::VOID);
        }
        let offset = self.offsets.get(id as usize - 1);
        offset
            .and_then(|at| Type::read(&self.data, *at as usize, id))
            .ok_or(BtfError::BadType { id })
    }

    fn u32_at(&self, at: usize, id: u32) -> Result<u32, BtfError> {
        wire::u32_at(&self.data, at).ok_or(BtfError::BadType { id })
    }

    /// The name's bytes; empty for an anonymous type.
    fn name(&self, offset: u32) -> Result<&[u8], BtfError> {
        let (start, end) = self.header.strings;
        let rest = self
            .data
            .get(start..end)
            .and_then(|strings| strings.get(offset as usize..))
            .ok_or(BtfError::BadString { offset })?;
        let len = rest
            .iter()
            .position(|byte| *byte == 0)
            .ok_or(BtfError::BadString { offset })?;
        Ok(rest.get(..len).unwrap_or_default())
    }

    /// Whether the string at `offset` is exactly `wanted`, without looking for its end first.
    fn name_is(&self, offset: u32, wanted: &[u8]) -> bool {
        let (start, end) = self.header.strings;
        self.data
            .get(start..end)
            .and_then(|strings| strings.get(offset as usize..))
            .and_then(|rest| rest.strip_prefix(wanted))
            .is_some_and(|rest| rest.first() == Some(&0))
    }

    /// Types of this name in the order of their ids.
    fn named<'s>(&'s self, name: &'s str) -> impl Iterator<Item = Type> + 's {
        let hash = hash(name.as_bytes());
        let first = self
            .names
            .partition_point(|entry| *entry < u64::from(hash) << 32);
        self.names
            .iter()
            .skip(first)
            .take_while(move |entry| *entry >> 32 == u64::from(hash))
            .filter_map(|entry| self.ty((*entry & 0xffff_ffff) as u32).ok())
            .filter(|ty| self.name_is(ty.name_off, name.as_bytes()))
    }

    /// Structs and unions of this name, then typedefs of it that lead to one.
    fn aggregates<'s>(&'s self, name: &'s str) -> impl Iterator<Item = Type> + 's {
        let direct = self.named(name).filter(Type::is_aggregate);
        let aliased = self
            .named(name)
            .filter(|ty| ty.kind == kind::TYPEDEF)
            .filter_map(|ty| self.resolve(ty.id).ok())
            .filter(Type::is_aggregate);
        direct.chain(aliased)
    }

    /// Follows typedefs and qualifiers.
    fn resolve(&self, id: u32) -> Result<Type, BtfError> {
        let mut ty = self.ty(id)?;
        for _ in 0..MAX_DEPTH {
            if !ty.is_transparent() {
                return Ok(ty);
            }
            ty = self.ty(ty.size_or_type)?;
        }
        Err(BtfError::TooDeep { id })
    }

    /// Size in bytes; pointers count 8, since only 64-bit kernels are supported.
    fn size_of(&self, id: u32) -> Result<u32, BtfError> {
        let mut elements = 1u32;
        let mut ty = self.resolve(id)?;
        for _ in 0..MAX_DEPTH {
            let size = match ty.kind {
                kind::ARRAY => {
                    let count = self.u32_at(ty.body + 8, ty.id)?;
                    elements = elements
                        .checked_mul(count)
                        .ok_or(BtfError::OutOfRange { id })?;
                    ty = self.resolve(self.u32_at(ty.body, ty.id)?)?;
                    continue;
                }
                kind::PTR => 8,
                kind::INT | kind::STRUCT | kind::UNION | kind::ENUM | kind::ENUM64 => {
                    ty.size_or_type
                }
                kind::FLOAT | kind::DATASEC => ty.size_or_type,
                _ => return Err(BtfError::Unsized { id }),
            };
            return size
                .checked_mul(elements)
                .ok_or(BtfError::OutOfRange { id });
        }
        Err(BtfError::TooDeep { id })
    }
}

/// Kinds that have a name by which somebody may ask.
fn is_asked_for(kind: u8) -> bool {
    matches!(
        kind,
        kind::STRUCT | kind::UNION | kind::TYPEDEF | kind::FUNC | kind::ENUM | kind::ENUM64
    )
}

/// FNV-1a, 32 bits: names are short, and a collision only costs one comparison.
fn hash(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, step)
}

fn step(hash: u32, byte: &u8) -> u32 {
    (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
}

/// [`hash`] of the string at `offset`, up to its NUL.
fn hash_at(strings: &[u8], offset: u32) -> Result<u32, BtfError> {
    let rest = strings
        .get(offset as usize..)
        .filter(|rest| !rest.is_empty())
        .ok_or(BtfError::BadString { offset })?;
    Ok(rest
        .iter()
        .take_while(|byte| **byte != 0)
        .fold(0x811c_9dc5, step))
}
