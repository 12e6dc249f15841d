//! One interval of `watch`.

use super::super::page::{Page, Style};
use super::super::units::{count, counted, duration, per_second};
use super::{TEXT, failure, loss, orphans, processes, search};
use crate::report::IntervalReport;

pub fn put(page: &mut Page, time: &str, interval: &IntervalReport) {
    let seconds = interval.interval_s;
    page.end_line();
    page.put(Style::Strong, time);
    let text = format!(
        "  alloc {}  created {}  accepted {}  destroyed {}",
        count(interval.sockstat.alloc),
        per_second(interval.allocated, seconds),
        per_second(interval.children, seconds),
        per_second(interval.destroyed, seconds),
    );
    page.line(Style::Normal, &text);

    // Only the exceptions: the end report says that nothing was lost.
    let lost = loss::named(&interval.loss);
    if !lost.is_empty() {
        page.labelled(0, "loss", TEXT, Style::Warn, &lost.join(", "));
    }
    match interval.inventory_age_s {
        None if !interval.processes.is_empty() => {
            let text = "no inventory yet: only sockets created since the start are counted";
            page.labelled(0, "unseen", TEXT, Style::Warn, text);
        }
        // Where an inventory is dear, there is not one in every interval.
        Some(age) if age > seconds / 2.0 => {
            let text = format!("as found {} ago", duration(age));
            page.labelled(0, "holdings", TEXT, Style::Faint, &text);
        }
        _ => {}
    }
    processes::put_movement(page, &interval.processes);
    if interval.processes_omitted > 0 {
        let noun = if interval.processes_omitted == 1 {
            "process"
        } else {
            "processes"
        };
        let text = format!("and {} more {noun}", count(interval.processes_omitted));
        page.line(Style::Faint, &text);
    }
    let searches: Vec<_> = interval.searches.iter().flatten().collect();
    search::put_table(page, &searches);
    if interval.searches_omitted > 0 {
        let text = format!(
            "and {}",
            counted(interval.searches_omitted, "more port search")
        );
        page.line(Style::Faint, &text);
    }
    if let Some(found) = &interval.orphans {
        page.labelled(0, "orphans", TEXT, Style::Warn, &orphans::brief(found));
    }
    failure::put_counts(page, &interval.failed, interval.failed_unlisted);
}
