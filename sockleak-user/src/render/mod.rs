//! Printing. A renderer sees only a [`Report`] and writes it whole, or not at all.

mod columns;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod folded;
#[cfg(test)]
pub(crate) mod histories;
pub mod html;
mod json;
pub(crate) mod page;
pub mod plain;
#[cfg(test)]
mod tests;
pub(crate) mod units;

use std::io::{self, Write};

use crate::report::Report;

pub use json::{Json, quoted};
pub use plain::Plain;

/// One way of printing reports.
pub trait Renderer {
    /// Writes one report and flushes it, so that a reader of a pipe sees it at once.
    ///
    /// # Errors
    /// Those of `out`; [`io::ErrorKind::BrokenPipe`] when the reader has gone.
    fn render(&self, report: &Report, out: &mut dyn Write) -> io::Result<()>;
}
