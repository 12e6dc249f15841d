//! What a recording says about itself: whose it is, what is missing, and where it ends.

use super::super::page::{Page, Style};
use super::super::units::{count, counted};
use super::{TEXT, clock};
use crate::report::{CutReport, GapReport, RecordingReport};

pub fn put(page: &mut Page, began: &str, recording: &RecordingReport) {
    let text = format!(
        "{} on {} since {began}, kernel {}, sockleak {}",
        recording.host, recording.machine, recording.kernel, recording.sockleak
    );
    page.labelled(0, "recording", TEXT, Style::Strong, &text);
    let text = recording.command.join(" ");
    page.labelled(0, "command", TEXT, Style::Faint, &text);
}

pub fn put_gap(page: &mut Page, until: &str, gap: &GapReport) {
    let text = format!(
        "{} of {} to {} not recorded: {}",
        counted(gap.lines, "line"),
        clock(&gap.since),
        clock(until),
        gap.reason
    );
    page.labelled(0, "gap", TEXT, Style::Warn, &text);
}

pub fn put_cut(page: &mut Page, last: &str, cut: &CutReport) {
    let unread = match cut.unread_bytes {
        Some(0) => String::new(),
        Some(n) => format!("; {} behind it cannot be read", counted(n, "byte")),
        None => "; what is behind it cannot be read".to_owned(),
    };
    let text = format!(
        "after {}: {}, at byte {}{unread}",
        clock(last),
        cut.reason,
        count(cut.read_bytes),
    );
    page.labelled(0, "CUT", TEXT, Style::Bad, &text);
    let text = match (&cut.until, cut.after_end) {
        (_, true) => "the last report was recorded before that: it is final".to_owned(),
        (Some(until), false) => format!(
            "no last report was recorded; what is known is as of {}, after {}",
            clock(until),
            match cut.intervals {
                1 => "one interval".to_owned(),
                n => format!("{} intervals", count(n)),
            }
        ),
        (None, false) => "no interval was recorded in full: nothing is known of the end".to_owned(),
    };
    page.labelled(0, "", TEXT, Style::Warn, &text);
}
