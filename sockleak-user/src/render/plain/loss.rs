//! What was lost and what sockleak cost: printed with every final verdict.

use std::collections::BTreeMap;

use super::super::page::{Page, Style};
use super::super::units::{bytes, count, duration};
use super::TEXT;
use crate::report::{Loss, SelfCost};

/// One line: nothing, or every counter that is not zero.
pub fn put(page: &mut Page, loss: &Loss) {
    let lost = named(loss);
    if lost.is_empty() {
        page.labelled(0, "loss", TEXT, Style::Normal, "nothing lost");
    } else {
        page.labelled(0, "loss", TEXT, Style::Warn, &lost.join(", "));
    }
}

/// Every counter that is not zero, with its name as in JSON.
pub fn named(loss: &Loss) -> Vec<String> {
    // Taken apart in full, so that a new counter cannot be forgotten here.
    let Loss {
        sockets_full,
        sockets_failed,
        sockets_stale,
        sockets_undeleted,
        processes_full,
        processes_failed,
        searches_full,
        failures_full,
        searches_unmatched,
        endings_full,
        stacks_missed,
        events_dropped,
        programs_missed,
        undecodable,
    } = loss;
    let mut lost = Vec::new();
    let mut add = |name: &str, value: u64| {
        if value != 0 {
            lost.push(format!("{name} {}", count(value)));
        }
    };
    add("sockets_full", *sockets_full);
    add("sockets_failed", *sockets_failed);
    add("sockets_stale", *sockets_stale);
    add("sockets_undeleted", *sockets_undeleted);
    add("processes_full", *processes_full);
    add("processes_failed", *processes_failed);
    add("searches_full", *searches_full);
    add("failures_full", *failures_full);
    add("searches_unmatched", *searches_unmatched);
    add("endings_full", *endings_full);
    each(&mut add, "stacks_missed", stacks_missed);
    each(&mut add, "events_dropped", events_dropped);
    each(&mut add, "programs_missed", programs_missed);
    add("undecodable", *undecodable);
    lost
}

fn each(add: &mut impl FnMut(&str, u64), name: &str, by_kind: &BTreeMap<String, u64>) {
    for (kind, value) in by_kind {
        add(&format!("{name}.{kind}"), *value);
    }
}

/// One line about sockleak itself; the share of a core when the time is known.
pub fn put_cost(page: &mut Page, cost: &SelfCost, watched_s: Option<f64>) {
    let cpu_s = cost.cpu_ns as f64 / 1e9;
    let share = watched_s
        .filter(|seconds| *seconds > 0.0)
        .map_or(String::new(), |seconds| {
            format!(" ({:.2}\u{a0}% of a core)", cpu_s / seconds * 100.0)
        });
    let programs = cost.bpf_ns.map_or(String::new(), |ns| {
        format!(", in BPF programs {}", duration(ns as f64 / 1e9))
    });
    let text = format!(
        "CPU {}{share}{programs}, memory {}",
        duration(cpu_s),
        bytes(cost.rss_bytes)
    );
    page.labelled(0, "self", TEXT, Style::Faint, &text);
}
