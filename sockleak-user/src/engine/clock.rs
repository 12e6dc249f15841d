//! The clocks. Everything else gets time as a parameter.

use rustix::time::{ClockId, clock_gettime};

use crate::report::rfc3339;

/// `CLOCK_MONOTONIC`, ns: the clock of `bpf_ktime_get_ns`.
pub fn monotonic_ns() -> u64 {
    ns(ClockId::Monotonic)
}

/// CPU time of this process, user and system, ns.
pub fn cpu_ns() -> u64 {
    ns(ClockId::ProcessCPUTime)
}

/// The time now, RFC 3339 in UTC.
pub fn timestamp() -> String {
    rfc3339(ns(ClockId::Realtime))
}

fn ns(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}
