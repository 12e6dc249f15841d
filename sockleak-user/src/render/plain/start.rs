//! First words of `watch`: what is attached and what is not.

use super::super::page::{Page, Style};
use super::super::units::{count, counted, duration};
use super::{TEXT, grouped};
use crate::report::StartReport;

pub fn put(page: &mut Page, start: &StartReport) {
    put_attached(page, start);
    page.line(Style::Faint, "Hit Ctrl-C to end.");
}

/// What is true of a run that is over, too.
pub fn put_attached(page: &mut Page, start: &StartReport) {
    let hooks = start.hooks.values();
    let attached = hooks.filter(|hook| hook.backend.is_some()).count();
    let text = format!(
        "{attached} of {} on kernel {}, attached in {}",
        counted(start.hooks.len() as u64, "hook"),
        start.kernel,
        duration(start.attach_ns as f64 / 1e9),
    );
    page.labelled(0, "tracing", TEXT, Style::Strong, &text);

    let seen = start.seen.map_or(String::new(), |seen| {
        format!(", {} with a descriptor", count(seen))
    });
    let text = format!("{}{seen}", counted(start.baseline, "TCP socket"));
    page.labelled(0, "baseline", TEXT, Style::Normal, &text);

    put_hooks(page, start);
}

/// Who serves what. The reasons fill a page on some kernels; `sockleak probes` is for them.
fn put_hooks(page: &mut Page, start: &StartReport) {
    let hooks = || {
        start
            .hooks
            .iter()
            .map(|(name, state)| (name.as_str(), state))
    };
    let backends = hooks().filter_map(|(name, state)| Some((name, state.backend.as_deref()?)));
    let served: Vec<_> = grouped(backends)
        .into_iter()
        .map(|(names, backend)| format!("{names} by {backend}"))
        .collect();
    if !served.is_empty() {
        page.labelled(0, "hooks", TEXT, Style::Normal, &served.join("; "));
    }
    let missing: Vec<_> = hooks()
        .filter(|(_, state)| state.backend.is_none())
        .map(|(name, _)| name)
        .collect();
    if !missing.is_empty() {
        let text = format!("{}; sockleak probes says why", missing.join(", "));
        page.labelled(0, "missing", TEXT, Style::Warn, &text);
    }
    let limits = hooks().filter_map(|(name, state)| Some((name, state.limits.as_deref()?)));
    for (names, limit) in grouped(limits) {
        let text = format!("{names}: {limit}");
        page.labelled(0, "unseen", TEXT, Style::Normal, &text);
    }
}
