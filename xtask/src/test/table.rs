//! The table kernel by backend that a run ends with.

use std::{collections::BTreeMap, fmt::Write as _};

use super::count::Tally;

/// Columns of the table: what serves a hook, and the inventory without BPF.
pub const BACKENDS: [&str; 4] = ["fentry", "kprobe", "tracepoint", "no-bpf"];

/// What a kernel's guest did.
pub struct Row {
    /// Kernel series.
    pub series: String,
    /// What `uname -r` says there.
    pub release: String,
    /// Per backend, and `other`.
    pub tallies: BTreeMap<&'static str, Tally>,
    /// Lines `SKIP name: why`.
    pub skips: Vec<String>,
    /// Lines `FAIL name: why`.
    pub failures: Vec<String>,
    /// Seconds to boot and in all.
    pub seconds: (f64, f64),
}

impl Row {
    /// A kernel that has done nothing yet.
    pub fn new(series: &str, release: &str) -> Self {
        Self {
            series: series.to_owned(),
            release: release.to_owned(),
            tallies: BTreeMap::new(),
            skips: Vec::new(),
            failures: Vec::new(),
            seconds: (0.0, 0.0),
        }
    }

    /// All tests of this kernel.
    pub fn total(&self) -> Tally {
        let mut total = Tally::default();
        self.tallies.values().for_each(|tally| total += *tally);
        total
    }
}

/// The table kernel by backend.
pub fn table(rows: &[Row]) -> String {
    let mut text = format!("{:<8}{:<30}", "kernel", "release");
    let columns = BACKENDS.into_iter().chain(["other"]);
    for column in columns.clone() {
        let _ = write!(text, "{column:<14}");
    }
    text.push_str("boot s  total s\n");
    for row in rows {
        let _ = write!(text, "{:<8}{:<30}", row.series, row.release);
        for column in columns.clone() {
            let _ = write!(
                text,
                "{:<14}",
                row.tallies
                    .get(column)
                    .map_or_else(|| "-".to_owned(), |t| cell(*t))
            );
        }
        let (boot, total) = row.seconds;
        let _ = writeln!(text, "{boot:<8.1}{total:.0}");
    }
    text
}

fn cell(tally: Tally) -> String {
    let mut parts = vec![format!("{} ok", tally.passed)];
    if tally.failed > 0 {
        parts.push(format!("{} FAIL", tally.failed));
    }
    if tally.skipped > 0 {
        parts.push(format!("{} skip", tally.skipped));
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_cell_for_each_backend() {
        let mut row = Row::new("6.1", "6.1.0");
        row.tallies.insert(
            "fentry",
            Tally {
                passed: 3,
                failed: 1,
                skipped: 0,
            },
        );
        let table = table(&[row]);
        assert!(table.contains("3 ok 1 FAIL"), "{table}");
        assert_eq!(table.lines().count(), 2);
    }
}
