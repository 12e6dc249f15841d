//! What sockleak says it has lost, and what follows for a run.
//!
//! sockleak claims to be exact when nothing was lost, and to say so when something was. So a run
//! in which it reports a loss proves nothing about exactness, whatever its figures are, and is
//! repeated; a wrong figure in a run without one is a failure at once.

use anyhow::{bail, ensure};
use serde_json::Value;

use super::setting::Setting;
use super::watch::Watch;

/// Inconclusive runs until a test has failed.
const RUNS: usize = 3;

/// Programs of the tracepoint backend that 7.x skips when a preempted task is in the middle of
/// them, which on system calls is always so. They see searches; what is counted of sockets does
/// not rest on them.
const SEARCHING: [&str; 2] = ["tp_exit", "tp_search"];

/// Reported losses in spite of which the figures of a test must be exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Excused {
    /// None on which a figure of sockets rests: only skipped runs of [`SEARCHING`].
    Searching,
    /// Runs that the kernel has skipped and counted, and what follows from them. Where many
    /// threads run at once there is always one that was preempted inside of a program
    /// (trampolines; raw tracepoints in 7.x). Failures are counted where that cannot happen, and
    /// births and deaths are put back into the balance.
    SkippedRuns,
}

/// Plays a scene under a watch of its own, and again while sockleak reports a loss that is not
/// excused. The scene ends the watch when all is well.
pub(super) fn conclusive<T>(
    setting: &Setting,
    (backend, more): (&str, &[&str]),
    excused: Excused,
    mut scene: impl FnMut(&mut Watch) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    repeated(excused, || {
        let mut watch = Watch::must_start(setting, backend, more)?;
        let outcome = scene(&mut watch);
        Ok((watch, outcome))
    })
}

/// The same for a run that starts the watch itself and returns it with the outcome.
pub(super) fn repeated<T>(
    excused: Excused,
    mut run: impl FnMut() -> anyhow::Result<(Watch, anyhow::Result<T>)>,
) -> anyhow::Result<T> {
    let mut reports = Vec::new();
    for turn in 1..=RUNS {
        let (mut watch, outcome) = run()?;
        let Ok(end) = watch.stop() else {
            // It came to a bad end, which the run has noticed.
            return outcome;
        };
        let Some(lost) = reported(&end, excused)? else {
            return outcome;
        };
        let also = outcome.err().map(|error| format!("; {error:#}"));
        let also = also.unwrap_or_default();
        eprintln!("     note: run {turn} proves nothing, for it lost {lost}{also}");
        reports.push(lost);
    }
    bail!("lost something in every run: {}", reports.join("; "))
}

/// Losses in the object that are not excused.
pub(super) fn reported(object: &Value, excused: Excused) -> anyhow::Result<Option<String>> {
    let mut loss = object["loss"].clone();
    ensure!(loss.is_object(), "no loss counters in {object}");
    // A socket whose stack found no place is counted all the same.
    loss["stacks_missed"].take();
    match excused {
        Excused::Searching => {
            if let Some(missed) = loss["programs_missed"].as_object_mut() {
                missed.retain(|program, _| !SEARCHING.contains(&program.as_str()));
            }
        }
        Excused::SkippedRuns => {
            let skipped = sum(&loss["programs_missed"].take());
            // A search whose begin or end was skipped has only one of both. A socket whose end
            // was skipped is found out when its memory is used again.
            for consequence in ["searches_unmatched", "sockets_stale"] {
                if sum(&loss[consequence]) <= skipped {
                    loss[consequence].take();
                }
            }
        }
    }
    Ok((sum(&loss) > 0).then(|| nonzero(&loss).to_string()))
}

/// The counters that are not zero.
fn nonzero(loss: &Value) -> Value {
    let members = loss.as_object().into_iter().flatten();
    let members = members.filter(|(_, value)| sum(value) > 0);
    members
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn sum(value: &Value) -> u64 {
    match value {
        Value::Null => 0,
        Value::Object(members) => members.values().map(sum).sum(),
        other => other.as_u64().unwrap_or(u64::MAX >> 8),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lost(loss: &Value, excused: Excused) -> bool {
        let report = reported(&json!({ "loss": loss }), excused).unwrap();
        report.is_some()
    }

    #[test]
    fn losses_are_found_at_any_depth() {
        let mut loss = json!({"sockets_full": 0, "events_dropped": {"alloc": 0}});
        for excused in [Excused::Searching, Excused::SkippedRuns] {
            assert!(!lost(&loss, excused));
        }
        loss["events_dropped"]["alloc"] = json!(1);
        for excused in [Excused::Searching, Excused::SkippedRuns] {
            assert!(lost(&loss, excused));
            assert!(reported(&json!({}), excused).is_err());
        }
        let report = reported(&json!({ "loss": loss }), Excused::Searching).unwrap();
        assert_eq!(report.unwrap(), r#"{"events_dropped":{"alloc":1}}"#);
    }

    #[test]
    fn figures_of_sockets_rest_on_all_programs_but_those_that_see_searches() {
        let skipped = |program: &str| json!({"programs_missed": {program: 3}});
        assert!(!lost(&skipped("tp_exit"), Excused::Searching));
        assert!(lost(&skipped("tp_destroy"), Excused::Searching));
        assert!(lost(&skipped("kprobe_destroy"), Excused::Searching));
        assert!(!lost(
            &json!({"stacks_missed": {"collided": 1}}),
            Excused::Searching
        ));
        let both = json!({"programs_missed": {"tp_exit": 3, "tp_destroy": 1}});
        assert!(lost(&both, Excused::Searching));
    }

    #[test]
    fn skipped_runs_excuse_only_as_much_as_they_explain() {
        let mut loss = json!({"sockets_full": 0, "programs_missed": {"fentry_release": 2}});
        assert!(!lost(&loss, Excused::SkippedRuns));
        for consequence in ["searches_unmatched", "sockets_stale"] {
            loss[consequence] = json!(2);
            assert!(!lost(&loss, Excused::SkippedRuns));
            loss[consequence] = json!(3);
            assert!(lost(&loss, Excused::SkippedRuns));
            loss[consequence] = json!(0);
        }
        loss["sockets_full"] = json!(1);
        assert!(lost(&loss, Excused::SkippedRuns));
        // A kernel that does not count what it skips is told on by this alone.
        let stale = json!({"sockets_stale": 1, "programs_missed": {}});
        assert!(lost(&stale, Excused::SkippedRuns));
        assert!(lost(&stale, Excused::Searching));
    }
}
