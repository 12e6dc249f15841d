//! A file that `sockleak report` is given.

use std::io::Write as _;

use crate::{
    cli::report::{Form, show},
    report::{NotAReport, Report},
    sanitize::is_harmless,
    source::recording::{Item, Kind, Reader, encode, opening},
};

/// A whole file.
pub fn recording(data: &[u8]) {
    let Ok(mut reader) = Reader::new(data) else {
        return;
    };
    // What was read is in the file, up to where the reader says it is.
    let mut again = opening().to_vec();
    while let Ok(Some(item)) = reader.next_item() {
        let encoded = match &item {
            Item::Header(line) => encode(Kind::Header, line.as_bytes(), &mut again),
            Item::Line(line) => encode(Kind::Line, line.as_bytes(), &mut again),
            Item::Mark => encode(Kind::Mark, &[], &mut again),
        };
        assert!(encoded.is_some());
        if let Item::Line(line) | Item::Header(line) = item {
            assert!(line.chars().all(is_harmless));
        }
    }
    assert!(reader.ending().is_some());
    let read = usize::try_from(reader.read_bytes()).unwrap_or(usize::MAX);
    assert!(read <= data.len());
    if reader.skipped() == 0 && !again.is_empty() {
        // A mark's payload, of which there should be none, is not kept.
        assert!(again.len() <= read);
    }
    shown(data);
}

/// The lines of a recording, in frames with the right checksums.
pub fn lines(data: &[u8]) {
    let mut file = opening().to_vec();
    for (number, line) in data.split(|byte| *byte == b'\n').enumerate() {
        if let Ok(line) = str::from_utf8(line)
            && let Err(error) = Report::from_json(line)
        {
            // What is wrong is said, and the message of a foreign line is no danger either.
            let named = matches!(error, NotAReport::Type(_));
            assert!(named || !error.to_string().is_empty());
        }
        let kind = if number == 0 {
            Kind::Header
        } else {
            Kind::Line
        };
        let _ = encode(kind, line, &mut file);
        if line.starts_with(b"{\"type\":\"interval\"") {
            let _ = encode(Kind::Mark, &[], &mut file);
        }
    }
    let _ = encode(Kind::Mark, &[], &mut file);
    shown(&file);
}

/// Whatever it is shown as, no terminal and no browser is misled.
fn shown(file: &[u8]) {
    for mask in [false, true] {
        for form in [
            Form::Plain { color: false },
            Form::Json,
            Form::Folded,
            Form::Html,
        ] {
            let mut out = Vec::new();
            let length = Some(file.len() as u64);
            if let Err(error) = show(file, length, mask, form, &mut out) {
                let _ = write!(out, "{error:#}");
            }
            let Ok(text) = String::from_utf8(out) else {
                panic!("{form:?} is not UTF-8");
            };
            let harmless = |c: char| is_harmless(c) || (c == '\n' || c == '\t');
            let bad = text.chars().find(|c| !harmless(*c));
            assert_eq!(bad, None, "{form:?}");
        }
    }
}
