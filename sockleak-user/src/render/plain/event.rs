//! One event, one line, always the same columns:
//! time, event, pid, tid, comm, local, peer, age, netns, sk.

use super::super::columns::{Align, maybe, number, put_line, text};
use super::super::page::Page;
use super::super::units::short_age;
use crate::report::EventReport;

pub fn put(page: &mut Page, time: &str, event: &EventReport) {
    put_line(
        page,
        &[
            (12, Align::Left, text(time)),
            (7, Align::Left, text(event.event)),
            (7, Align::Right, number(event.pid.into())),
            (7, Align::Right, number(event.tid.into())),
            (15, Align::Left, text(&event.comm)),
            (21, Align::Left, maybe(event.src.as_deref(), str::to_owned)),
            (21, Align::Left, maybe(event.dst.as_deref(), str::to_owned)),
            (6, Align::Right, maybe(event.age_s, short_age)),
            (
                10,
                Align::Right,
                maybe(event.netns, |netns| netns.to_string()),
            ),
            (0, Align::Left, text(&event.sk)),
        ],
    );
}
