//! Where a byte of an ELF file is once it is loaded (elf(5)): from an offset in the file to an
//! address as the file's own tables have it, which is what `addr2line -e` takes.

/// Bytes of the beginning of a file that hold its header and, in every usual file, its program
/// headers.
pub const HEAD: usize = 16 << 10;

/// A part of the file that is mapped.
const PT_LOAD: u32 = 1;

/// The address of the byte at `offset` of a file that begins with `head`. `None` when it is no
/// ELF file of this machine's byte order, or no loaded part has the offset.
pub fn address_of(head: &[u8], offset: u64) -> Option<u64> {
    let native_order = if cfg!(target_endian = "little") { 1 } else { 2 };
    let layout = match head.get(..6)? {
        [0x7f, b'E', b'L', b'F', 1, order] if *order == native_order => Layout::BITS_32,
        [0x7f, b'E', b'L', b'F', 2, order] if *order == native_order => Layout::BITS_64,
        _ => return None,
    };
    let table = layout.word(head, layout.table)?;
    let size = u64::from(half(head, layout.entry_size)?);
    let count = u64::from(half(head, layout.entry_size + 2)?);
    (0..count).find_map(|index| {
        let at = table.checked_add(index.checked_mul(size)?)?;
        let entry = head.get(usize::try_from(at).ok()?..)?;
        let kind = u32::from_ne_bytes(*entry.first_chunk()?);
        let start = layout.word(entry, layout.offset)?;
        let len = layout.word(entry, layout.file_size)?;
        let inside = offset.checked_sub(start).filter(|inside| *inside < len)?;
        let address = layout.word(entry, layout.address)?;
        (kind == PT_LOAD).then(|| address.checked_add(inside))?
    })
}

/// Where the fields are, in the file header and in a program header.
struct Layout {
    word: usize,
    /// `e_phoff`
    table: usize,
    /// `e_phentsize`, followed by `e_phnum`
    entry_size: usize,
    /// `p_offset`
    offset: usize,
    /// `p_vaddr`
    address: usize,
    /// `p_filesz`
    file_size: usize,
}

impl Layout {
    const BITS_32: Self = Self {
        word: 4,
        table: 28,
        entry_size: 42,
        offset: 4,
        address: 8,
        file_size: 16,
    };
    const BITS_64: Self = Self {
        word: 8,
        table: 32,
        entry_size: 54,
        offset: 8,
        address: 16,
        file_size: 32,
    };

    fn word(&self, bytes: &[u8], at: usize) -> Option<u64> {
        let bytes = bytes.get(at..)?;
        match self.word {
            4 => Some(u64::from(u32::from_ne_bytes(*bytes.first_chunk()?))),
            _ => Some(u64::from_ne_bytes(*bytes.first_chunk()?)),
        }
    }
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::enrich::symbols::maps::Mappings;

    /// A 64-bit file with two program headers: a note, then one loaded part.
    fn file(offset: u64, address: u64, len: u64) -> Vec<u8> {
        let mut file = vec![0_u8; 64];
        let order = if cfg!(target_endian = "little") { 1 } else { 2 };
        file[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, order]);
        file[32..40].copy_from_slice(&64_u64.to_ne_bytes());
        file[54..56].copy_from_slice(&56_u16.to_ne_bytes());
        file[56..58].copy_from_slice(&2_u16.to_ne_bytes());
        for kind in [4_u32, PT_LOAD] {
            file.extend_from_slice(&kind.to_ne_bytes());
            file.extend_from_slice(&5_u32.to_ne_bytes());
            let address = if kind == PT_LOAD { address } else { 0 };
            for word in [offset, address, 0, len, len, 0x1000] {
                file.extend_from_slice(&word.to_ne_bytes());
            }
        }
        file
    }

    #[test]
    fn loaded_parts_move() {
        let file = file(0x1000, 0x2000, 0x500);
        assert_eq!(address_of(&file, 0x1000), Some(0x2000));
        assert_eq!(address_of(&file, 0x14ff), Some(0x24ff));
        assert_eq!(address_of(&file, 0x1500), None);
        assert_eq!(address_of(&file, 0xfff), None);
    }

    #[test]
    fn own_function_is_where_the_kernel_mapped_it() {
        let text = std::fs::read_to_string("/proc/self/maps").unwrap();
        let maps = Mappings::parse(text.as_bytes());
        let here = loaded_parts_move as fn() as usize as u64;
        let mapping = maps.find(here).unwrap();
        let file = std::fs::read("/proc/self/exe").unwrap();
        let offset = here - mapping.start + mapping.file_offset;
        // Position-independent: addresses are counted from where the file's beginning is mapped,
        // which is before any code.
        let name = str::from_utf8(&mapping.object.name).unwrap();
        let first = text.lines().find(|line| line.ends_with(name)).unwrap();
        let (start, _) = first.split_once('-').unwrap();
        let start = u64::from_str_radix(start, 16).unwrap();
        assert_eq!(address_of(&file[..HEAD], offset), Some(here - start));
    }

    #[test]
    fn what_is_no_elf_file() {
        assert_eq!(address_of(b"", 0), None);
        assert_eq!(address_of(b"#!/bin/sh\n", 0), None);
        assert_eq!(address_of(&file(0, 0, 100)[..70], 0), None);
    }

    proptest! {
        #[test]
        fn never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), offset: u64, class in 0_u8..4) {
            let _ = address_of(&bytes, offset);
            let head = [0x7f, b'E', b'L', b'F', class, 1];
            for (byte, known) in bytes.iter_mut().zip(head) {
                *byte = known;
            }
            let _ = address_of(&bytes, offset);
        }

        #[test]
        fn offsets_move_with_their_part(offset in 0..u64::MAX / 4, address in 0..u64::MAX / 4, len in 1..u64::MAX / 4, at: u64) {
            let file = file(offset, address, len);
            prop_assert_eq!(address_of(&file, offset + at % len), Some(address + at % len));
        }
    }
}
