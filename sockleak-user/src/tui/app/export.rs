//! What is shown, as the reports behind it.

use std::sync::Arc;

use super::known::FailureKey;
use super::{App, Subject, View};
use crate::report::{Body, Report};

/// The reports behind the view, as `watch --json` prints them: the newest interval, and what the
/// view lists, in the view's order and through its filter.
pub fn reports(app: &App) -> Vec<Arc<Report>> {
    let known = app.shown();
    let mut reports: Vec<Arc<Report>> = Vec::new();
    reports.extend(known.start_line.clone());
    reports.extend(known.interval_line.clone());
    let of = |kinds: &[&str]| {
        let lines = known.lines.iter();
        let wanted = lines.filter(|line| kinds.contains(&line.body.kind()));
        wanted.cloned().collect::<Vec<_>>()
    };
    match app.view {
        View::Overview => {
            reports.extend(known.failures.iter().map(|failed| failed.line.clone()));
            reports.extend(known.lines.iter().cloned());
        }
        View::Searches => reports.extend(of(&["hot_loop"])),
        View::Destinations => {
            let failures = known.failures.iter();
            let to_somewhere = failures.filter(|failed| {
                let report = failed.report();
                report.is_some_and(|report| report.dst.is_some())
            });
            reports.extend(to_somewhere.map(|failed| failed.line.clone()));
            reports.extend(of(&["pressure"]));
        }
        View::Ports => reports.extend(known.look_line.clone()),
        View::Leaks | View::Failures | View::Events => {
            let rows = app.table().rows;
            reports.extend(rows.iter().filter_map(|row| report(app, &row.subject)));
        }
    }
    reports
}

/// The report of one row.
fn report(app: &App, subject: &Subject) -> Option<Arc<Report>> {
    let known = app.shown();
    let found = match subject {
        Subject::Leak(pid, class) => known.lines.iter().find(|line| {
            matches!(&line.body, Body::Leak(leak) if leak.pid == *pid && leak.class == *class)
        }),
        Subject::Failure(key) => {
            let mut failures = known.failures.iter();
            let is_it = |report| FailureKey::of(report) == *key;
            let found = failures.find(|failed| failed.report().is_some_and(is_it));
            found.map(|failed| &failed.line)
        }
        Subject::Event(number) => {
            let mut events = known.events.iter();
            let found = events.find(|(known, _)| known == number);
            found.map(|(_, line)| line)
        }
        Subject::Process(_)
        | Subject::Search(..)
        | Subject::Destination(..)
        | Subject::Namespace(_) => None,
    };
    found.cloned()
}
