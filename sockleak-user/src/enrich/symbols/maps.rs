//! `/proc/PID/maps` (proc_pid_maps(5)): what is mapped where. Only code is kept.

use std::rc::Rc;

/// Mappings with code that are kept of one process; `vm.max_map_count` is 65,530 by default.
const MOST: usize = 1 << 16;

/// A mapping with code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// Address behind the last.
    pub end: u64,
    /// Offset of `start` in the file.
    pub file_offset: u64,
    /// What is mapped.
    pub object: Rc<Object>,
}

/// What is mapped, shared by all mappings of the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Object {
    /// Device as `makedev(major, minor)`; on btrfs and overlayfs not what stat(2) says.
    pub device: u64,
    /// Inode number; 0 for what is no file.
    pub inode: u64,
    /// Path, with `\012` for a newline and ` (deleted)` behind that of a removed file; the
    /// kernel's name in brackets; or nothing.
    pub name: Vec<u8>,
}

impl Object {
    /// Whether code in it was made at run time rather than read from a file: nothing, or memory
    /// that only looks like a file. (memfd and SysV shared memory are files of a hidden tmpfs,
    /// mm/shmem.c, as is what MAP_SHARED|MAP_ANONYMOUS maps, named `/dev/zero`.)
    pub fn is_memory(&self) -> bool {
        let memory: [&[u8]; 5] = [
            b"/memfd:",
            b"/dev/zero",
            b"/SYSV",
            b"//anon",
            b"/anon_hugepage",
        ];
        let named = self.name.starts_with(b"[") && !self.name.starts_with(b"[anon");
        (self.inode == 0 && !named) || memory.iter().any(|start| self.name.starts_with(start))
    }

    /// Whether it can be opened.
    pub fn is_file(&self) -> bool {
        self.inode != 0 && self.name.starts_with(b"/")
    }
}

/// The mappings with code of a process, by address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mappings(Vec<Mapping>);

impl Mappings {
    /// Parses the whole file. Lines that make no sense are left out: what is mapped there stays
    /// unknown.
    pub fn parse(text: &[u8]) -> Self {
        let mut mappings: Vec<Mapping> = Vec::new();
        for line in text.split(|byte| *byte == b'\n') {
            let Some((mut mapping, object)) = parse_line(line) else {
                continue;
            };
            if mappings.len() >= MOST {
                break;
            }
            // A module's mappings follow each other.
            match mappings.last() {
                Some(last) if *last.object == object => mapping.object = Rc::clone(&last.object),
                _ => mapping.object = Rc::new(object),
            }
            mappings.push(mapping);
        }
        // The kernel lists them in order; whoever else wrote the text may not.
        mappings.sort_by_key(|mapping| mapping.start);
        Self(mappings)
    }

    /// The mapping that has an address.
    pub fn find(&self, address: u64) -> Option<&Mapping> {
        let behind = self.0.partition_point(|mapping| mapping.start <= address);
        let mapping = self.0.get(behind.checked_sub(1)?)?;
        (address < mapping.end).then_some(mapping)
    }

    /// Whether a file is mapped in the same place in both. What the kernel maps itself can be in
    /// the same place by design.
    pub fn share_a_file_with(&self, other: &Self) -> bool {
        let mut files = self.iter().filter(|mapping| mapping.object.is_file());
        files.any(|mapping| other.find(mapping.start) == Some(mapping))
    }

    /// All of them, by address.
    pub fn iter(&self) -> impl Iterator<Item = &Mapping> {
        self.0.iter()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A line such as `55d0-55d4 r-xp 00002000 fe:00 1234    /usr/bin/app`, if it is of code.
fn parse_line(line: &[u8]) -> Option<(Mapping, Object)> {
    let mut rest = line;
    let mut field = || {
        let end = rest.iter().position(|byte| *byte == b' ');
        let (field, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = after.get(1..).unwrap_or_default();
        field
    };
    let (range, rights, file_offset) = (field(), field(), field());
    let (device, inode) = (field(), field());
    if rights.get(2) != Some(&b'x') {
        return None;
    }
    let (start, end) = pair(range, b'-')?;
    if start >= end {
        return None;
    }
    let (major, minor) = pair(device, b':')?;
    let object = Object {
        device: rustix::fs::makedev(u32::try_from(major).ok()?, u32::try_from(minor).ok()?),
        inode: std::str::from_utf8(inode).ok()?.parse().ok()?,
        name: rest.trim_ascii_start().to_vec(),
    };
    let mapping = Mapping {
        start,
        end,
        file_offset: hex(file_offset)?,
        object: Rc::default(),
    };
    Some((mapping, object))
}

fn pair(text: &[u8], separator: u8) -> Option<(u64, u64)> {
    let at = text.iter().position(|byte| *byte == separator)?;
    Some((hex(text.get(..at)?)?, hex(text.get(at + 1..)?)?))
}

/// A number in hexadecimal digits, without anything before or after it.
pub(super) fn hex(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, byte| {
        let digit = char::from(*byte).to_digit(16)?;
        Some(number << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &[u8] = b"\
00400000-00452000 r-xp 00001000 08:02 173521      /usr/bin/dbus-daemon
00e03000-00e24000 rw-p 00000000 00:00 0           [heap]
7f0000000000-7f0000010000 rwxp 00000000 00:00 0 
7f0000020000-7f0000030000 r-xp 00000000 00:01 99  /memfd:double mapped (deleted)
7f0000040000-7f0000041000 r-xs 00000000 00:01 7   /dev/zero (deleted)
35b1800000-35b1820000 r-xp 00000000 08:02 135522  /usr/lib64/ld-2.15.so
35b1a1f000-35b1a20000 r--p 0001f000 08:02 135522  /usr/lib64/ld-2.15.so
35b1a20000-35b1a21000 r-xp 00020000 08:02 135522  /usr/lib64/ld-2.15.so
7ffd1000-7ffd3000 r-xp 00000000 00:00 0           [vdso]
";

    #[test]
    fn code_is_found_by_address() {
        let mappings = Mappings::parse(TEXT);
        assert_eq!(mappings.len(), 7);
        let found = mappings.find(0x400000).unwrap();
        assert_eq!((found.start, found.file_offset), (0x400000, 0x1000));
        assert_eq!(found.object.name, b"/usr/bin/dbus-daemon");
        assert_eq!(found.object.device, rustix::fs::makedev(8, 2));
        assert_eq!(found.object.inode, 173_521);
        assert!(found.object.is_file() && !found.object.is_memory());
        assert_eq!(mappings.find(0x451fff), Some(found));
        assert_eq!(mappings.find(0x452000), None);
        assert_eq!(mappings.find(0x3fffff), None);
        // No code.
        assert_eq!(mappings.find(0xe03000), None);
        assert_eq!(mappings.find(0), None);
        assert_eq!(mappings.find(u64::MAX), None);
    }

    #[test]
    fn one_module_is_one_object() {
        let mappings = Mappings::parse(TEXT);
        let first = mappings.find(0x35b1800000).unwrap();
        let second = mappings.find(0x35b1a20000).unwrap();
        assert!(Rc::ptr_eq(&first.object, &second.object));
    }

    #[test]
    fn a_program_that_moved_shares_no_file() {
        let before = Mappings::parse(TEXT);
        let moved = String::from_utf8(TEXT.to_vec()).unwrap();
        let moved = moved
            .replace("35b1", "35c1")
            .replace("7f00000", "7f00001")
            .replace("00400000-00452000", "00401000-00453000");
        let after = Mappings::parse(moved.as_bytes());
        assert!(before.share_a_file_with(&before));
        assert!(before.find(0x7ffd1000) == after.find(0x7ffd1000));
        assert!(!before.share_a_file_with(&after) && !after.share_a_file_with(&before));
    }

    #[test]
    fn memory_is_not_a_module() {
        let mappings = Mappings::parse(TEXT);
        let memory = |address| mappings.find(address).unwrap().object.is_memory();
        assert!(memory(0x7f0000000000) && memory(0x7f0000020000) && memory(0x7f0000040000));
        let vdso = mappings.find(0x7ffd1000).unwrap();
        assert!(!vdso.object.is_memory() && !vdso.object.is_file());
    }

    #[test]
    fn any_name() {
        let line = b"1000-2000 r-xp 00000000 00:20 5   /a b\\012c (deleted)\n";
        let mappings = Mappings::parse(line);
        let object = &mappings.find(0x1000).unwrap().object;
        assert_eq!(object.name, b"/a b\\012c (deleted)");
    }

    #[test]
    fn lines_without_sense() {
        for line in [
            &b"2000-1000 r-xp 0 0:0 0 /x"[..],
            b"1000-2000 r-xp",
            b"1000-2000 r-xp 0 0:0 x /x",
            b"1000-2000 r-xp 0 0 1 /x",
            b"-2000 r-xp 0 0:0 1 /x",
            b"+1000-2000 r-xp 0 0:0 1 /x",
            b"11111111111111111-2000 r-xp 0 0:0 1 /x",
            b"",
        ] {
            assert!(Mappings::parse(line).is_empty(), "{line:?}");
        }
    }

    #[test]
    fn own_code() {
        let mappings = Mappings::parse(&std::fs::read("/proc/self/maps").unwrap());
        let here = own_code as fn() as usize as u64;
        let exe = std::env::current_exe().unwrap();
        let found = mappings.find(here).unwrap();
        assert_eq!(found.object.name, exe.as_os_str().as_encoded_bytes());
        assert!(
            mappings
                .iter()
                .any(|mapping| mapping.object.name == b"[vdso]")
        );
    }

    proptest! {
        #[test]
        fn never_panics(text in proptest::collection::vec(any::<u8>(), 0..200), address: u64) {
            let _ = Mappings::parse(&text).find(address);
        }

        #[test]
        fn never_panics_on_what_looks_right(
            text in "([0-9a-f]{1,17}-[0-9a-f]{1,17} r-xp [0-9a-f]{1,9} [0-9]:[0-9]{1,20} [0-9]{1,21} ?/?.{0,4}\n){0,4}",
            address: u64,
        ) {
            let mappings = Mappings::parse(text.as_bytes());
            if let Some(found) = mappings.find(address) {
                prop_assert!(found.start <= address && address < found.end);
            }
        }

        #[test]
        fn every_line_is_found(start in 1_u64..1 << 40, len in 1_u64..1 << 40, offset: u64, inode: u64,
                               at: prop::sample::Index) {
            let line = format!("{start:08x}-{:08x} r-xp {offset:08x} fe:01 {inode} /lib/x\n", start + len);
            let mappings = Mappings::parse(line.as_bytes());
            let address = start + at.index(usize::try_from(len).unwrap()) as u64;
            let found = mappings.find(address).unwrap();
            prop_assert_eq!((found.start, found.end, found.file_offset), (start, start + len, offset));
            prop_assert_eq!(found.object.inode, inode);
        }
    }
}
