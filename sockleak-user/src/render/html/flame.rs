//! Where leaked sockets were created: a flame graph, root at the top. Positions are in percent and
//! the rows nested drawings that clip their text, so that it fits any width without a script.

use std::collections::BTreeMap;

use super::super::folded::{NO_STACK, folded};
use super::super::units::{count, counted};
use super::Html;
use crate::report::history::History;

/// Height of a row in px.
const ROW: usize = 20;
/// Rows; deeper frames are in the list.
const DEEPEST: usize = 48;
/// Frames narrower than this share are left out.
const NARROWEST: f64 = 0.002;
/// Stacks of the list.
const LISTED: usize = 20;

/// A frame and what it calls.
#[derive(Debug, Default)]
struct Node {
    count: u64,
    calls: BTreeMap<String, Node>,
}

impl Node {
    fn add(&mut self, frames: &[String], count: u64) {
        let mut node = self;
        node.count = node.count.saturating_add(count);
        for frame in frames.iter().take(DEEPEST) {
            node = node.calls.entry(frame.clone()).or_default();
            node.count = node.count.saturating_add(count);
        }
    }

    fn depth(&self) -> usize {
        let deepest = self.calls.values().map(Self::depth).max();
        deepest.map_or(0, |deepest| deepest + 1)
    }
}

pub(super) fn put(page: &mut Html, history: &History) {
    let stacks = folded(history.leaks());
    if stacks.is_empty() {
        return;
    }
    page.section("stacks", "Where leaked sockets were created");
    let with_stack = |frames: &[String]| frames.last().is_none_or(|last| last != NO_STACK);
    let known: u64 = (stacks.iter())
        .filter(|(frames, _)| with_stack(frames))
        .map(|(_, count)| count)
        .sum();
    let mut root = Node::default();
    for (frames, count) in &stacks {
        root.add(frames, *count);
    }
    let why = (history.leaks().iter())
        .flat_map(|leak| &leak.origins)
        .find_map(|origin| origin.unnamed.as_ref())
        .map_or(String::new(), |why| format!(" Of others: {why}."));
    if known == 0 {
        let text = format!(
            "No stack was captured for any of {}: the sockets are older than the watch, or stacks were \
             not taken (--stacks).{why}",
            counted(root.count, "leaked socket")
        );
        page.element("p class=\"faint\"", &text);
        page.end_section();
        return;
    }
    let text = format!(
        "{} of {} have a stack. Width is the number of sockets; the process is on top, the function that \
         called socket() at the bottom.{why}",
        count(known),
        counted(root.count, "leaked socket")
    );
    page.element("p class=\"faint\"", &text);
    put_drawing(page, &root);
    put_list(page, &stacks);
    page.end_section();
}

fn put_drawing(page: &mut Html, root: &Node) {
    let height = root.depth() * ROW;
    page.raw("<svg class=\"flame\" role=\"img\" aria-label=\"Flame graph of ");
    page.text(&counted(root.count, "leaked socket"));
    page.raw(&format!(
        "; the list below has the same in text\" width=\"100%\" height=\"{height}\">\n"
    ));
    put_calls(page, root, root.count, 0.0, 0);
    page.raw("</svg>\n");
}

fn put_calls(page: &mut Html, node: &Node, all: u64, left: f64, row: usize) {
    let mut left = left;
    let mut calls: Vec<_> = node.calls.iter().collect();
    calls.sort_by_key(|(name, call)| (*name == NO_STACK, std::cmp::Reverse(call.count)));
    for (name, call) in calls {
        let share = call.count as f64 / all.max(1) as f64;
        if share >= NARROWEST {
            put_frame(page, name, call.count, (left, share), row);
            put_calls(page, call, all, left, row + 1);
        }
        left += share;
    }
}

fn put_frame(page: &mut Html, name: &str, sockets: u64, (left, share): (f64, f64), row: usize) {
    let class = match (name, row) {
        (NO_STACK, _) => "none",
        (_, 0) => "process",
        _ => match name.bytes().fold(0_u32, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(byte.into())
        }) % 4
        {
            0 => "f0",
            1 => "f1",
            2 => "f2",
            _ => "f3",
        },
    };
    page.raw(&format!(
        "<svg x=\"{:.3}%\" y=\"{}\" width=\"{:.3}%\" height=\"{ROW}\"><title>",
        left * 100.0,
        row * ROW,
        share * 100.0
    ));
    page.text(&format!(
        "{name}: {} ({:.1} %)",
        counted(sockets, "socket"),
        share * 100.0
    ));
    page.raw("</title><rect class=\"");
    page.raw(class);
    page.raw("\" width=\"100%\" height=\"100%\"/><text x=\"5\" y=\"14\">");
    page.text(name);
    page.raw("</text></svg>\n");
}

fn put_list(page: &mut Html, stacks: &[(Vec<String>, u64)]) {
    let mut sorted: Vec<_> = stacks.iter().collect();
    sorted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    page.raw("<details><summary>Stacks as text</summary>\n");
    for (frames, count) in sorted.iter().take(LISTED) {
        page.raw("<p class=\"of\">");
        page.text(&counted(*count, "socket"));
        page.raw("</p><ol class=\"stack\">");
        for frame in frames {
            page.element("li", frame);
        }
        page.raw("</ol>\n");
    }
    if sorted.len() > LISTED {
        let more = counted((sorted.len() - LISTED) as u64, "more stack");
        page.element("p class=\"faint\"", &format!("And {more}."));
    }
    page.raw("</details>\n");
}
