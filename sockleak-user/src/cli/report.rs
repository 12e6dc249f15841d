//! `sockleak report`: what a recording shows, on any machine, without privileges.

use std::{
    fs::{self, File, Metadata},
    io::{self, BufReader, Read, Write},
    path::Path,
};

use anyhow::{Context as _, Result, bail};

use super::{
    args::ReportArgs,
    config,
    printer::{Format, check},
    progress::Progress,
};
use crate::{
    mask::Masker,
    render::{Json, Renderer, folded, html, plain},
    report::{
        Body, CutReport, Head, Report,
        history::{At, History},
    },
    sanitize::printable,
    source::recording::{Ending, Item, MAGIC, Malformed, Reader},
};

/// What to make of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For people, as the last words of `watch`.
    Plain {
        /// Use colour.
        color: bool,
    },
    /// The recorded lines.
    Json,
    /// Stacks of leaked sockets.
    Folded,
    /// A page that stands alone.
    Html,
}

/// Runs the subcommand.
///
/// # Errors
/// When the file is no recording, or one of another format.
pub fn run(args: &ReportArgs) -> Result<()> {
    let form = match config::format(&args.output) {
        Format::Json => Form::Json,
        Format::Plain { .. } if args.folded => Form::Folded,
        Format::Plain { .. } if args.html.is_some() => Form::Html,
        Format::Plain { color } => Form::Plain { color },
    };
    let name = printable(args.file.as_os_str().as_encoded_bytes());
    let (mut input, length): (Box<dyn Read>, _) = if args.file == Path::new("-") {
        (Box::new(io::stdin()), None)
    } else {
        let file =
            File::open(&args.file).with_context(|| format!("cannot open recording {name}"))?;
        let metadata = file.metadata().ok();
        let length = metadata.filter(Metadata::is_file).map(|data| data.len());
        (Box::new(BufReader::new(file)), length)
    };
    let mut show = |out: &mut dyn Write| {
        show(&mut *input, length, args.mask, form, out)
            .with_context(|| format!("cannot report {name}"))
    };
    match args.html.as_deref().filter(|out| *out != Path::new("-")) {
        None => show(&mut io::stdout().lock()),
        Some(path) => {
            let _progress = Progress::begin("reading the recording", None);
            // Only a whole page is written, and never over a recording.
            let mut page = Vec::new();
            show(&mut page)?;
            replace(path, &page).with_context(|| format!("cannot write {}", path.display()))
        }
    }
}

/// Writes a file, which may be there already unless it is a recording.
fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let mut first = Vec::new();
    if let Ok(file) = File::open(path) {
        file.take(MAGIC.len() as u64).read_to_end(&mut first)?;
    }
    if first == MAGIC {
        bail!("it is a recording, which is not overwritten");
    }
    Ok(fs::write(path, content)?)
}

/// Writes what a recording has to say. `length` is that of the file, bytes, where known.
///
/// # Errors
/// When it is no recording, or one of another format; those of `input` and `out`.
pub fn show(
    input: impl Read,
    length: Option<u64>,
    mask: bool,
    form: Form,
    out: &mut dyn Write,
) -> Result<()> {
    let mut recording = Recording::new(input, length, mask)?;
    if form == Form::Json {
        return print_lines(&mut recording, out);
    }
    let history = history(&mut recording)?;
    check(match form {
        Form::Plain { color } => plain::history(&history, color, out),
        Form::Json | Form::Folded => folded::write(&history, out),
        Form::Html => html::write(&history, out),
    })
}

/// A recording that is read.
struct Recording<R> {
    reader: Reader<R>,
    length: Option<u64>,
    masker: Option<Masker>,
    /// When the last line was made.
    last: String,
    intervals: u64,
    /// When the last interval was over of which there are lines, and of which there are all.
    interval: Option<String>,
    until: Option<String>,
    ended: bool,
}

impl<R: Read> Recording<R> {
    fn new(input: R, length: Option<u64>, mask: bool) -> Result<Self, Malformed> {
        Ok(Self {
            reader: Reader::new(input)?,
            length,
            masker: mask.then(Masker::default),
            last: String::new(),
            intervals: 0,
            interval: None,
            until: None,
            ended: false,
        })
    }

    fn next(&mut self) -> Result<Option<Item>> {
        let item = self.reader.next_item()?;
        let masked = |masker: &mut Option<Masker>, line: String| match masker {
            Some(masker) => masker.line(&line),
            None => line,
        };
        Ok(Some(match item {
            Some(Item::Header(line)) => {
                self.see(&line);
                Item::Header(masked(&mut self.masker, line))
            }
            Some(Item::Line(line)) => {
                self.see(&line);
                Item::Line(masked(&mut self.masker, line))
            }
            Some(Item::Mark) => {
                self.intervals += 1;
                self.until.clone_from(&self.interval);
                Item::Mark
            }
            None => return Ok(None),
        }))
    }

    fn see(&mut self, line: &str) {
        let Ok(head) = Head::of(line) else { return };
        if head.r#type == "interval" {
            self.interval = Some(head.ts.clone().into_owned());
        }
        self.ended |= head.r#type == "end";
        self.last = head.ts.into_owned();
    }

    /// What there is to say about the end of the file, when the recording has none.
    fn cut(&self) -> Option<At<CutReport>> {
        let reason = match self.reader.ending()? {
            Ending::Whole if self.ended => return None,
            Ending::Whole => "the file ends without the last report",
            Ending::Truncated => "the file ends in the middle of a line",
            Ending::Damaged(what) => what,
        };
        let read_bytes = self.reader.read_bytes();
        Some(At {
            ts: self.last.clone(),
            body: CutReport {
                reason: reason.to_owned(),
                intervals: self.intervals,
                until: self.until.clone(),
                read_bytes,
                unread_bytes: self.length.map(|length| length.saturating_sub(read_bytes)),
                after_end: self.ended,
            },
        })
    }

    /// There is a header, at least.
    fn check(&self) -> Result<(), Malformed> {
        if self.last.is_empty() {
            return Err(Malformed::Empty);
        }
        Ok(())
    }
}

/// What was recorded, as it is.
fn print_lines(recording: &mut Recording<impl Read>, out: &mut dyn Write) -> Result<()> {
    let out = &mut io::BufWriter::new(out);
    while let Some(item) = recording.next()? {
        if let Item::Line(line) = item {
            check(writeln!(out, "{line}"))?;
        }
    }
    recording.check()?;
    if let Some(At { ts, body }) = recording.cut() {
        check(Json.render(&Report::new(ts, Body::Cut(body)), out))?;
    }
    check(out.flush())
}

/// All of it, put together.
fn history(recording: &mut Recording<impl Read>) -> Result<History> {
    let mut history = History::default();
    while let Some(item) = recording.next()? {
        match item {
            Item::Header(line) | Item::Line(line) => match Report::from_json(&line) {
                Ok(report) => history.add(report),
                Err(error) => {
                    log::info!("{error}");
                    history.add_unreadable();
                }
            },
            Item::Mark => history.interval_is_complete(),
        }
    }
    recording.check()?;
    history.cut = recording.cut();
    Ok(history)
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
