//! What sockleak itself costs.

use super::clock;
use crate::{probe::Attached, report::SelfCost};

/// Cost so far; the programs' own time only while kernel.bpf_stats_enabled is set.
pub fn so_far(attached: &Attached) -> SelfCost {
    SelfCost {
        cpu_ns: clock::cpu_ns(),
        rss_bytes: rss_bytes().unwrap_or(0),
        bpf_ns: attached.run_time_ns(),
    }
}

/// Resident set: second field of /proc/self/statm, in pages.
fn rss_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages.saturating_mul(rustix::param::page_size() as u64))
}
