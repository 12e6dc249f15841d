//! Turns "since boot" into wall-clock time.

use rustix::time::{ClockId, clock_gettime};

use crate::model::NS_PER_TICK;

const NS_PER_S: i64 = 1_000_000_000;

/// Wall-clock time of boot, Unix ns: CLOCK_REALTIME minus CLOCK_BOOTTIME.
///
/// It moves when the wall clock is set; start times derived from one reading stay consistent
/// with each other.
pub fn boot_unix_ns() -> i64 {
    ns(ClockId::Realtime).saturating_sub(ns(ClockId::Boottime))
}

/// Wall-clock time, Unix ns, of a process start that is given in ticks since boot.
pub fn start_unix_ns(boot_unix_ns: i64, start_ticks: u64) -> i64 {
    let since_boot = start_ticks.saturating_mul(NS_PER_TICK);
    boot_unix_ns.saturating_add(i64::try_from(since_boot).unwrap_or(i64::MAX))
}

fn ns(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec
        .saturating_mul(NS_PER_S)
        .saturating_add(time.tv_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_btime_of_proc_stat() {
        let stat = std::fs::read_to_string("/proc/stat").unwrap();
        let btime: i64 = stat
            .lines()
            .find_map(|line| line.strip_prefix("btime "))
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        let difference = boot_unix_ns() / NS_PER_S - btime;
        assert!(difference.abs() <= 1, "{difference} s apart");
    }

    #[test]
    fn a_tick_is_ten_milliseconds() {
        assert_eq!(start_unix_ns(5, 3), 30_000_005);
        assert_eq!(start_unix_ns(0, u64::MAX), i64::MAX);
    }
}
