use proptest::prelude::*;

use super::*;

fn read(text: &[u8]) -> PerfMap {
    PerfMap::read(text, &BOUNDS).unwrap()
}

#[test]
fn functions_are_found() {
    let map = read(
        b"7f1000 40 LazyCompile:~leak /app/server.js:12:3\n0x7f1040 10 Lcom/acme/Foo;::leak\n",
    );
    assert_eq!(
        map.find(0x7f1000),
        Some(&b"LazyCompile:~leak /app/server.js:12:3"[..])
    );
    assert_eq!(map.find(0x7f103f), map.find(0x7f1000));
    assert_eq!(map.find(0x7f1040), Some(&b"Lcom/acme/Foo;::leak"[..]));
    assert_eq!(map.find(0x7f1050), None);
    assert_eq!(map.find(0x7f0fff), None);
    assert_eq!(map.ignored, Ignored::default());
}

#[test]
fn the_later_wins() {
    // The second lies within the first, the third has taken the place of the end of the first.
    let map = read(b"1000 100 old\n1020 10 inner\n10f0 100 new\n");
    let name = |address| map.find(address).map(|name| str::from_utf8(name).unwrap());
    assert_eq!(name(0x101f), Some("old"));
    assert_eq!(name(0x1020), Some("inner"));
    assert_eq!(name(0x1030), Some("old"));
    assert_eq!(name(0x10ef), Some("old"));
    assert_eq!(name(0x10f0), Some("new"));
    assert_eq!(name(0x11ef), Some("new"));
    assert_eq!(name(0x11f0), None);
    // The other way round nothing is left of the inner one.
    let map = read(b"1020 10 inner\n1000 100 whole\n");
    assert_eq!(map.find(0x1020), Some(&b"whole"[..]));
}

#[test]
fn a_line_that_is_being_written_is_no_line() {
    let map = read(b"1000 10 whole\n2000 10 hal");
    assert!(map.find(0x1000).is_some());
    assert_eq!(map.find(0x2000), None);
    assert_eq!(map.ignored, Ignored::default());
}

#[test]
fn bad_lines_are_counted_and_cost_nothing_else() {
    let mut text = b"1000 10 good\n".to_vec();
    for bad in [
        &b"zz 10 x"[..],
        b"2000 0 empty",
        b"2000 10",
        b"2000 10 ",
        b"ffffffffffffffff 10 over the end",
        b"11111111111111111 10 too many digits",
        b"-2000 10 x",
        b"root:x:0:0:root:/root:/bin/bash",
        b"\0\0\0",
    ] {
        text.extend_from_slice(bad);
        text.push(b'\n');
    }
    text.extend_from_slice(b"3000 10 ");
    text.resize(text.len() + BOUNDS.line, b'x');
    text.extend_from_slice(b"\n\n4000 10 good too\n");
    let map = read(&text);
    assert_eq!(map.ignored.bad_lines, 10);
    assert!(map.find(0x1000).is_some() && map.find(0x4000).is_some());
    assert_eq!(map.find(0x2000), None);
    assert_eq!(map.find(0x3000), None);
}

/// Two million lines, without the text of all of them in memory.
struct Endless {
    line: u64,
    rest: Vec<u8>,
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() && self.line < 2_000_000 {
            let line = format!("{:x} 10 function_{}\n", 0x1000 + self.line * 16, self.line);
            self.rest = line.into_bytes();
            self.line += 1;
        }
        let len = self.rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&self.rest[..len]);
        self.rest.drain(..len);
        Ok(len)
    }
}

#[test]
fn two_million_lines_are_cut_off() {
    let map = PerfMap::read(
        Endless {
            line: 0,
            rest: Vec::new(),
        },
        &BOUNDS,
    )
    .unwrap();
    assert!(map.ignored.cut_off);
    let last = BOUNDS.functions as u64 - 1;
    let name = format!("function_{last}");
    assert_eq!(map.find(0x1000 + last * 16), Some(name.as_bytes()));
    assert_eq!(map.find(0x1000 + (last + 1) * 16), None);
    assert!(map.size() < 64 << 20, "{}", map.size());
}

#[test]
fn bytes_and_names_are_bounded() {
    let bounds = Bounds {
        bytes: 30,
        functions: 10,
        line: 100,
        name: 3,
    };
    let map = PerfMap::read(
        &b"1000 10 abcdef\n2000 10 ghijkl\n3000 10 mno\n"[..],
        &bounds,
    )
    .unwrap();
    assert_eq!(map.find(0x1000), Some(&b"abc"[..]));
    assert_eq!(map.find(0x2000), Some(&b"ghi"[..]));
    assert_eq!(map.find(0x3000), None);
    assert!(map.ignored.cut_off);
}

/// What the pieces must say: the last line that has the address.
fn last_with(lines: &[(u64, u64)], address: u64) -> Option<usize> {
    lines
        .iter()
        .rposition(|(start, size)| *start <= address && address < start + size)
}

proptest! {
    #[test]
    fn never_panics(text in proptest::collection::vec(any::<u8>(), 0..300), address: u64) {
        let _ = read(&text).find(address);
    }

    #[test]
    fn never_panics_on_what_looks_right(
        text in "([0-9a-f]{1,17} [0-9a-f]{1,17} ?.{0,3}\n?){0,6}", address: u64,
    ) {
        let _ = read(text.as_bytes()).find(address);
    }

    #[test]
    fn overlapping_lines_are_as_said(
        lines in proptest::collection::vec((0_u64..64, 1_u64..24), 0..24),
    ) {
        let text: String = lines
            .iter()
            .enumerate()
            .map(|(index, (start, size))| format!("{start:x} {size:x} f{index}\n"))
            .collect();
        let map = read(text.as_bytes());
        for address in 0..96 {
            let found = map.find(address).map(|name| String::from_utf8_lossy(name).into_owned());
            let expected = last_with(&lines, address).map(|index| format!("f{index}"));
            prop_assert_eq!(found, expected, "{:#x}", address);
        }
    }

    #[test]
    fn good_lines_among_bad_ones_are_found(
        bad in proptest::collection::vec("[^\n]{0,40}", 0..8), start in 0x10000_u64..1 << 47,
    ) {
        // What is generated may by chance be good, but not be at this address.
        let mut text = bad.join("\n");
        text.push_str(&format!("\n{start:x} 20 the one\n"));
        let map = read(text.as_bytes());
        prop_assert_eq!(map.find(start + 0x1f), Some(&b"the one"[..]));
    }
}
