//! Plain text, for people and grep: most important first, one fact per line, 80 columns.

mod diagnosis;
mod end;
mod event;
pub(crate) mod failure;
pub(crate) mod histogram;
mod history;
mod interval;
pub(crate) mod leak;
pub(crate) mod loss;
pub(crate) mod occupancy;
pub mod orphans;
pub(crate) mod ports;
pub(crate) mod pressure;
mod probes;
pub(crate) mod processes;
mod recording;
mod run;
pub(crate) mod search;
pub(super) mod snapshot;
mod start;
pub(crate) mod subject;

use std::io::{self, Write};

use super::Renderer;
use super::page::{Page, Style};
use crate::report::{Body, Report};

pub use history::put as history;

/// Column at which the text behind a label begins.
const TEXT: usize = 10;

/// Plain text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plain {
    /// Use colour.
    pub color: bool,
    /// Columns at which sentences are wrapped. Tables are as wide as their content.
    pub width: usize,
}

impl Default for Plain {
    fn default() -> Self {
        Self {
            color: false,
            width: 80,
        }
    }
}

impl Renderer for Plain {
    fn render(&self, report: &Report, out: &mut dyn Write) -> io::Result<()> {
        page(report, self.width, self.color).write_to(out)
    }
}

/// A report as lines.
pub(crate) fn page(report: &Report, width: usize, color: bool) -> Page {
    let mut page = Page::new(width, color);
    match &report.body {
        Body::Snapshot(body) => snapshot::put(&mut page, body),
        Body::Ports(body) => occupancy::put(&mut page, body),
        Body::Diagnosis(body) => diagnosis::put(&mut page, body),
        Body::Probes(body) => probes::put(&mut page, body),
        Body::Start(body) => start::put(&mut page, body),
        Body::Interval(body) => interval::put(&mut page, clock(&report.ts), body),
        Body::Failure(body) => failure::put(&mut page, body),
        Body::HotLoop(body) => search::put_hot(&mut page, body),
        Body::Pressure(body) => pressure::put(&mut page, body),
        Body::Leak(body) => leak::put(&mut page, body),
        Body::Run(body) => run::put(&mut page, body),
        Body::Event(body) => event::put(&mut page, clock(&report.ts), body),
        Body::End(body) => end::put(&mut page, body),
        Body::Recording(body) => recording::put(&mut page, &report.ts, body),
        Body::Gap(body) => recording::put_gap(&mut page, &report.ts, body),
        Body::Cut(body) => recording::put_cut(&mut page, &report.ts, body),
    }
    page
}

/// The time of day in an RFC 3339 time, in UTC like all of it.
pub(crate) fn clock(ts: &str) -> &str {
    let time = ts.split_once('T').map_or(ts, |(_, time)| time);
    time.trim_end_matches('Z')
}

/// `java[4684]`, not broken at the end of a line
pub(crate) fn process(comm: &str, pid: u32) -> String {
    let comm = if comm.is_empty() { "?" } else { comm };
    format!("{}[{pid}]", comm.replace(' ', "\u{a0}"))
}

/// A container as its runtime's commands show it: by the first twelve digits.
fn short_id(container: &str) -> String {
    container.chars().take(12).collect()
}

/// Says that a process is in a container, if it is.
fn put_container(page: &mut Page, indent: usize, column: usize, container: Option<&str>) {
    if let Some(id) = container {
        let text = format!("container {}", short_id(id));
        page.labelled(indent, "inside", column, Style::Normal, &text);
    }
}

/// Names that share a fact, `alloc, destroy`, each fact where it first occurs.
pub(super) fn grouped<'a, T: PartialEq>(
    facts: impl Iterator<Item = (&'a str, T)>,
) -> Vec<(String, T)> {
    let mut groups: Vec<(String, T)> = Vec::new();
    for (name, fact) in facts {
        match groups.iter_mut().find(|(_, known)| *known == fact) {
            Some((names, _)) => {
                names.push_str(", ");
                names.push_str(name);
            }
            None => groups.push((name.to_owned(), fact)),
        }
    }
    groups
}
