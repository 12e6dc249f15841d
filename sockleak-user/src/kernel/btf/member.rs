//! Where a member lies: paths through nested and anonymous structs and unions.

use super::wire::{self, Type, kind};
use super::{Btf, BtfError, MAX_DEPTH};

/// Members that one lookup visits at most. The largest struct of a vmlinux has some hundreds,
/// anonymous nesting included; hostile data could nest to billions.
const MAX_VISITS: u32 = 1 << 20;

/// Where a member of a struct lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
pub struct Member {
    /// Distance in bits from the start of the outermost struct.
    pub bit_offset: u32,
    /// Width in bits of a bitfield; 0 when the member is none and occupies `byte_size` bytes.
    pub bit_size: u32,
    /// Size in bytes of the member's type; of a bitfield, of the type it is declared with; of an
    /// array, of the whole array.
    pub byte_size: u32,
}

impl Member {
    /// Distance in bytes from the start of the outermost struct; of a bitfield, of the byte in
    /// which it begins.
    #[must_use]
    pub const fn byte_offset(&self) -> u32 {
        self.bit_offset / 8
    }

    /// By how much the byte at [`Member::byte_offset`] is to be shifted right to bring a bitfield
    /// to bit 0 (little-endian).
    #[must_use]
    pub const fn bit_shift(&self) -> u32 {
        self.bit_offset % 8
    }

    /// Whether this is a bitfield.
    #[must_use]
    pub const fn is_bitfield(&self) -> bool {
        self.bit_size != 0
    }
}

/// One member as the struct's own record has it.
struct Found {
    type_id: u32,
    bit_offset: u32,
    bit_size: u32,
}

impl Btf<'_> {
    /// Where `path` lies inside the struct, union or typedef `type_name`. The elements of the
    /// path are separated by dots and go through nested structs; anonymous structs and unions
    /// are looked into as C does, and of an array the first element is meant. Pointers are not
    /// followed.
    ///
    /// # Errors
    /// When the kernel has no such type or member, when the path goes through something that has
    /// no members, or when several types of this name disagree.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), sockleak::kernel::BtfError> {
    /// let btf = sockleak::kernel::Btf::load("/sys/kernel/btf/vmlinux")?;
    /// let port = btf.member("inet_sock", "sk.__sk_common.skc_num")?;
    /// println!("{} bytes at {}", port.byte_size, port.byte_offset());
    /// # Ok(()) }
    /// ```
    pub fn member(&self, type_name: &str, path: &str) -> Result<Member, BtfError> {
        let mut answer = None;
        let mut first_error = None;
        // Names are not unique across source files, and which of two is meant is not ours to
        // guess; most duplicates agree or lack the member.
        for ty in self.aggregates(type_name) {
            match (self.walk(type_name, &ty, path), answer) {
                (Ok(found), None) => answer = Some(found),
                (Ok(found), Some(earlier)) if found != earlier => {
                    return Err(BtfError::Ambiguous {
                        type_name: type_name.to_owned(),
                        path: path.to_owned(),
                    });
                }
                (Ok(_), Some(_)) => {}
                (Err(error), _) => first_error = first_error.or(Some(error)),
            }
        }
        answer.ok_or_else(|| {
            first_error.unwrap_or_else(|| BtfError::NoSuchType {
                name: type_name.to_owned(),
            })
        })
    }

    fn walk(&self, type_name: &str, outer: &Type, path: &str) -> Result<Member, BtfError> {
        let mut visits = MAX_VISITS;
        let mut ty = *outer;
        let mut member = Member {
            bit_offset: 0,
            bit_size: 0,
            byte_size: 0,
        };
        for element in path.split('.') {
            if element.is_empty() {
                return Err(BtfError::BadPath {
                    path: path.to_owned(),
                });
            }
            ty = self.first_element(ty)?;
            if !ty.is_aggregate() || member.is_bitfield() {
                return Err(BtfError::NotAggregate {
                    type_name: type_name.to_owned(),
                    path: path.to_owned(),
                    element: element.to_owned(),
                    found: self.type_text(ty.id),
                });
            }
            let found = self
                .find(&ty, element.as_bytes(), MAX_DEPTH, &mut visits)?
                .ok_or_else(|| BtfError::NoSuchMember {
                    type_name: type_name.to_owned(),
                    path: path.to_owned(),
                    element: element.to_owned(),
                })?;
            member = Member {
                bit_offset: member
                    .bit_offset
                    .checked_add(found.bit_offset)
                    .ok_or(BtfError::OutOfRange { id: ty.id })?,
                bit_size: found.bit_size,
                byte_size: self.size_of(found.type_id)?,
            };
            ty = self.resolve(found.type_id)?;
        }
        self.inside(outer, &member)?;
        Ok(member)
    }

    /// A member that leaves its struct would make the kernel side read foreign memory.
    fn inside(&self, outer: &Type, member: &Member) -> Result<(), BtfError> {
        let bits = match member.bit_size {
            0 => u64::from(member.byte_size) * 8,
            bits => u64::from(bits),
        };
        let end = u64::from(member.bit_offset) + bits;
        let aligned = member.is_bitfield() || member.bit_shift() == 0;
        match end <= u64::from(outer.size_or_type) * 8 && aligned {
            true => Ok(()),
            false => Err(BtfError::OutOfRange { id: outer.id }),
        }
    }

    /// The element type behind an array; anything else as it is.
    fn first_element(&self, mut ty: Type) -> Result<Type, BtfError> {
        for _ in 0..MAX_DEPTH {
            if ty.kind != kind::ARRAY {
                return Ok(ty);
            }
            ty = self.resolve(self.u32_at(ty.body, ty.id)?)?;
        }
        Err(BtfError::TooDeep { id: ty.id })
    }

    fn find(
        &self,
        ty: &Type,
        name: &[u8],
        depth: usize,
        visits: &mut u32,
    ) -> Result<Option<Found>, BtfError> {
        let too_deep = BtfError::TooDeep { id: ty.id };
        let depth = depth.checked_sub(1).ok_or(too_deep.clone())?;
        for index in 0..ty.vlen as usize {
            *visits = visits.checked_sub(1).ok_or(too_deep.clone())?;
            let at = ty.body + index * wire::MEMBER_BYTES;
            let name_off = self.u32_at(at, ty.id)?;
            if name_off == 0 {
                let inner = self.resolve(self.u32_at(at + 4, ty.id)?)?;
                if !inner.is_aggregate() {
                    continue;
                }
                if let Some(mut found) = self.find(&inner, name, depth, visits)? {
                    let outer = self.record(ty, at)?;
                    found.bit_offset = found
                        .bit_offset
                        .checked_add(outer.bit_offset)
                        .ok_or(BtfError::OutOfRange { id: ty.id })?;
                    return Ok(Some(found));
                }
            } else if self.name_is(name_off, name) {
                return self.record(ty, at).map(Some);
            }
        }
        Ok(None)
    }

    fn record(&self, ty: &Type, at: usize) -> Result<Found, BtfError> {
        let type_id = self.u32_at(at + 4, ty.id)?;
        let offset = self.u32_at(at + 8, ty.id)?;
        if ty.kind_flag {
            return Ok(Found {
                type_id,
                bit_offset: offset & 0x00ff_ffff,
                bit_size: offset >> 24,
            });
        }
        // Without the flag a bitfield is an integer narrower than its storage.
        let mut found = Found {
            type_id,
            bit_offset: offset,
            bit_size: 0,
        };
        let target = self.resolve(type_id)?;
        if target.kind == kind::INT {
            let encoding = self.u32_at(target.body, target.id)?;
            let (skip, bits) = (encoding >> 16 & 0xff, encoding & 0xff);
            if skip != 0 || u64::from(bits) != u64::from(target.size_or_type) * 8 {
                found.bit_size = bits;
                found.bit_offset = offset
                    .checked_add(skip)
                    .ok_or(BtfError::OutOfRange { id: ty.id })?;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::super::builder::Builder;
    use super::super::wire::kind;
    use super::{Btf, BtfError, Member};

    fn plain(byte_offset: u32, byte_size: u32) -> Member {
        Member {
            bit_offset: byte_offset * 8,
            bit_size: 0,
            byte_size,
        }
    }

    #[test]
    fn walks_nested_anonymous_and_renamed_types() {
        let mut b = Builder::default();
        let int = b.int("int", 4);
        let pair = b.structure("", 8, &[("skc_dport", int, 0), ("skc_num", int, 32)]);
        let choice = b.union("", 8, &[("skc_portpair", int, 0), ("", pair, 0)]);
        let common = b.structure("sock_common", 16, &[("skc_addr", int, 0), ("", choice, 64)]);
        let alias = b.typedef("common_t", common);
        let constant = b.qualifier(kind::CONST, alias);
        let sock = b.structure("sock", 24, &[("__sk_common", constant, 64)]);
        b.structure("inet_sock", 32, &[("x", int, 0), ("sk", sock, 64)]);
        b.typedef("sock_t", sock);
        let bytes = b.build();
        let btf = Btf::parse(&bytes).unwrap();
        let port = btf.member("inet_sock", "sk.__sk_common.skc_num").unwrap();
        assert_eq!(port, plain(8 + 8 + 8 + 4, 4));
        assert_eq!(
            btf.member("sock_t", "__sk_common.skc_num"),
            Ok(plain(20, 4))
        );
        assert_eq!(btf.member("inet_sock", "sk"), Ok(plain(8, 24)));
        assert_eq!(btf.struct_size("sock_t"), Ok(24));
    }

    #[test]
    fn of_an_array_the_first_element_is_meant() {
        let mut b = Builder::default();
        let int = b.int("int", 4);
        let range = b.array(int, 2);
        let element = b.structure("element", 8, &[("lo", int, 0), ("hi", int, 32)]);
        let elements = b.array(element, 3);
        b.structure(
            "s",
            40,
            &[("range", range, 64), ("elements", elements, 128)],
        );
        let bytes = b.build();
        let btf = Btf::parse(&bytes).unwrap();
        assert_eq!(btf.member("s", "range"), Ok(plain(8, 8)));
        assert_eq!(btf.member("s", "elements.hi"), Ok(plain(20, 4)));
    }

    #[test]
    fn bitfields_with_and_without_the_kind_flag() {
        let mut b = Builder::default();
        let int = b.int("unsigned int", 4);
        let narrow = b.int_bits("unsigned int", 4, 0, 4);
        let shifted = b.int_bits("unsigned int", 4, 4, 2);
        let fields = [
            ("reuse", int, 19 * 8, 4),
            ("port", int, 19 * 8 + 4, 1),
            ("n", int, 0, 0),
        ];
        b.bitfields("new", 24, &fields);
        b.structure(
            "old",
            24,
            &[("locks", narrow, 536), ("shifted", shifted, 64)],
        );
        let locks = [("locks", narrow, 68), ("shifted", shifted, 64)];
        b.structure("older", 12, &locks);
        let bytes = b.build();
        let btf = Btf::parse(&bytes).unwrap();
        let reuse = btf.member("new", "reuse").unwrap();
        assert_eq!(
            (reuse.byte_offset(), reuse.bit_shift(), reuse.bit_size),
            (19, 0, 4)
        );
        let port = btf.member("new", "port").unwrap();
        assert_eq!(
            (port.byte_offset(), port.bit_shift(), port.bit_size),
            (19, 4, 1)
        );
        assert_eq!(btf.member("new", "n"), Ok(plain(0, 4)));
        let locks = btf.member("older", "locks").unwrap();
        assert_eq!(
            (locks.byte_offset(), locks.bit_shift(), locks.bit_size),
            (8, 4, 4)
        );
        let shifted = btf.member("older", "shifted").unwrap();
        assert_eq!((shifted.bit_offset, shifted.bit_size), (68, 2));
        // 536 bits are beyond the 24 bytes of this one.
        assert!(matches!(
            btf.member("old", "locks"),
            Err(BtfError::OutOfRange { .. })
        ));
    }

    #[test]
    fn errors_name_what_is_missing_where() {
        let mut b = Builder::default();
        let int = b.int("int", 4);
        let inner = b.structure("inner", 4, &[("x", int, 0)]);
        let ptr = b.ptr(inner);
        b.structure("outer", 16, &[("in", inner, 0), ("ptr", ptr, 64)]);
        let bytes = b.build();
        let btf = Btf::parse(&bytes).unwrap();
        let text = |name, path| btf.member(name, path).unwrap_err().to_string();
        assert_eq!(text("nope", "x"), "this kernel has no struct or union nope");
        assert_eq!(
            text("outer", "in.y"),
            "outer has no member y on this kernel (looking for outer.in.y)"
        );
        assert_eq!(
            text("outer", "ptr.x"),
            "outer.ptr.x: cannot look for x inside a struct inner *"
        );
        assert_eq!(text("outer", "in..x"), "\"in..x\" is not a member path");
    }

    #[test]
    fn types_of_one_name_must_agree() {
        let mut b = Builder::default();
        let int = b.int("int", 4);
        b.structure("same", 8, &[("x", int, 0), ("y", int, 32)]);
        b.structure("same", 12, &[("x", int, 0), ("y", int, 64)]);
        b.structure("same", 4, &[("z", int, 0)]);
        let bytes = b.build();
        let btf = Btf::parse(&bytes).unwrap();
        assert_eq!(btf.member("same", "x"), Ok(plain(0, 4)));
        assert_eq!(btf.member("same", "z"), Ok(plain(0, 4)));
        assert!(matches!(
            btf.member("same", "y"),
            Err(BtfError::Ambiguous { .. })
        ));
    }
}
