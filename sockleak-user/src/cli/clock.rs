//! The wall clock, for the times in reports.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::report::rfc3339;

/// Now, RFC 3339 in UTC.
pub fn now() -> String {
    // A clock before 1970 is as good as none.
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let ns = since.unwrap_or_default().as_nanos();
    rfc3339(u64::try_from(ns).unwrap_or(u64::MAX))
}
