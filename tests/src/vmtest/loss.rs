//! Loss counters of sockleak's JSON.

use anyhow::ensure;
use serde_json::Value;

/// Every loss counter in the object is zero.
pub(super) fn check(object: &Value) -> anyhow::Result<()> {
    fn sum(value: &Value) -> u64 {
        match value {
            Value::Object(members) => members.values().map(sum).sum(),
            other => other.as_u64().unwrap_or(u64::MAX >> 8),
        }
    }
    let loss = &object["loss"];
    ensure!(loss.is_object(), "no loss counters in {object}");
    ensure!(sum(loss) == 0, "lost something: {loss}");
    Ok(())
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
    }
}
