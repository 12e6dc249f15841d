//! Standard output.

use std::io::{self, Write};

use anyhow::Context;

use super::exit::Failure;
use crate::render::{Json, Plain, Renderer};
use crate::report::Report;
use crate::sanitize::defused;

/// Form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Plain {
        /// Use colour.
        color: bool,
    },
    /// For programs.
    Json,
}

/// Prints reports in one form.
pub struct Printer {
    renderer: Box<dyn Renderer + Send>,
    out: Box<dyn Write + Send>,
}

impl Printer {
    /// To standard output.
    pub fn stdout(format: Format) -> Self {
        Self::to(format, Box::new(io::stdout()))
    }

    /// To anything.
    pub fn to(format: Format, out: Box<dyn Write + Send>) -> Self {
        let renderer: Box<dyn Renderer + Send> = match format {
            Format::Plain { color } => Box::new(Plain {
                color,
                ..Plain::default()
            }),
            Format::Json => Box::new(Json),
        };
        Self { renderer, out }
    }

    /// Prints a report at once.
    ///
    /// # Errors
    /// [`Failure::ReaderGone`] when the reader has closed the pipe, which should end the run.
    pub fn print(&mut self, report: &Report) -> anyhow::Result<()> {
        let result = self.renderer.render(report, &mut self.out);
        check(result)
    }

    /// Prints a line that is no report. Only for plain output.
    ///
    /// # Errors
    /// As [`Printer::print`].
    pub fn line(&mut self, text: &str) -> anyhow::Result<()> {
        let result = writeln!(self.out, "{}", defused(text)).and_then(|()| self.out.flush());
        check(result)
    }
}

/// Gives an error of standard output its exit status.
///
/// # Errors
/// [`Failure::ReaderGone`] when the reader has closed the pipe.
pub fn check(result: io::Result<()>) -> anyhow::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::ReaderGone.into()),
        other => other.context("cannot write to standard output"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::exit;
    use super::*;

    #[test]
    fn a_closed_pipe_and_a_full_disk_differ() {
        let status = |kind: io::ErrorKind| check(Err(kind.into())).map_err(|e| exit::status(&e));
        assert_eq!(status(io::ErrorKind::BrokenPipe), Err(exit::DONE));
        assert_eq!(status(io::ErrorKind::StorageFull), Err(exit::FAILED));
    }
}
