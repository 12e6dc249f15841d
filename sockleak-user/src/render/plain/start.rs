//! First words of `watch`: what is attached and what is not.

use super::super::page::{Page, Style};
use super::super::units::{count, counted, duration};
use super::TEXT;
use crate::report::StartReport;

pub fn put(page: &mut Page, start: &StartReport) {
    let attached = start
        .hooks
        .values()
        .filter(|hook| hook.backend.is_some())
        .count();
    let text = format!(
        "{attached} of {} on kernel {}, attached in {}",
        counted(start.hooks.len() as u64, "hook"),
        start.kernel,
        duration(start.attach_ns as f64 / 1e9),
    );
    page.labelled(0, "tracing", TEXT, Style::Strong, &text);

    let seen = start.seen.map_or(String::new(), |seen| {
        format!(", {} behind descriptors", count(seen))
    });
    let text = format!("{}{seen}", counted(start.baseline, "TCP socket"));
    page.labelled(0, "baseline", TEXT, Style::Normal, &text);

    let mut label = "hooks";
    for (name, hook) in &start.hooks {
        let (style, backend) = match &hook.backend {
            Some(backend) => (Style::Normal, backend.as_str()),
            None => (Style::Warn, "not attached"),
        };
        let mut text = format!("{name} {backend}");
        for (why, introduction) in [(&hook.reason, ": "), (&hook.limits, "; unseen: ")] {
            if let Some(why) = why {
                text.push_str(introduction);
                text.push_str(why);
            }
        }
        page.labelled(0, label, TEXT, style, &text);
        label = "";
    }
    page.line(Style::Faint, "Hit Ctrl-C to end.");
}
