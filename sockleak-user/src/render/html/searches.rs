//! What the search for ports costs: latencies on a logarithmic scale, and the share of the second
//! parity.

use super::super::plain::process;
use super::super::units::{count, counted, latency};
use super::Html;
use crate::report::history::History;
use crate::report::{PressureReport, SearchReport};

/// Rows.
const SHOWN: usize = 12;
/// Height of the longest bar of a histogram, pixels.
const BAR: f64 = 34.0;
/// Ends of the scale, ns, as powers of ten.
const FROM: f64 = 2.0;
const TO: f64 = 9.0;
/// Height of its labels, pixels.
const SCALE: f64 = 17.0;
const LABELS: [(f64, &str); 6] = [
    (3.0, "1 us"),
    (4.0, "10 us"),
    (5.0, "100 us"),
    (6.0, "1 ms"),
    (7.0, "10 ms"),
    (8.0, "100 ms"),
];

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
        " How many calls took how long. The kernel first tries the ports of one parity, half of the \
         range; a search that came to the second has looked at all of them in vain. Where the two \
         were not told apart, a bar goes from the median (dot) over the 99th percentile (tick) to \
         the longest call.",
    );
    page.raw("</p>\n<ul class=\"legend\">");
    for (class, name) in [
        (
            "first",
            "first parity, and calls that failed or named their port",
        ),
        ("second", "second parity"),
    ] {
        page.raw(&format!(
            "<li><svg class=\"key\" width=\"14\" height=\"14\" aria-hidden=\"true\">\
             <rect class=\"{class}\" width=\"14\" height=\"14\"/></svg>"
        ));
        page.element("span", name);
        page.raw("</li>");
    }
    page.raw("</ul>\n<ul class=\"searches\">\n");
    for search in searches.iter().take(SHOWN) {
        put_search(page, search);
    }
    for pressure in history.pressures().iter().take(SHOWN) {
        put_parities(page, pressure);
    }
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
            if put_histogram(page, search, &words) {
                page.raw("</li>\n");
                return;
            }
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

/// Both parities, one above and one below a line; whether they are known.
fn put_histogram(page: &mut Html, search: &SearchReport, words: &str) -> bool {
    let parities = [
        (&search.first_parity_latency, "first"),
        (&search.second_parity_latency, "second"),
    ];
    let known = || {
        let known = |(latency, name)| Option::zip(Option::as_ref(latency), Some(name));
        parities.into_iter().filter_map(known)
    };
    let most = known().flat_map(|(latency, _)| latency.histogram.iter().map(|(_, calls)| *calls));
    let Some(most) = most.max() else {
        return false;
    };
    let middle = match search.first_parity_latency {
        Some(_) => BAR,
        None => 0.0,
    };
    let height = known().count() as f64 * BAR + 1.0;
    let mut each = vec![words.to_owned()];
    let mut drawing =
        format!("<line class=\"axis\" x1=\"0\" x2=\"100%\" y1=\"{middle}\" y2=\"{middle}\"/>");
    for (latency_of, name) in known() {
        each.push(format!(
            "{name} parity: {} in half of {}",
            latency(latency_of.p50_ns),
            counted(latency_of.calls, "call")
        ));
        for (from, calls) in &latency_of.histogram {
            // What is rare must be seen, too.
            let height = (*calls as f64 / most.max(1) as f64 * BAR).max(2.0);
            let (left, right) = (x((*from).max(1)), x(from.saturating_mul(2).max(512)));
            let top = if name == "first" {
                middle - height
            } else {
                middle
            };
            drawing.push_str(&format!(
                "<rect class=\"{name}\" x=\"{left:.2}%\" y=\"{top:.1}\" width=\"{:.2}%\" \
                 height=\"{height:.1}\"/>",
                (right - left - 0.2).max(0.2)
            ));
        }
    }
    let words = each.join("; ");
    put_drawing(page, height, &words, &drawing);
    true
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

/// A bar for one line of figures.
fn strip(page: &mut Html, words: &str, drawing: &str) {
    let line = "<line class=\"grid\" x1=\"0\" x2=\"100%\" y1=\"9\" y2=\"9\"/>";
    put_drawing(page, 18.0, words, &format!("{line}{drawing}"));
}

/// A drawing of `height` pixels over its scale, and the same in words.
fn put_drawing(page: &mut Html, height: f64, words: &str, drawing: &str) {
    page.raw(&format!(
        "<svg class=\"strip\" width=\"100%\" height=\"{}\" role=\"img\" aria-label=\"",
        height + SCALE
    ));
    page.text(words);
    page.raw("\">");
    for (at, label) in LABELS {
        let x = (at - FROM) / (TO - FROM) * 100.0;
        page.raw(&format!(
            "<line class=\"grid\" x1=\"{x:.2}%\" x2=\"{x:.2}%\" y1=\"0\" y2=\"{height}\"/>\
             <text x=\"{x:.2}%\" y=\"{}\">{label}</text>",
            height + SCALE - 3.0
        ));
    }
    page.raw(drawing);
    page.raw("</svg>");
    page.element("span class=\"words\"", words);
}

/// Where on the scale, percent.
fn x(ns: u64) -> f64 {
    let power = (ns.max(1) as f64).log10();
    ((power - FROM) / (TO - FROM) * 100.0).clamp(1.0, 99.0)
}
