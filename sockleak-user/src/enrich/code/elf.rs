//! What identifies an ELF file, and where its code begins (elf(5)).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Bytes of the beginning of a file that hold its header and program headers.
const HEAD: usize = 16 << 10;
/// Bytes of notes that are read.
const NOTES: usize = 16 << 10;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const PF_X: u32 = 1;
const NT_GNU_BUILD_ID: u32 = 3;

/// Length of a build id as the kernel hands it out (`BPF_BUILD_ID_SIZE`).
pub const BUILD_ID: usize = 20;

/// What is in a file's headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    /// Its build id, filled up with zeros.
    pub build_id: Option<[u8; BUILD_ID]>,
    /// Offset in the file of the code with the lowest address: what `mm->start_code` is the
    /// address of (`load_elf_binary`).
    pub code_offset: Option<u64>,
}

impl Headers {
    /// Reads them; a file that is no 64-bit ELF file of this machine has none.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(file: &File) -> io::Result<Self> {
        let mut head = vec![0; HEAD];
        let len = read_at(file, &mut head, 0)?;
        let segments = Segment::all(head.get(..len).unwrap_or_default());
        let code = segments
            .iter()
            .filter(|segment| segment.kind == PT_LOAD && segment.flags & PF_X != 0)
            .min_by_key(|segment| segment.address);
        let mut found = Self {
            build_id: None,
            code_offset: code.map(|segment| segment.offset),
        };
        for segment in segments.iter().filter(|segment| segment.kind == PT_NOTE) {
            let len = usize::try_from(segment.len).unwrap_or(NOTES).min(NOTES);
            let mut notes = vec![0; len];
            let len = read_at(file, &mut notes, segment.offset)?;
            found.build_id = build_id(notes.get(..len).unwrap_or_default());
            if found.build_id.is_some() {
                break;
            }
        }
        Ok(found)
    }
}

fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut len = 0;
    while let Some(rest) = buffer.get_mut(len..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset.saturating_add(len as u64)) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

/// A program header.
#[derive(Clone, Copy, Debug)]
struct Segment {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    len: u64,
}

impl Segment {
    fn all(head: &[u8]) -> Vec<Self> {
        let order = if cfg!(target_endian = "little") { 1 } else { 2 };
        if head.get(..6) != Some(&[0x7f, b'E', b'L', b'F', 2, order]) {
            return Vec::new();
        }
        let table = (|| {
            let at = usize::try_from(word(head, 32)?).ok()?;
            Some((at, usize::from(half(head, 54)?), half(head, 56)?))
        })();
        let Some((table, size, count)) = table else {
            return Vec::new();
        };
        (0..usize::from(count))
            .map_while(|index| {
                let at = table.checked_add(index.checked_mul(size)?)?;
                let entry = head.get(at..)?;
                Some(Self {
                    kind: int(entry, 0)?,
                    flags: int(entry, 4)?,
                    offset: word(entry, 8)?,
                    address: word(entry, 16)?,
                    len: word(entry, 32)?,
                })
            })
            .collect()
    }
}

/// The build id among notes: name and contents are each filled up to four bytes.
fn build_id(mut notes: &[u8]) -> Option<[u8; BUILD_ID]> {
    let padded = |len: u32| Some(usize::try_from(len).ok()?.checked_add(3)? & !3);
    loop {
        let (name_len, len, kind) = (int(notes, 0)?, int(notes, 4)?, int(notes, 8)?);
        let name = notes.get(12..)?.get(..padded(name_len)?)?;
        let contents = notes.get(12 + name.len()..)?;
        if kind == NT_GNU_BUILD_ID && name == b"GNU\0" {
            let id = contents.get(..usize::try_from(len).ok()?)?;
            let mut build_id = [0; BUILD_ID];
            // The kernel takes none that is longer (`parse_build_id`).
            build_id.get_mut(..id.len())?.copy_from_slice(id);
            return (!id.is_empty()).then_some(build_id);
        }
        notes = contents.get(padded(len)?..)?;
    }
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn int(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn note(name: &[u8], kind: u32, contents: &[u8]) -> Vec<u8> {
        let mut note = Vec::new();
        for int in [name.len() as u32, contents.len() as u32, kind] {
            note.extend(int.to_ne_bytes());
        }
        for part in [name, contents] {
            note.extend(part);
            note.resize(note.len().next_multiple_of(4), 0);
        }
        note
    }

    #[test]
    fn the_build_id_is_found_behind_other_notes() {
        let mut notes = note(b"GNU\0", 1, &[1; 16]);
        notes.extend(note(b"Go\0\0", 4, b"abc"));
        notes.extend(note(b"GNU\0", NT_GNU_BUILD_ID, &[7; 20]));
        assert_eq!(build_id(&notes), Some([7; 20]));
        let short = note(b"GNU\0", NT_GNU_BUILD_ID, &[7; 8]);
        let found = build_id(&short).unwrap();
        assert_eq!((&found[..8], &found[8..]), (&[7; 8][..], &[0; 12][..]));
        assert_eq!(build_id(&note(b"GNU\0", NT_GNU_BUILD_ID, &[7; 21])), None);
        assert_eq!(build_id(&note(b"GNU\0", NT_GNU_BUILD_ID, &[])), None);
        assert_eq!(build_id(&notes[..notes.len() - 1]), None);
    }

    #[test]
    fn own_headers_are_those_of_a_program() {
        let headers = Headers::read(&File::open("/proc/self/exe").unwrap()).unwrap();
        let here = own_headers_are_those_of_a_program as fn() as usize as u64;
        let maps = crate::enrich::symbols::maps::Mappings::parse(
            &std::fs::read("/proc/self/maps").unwrap(),
        );
        let mapping = maps.find(here).unwrap();
        let offset = headers.code_offset.unwrap();
        assert!(
            offset >= mapping.file_offset && offset <= here - mapping.start + mapping.file_offset
        );
        let text = File::open("/proc/self/maps").unwrap();
        assert_eq!(Headers::read(&text).unwrap(), Headers::default());
    }

    proptest! {
        #[test]
        fn never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = build_id(&bytes);
            let head = [0x7f, b'E', b'L', b'F', 2, 1];
            for (byte, known) in bytes.iter_mut().zip(head) {
                *byte = known;
            }
            let _ = Segment::all(&bytes);
        }
    }
}
