//! What `watch` says goes to standard output and, with `--record`, into a file.

use std::{
    fs, future,
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
};

use anyhow::Result;
use rustix::system::uname;

use super::{
    exit::Failure,
    logging,
    printer::{Format, Printer},
};
use crate::{
    engine::timestamp,
    render::{Json, Renderer},
    report::{Body, GapReport, RecordingReport, Report},
    sanitize::printable,
    source::recording::{FORMAT, Lost, Recorder},
    tui::{self, Ask, Screen},
};

/// Where reports go.
pub struct Output {
    printer: Printer,
    /// Shows them instead of the printer, while it is there.
    screen: Option<Screen>,
    recording: Option<(Recorder, PathBuf)>,
}

impl Output {
    /// To this printer and into a new file.
    ///
    /// # Errors
    /// When the file cannot be made; with exit status 2 when there is one of this name.
    pub fn new(printer: Printer, file: Option<&Path>) -> Result<Self> {
        let recording = match file {
            Some(path) => Some((create(path)?, path.to_owned())),
            None => None,
        };
        Ok(Self {
            printer,
            screen: None,
            recording,
        })
    }

    /// From here on, reports are shown on a screen of its own.
    ///
    /// # Errors
    /// When the terminal cannot be taken over.
    pub fn open_screen(&mut self, options: tui::Options) -> Result<()> {
        let screen = Screen::start(options)?;
        if io::stderr().is_terminal() {
            let mailbox = screen.mailbox();
            logging::divert(Box::new(move |line| mailbox.say(line.to_owned())));
        }
        self.screen = Some(screen);
        Ok(())
    }

    /// Gives the terminal back: reports are printed again.
    ///
    /// # Errors
    /// [`Failure::ReaderGone`] when it is not there any more; when the screen has failed.
    pub fn close_screen(&mut self) -> Result<()> {
        let Some(screen) = self.screen.take() else {
            return Ok(());
        };
        let is_there = screen.close();
        logging::restore();
        match is_there? {
            true => Ok(()),
            false => Err(Failure::ReaderGone.into()),
        }
    }

    /// What the user wants of the watch; never, without a screen.
    pub async fn asked(&mut self) -> Ask {
        match &mut self.screen {
            Some(screen) => screen.asked().await,
            None => future::pending().await,
        }
    }

    /// Records and prints.
    ///
    /// # Errors
    /// Those of the printer. What cannot be recorded is counted.
    pub fn emit(&mut self, report: Report) -> Result<()> {
        self.record(&report);
        self.print(report)
    }

    /// Records only.
    pub fn record(&mut self, report: &Report) {
        if let Some((recorder, _)) = &mut self.recording {
            recorder.line(&line(report), &report.ts);
        }
    }

    /// Prints only.
    ///
    /// # Errors
    /// Those of the printer.
    pub fn print(&mut self, report: Report) -> Result<()> {
        match &mut self.screen {
            Some(screen) => {
                screen.show(report);
                Ok(())
            }
            None => self.printer.print(&report),
        }
    }

    /// An interval has all its lines.
    pub fn interval_is_over(&mut self) {
        if let Some((recorder, _)) = &mut self.recording {
            recorder.mark();
        }
        if let Some(screen) = &mut self.screen {
            screen.interval_is_over();
        }
    }

    /// What follows are the last lines.
    pub fn begin_end(&mut self) {
        if let Some((recorder, _)) = &mut self.recording {
            recorder.begin_end();
        }
    }

    /// Nothing came of the watch: no file is left behind.
    pub fn discard(&mut self) {
        if let Some((recorder, path)) = self.recording.take() {
            recorder.finish();
            // It is empty but for its header; that it is left is no further harm.
            let _ = fs::remove_file(path);
        }
    }

    /// Waits for the disk and says what became of the recording.
    ///
    /// # Errors
    /// Those of the printer.
    pub fn finish(&mut self, format: Format) -> Result<()> {
        let Some((recorder, path)) = self.recording.take() else {
            return Ok(());
        };
        let path = printable(path.as_os_str().as_encoded_bytes());
        let Some(summary) = recorder.finish() else {
            log::warn!(target: "recording", "{path}: the disk does not answer; its end may be missing");
            return Ok(());
        };
        if summary.lost > 0 {
            let reason = summary.reason.as_deref().unwrap_or("unknown");
            log::warn!(
                target: "recording",
                "{path}: {} lines of {} are missing: {reason}",
                summary.lost,
                summary.lost.saturating_add(summary.lines)
            );
        }
        if format == Format::Json {
            return Ok(());
        }
        let text = format!(
            "recorded  {} lines, {} bytes: sockleak report {path}",
            summary.lines, summary.bytes
        );
        match self.printer.line(&text) {
            // That nobody reads any more was noticed before, or is of no interest now.
            Err(error) if super::exit::reader_is_gone(&error) => Ok(()),
            other => other,
        }
    }
}

fn create(path: &Path) -> Result<Recorder> {
    let host = uname();
    let text = |bytes: &std::ffi::CStr| printable(bytes.to_bytes());
    let arguments = std::env::args_os();
    let header = Report::new(
        timestamp(),
        Body::Recording(RecordingReport {
            format: FORMAT,
            sockleak: env!("CARGO_PKG_VERSION").to_owned(),
            host: text(host.nodename()),
            kernel: text(host.release()),
            machine: text(host.machine()),
            command: arguments
                .map(|argument| printable(argument.as_encoded_bytes()))
                .collect(),
        }),
    );
    Recorder::create(path, &line(&header), tell).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Failure::Usage(format!(
            "--record {}: there is a file of this name, which is not overwritten: remove it, or \
             take another name",
            path.display()
        ))
        .into(),
        _ => anyhow::Error::new(error).context(format!("cannot record in {}", path.display())),
    })
}

fn tell(lost: &Lost) -> Vec<u8> {
    line(&Report::new(
        lost.until.as_str(),
        Body::Gap(GapReport {
            lines: lost.lines,
            since: lost.since.clone(),
            reason: lost.reason.clone(),
        }),
    ))
}

/// A line of JSON, without its end.
fn line(report: &Report) -> Vec<u8> {
    let mut line = Vec::new();
    // Memory can be written to; a report has no map whose keys are no strings.
    let _ = Json.render(report, &mut line);
    line.pop();
    line
}
