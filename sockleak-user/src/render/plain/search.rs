//! What the port search costs.

use super::super::columns::{Align, Columns, alarming, maybe, number, text};
use super::super::page::{Page, Style};
use super::super::units::{count, counted, duration, latency, short_latency};
use super::{TEXT as LABEL, process, put_container};
use crate::report::{EndReport, HotLoop, Op, OpCounts, ParityLatency, SearchReport};

/// Most that are shown in full; the table and JSON have all.
const SHOWN: usize = 10;
const INDENT: usize = 6;
const TEXT: usize = 14;

/// One row per process, call and destination. `<` marks times that are upper bounds, `>` a
/// share of a core that is a lower bound.
#[inline(never)]
pub fn put_table(page: &mut Page, searches: &[&SearchReport]) {
    if searches.is_empty() {
        return;
    }
    let mut table = Columns::new(&[
        ("PID", Align::Right),
        ("SEARCHER", Align::Left),
        ("CALL", Align::Left),
        ("DESTINATION", Align::Left),
        ("CALLS", Align::Right),
        ("FAIL", Align::Right),
        ("P50", Align::Right),
        ("P99", Align::Right),
        ("MAX", Align::Right),
        ("CAND", Align::Right),
        ("2ND%", Align::Right),
        ("CPU%", Align::Right),
    ]);
    for search in searches {
        let bound = if search.latency_is_upper_bound {
            "<"
        } else {
            ""
        };
        let time =
            |ns: Option<u64>, mark: &str| maybe(ns, |ns| format!("{mark}{}", short_latency(ns)));
        let max_mark = if search.max_is_upper_bound {
            "<"
        } else {
            bound
        };
        table.row(vec![
            number(search.pid.into()),
            text(&search.comm),
            text(search.op.name()),
            maybe(search.dst.as_deref(), str::to_owned),
            number(search.calls),
            alarming(Style::Bad, search.failed),
            time(search.p50_ns, bound),
            time(search.p99_ns, bound),
            time(search.max_ns, max_mark),
            maybe(search.candidates_avg, |average| format!("{average:.0}")),
            parity(search.second_parity),
            maybe(search.cpu_share, |share| cpu(share, search)),
        ]);
    }
    table.put(page);
}

/// The figures of one line, in words.
pub fn put_figures(page: &mut Page, search: &SearchReport) {
    let towards = search
        .dst
        .as_ref()
        .map_or(String::new(), |dst| format!(" to {dst}"));
    let failed = match search.failed {
        0 => String::new(),
        failed => format!(", {} of them failed", count(failed)),
    };
    page.put(Style::Strong, &process(&search.comm, search.pid))
        .put(
            Style::Normal,
            &format!(
                "  {}(){towards}: {}{failed}",
                search.op.name(),
                counted(search.calls, "call")
            ),
        )
        .end_line();
    let times = [
        ("half", search.p50_ns, ""),
        ("99 of 100", search.p99_ns, ""),
        (
            "the longest",
            search.max_ns,
            if search.max_is_upper_bound {
                "at most "
            } else {
                ""
            },
        ),
    ];
    let times: Vec<String> = times
        .into_iter()
        .filter_map(|(which, ns, bound)| Some(format!("{which} {bound}{}", latency(ns?))))
        .collect();
    if !times.is_empty() {
        let bound = if search.latency_is_upper_bound {
            "; upper bounds, with more than the search in them"
        } else {
            ""
        };
        let text = format!("{}{bound}", times.join(", "));
        page.labelled(0, "took", LABEL, Style::Normal, &text);
    }
    if let Some(average) = search.candidates_avg {
        let most = search
            .candidates_max
            .map_or(String::new(), |most| format!(", at most {}", count(most)));
        let text = format!("{average:.0} ports a call on average{most}");
        page.labelled(0, "examined", LABEL, Style::Normal, &text);
    }
    let text = format!(
        "{:.0}\u{a0}% of the calls came to the second parity; {} went to TIME_WAIT; netns {}",
        search.second_parity * 100.0,
        counted(search.time_waits, "connection"),
        search.netns
    );
    page.labelled(0, "walk", LABEL, Style::Normal, &text);
}

/// A hot loop: who, what it costs, what it means and what to change.
#[inline(never)]
pub fn put_hot(page: &mut Page, hot: &HotLoop) {
    let search = &hot.search;
    let towards = search
        .dst
        .as_ref()
        .map_or(String::new(), |dst| format!(" to {dst}"));
    page.put(Style::Bad, "HOT ")
        .put(Style::Normal, "  ")
        .put(Style::Strong, &process(&search.comm, search.pid))
        .put(Style::Normal, "  ")
        .put(
            Style::Strong,
            &format!("port search of {}(){towards}", search.op.name()),
        )
        .end_line();
    put_container(page, INDENT, TEXT, hot.container.as_deref());
    page.labelled(INDENT, "cost", TEXT, Style::Normal, &cost(hot));
    if let Some(text) = price(search) {
        page.labelled(INDENT, "price", TEXT, Style::Normal, &text);
    }
    let meaning = hot.meaning.replace(" %", "\u{a0}%");
    page.labelled(INDENT, "means", TEXT, Style::Normal, &meaning);
    page.labelled_list(INDENT, "fix", TEXT, &hot.remedy);
}

/// Those that differ in nothing but who and how much share their remedies.
const AS_ABOVE: &str = "as above";

/// The hot-loop report of the last words.
pub fn put_all(page: &mut Page, end: &EndReport) {
    page.end_line();
    if end.searched == OpCounts::default() {
        page.labelled(0, "searches", LABEL, Style::Warn, "not visible: no hook");
        return;
    }
    let each = [
        ("connect", end.searched.connect),
        ("bind", end.searched.bind),
        ("listen", end.searched.listen),
    ];
    let each: Vec<_> = each
        .into_iter()
        .map(|(name, calls)| match calls {
            Some(calls) => format!("{name}() {}", counted(calls, "call")),
            None => format!("{name}() not counted"),
        })
        .collect();
    let found = if end.hot_loops.is_empty() {
        "no hot loop"
    } else {
        "hot loops, dearest first"
    };
    let text = format!("{}: {found}", each.join(", "));
    page.labelled(0, "searches", LABEL, Style::Strong, &text);
    put_found(page, &end.hot_loops);
}

/// Hot loops of a whole run, and their table.
pub fn put_found(page: &mut Page, hot_loops: &[HotLoop]) {
    let mut told: Vec<&[String]> = Vec::new();
    for hot in hot_loops.iter().take(SHOWN) {
        page.end_line();
        if told.contains(&hot.remedy.as_slice()) {
            let brief = HotLoop {
                remedy: vec![AS_ABOVE.to_owned()],
                ..hot.clone()
            };
            put_hot(page, &brief);
        } else {
            told.push(&hot.remedy);
            put_hot(page, hot);
        }
    }
    if !hot_loops.is_empty() {
        page.end_line();
        let rows: Vec<_> = hot_loops.iter().map(|hot| &hot.search).collect();
        put_table(page, &rows);
    }
}

/// What a search costs in either parity, where both were seen.
pub fn price(search: &SearchReport) -> Option<String> {
    if search.op != Op::Connect {
        // Calls that name their port look for none.
        return None;
    }
    let first = search.first_parity_latency.as_ref()?;
    let second = search.second_parity_latency.as_ref()?;
    let most = if search.latency_is_upper_bound {
        "at most "
    } else {
        ""
    };
    let of = |one: &ParityLatency| {
        let (calls, p50) = (counted(one.calls, "call"), latency(one.p50_ns));
        format!("{most}{p50} in half of {calls}")
    };
    let failed = match search.failed {
        0 => "",
        _ => " (with those that failed)",
    };
    Some(format!(
        "first parity{failed} {}; second {}",
        of(first),
        of(second)
    ))
}

/// What a hot loop costs.
pub fn cost(hot: &HotLoop) -> String {
    let search = &hot.search;
    let percent = |share: f64| format!("{:.1}\u{a0}%", share * 100.0);
    let share = match (search.cpu_share, search.cpu_share_at_most) {
        (Some(share), Some(most)) if search.cpu_share_is_lower_bound => {
            format!("{} to {} of a core", percent(share), percent(most))
        }
        (Some(share), None) if search.cpu_share_is_lower_bound => {
            format!("at least {} of a core", percent(share))
        }
        (Some(share), _) => format!("{} of a core", percent(share)),
        (None, Some(most)) => format!("at most {} of a core", percent(most)),
        (None, None) => "CPU time not measurable with this backend".to_owned(),
    };
    let failed = match search.failed {
        0 => String::new(),
        failed => format!(", {} of them failed", count(failed)),
    };
    format!(
        "{share} in {}{failed}; for {}",
        counted(search.calls, "call"),
        duration(hot.hot_for_s)
    )
}

fn parity(share: f64) -> (Style, String) {
    let style = if share >= 0.5 {
        Style::Bad
    } else if share > 0.0 {
        Style::Warn
    } else {
        Style::Normal
    };
    (style, format!("{:.0}", share * 100.0))
}

fn cpu(share: f64, search: &SearchReport) -> String {
    let mark = if search.cpu_share_is_lower_bound {
        ">"
    } else {
        ""
    };
    format!("{mark}{:.1}", share * 100.0)
}
