//! How long searches took, by powers of two, the parities side by side.

use super::super::page::{Page, Style};
use super::super::units::latency;
use crate::report::{ParityLatency, SearchReport};

/// Columns of a bar.
const BAR: usize = 22;
/// Rows at most: from 0, 512 ns, ... to 2.1 s and on.
const ROWS: usize = 64;

/// Both parities; nothing when no call has a time.
pub fn put(page: &mut Page, search: &SearchReport) {
    let parities = [&search.first_parity_latency, &search.second_parity_latency];
    let buckets = |one: &ParityLatency| one.histogram.clone();
    let [first, second] = parities.map(|one| one.as_ref().map(buckets).unwrap_or_default());
    let all = || first.iter().chain(&second);
    let (Some(from), Some(to)) = (
        all().map(|(from, _)| *from).min(),
        all().map(|(from, _)| *from).max(),
    ) else {
        return;
    };
    let most = all().map(|(_, calls)| *calls).max().unwrap_or(0).max(1);
    let heading = format!(
        "{:>8} {:>9} {:BAR$} {:>9} {}",
        "FROM", "CALLS", "FIRST PARITY", "CALLS", "SECOND PARITY"
    );
    page.line(Style::Strong, &heading);
    let mut row = from;
    for _ in 0..ROWS {
        let calls = |buckets: &[(u64, u64)]| {
            let mut found = buckets.iter().filter(|(from, _)| *from == row);
            found.next().map_or(0, |(_, calls)| *calls)
        };
        let (one, two) = (calls(&first), calls(&second));
        page.put(
            Style::Normal,
            &format!(
                "{:>8} {one:>9} {:BAR$} {two:>9} {}",
                latency(row),
                bar(one, most),
                bar(two, most)
            ),
        )
        .end_line();
        if row >= to {
            break;
        }
        // The first bucket is from 0 to 511 ns.
        row = if row == 0 { 512 } else { row.saturating_mul(2) };
    }
}

/// At least a mark for at least one call.
fn bar(calls: u64, most: u64) -> String {
    let wide = u128::from(calls) * BAR as u128;
    let columns = wide.div_ceil(u128::from(most));
    "*".repeat(usize::try_from(columns).unwrap_or(BAR).min(BAR))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::fixtures;
    use crate::report::Body;

    #[test]
    fn rows_have_no_holes_and_bars_are_to_scale() {
        let all = fixtures::all();
        let hot = all
            .into_iter()
            .find_map(|(name, report)| match report.body {
                Body::HotLoop(hot) if name == "hot_loop" => Some(hot),
                _ => None,
            });
        let mut page = Page::new(80, false);
        put(&mut page, &hot.expect("a fixture").search);
        let lines: Vec<String> = (page.into_lines().into_iter())
            .map(|line| line.into_iter().map(|(_, text)| text).collect())
            .collect();
        // From 512 ns to 2.1 ms: 13 powers of two, and the heading.
        assert_eq!(lines.len(), 14, "{lines:#?}");
        assert!(
            lines.iter().all(|line| line.trim_end().len() <= 80),
            "{lines:#?}"
        );
        let row = |label: &str| {
            let mut found = lines
                .iter()
                .filter(|line| line.trim_start().starts_with(label));
            found.next().map(|line| line.matches('*').count())
        };
        // The longest bar is that of 4,000 calls; 70 calls are a mark of two columns at most.
        assert_eq!(row("131 us"), Some(BAR));
        assert_eq!(row("1.0 us"), Some(1));
        assert_eq!(row("4.1 us"), Some(0));
    }
}
