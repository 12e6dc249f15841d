//! Counting what ran, from the lines that test programs print.

use std::ops::AddAssign;

/// How many tests did what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Passed.
    pub passed: u64,
    /// Failed.
    pub failed: u64,
    /// Not run, with a reason that was printed.
    pub skipped: u64,
}

impl Tally {
    /// One test that passed or failed.
    pub fn one(passed: bool) -> Self {
        Self {
            passed: u64::from(passed),
            failed: u64::from(!passed),
            skipped: 0,
        }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// What `cargo test` says when a test binary ends (ignored tests count as skipped): `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
pub fn cargo_result(line: &str) -> Option<Tally> {
    let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let count = |word: &str| -> Option<u64> {
        counts
            .split("; ")
            .find_map(|part| part.strip_suffix(word)?.trim().parse().ok())
    };
    Some(Tally {
        passed: count("passed")?,
        failed: count("failed")?,
        skipped: count("ignored")?,
    })
}

/// A line of `vmtest` about one test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestTest {
    /// Name; its parts are separated by `/`, `:`, `.` or spaces.
    pub name: String,
    /// How it went.
    pub tally: Tally,
}

impl GuestTest {
    /// `PASS name`, `FAIL name: why` or `SKIP name: why`.
    pub fn parse(line: &str) -> Option<Self> {
        let (verdict, rest) = line.split_once(' ')?;
        let tally = match verdict {
            "PASS" => Tally {
                passed: 1,
                ..Tally::default()
            },
            "FAIL" => Tally {
                failed: 1,
                ..Tally::default()
            },
            "SKIP" => Tally {
                skipped: 1,
                ..Tally::default()
            },
            _ => return None,
        };
        let name = rest.split_once(": ").map_or(rest, |(name, _)| name).trim();
        Some(Self {
            name: name.to_owned(),
            tally,
        })
    }

    /// The backend that the name speaks of, or `other`.
    pub fn backend(&self) -> &'static str {
        let mut words = self.name.split(['/', ':', '.', ' ', '=', '(', ')']);
        words
            .find_map(|word| {
                super::table::BACKENDS.into_iter().find(|backend| {
                    word.strip_suffix(backend)
                        .is_some_and(|rest| rest.is_empty() || rest.ends_with('-'))
                })
            })
            .unwrap_or("other")
    }
}

/// The numbers in `vmtest: 3 passed, 0 failed, 1 skipped`.
pub fn guest_result(line: &str) -> Option<Tally> {
    let counts = line.strip_prefix("vmtest: ")?;
    let count = |word: &str| -> Option<u64> {
        counts
            .split(", ")
            .find_map(|part| part.trim().strip_suffix(word)?.trim().parse().ok())
    };
    Some(Tally {
        passed: count("passed")?,
        failed: count("failed")?,
        skipped: count("skipped")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_cargo_are_counted() {
        let line = "test result: FAILED. 12 passed; 3 failed; 4 ignored; 0 measured; 0 filtered out; finished in 0.02s";
        assert_eq!(
            cargo_result(line),
            Some(Tally {
                passed: 12,
                failed: 3,
                skipped: 4
            })
        );
        assert_eq!(cargo_result("test a::b ... ok"), None);
    }

    #[test]
    fn lines_of_a_guest_are_counted_under_their_backend() {
        let pass = GuestTest::parse("PASS fentry/closed-leak").unwrap();
        assert_eq!((pass.backend(), pass.tally.passed), ("fentry", 1));
        let fail = GuestTest::parse("FAIL kprobe/accept: saw 3: wanted 4").unwrap();
        assert_eq!(
            (fail.name.as_str(), fail.backend(), fail.tally.failed),
            ("kprobe/accept", "kprobe", 1)
        );
        let skip = GuestTest::parse("SKIP snapshot-no-bpf/named: no tcp_diag").unwrap();
        assert_eq!((skip.backend(), skip.tally.skipped), ("no-bpf", 1));
        assert_eq!(GuestTest::parse("PASS healthy").unwrap().backend(), "other");
        assert_eq!(GuestTest::parse("Passing through"), None);
    }

    #[test]
    fn the_last_line_of_a_guest_is_read() {
        assert_eq!(
            guest_result("vmtest: 3 passed, 1 failed, 2 skipped"),
            Some(Tally {
                passed: 3,
                failed: 1,
                skipped: 2
            })
        );
        assert_eq!(guest_result("vmtest: starting"), None);
    }
}
