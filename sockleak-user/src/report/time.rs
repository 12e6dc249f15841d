//! Times as people and programs read them: RFC 3339 in UTC.

use crate::model::{NS_PER_TICK, ProcessId};

const NS_PER_MS: u64 = 1_000_000;
const MS_PER_DAY: u64 = 86_400_000;

/// RFC 3339 in UTC with milliseconds, from nanoseconds since 1970-01-01T00:00:00Z.
pub fn rfc3339(unix_ns: u64) -> String {
    let ms = unix_ns / NS_PER_MS;
    let (year, month, day) = civil(ms / MS_PER_DAY);
    let of_day = ms % MS_PER_DAY;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        of_day / 3_600_000,
        of_day / 60_000 % 60,
        of_day / 1000 % 60,
        of_day % 1000,
    )
}

/// Milliseconds since 1970-01-01T00:00:00Z of a time that [`rfc3339`] wrote; `None` for any other
/// text.
pub fn unix_ms(ts: &str) -> Option<u64> {
    let number = |from: usize, to: usize| -> Option<u64> {
        let digits = ts.get(from..to)?;
        let all = digits.bytes().all(|c| c.is_ascii_digit());
        all.then(|| digits.parse().ok()).flatten()
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let ms = (number(11, 13)? * 3_600 + number(14, 16)? * 60 + number(17, 19)?) * 1_000
        + number(20, 23)?;
    if !(1970..=2554).contains(&year) || !(1..=12).contains(&month) {
        return None;
    }
    let years: u64 = (1970..year).map(days_in_year).sum();
    let months: u64 = (1..month).map(|month| days_in_month(year, month)).sum();
    let unix = (years + months + day.checked_sub(1)?) * MS_PER_DAY + ms;
    // Whatever is written otherwise is not this time.
    (rfc3339(unix.checked_mul(NS_PER_MS)?) == ts).then_some(unix)
}

/// When a process started, RFC 3339; `None` when its start could not be read.
///
/// `boot_unix_ns` is the wall clock minus `CLOCK_BOOTTIME`, both read at the same moment.
pub fn start_time(process: ProcessId, boot_unix_ns: u64) -> Option<String> {
    if process.start_ticks == 0 {
        return None;
    }
    let since_boot = process.start_ticks.checked_mul(NS_PER_TICK)?;
    Some(rfc3339(boot_unix_ns.checked_add(since_boot)?))
}

/// Date in the Gregorian calendar of a day counted from 1970-01-01.
fn civil(days: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    let mut left = days;
    // u64 nanoseconds end in 2554: at most one whole 400-year cycle, then year by year.
    const CYCLE: u64 = 146_097;
    year += 400 * (left / CYCLE);
    left %= CYCLE;
    while left >= days_in_year(year) {
        left -= days_in_year(year);
        year += 1;
    }
    let mut month = 1;
    while left >= days_in_month(year, month) {
        left -= days_in_month(year, month);
        month += 1;
    }
    (year, month, left + 1)
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in_year(year: u64) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

fn days_in_month(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_moments() {
        let cases = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_234_567_890_123, "2009-02-13T23:31:30.123Z"),
            (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (16_725_225_600_000, "2500-01-01T00:00:00.000Z"),
        ];
        for (ms, text) in cases {
            assert_eq!(rfc3339(ms * NS_PER_MS), text);
        }
        assert_eq!(rfc3339(u64::MAX), "2554-07-21T23:34:33.709Z");
    }

    #[test]
    fn start_time_counts_from_boot_in_ticks() {
        let process = |start_ticks| ProcessId {
            pid: 1,
            start_ticks,
        };
        let boot = 1_700_000_000 * 1_000_000_000;
        assert_eq!(
            start_time(process(12_345), boot).as_deref(),
            Some("2023-11-14T22:15:23.450Z")
        );
        assert_eq!(start_time(process(0), boot), None);
        assert_eq!(start_time(process(u64::MAX), boot), None);
    }

    proptest! {
        #[test]
        fn the_next_day_is_the_next_date(day in 0u64..213_000) {
            let (a, b) = (civil(day), civil(day + 1));
            prop_assert!(b > a);
            if b.0 == a.0 && b.1 == a.1 {
                prop_assert_eq!(b.2, a.2 + 1);
            } else {
                prop_assert_eq!(b.2, 1);
                prop_assert_eq!(a.2, days_in_month(a.0, a.1));
                prop_assert!((b.0, b.1) == (a.0, a.1 + 1) || (b.0, b.1, a.1) == (a.0 + 1, 1, 12));
            }
        }

        #[test]
        fn what_was_written_is_read(ns: u64) {
            prop_assert_eq!(unix_ms(&rfc3339(ns)), Some(ns / NS_PER_MS));
        }

        #[test]
        fn other_text_is_no_time(text in "[0-9TZ:.-]{0,26}") {
            if let Some(ms) = unix_ms(&text) {
                prop_assert_eq!(rfc3339(ms * NS_PER_MS), text);
            }
        }

        #[test]
        fn text_order_is_time_order(a: u64, b: u64) {
            prop_assert_eq!(a / NS_PER_MS <= b / NS_PER_MS, rfc3339(a) <= rfc3339(b));
        }
    }
}
