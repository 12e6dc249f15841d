//! Loss counters of sockleak's JSON.

use anyhow::ensure;
use serde_json::Value;

/// Programs of the tracepoint backend that 7.x skips when a preempted task is in the middle of
/// them. They see searches; what is counted of sockets does not rest on them.
const PREEMPTED: [&str; 2] = ["tp_exit", "tp_search"];

/// Every loss counter in the object is zero, but for skipped runs of [`PREEMPTED`].
pub(super) fn check(object: &Value) -> anyhow::Result<()> {
    let mut loss = object["loss"].clone();
    ensure!(loss.is_object(), "no loss counters in {object}");
    if let Some(missed) = loss["programs_missed"].as_object_mut() {
        for program in PREEMPTED {
            if let Some(runs) = missed.remove(program) {
                eprintln!("     note: the kernel has skipped {runs} runs of {program}");
            }
        }
    }
    ensure!(sum(&loss) == 0, "lost something: {loss}");
    Ok(())
}

/// The same, except that trampolines may have been skipped: a preemptible kernel does that to a
/// program that a preempted task is in the middle of. Where many processes make sockets at once
/// this happens; that it is counted must be enough for the balance.
pub(super) fn check_but_skipped_runs(backend: &str, object: &Value) -> anyhow::Result<()> {
    if backend != "fentry" {
        return check(object);
    }
    let mut rest = object.clone();
    let skipped = rest["loss"]["programs_missed"].take();
    if sum(&skipped) > 0 {
        eprintln!("     note: the kernel has skipped runs: {skipped}");
    }
    // Whose begin was skipped ends without one.
    let unmatched = &mut rest["loss"]["searches_unmatched"];
    if sum(unmatched) <= sum(&skipped) {
        unmatched.take();
    }
    // Whose end was skipped is found out when its memory is used again.
    let stale = &mut rest["loss"]["sockets_stale"];
    if sum(stale) <= sum(&skipped) {
        stale.take();
    }
    check(&rest)
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

    #[test]
    fn losses_are_found_at_any_depth() {
        let mut object = json!({"loss": {"sockets_full": 0, "events_dropped": {"alloc": 0}}});
        check(&object).unwrap();
        object["loss"]["events_dropped"]["alloc"] = json!(1);
        assert!(check(&object).is_err());
        assert!(check(&json!({})).is_err());
        let preempted = |program: &str| json!({"loss": {"programs_missed": {program: 3}}});
        check(&preempted("tp_exit")).unwrap();
        assert!(check(&preempted("tp_destroy")).is_err());

        let skipped =
            json!({"loss": {"sockets_full": 0, "programs_missed": {"fentry_release": 2}}});
        assert!(check(&skipped).is_err());
        assert!(check_but_skipped_runs("kprobe", &skipped).is_err());
        check_but_skipped_runs("fentry", &skipped).unwrap();
        let mut unmatched = skipped;
        unmatched["loss"]["searches_unmatched"] = json!(2);
        check_but_skipped_runs("fentry", &unmatched).unwrap();
        unmatched["loss"]["searches_unmatched"] = json!(3);
        assert!(check_but_skipped_runs("fentry", &unmatched).is_err());
        object["loss"]["programs_missed"] = json!({});
        assert!(check_but_skipped_runs("fentry", &object).is_err());
    }
}
