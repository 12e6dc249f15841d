//! A recording as one page of HTML that needs nothing else: no network, no script.
//!
//! Everything that comes from elsewhere goes through [`Html::text`], and the page forbids itself to
//! load or run anything (Content-Security-Policy), should that ever fail.

mod cards;
mod chart;
mod coverage;
mod flame;
mod searches;
mod tables;
mod timeline;
mod verdict;

use std::{
    borrow::Cow,
    io::{self, Write},
};

use super::plain::clock;
use super::units::duration;
use crate::report::history::History;
use crate::sanitize::defused;

const STYLE: &str = include_str!("style.css");

/// Writes the page.
///
/// # Errors
/// Those of `out`.
pub fn write(history: &History, out: &mut dyn Write) -> io::Result<()> {
    let mut page = Html::default();
    head(&mut page, history);
    page.raw("<main>\n");
    verdict::put(&mut page, history);
    cards::put(&mut page, history);
    timeline::put(&mut page, &history.timeline);
    searches::put(&mut page, history);
    flame::put(&mut page, history);
    tables::put(&mut page, history);
    coverage::put(&mut page, history);
    page.raw("</main>\n</body>\n</html>\n");
    out.write_all(page.0.as_bytes())?;
    out.flush()
}

fn head(page: &mut Html, history: &History) {
    let host = history.recording.as_ref().map_or("", |at| &at.body.host);
    page.raw(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>",
    );
    page.text(&format!("sockleak: {host} {}", began(history)));
    page.raw("</title>\n<style>\n");
    page.raw(STYLE);
    page.raw("</style>\n</head>\n<body>\n<header>\n<p class=\"brand\">sockleak</p>\n<dl>");
    if let Some(at) = &history.recording {
        let recording = &at.body;
        term(page, "host", &recording.host);
        let kernel = format!("{} ({})", recording.kernel, recording.machine);
        term(page, "kernel", &kernel);
    }
    term(page, "from", &readable(&began(history)));
    if let Some(until) = until(history) {
        term(page, "to", &readable(until));
    }
    term(page, "watched", &duration(watched_s(history)));
    page.raw("</dl>\n</header>\n");
}

fn term(page: &mut Html, name: &str, value: &str) {
    page.raw("<div>");
    page.element("dt", name);
    page.element("dd", value);
    page.raw("</div>");
}

/// When the run began, RFC 3339.
fn began(history: &History) -> Cow<'_, str> {
    let of_start = history.start.as_ref().map(|at| at.ts.as_str());
    let of_file = history.recording.as_ref().map(|at| at.ts.as_str());
    of_start.or(of_file).unwrap_or_default().into()
}

/// What the page is as of: the last report, or the last complete interval.
fn until(history: &History) -> Option<&str> {
    match &history.end {
        Some(at) => Some(&at.ts),
        None => history.so_far.until.as_deref(),
    }
}

fn watched_s(history: &History) -> f64 {
    match &history.end {
        Some(at) => at.body.duration_s,
        None => history.so_far.duration_s,
    }
}

/// `2026-08-01 03:14:15 UTC`
fn readable(ts: &str) -> String {
    match ts.split_once('T') {
        Some((date, _)) => {
            let time = clock(ts);
            let seconds = time.split_once('.').map_or(time, |(seconds, _)| seconds);
            format!("{date} {seconds} UTC")
        }
        None => ts.to_owned(),
    }
}

/// `03:14:15`
fn time_of_day(ts: &str) -> &str {
    let time = clock(ts);
    time.split_once('.').map_or(time, |(seconds, _)| seconds)
}

/// A page that grows.
#[derive(Debug, Default)]
struct Html(String);

impl Html {
    /// Markup of ours.
    fn raw(&mut self, markup: &str) {
        self.0.push_str(markup);
    }

    /// Text of anybody, also for the value of an attribute in double quotes.
    fn text(&mut self, text: &str) {
        for c in defused(text).chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                c => self.0.push(c),
            }
        }
    }

    /// An element that holds text.
    fn element(&mut self, name: &str, text: &str) {
        self.raw("<");
        self.raw(name);
        self.raw(">");
        self.text(text);
        self.raw("</");
        // What follows a space are attributes.
        self.raw(name.split(' ').next().unwrap_or_default());
        self.raw(">");
    }

    /// A section with its heading.
    fn section(&mut self, id: &str, heading: &str) {
        self.raw("<section id=\"");
        self.raw(id);
        self.raw("\">\n");
        self.element("h2", heading);
        self.raw("\n");
    }

    fn end_section(&mut self) {
        self.raw("</section>\n");
    }

    /// A list of sentences; nothing when there is none.
    fn list(&mut self, items: &[String]) {
        if items.is_empty() {
            return;
        }
        self.raw("<ul>");
        for item in items {
            self.element("li", item);
        }
        self.raw("</ul>\n");
    }
}
