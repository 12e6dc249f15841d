//! Runs tests and prints how they went.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Instant;

/// How a test that did not fail went.
#[derive(Debug)]
pub(super) enum Outcome {
    /// As it should.
    Pass,
    /// It could not be run, for this reason.
    Skip(String),
}

/// Argument that leaves [`DEAR`] and [`NEWEST`] tests out.
const BRIEF: &str = "--brief";
/// Argument that leaves [`NEWEST`] tests out.
const OLDER: &str = "--older";

/// Parts of the names of tests that take half of the time where the processor is emulated, and hold
/// what is the same on all kernels that are alike: the oldest and the newest are enough. Of ports examined
/// (`candidates`), these two have the two forms of `__inet_hash_connect` and of its walk. What sockleak makes of
/// what it sees does not depend on the backend, and is tested with fentry and tracepoints everywhere.
const DEAR: [&str; 10] = [
    "diagnose",
    "/breakdown/",
    "/candidates/",
    "kprobe/leak",
    "kprobe/older-leak",
    "kprobe/origins",
    "kprobe/run",
    "kprobe/full-map",
    "kprobe/sigkill",
    "kprobe/mptcp",
];

/// Tests that run only when a filter begins with this: minutes each where the processor is emulated, and what is
/// special about a kernel is in the other tests.
const ON_REQUEST: &str = "demos";

/// The same, where one kernel is enough: the map of ports and what is printed are made in user space, and that
/// nobody who is well is accused is tested with fentry everywhere.
const NEWEST: [&str; 5] = [
    "ports/",
    "terminal-escapes",
    "sigkill-any-time",
    "kprobe/healthy",
    "tracepoint/healthy",
];

/// Counts outcomes.
#[derive(Debug)]
pub(super) struct Suite {
    filters: Vec<String>,
    left_out: Vec<&'static str>,
    passed: u32,
    failed: u32,
    skipped: u32,
}

impl Suite {
    pub(super) fn new(arguments: &[String]) -> Self {
        let mut filters = Vec::new();
        let mut left_out = Vec::new();
        for argument in arguments {
            match argument.as_str() {
                BRIEF => left_out.extend(DEAR.into_iter().chain(NEWEST)),
                OLDER => left_out.extend(NEWEST),
                // A flag that is not known is in no name either: nothing runs, which is a failure.
                filter => filters.push(filter.to_owned()),
            }
        }
        Self {
            filters,
            left_out,
            passed: 0,
            failed: 0,
            skipped: 0,
        }
    }

    /// Somebody wants to see this test.
    pub(super) fn wants(&self, name: &str) -> bool {
        if self.left_out.iter().any(|part| name.contains(part)) {
            return false;
        }
        let asked = |filter: &String| filter.starts_with(ON_REQUEST);
        if name.starts_with(ON_REQUEST) && !self.filters.iter().any(asked) {
            return false;
        }
        self.filters.is_empty()
            || self
                .filters
                .iter()
                .any(|filter| name.contains(filter.as_str()))
    }

    /// Runs a test, if it is wanted.
    pub(super) fn test(&mut self, name: &str, test: impl FnOnce() -> anyhow::Result<Outcome>) {
        if !self.wants(name) {
            return;
        }
        let begin = Instant::now();
        let outcome = test();
        self.record(name, outcome);
        eprintln!("     {name} took {:.1} s", begin.elapsed().as_secs_f64());
    }

    /// Records the outcome of a test that was run along with others.
    pub(super) fn record(&mut self, name: &str, outcome: anyhow::Result<Outcome>) {
        let line = match outcome {
            Ok(Outcome::Pass) => {
                self.passed += 1;
                format!("PASS {name}")
            }
            Ok(Outcome::Skip(why)) => {
                self.skipped += 1;
                format!("SKIP {name}: {why}")
            }
            Err(error) => {
                self.failed += 1;
                let why = format!("{error:#}").replace('\n', "; ");
                format!("FAIL {name}: {why}")
            }
        };
        say(&line);
    }

    /// Records the outcomes of tests that were run together, or why there are none.
    pub(super) fn record_all(
        &mut self,
        name: impl Fn(&str) -> String,
        outcomes: anyhow::Result<Vec<(&str, anyhow::Result<Outcome>)>>,
    ) {
        let outcomes = outcomes.unwrap_or_else(|error| vec![("totals", Err(error))]);
        for (test, outcome) in outcomes {
            self.record(&name(test), outcome);
        }
    }

    /// Prints the summary.
    pub(super) fn finish(self) -> ExitCode {
        let (passed, failed, skipped) = (self.passed, self.failed, self.skipped);
        say(&format!(
            "vmtest: {passed} passed, {failed} failed, {skipped} skipped"
        ));
        // A run that tested nothing has not succeeded.
        match (failed, passed) {
            (0, 1..) => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        }
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suite(arguments: &[&str]) -> Suite {
        let arguments: Vec<String> = arguments.iter().map(|&word| word.to_owned()).collect();
        Suite::new(&arguments)
    }

    #[test]
    fn flags_leave_tests_out_and_other_words_choose_some() {
        let wanted = |arguments: &[&str]| {
            let names = ["fentry/leak", "kprobe/leak", "tracepoint/healthy", "demos"];
            let suite = suite(arguments);
            names.map(|name| suite.wants(name))
        };
        assert_eq!(wanted(&[]), [true, true, true, false]);
        assert_eq!(wanted(&[BRIEF]), [true, false, false, false]);
        assert_eq!(wanted(&[OLDER]), [true, true, false, false]);
        assert_eq!(wanted(&[BRIEF, "leak"]), [true, false, false, false]);
        assert_eq!(wanted(&["demos"]), [false, false, false, true]);
    }

    #[test]
    fn a_flag_that_is_not_known_is_a_failure() {
        let mut suite = suite(&["--breif"]);
        suite.test("fentry/leak", || Ok(Outcome::Pass));
        assert_eq!(suite.passed, 0);
        assert_eq!(
            format!("{:?}", suite.finish()),
            format!("{:?}", ExitCode::FAILURE)
        );
    }
}
