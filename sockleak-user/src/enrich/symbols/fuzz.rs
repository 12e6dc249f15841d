//! What the owner of a process, or the helper that looks at it, may send.

use std::collections::BTreeMap;

use super::maps::Mappings;
use super::perf_map::{BOUNDS, Bounds, PerfMap};
use super::protocol::{self, Question, Reply};
use super::worker::address_of;

/// A perf map, read in pieces and with small bounds, and held against a table with an entry per
/// address for the lowest addresses.
pub fn perf_map(data: &[u8]) {
    let Ok(map) = PerfMap::read(data, &BOUNDS) else {
        panic!("bytes in memory can be read");
    };
    assert!(map.size() <= 64 * (data.len() + 1));
    if let Some(naive) = naive(data) {
        for address in 0..=256 {
            let expected = naive.get(&address).map(Vec::as_slice);
            assert_eq!(map.find(address), expected, "{address:#x}");
        }
    }
    let small = Bounds {
        bytes: 64,
        functions: 3,
        line: 24,
        name: 4,
    };
    let Ok(map) = PerfMap::read(Slow(data), &small) else {
        panic!("bytes in memory can be read");
    };
    for address in [0, 1, 0x10, 0x1000, u64::MAX] {
        assert!(
            map.find(address)
                .is_none_or(|name| name.len() <= small.name)
        );
    }
}

/// Who has the addresses up to 256, as one would write it without a thought for speed; `None`
/// where a bound or another way to write a number would matter.
fn naive(data: &[u8]) -> Option<BTreeMap<u64, Vec<u8>>> {
    let mut owners = BTreeMap::new();
    let whole = data.iter().rposition(|byte| *byte == b'\n')?;
    for line in data.get(..whole)?.split(|byte| *byte == b'\n') {
        let text = str::from_utf8(line).ok()?;
        let mut words = text.splitn(3, ' ');
        let (start, size, name) = (words.next()?, words.next()?, words.next()?);
        let plain = |text: &str| {
            let digits = text
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
            (digits && (1..=4).contains(&text.len())).then(|| u64::from_str_radix(text, 16).ok())?
        };
        let (start, size) = (plain(start)?, plain(size)?);
        let printing = !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic());
        if size == 0 || !printing || name.len() > BOUNDS.name {
            return None;
        }
        for address in (start..start + size).take_while(|address| *address <= 256) {
            owners.insert(address, name.as_bytes().to_vec());
        }
    }
    Some(owners)
}

/// Gives one byte at a time.
struct Slow<'a>(&'a [u8]);

impl std::io::Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let (Some((first, rest)), Some(place)) = (self.0.split_first(), buffer.first_mut()) else {
            return Ok(0);
        };
        *place = *first;
        self.0 = rest;
        Ok(1)
    }
}

/// The first byte says what: the mappings of a process, the beginning of an ELF file, or what
/// goes between us and the helper.
pub fn symbols(data: &[u8]) {
    let Some((which, rest)) = data.split_first() else {
        return;
    };
    match which % 4 {
        0 => {
            let mappings = Mappings::parse(rest);
            let mut last = 0;
            for mapping in mappings.iter() {
                assert!(mapping.start >= last);
                last = mapping.start;
                if let Some(found) = mappings.find(mapping.start) {
                    assert!(found.start <= mapping.start && mapping.start < found.end);
                }
                let _ = (mapping.object.is_memory(), mapping.object.is_file());
            }
            assert!(
                mappings.is_empty() || mappings.share_a_file_with(&mappings) || {
                    !mappings
                        .iter()
                        .any(|m| m.object.is_file() && mappings.find(m.start) == Some(m))
                }
            );
        }
        1 => {
            for offset in [0, 1, 0x1000, u64::MAX] {
                let _ = address_of(rest, offset);
            }
        }
        2 => {
            let mut buffer = rest.to_vec();
            while let Ok(Some(reply)) = protocol::take::<Reply>(&mut buffer) {
                for frame in reply.frames.iter().flatten() {
                    assert!(!frame.to_string().is_empty());
                }
            }
            assert!(buffer.len() <= rest.len());
        }
        _ => {
            let mut from = rest;
            while let Ok(Some(question)) = protocol::read::<Question>(&mut from) {
                let Ok(bytes) = protocol::encode(&question) else {
                    break;
                };
                let again = protocol::read::<Question>(&mut bytes.as_slice());
                assert!(matches!(again, Ok(Some(again)) if again == question));
            }
        }
    }
}
