//! Ports towards a destination get scarce: before the first error.

use super::super::page::{Page, Style};
use super::super::units::{count, counted, duration, latency};
use super::failure::holders;
use crate::report::PressureReport;

const INDENT: usize = 6;
const TEXT: usize = 14;

#[inline(never)]
pub fn put(page: &mut Page, pressure: &PressureReport) {
    let from = pressure
        .src
        .as_ref()
        .map_or(String::new(), |src| format!(" from {src}"));
    page.put(Style::Warn, "SOON")
        .put(Style::Normal, "  ")
        .put(
            Style::Strong,
            &format!("ports run short towards {}{from}", pressure.dst),
        )
        .put(Style::Normal, &format!("  netns {}", pressure.netns))
        .end_line();
    let meaning = pressure.meaning.replace(" %", "\u{a0}%");
    page.labelled(INDENT, "means", TEXT, Style::Normal, &meaning);
    if let Some(text) = room(pressure) {
        page.labelled(INDENT, "room", TEXT, Style::Normal, &text);
    }
    if let (Some(first), Some(second)) = (pressure.first_p50_ns, pressure.second_p50_ns) {
        let text = format!(
            "half of the searches in the first parity take up to {}, in the second up to {}",
            latency(first),
            latency(second)
        );
        page.labelled(INDENT, "price", TEXT, Style::Normal, &text);
    }
    if !pressure.who.is_empty() {
        let text = format!("{} calls", holders(&pressure.who));
        page.labelled(INDENT, "who", TEXT, Style::Normal, &text);
    }
    page.labelled_list(INDENT, "fix", TEXT, &pressure.remedy);
}

/// What is left, and for how long.
pub fn room(pressure: &PressureReport) -> Option<String> {
    let (used, size) = (pressure.used?, pressure.size?);
    let range = pressure
        .range
        .map_or(String::new(), |[low, high]| format!(" of {low}-{high}"));
    let waiting = pressure.time_wait.map_or(String::new(), |waiting| {
        format!(", {} of them in TIME_WAIT", count(waiting))
    });
    let free = pressure
        .free
        .map_or(String::new(), |free| format!("; {} left", count(free)));
    let age = pressure
        .age_s
        .filter(|age| *age >= 1.0)
        .map_or(String::new(), |age| format!(" {} ago", duration(age)));
    let pace = pressure.rate_per_s.map_or(String::new(), |rate| {
        format!(", {rate:.1} fewer each second")
    });
    let wall = pressure
        .eta_s
        .map_or(String::new(), |eta| format!(": none in {}", duration(eta)));
    Some(format!(
        "{} of {}{range} used{age}{waiting}{free}{pace}{wall}",
        count(used),
        counted(size, "port")
    ))
}
