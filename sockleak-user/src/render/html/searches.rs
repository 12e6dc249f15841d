//! What the search for ports costs: latencies on a logarithmic scale, and the share of the second
//! parity.

use super::super::plain::process;
use super::super::units::{count, latency};
use super::Html;
use crate::report::history::History;
use crate::report::{PressureReport, SearchReport};

/// Rows.
const SHOWN: usize = 12;
/// Ends of the scale, ns, as powers of ten.
const FROM: f64 = 2.0;
const TO: f64 = 9.0;

pub(super) fn put(page: &mut Html, history: &History) {
    let hot: Vec<_> = history
        .hot_loops()
        .into_iter()
        .map(|hot| hot.search)
        .collect();
    let last = history.so_far.last.as_ref();
    let (searches, note) = if hot.is_empty() {
        let searches = last.and_then(|last| last.searches.clone());
        (searches.unwrap_or_default(), "In the last interval.")
    } else {
        (hot, "Of those that burn CPU time in it.")
    };
    if searches.is_empty() {
        return;
    }
    page.section("searches", "Port searches");
    page.raw("<p class=\"faint\">");
    page.text(note);
    page.text(
        " The bar goes from the median (dot) over the 99th percentile (tick) to the longest call; \
         the scale is logarithmic. In the second parity a search has looked at half of the range \
         in vain.",
    );
    page.raw("</p>\n<ul class=\"searches\">\n");
    for search in searches.iter().take(SHOWN) {
        put_search(page, search);
    }
    for pressure in history.pressures().iter().take(SHOWN) {
        put_parities(page, pressure);
    }
    put_scale(page);
    page.raw("</ul>\n");
    page.end_section();
}

fn put_search(page: &mut Html, search: &SearchReport) {
    page.raw("<li><div class=\"label\">");
    page.element("b", &process(&search.comm, search.pid));
    let whereto = search.dst.as_ref();
    let whereto = whereto.map_or(String::new(), |dst| format!(" to {dst}"));
    page.text(&format!(" {}(){whereto}", search.op.name()));
    let failed = match search.failed {
        0 => String::new(),
        failed => format!(", {} failed", count(failed)),
    };
    let text = format!(
        "{} calls{failed}; {:.0} % in the second parity",
        count(search.calls),
        search.second_parity * 100.0
    );
    page.element("span class=\"faint\"", &text);
    page.raw("</div>");
    match (search.p50_ns, search.p99_ns, search.max_ns) {
        (Some(p50), Some(p99), Some(max)) => {
            let mark = if search.latency_is_upper_bound {
                "at most "
            } else {
                ""
            };
            let words = format!(
                "{mark}{} in half of the calls, {} in 99 of 100, {} at the longest",
                latency(p50),
                latency(p99),
                latency(max)
            );
            let drawing = format!(
                "<line class=\"range\" x1=\"{a:.2}%\" x2=\"{c:.2}%\" y1=\"9\" y2=\"9\"/>\
                 <line class=\"tick\" x1=\"{b:.2}%\" x2=\"{b:.2}%\" y1=\"3\" y2=\"15\"/>\
                 <circle class=\"dot\" cx=\"{a:.2}%\" cy=\"9\" r=\"5\"/>",
                a = x(p50),
                b = x(p99),
                c = x(max.max(p50))
            );
            strip(page, &words, &drawing);
        }
        _ => page.element("span class=\"faint\"", "not measured with this backend"),
    }
    page.raw("</li>\n");
}

/// Both halves of the range, where they can be told apart.
fn put_parities(page: &mut Html, pressure: &PressureReport) {
    let (Some(first), Some(second)) = (pressure.first_p50_ns, pressure.second_p50_ns) else {
        return;
    };
    page.raw("<li><div class=\"label\">");
    page.element("b", "first and second parity");
    page.text(&format!(" to {}", pressure.dst));
    let text = format!(
        "{:.0} % of {} calls in the second",
        pressure.second_parity * 100.0,
        count(pressure.calls)
    );
    page.element("span class=\"faint\"", &text);
    page.raw("</div>");
    let words = format!(
        "median {} in the first parity, {} in the second",
        latency(first),
        latency(second)
    );
    let drawing = format!(
        "<line class=\"range\" x1=\"{a:.2}%\" x2=\"{b:.2}%\" y1=\"9\" y2=\"9\"/>\
         <circle class=\"dot first\" cx=\"{a:.2}%\" cy=\"9\" r=\"5\"/>\
         <circle class=\"dot second\" cx=\"{b:.2}%\" cy=\"9\" r=\"5\"/>",
        a = x(first),
        b = x(second)
    );
    strip(page, &words, &drawing);
    page.raw("</li>\n");
}

fn strip(page: &mut Html, words: &str, drawing: &str) {
    page.raw("<svg class=\"strip\" width=\"100%\" height=\"18\" role=\"img\" aria-label=\"");
    page.text(words);
    page.raw("\"><line class=\"grid\" x1=\"0\" x2=\"100%\" y1=\"9\" y2=\"9\"/>");
    page.raw(drawing);
    page.raw("</svg>");
    page.element("span class=\"words\"", words);
}

fn put_scale(page: &mut Html) {
    page.raw("<li class=\"scale\" aria-hidden=\"true\">");
    for (at, label) in [
        (3.0, "1 us"),
        (4.0, "10 us"),
        (5.0, "100 us"),
        (6.0, "1 ms"),
        (7.0, "10 ms"),
        (8.0, "100 ms"),
    ] {
        let x = (at - FROM) / (TO - FROM) * 100.0;
        page.raw(&format!("<span style=\"left:{x:.2}%\">{label}</span>"));
    }
    page.raw("</li>\n");
}

/// Where on the scale, percent.
fn x(ns: u64) -> f64 {
    let power = (ns.max(1) as f64).log10();
    ((power - FROM) / (TO - FROM) * 100.0).clamp(1.0, 99.0)
}
