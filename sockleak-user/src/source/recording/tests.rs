use std::{
    io::{self, Cursor, ErrorKind},
    sync::{Arc, Mutex},
};

use proptest::prelude::*;

use super::{batch::Batch, disk::Writer, frame::OPENING, *};

const HEADER_LINE: &str = r#"{"type":"recording"}"#;

/// A file in memory that fails as told.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    /// Longest it may get.
    room: Option<usize>,
    cannot_cut: bool,
}

impl Memory {
    fn bytes(&self) -> Vec<u8> {
        self.0.lock().expect("no panic").bytes.clone()
    }

    fn set_room(&self, room: Option<usize>) {
        self.0.lock().expect("no panic").room = room;
    }
}

impl Disk for Memory {
    fn write(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut state = self.0.lock().expect("no panic");
        let at = at as usize;
        let wanted = at + bytes.len();
        let fits = state.room.unwrap_or(usize::MAX).min(wanted);
        if state.bytes.len() < fits {
            state.bytes.resize(fits, 0);
        }
        for (place, byte) in state.bytes.iter_mut().skip(at).zip(bytes) {
            *place = *byte;
        }
        if fits < wanted {
            return Err(ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        let mut state = self.0.lock().expect("no panic");
        if state.cannot_cut {
            return Err(ErrorKind::Other.into());
        }
        state.bytes.truncate(length as usize);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn tell(lost: &Lost) -> Vec<u8> {
    format!(
        r#"{{"gap":{},"since":"{}","until":"{}"}}"#,
        lost.lines, lost.since, lost.until
    )
    .into_bytes()
}

fn start(memory: &Memory, limit: u64) -> Recorder {
    Recorder::start(memory.clone(), HEADER_LINE.as_bytes(), tell, limit).expect("there is room")
}

fn line(n: usize) -> String {
    format!(r#"{{"n":{n},"text":"{}"}}"#, "x".repeat(n * 7 % 100))
}

/// Intervals of lines, each followed by a mark.
fn recorded(lines: usize, interval: usize) -> Vec<u8> {
    let memory = Memory::default();
    let mut recorder = start(&memory, LIMIT);
    for n in 0..lines {
        recorder.line(line(n).as_bytes(), &n.to_string());
        if (n + 1) % interval == 0 {
            recorder.mark();
        }
    }
    let summary = recorder.finish().expect("memory is quick");
    assert_eq!((summary.lines, summary.lost), (lines as u64, 0));
    assert_eq!(summary.bytes, memory.bytes().len() as u64);
    memory.bytes()
}

fn items(bytes: &[u8]) -> Result<(Vec<Item>, Ending, u64), Malformed> {
    let mut reader = Reader::new(Cursor::new(bytes))?;
    let mut items = Vec::new();
    while let Some(item) = reader.next_item()? {
        items.push(item);
    }
    let ending = reader.ending().expect("there is no further item").clone();
    assert!(reader.read_bytes() <= bytes.len() as u64);
    Ok((items, ending, reader.read_bytes()))
}

fn expected(lines: usize, interval: usize) -> Vec<Item> {
    let mut items = vec![Item::Header(HEADER_LINE.to_owned())];
    for n in 0..lines {
        items.push(Item::Line(line(n)));
        if (n + 1) % interval == 0 {
            items.push(Item::Mark);
        }
    }
    items
}

#[test]
fn what_was_recorded_is_read() {
    let (items, ending, _) = items(&recorded(25, 10)).expect("a recording");
    assert_eq!(items, expected(25, 10));
    assert_eq!(ending, Ending::Whole);
}

#[test]
fn every_cut_is_read_up_to_the_last_whole_frame() {
    let bytes = recorded(25, 10);
    let all = expected(25, 10);
    let mut before = 0;
    for at in 0..bytes.len() {
        match items(&bytes[..at]) {
            Err(Malformed::Empty) => assert!(at < OPENING, "at {at}"),
            Err(error) => panic!("at {at}: {error}"),
            Ok((items, ending, read)) => {
                assert_eq!(items, all[..items.len()], "at {at}");
                assert!(items.len() == before || items.len() == before + 1);
                before = items.len();
                let whole = read == at as u64;
                assert_eq!(ending == Ending::Whole, whole, "at {at}");
                assert!(whole || ending == Ending::Truncated, "at {at}");
            }
        }
    }
    assert_eq!(before, all.len() - 1, "the last frame is not whole");
}

#[test]
fn every_flipped_bit_is_noticed() {
    let bytes = recorded(6, 3);
    let all = expected(6, 3);
    for at in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[at / 8] ^= 1 << (at % 8);
        match items(&changed) {
            Err(Malformed::Foreign) => assert!(at / 8 < MAGIC.len()),
            Err(Malformed::Format(_)) => assert!((MAGIC.len()..OPENING).contains(&(at / 8))),
            Err(error) => panic!("bit {at}: {error}"),
            Ok((items, ending, read)) => {
                assert_eq!(items, all[..items.len()], "bit {at}");
                assert_ne!(ending, Ending::Whole, "bit {at}");
                assert!(read <= at as u64 / 8, "bit {at}");
            }
        }
    }
}

#[test]
fn other_files_are_refused() {
    let refused = |bytes: &[u8]| items(bytes).map(|_| ()).expect_err("not a recording");
    assert!(matches!(refused(b""), Malformed::Empty));
    assert!(matches!(refused(b"sock"), Malformed::Empty));
    assert!(matches!(refused(b"{\"type\":\"end\"}"), Malformed::Foreign));
    let mut later = opening();
    later[MAGIC.len()] = 2;
    let error = refused(&later);
    assert!(matches!(error, Malformed::Format(2)));
    let text = error.to_string();
    assert!(
        text.contains("format 2") && text.contains("reads format 1"),
        "{text}"
    );
}

#[test]
fn frames_of_a_later_version_are_skipped() {
    let mut bytes = recorded(2, 1);
    assert!(encode(Kind::Unknown(200), b"\xff\x00", &mut bytes).is_some());
    assert!(encode(Kind::Line, b"{}", &mut bytes).is_some());
    let (items, ending, _) = items(&bytes).expect("a recording");
    assert_eq!(items.last(), Some(&Item::Line("{}".to_owned())));
    assert_eq!(ending, Ending::Whole);
}

/// Anybody can compute a checksum.
#[test]
fn lines_that_could_harm_a_terminal_are_not_given_out() {
    for bad in [
        &b"{\"a\":\"\x1b[2J\"}"[..],
        b"{}\n{}",
        b"{\"a\":1",
        b"{}{}",
        b"7",
        b"",
        b"{\"a\":\"\xff\"}",
        "{\"a\":\"\u{202e}\"}".as_bytes(),
    ] {
        let mut bytes = recorded(1, 1);
        let good = bytes.len() as u64;
        assert!(encode(Kind::Line, bad, &mut bytes).is_some());
        let (items, ending, read) = items(&bytes).expect("a recording");
        assert_eq!(items, expected(1, 1), "{bad:?}");
        assert!(matches!(ending, Ending::Damaged(_)), "{bad:?}");
        assert_eq!(read, good);
    }
}

#[test]
fn a_length_takes_no_memory_before_the_bytes_are_there() {
    let mut bytes = recorded(1, 1);
    bytes.extend_from_slice(&(MAX_PAYLOAD as u32).to_le_bytes());
    bytes.extend_from_slice(&[2, 0, 0, 0, 0, b'{']);
    assert_eq!(items(&bytes).expect("a recording").1, Ending::Truncated);
    let at = bytes.len() - 10;
    bytes[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    let ending = items(&bytes).expect("a recording").1;
    assert_eq!(ending, Ending::Damaged("a length is absurd"));
    let too_long = vec![b'x'; MAX_PAYLOAD + 1];
    assert_eq!(encode(Kind::Line, &too_long, &mut bytes), None);
}

/// Each an interval of one line.
fn batch(n: usize) -> Batch {
    let mut batch = Batch::default();
    batch.line(line(n).as_bytes(), &n.to_string());
    batch.mark();
    batch
}

fn last(n: usize) -> Batch {
    let mut batch = Batch::new(true);
    batch.line(line(n).as_bytes(), &n.to_string());
    batch
}

fn writer(memory: &Memory, limit: u64) -> Writer<Memory> {
    Writer::new(memory.clone(), HEADER_LINE.as_bytes(), tell, limit).expect("there is room")
}

#[test]
fn a_full_disk_leaves_a_gap_and_the_end() {
    let memory = Memory::default();
    let mut writer = writer(&memory, LIMIT);
    writer.write(batch(0));
    memory.set_room(Some(memory.bytes().len() + 5));
    for n in 1..=3 {
        writer.write(batch(n));
        // Whatever happens now, the file is whole.
        assert_eq!(
            items(&memory.bytes()).expect("a recording").1,
            Ending::Whole
        );
    }
    memory.set_room(None);
    writer.write(last(4));
    let summary = writer.finish();
    assert_eq!((summary.lines, summary.lost), (2, 3));
    assert!(summary.reason.is_some());
    let (items, ending, _) = items(&memory.bytes()).expect("a recording");
    let gap = r#"{"gap":3,"since":"1","until":"3"}"#;
    assert_eq!(
        items,
        [
            Item::Header(HEADER_LINE.to_owned()),
            Item::Line(line(0)),
            Item::Mark,
            Item::Line(gap.to_owned()),
            Item::Line(line(4)),
        ]
    );
    assert_eq!(ending, Ending::Whole);
}

#[test]
fn what_cannot_be_taken_back_ends_the_recording() {
    let memory = Memory::default();
    let mut writer = writer(&memory, LIMIT);
    memory.0.lock().expect("no panic").cannot_cut = true;
    memory.set_room(Some(memory.bytes().len() + 5));
    writer.write(batch(1));
    memory.set_room(None);
    writer.write(batch(2));
    let summary = writer.finish();
    assert_eq!((summary.lines, summary.lost), (0, 2));
    let (items, ending, _) = items(&memory.bytes()).expect("a recording");
    assert_eq!((items.len(), ending), (1, Ending::Truncated));
}

#[test]
fn the_limit_keeps_the_end() {
    let memory = Memory::default();
    let mut writer = writer(&memory, 2_000);
    for n in 0..100 {
        writer.write(batch(n));
    }
    writer.write(last(100));
    let summary = writer.finish();
    assert!(summary.bytes < 3_000, "{summary:?}");
    assert_eq!(summary.lines + summary.lost, 101);
    assert!(summary.lost > 50);
    assert_eq!(summary.bytes, memory.bytes().len() as u64);
    let (items, _, _) = items(&memory.bytes()).expect("a recording");
    let [.., Item::Line(gap), Item::Line(end)] = items.as_slice() else {
        panic!("{items:?}");
    };
    assert_eq!(*end, line(100));
    let first = summary.lines - 1;
    let told = format!(
        r#"{{"gap":{},"since":"{first}","until":"99"}}"#,
        summary.lost
    );
    assert_eq!(*gap, told);
}

#[test]
fn a_disk_that_does_not_answer_holds_nobody_up() {
    let memory = Memory::default();
    let mut recorder = start(&memory, LIMIT);
    let lines = 500;
    {
        let held = memory.0.lock().expect("no panic");
        for n in 0..lines {
            recorder.line(line(n).as_bytes(), &n.to_string());
            recorder.mark();
        }
        drop(held);
    }
    recorder.begin_end();
    recorder.line(line(lines).as_bytes(), &lines.to_string());
    let summary = recorder.finish().expect("it answers again");
    assert_eq!(summary.lines + summary.lost, lines as u64 + 1);
    assert!(summary.lost > 400, "{summary:?}");
    let reason = summary.reason.expect("lines are lost");
    assert!(reason.contains("does not keep up"), "{reason}");
    let (items, ending, _) = items(&memory.bytes()).expect("a recording");
    assert_eq!(items.last(), Some(&Item::Line(line(lines))));
    assert_eq!(ending, Ending::Whole);
    let gap = format!(r#""until":"{}""#, lines - 1);
    assert!(
        items
            .iter()
            .any(|item| matches!(item, Item::Line(line) if line.contains(&gap))),
        "{items:?}"
    );
}

#[test]
fn an_existing_file_is_left_alone() {
    let directory = std::env::temp_dir().join(format!("sockleak-recording-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a place for files");
    let path = directory.join("file");
    std::fs::write(&path, "precious").expect("there is room");
    let error = Recorder::create(&path, HEADER_LINE.as_bytes(), tell).expect_err("it exists");
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read(&path).expect("readable"), b"precious");

    let path = directory.join("new");
    let recorder = Recorder::create(&path, HEADER_LINE.as_bytes(), tell).expect("it is new");
    recorder.finish().expect("it is quick");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(&path).expect("it is there").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    std::fs::remove_dir_all(&directory).expect("it is ours");
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), magic: bool) {
        let mut file = if magic { recorded(1, 1) } else { Vec::new() };
        file.extend(bytes);
        let _ = items(&file);
    }

    #[test]
    fn damage_never_makes_a_line(at: usize, damage in proptest::collection::vec(any::<u8>(), 1..40)) {
        let bytes = recorded(6, 3);
        let mut changed = bytes.clone();
        let at = at % bytes.len();
        for (place, byte) in changed.iter_mut().skip(at).zip(damage) {
            *place = byte;
        }
        if let Ok((items, ..)) = items(&changed) {
            let all = expected(6, 3);
            prop_assert_eq!(&items[..], &all[..items.len()]);
        }
    }
}
