//! First words of `watch`: what is attached and what is not.

use super::super::page::{Page, Style};
use super::super::units::{count, counted, duration};
use super::{TEXT, grouped};
use crate::report::{HookState, StartReport};

pub fn put(page: &mut Page, start: &StartReport) {
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
        format!(", {} behind descriptors", count(seen))
    });
    let text = format!("{}{seen}", counted(start.baseline, "TCP socket"));
    page.labelled(0, "baseline", TEXT, Style::Normal, &text);

    put_hooks(page, start);
    page.line(Style::Faint, "Hit Ctrl-C to end.");
}

fn put_hooks(page: &mut Page, start: &StartReport) {
    let hooks = || {
        start
            .hooks
            .iter()
            .map(|(name, state)| (name.as_str(), state))
    };
    let mut label = "hooks";
    for (names, state) in grouped(hooks().map(|(name, state)| (name, service(state)))) {
        let style = match state.0 {
            Some(_) => Style::Normal,
            None => Style::Warn,
        };
        page.labelled(0, label, TEXT, style, &described(&names, state));
        label = "";
    }
    let limits = hooks().filter_map(|(name, state)| Some((name, state.limits.as_deref()?)));
    for (names, limit) in grouped(limits) {
        let text = format!("{names}: {limit}");
        page.labelled(0, "unseen", TEXT, Style::Normal, &text);
    }
}

/// Backend, and the reason for it or for its absence.
type Service<'a> = (Option<&'a str>, Option<&'a str>);

fn service(state: &HookState) -> Service<'_> {
    (state.backend.as_deref(), state.reason.as_deref())
}

fn described(names: &str, service: Service<'_>) -> String {
    match service {
        (Some(backend), None) => format!("{names} by {backend}"),
        (Some(backend), Some(reason)) => format!("{names} by {backend} ({reason})"),
        (None, None) => format!("{names} not attached"),
        (None, Some(reason)) => format!("{names} not attached: {reason}"),
    }
}
