//! Last words of `watch`: leaks, totals, the reconciliation, losses, own cost.

use super::super::page::{Page, Style};
use super::super::units::{count, counted, duration, per_second, signed};
use super::snapshot::kinds_text;
use super::{TEXT, failure, leak, loss, orphans, ports, pressure, processes, search};
use crate::report::{EndReport, IntervalProcess, Leak};

pub fn put(page: &mut Page, end: &EndReport) {
    put_leaks(page, &end.leaks, "worst first");
    failure::put_all(page, end);
    search::put_all(page, end);
    for found in &end.pressures {
        page.end_line();
        pressure::put(page, found);
    }
    if let Some(found) = &end.orphans {
        page.end_line();
        orphans::put(page, found);
    }
    put_processes(page, &end.processes);
    ports::put(page, &end.ports);

    page.end_line();
    put_totals(page, end);
    put_sockstat(page, end);
    if let Some(seen) = end.seen {
        let text = match &end.unattributed_kinds {
            Some(kinds) => format!(
                "{} with a descriptor; without: {}",
                count(seen),
                kinds_text(kinds)
            ),
            None => format!("{} with a descriptor", count(seen)),
        };
        page.labelled(0, "seen", TEXT, Style::Normal, &text);
    }
    page.labelled_list(0, "unseen", TEXT, &end.coverage);
    loss::put(page, &end.loss);
    loss::put_cost(page, &end.self_cost, Some(end.duration_s));
}

/// The leak report.
pub fn put_leaks(page: &mut Page, leaks: &[Leak], what: &str) {
    page.end_line();
    if leaks.is_empty() {
        let text = "none found";
        page.labelled(0, "leaks", TEXT, Style::Strong, text);
    } else {
        let text = format!("{}, {what}", count(leaks.len() as u64));
        page.labelled(0, "leaks", TEXT, Style::Strong, &text);
        for found in leaks {
            page.end_line();
            leak::put(page, found);
        }
    }
}

/// Those that hold sockets; of the others the totals tell.
pub fn put_processes(page: &mut Page, processes: &[IntervalProcess]) {
    let holders = processes
        .iter()
        .map(|process| &process.held)
        .filter(|held| held.total > 0);
    if holders.clone().next().is_some() {
        page.end_line();
        let holders: Vec<_> = holders.collect();
        processes::put_classes(page, &holders);
    }
}

fn put_totals(page: &mut Page, end: &EndReport) {
    let rate = |events| per_second(events, end.duration_s);
    let handed = end.accepted.map_or(String::new(), |accepted| {
        format!(", {} handed to processes", count(accepted))
    });
    let text = format!(
        "in {}: created {} ({}), accepted {} ({}{handed}), destroyed {} ({})",
        duration(end.duration_s),
        count(end.allocated),
        rate(end.allocated),
        count(end.children),
        rate(end.children),
        count(end.destroyed),
        rate(end.destroyed),
    );

    page.labelled(0, "total", TEXT, Style::Normal, &text);
}

/// The sum that must come out: the kernel's own count against ours.
fn put_sockstat(page: &mut Page, end: &EndReport) {
    let uncertain = match end.difference_uncertainty {
        0 => String::new(),
        n => format!(
            " ({} came or went between the two readings)",
            counted(n, "socket")
        ),
    };
    let text = format!(
        "alloc {} = baseline {} + created {} + accepted {} - destroyed {}: \
         difference\u{a0}{}{uncertain}",
        count(end.sockstat_alloc),
        count(end.baseline),
        count(end.allocated),
        count(end.children),
        count(end.destroyed),
        signed(end.difference),
    );
    let explained = end.difference.unsigned_abs() <= end.difference_uncertainty;
    let style = if explained {
        Style::Normal
    } else {
        Style::Warn
    };
    page.labelled(0, "sockstat", TEXT, style, &text);
}
