//! Numbers as people read them. Tables use [`short_age`] and plain digits, so that awk sees one
//! field per column; sentences use the rest.
//!
//! Parts that belong together are joined by no-break spaces, which [`super::page::Page`] prints
//! as ordinary ones.

pub use crate::report::words::count;

/// `-1,234`, `0`, `9`
pub fn signed(value: i64) -> String {
    let sign = if value < 0 { "-" } else { "" };
    format!("{sign}{}", count(value.unsigned_abs()))
}

/// `41,019 sockets`, `1 socket`
pub fn counted(value: u64, noun: &str) -> String {
    crate::report::words::counted(value, noun).replacen(' ', "\u{a0}", 1)
}

/// Events over seconds: `12.3 k/s`, `0/s`; `-` when the time is not positive.
pub fn per_second(events: u64, seconds: f64) -> String {
    // Above 2^53 the float is off by a unit in the sixteenth digit; three are printed.
    let rate = events as f64 / seconds;
    if seconds <= 0.0 || !rate.is_finite() {
        return "-".to_owned();
    }
    let (scaled, prefix) = match rate {
        r if r >= 1e9 => (r / 1e9, "\u{a0}G"),
        r if r >= 1e6 => (r / 1e6, "\u{a0}M"),
        r if r >= 1e4 => (r / 1e3, "\u{a0}k"),
        r if r >= 1e3 => return format!("{}/s", count(r as u64)),
        r => (r, ""),
    };
    let digits = usize::from(scaled < 100.0 && scaled.fract() > 0.0);
    format!("{scaled:.digits$}{prefix}/s")
}

/// `+412/min`, `-3/min`, `+0.4/min`
pub fn per_minute(rate: f64) -> String {
    if !rate.is_finite() {
        return "-".to_owned();
    }
    format!("{}/min", growth(rate))
}

/// `+412`, `-3`, `+0.4`, `0`
pub fn growth(rate: f64) -> String {
    if !rate.is_finite() {
        return "-".to_owned();
    }
    let sign = if rate < 0.0 { "-" } else { "+" };
    match rate.abs() {
        size if size < 0.05 => "0".to_owned(),
        size if size < 9.95 => format!("{sign}{size:.1}"),
        // Saturates; nobody leaks 2^64 sockets a minute.
        size => format!("{sign}{}", count(size.round() as u64)),
    }
}

/// `39 ms`, `3.2 s`, `3 m 12 s`, `2 h 05 m`, `3 d 4 h`
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "-".to_owned();
    }
    // Saturates at 2^64 s.
    let whole = seconds.round() as u64;
    let text = match whole {
        _ if seconds < 0.000_001 => "0 s".to_owned(),
        _ if seconds < 0.000_999_5 => format!("{:.0} us", seconds * 1e6),
        _ if seconds < 0.999_5 => format!("{:.0} ms", seconds * 1e3),
        _ if seconds < 9.95 => format!("{seconds:.1} s"),
        0..60 => format!("{whole} s"),
        60..3_600 => format!("{} m {:02} s", whole / 60, whole % 60),
        3_600..86_400 => format!("{} h {:02} m", whole / 3_600, whole % 3_600 / 60),
        _ => format!("{} d {} h", count(whole / 86_400), whole % 86_400 / 3_600),
    };
    text.replace(' ', "\u{a0}")
}

/// A latency in ns with two or three digits: `701 ns`, `37 us`, `1.2 ms`, `420 ms`, `1.3 s`
pub fn latency(ns: u64) -> String {
    let scaled = |unit: f64| {
        let value = ns as f64 / unit;
        let digits = usize::from(value < 9.95);
        format!("{value:.digits$}")
    };
    match ns {
        0..1_000 => format!("{ns}\u{a0}ns"),
        1_000..999_500 => format!("{}\u{a0}us", scaled(1e3)),
        999_500..999_500_000 => format!("{}\u{a0}ms", scaled(1e6)),
        _ => format!("{}\u{a0}s", scaled(1e9)),
    }
}

/// [`latency`] as one word: `1.2ms`
pub fn short_latency(ns: u64) -> String {
    latency(ns).replace('\u{a0}', "")
}

/// [`duration`] as one word: `3m12s`
pub fn short_age(seconds: f64) -> String {
    duration(seconds).replace(['\u{a0}', ','], "")
}

/// `96 MiB`, `4.1 MiB`, `512 B`
pub fn bytes(value: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if value < 1024 {
        return format!("{value}\u{a0}B");
    }
    let mut scaled = value as f64 / 1024.0;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if scaled < 1023.5 {
            break;
        }
        scaled /= 1024.0;
        unit = next;
    }
    let digits = usize::from(scaled < 9.95);
    format!("{scaled:.digits$}\u{a0}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NBSP: &str = "\u{a0}";

    #[test]
    fn counts_are_grouped() {
        assert_eq!(signed(-1_234), "-1,234");
        assert_eq!(signed(i64::MIN), "-9,223,372,036,854,775,808");
        assert_eq!(counted(1, "process"), "1 process".replace(' ', NBSP));
        assert_eq!(counted(0, "process"), "0 processes".replace(' ', NBSP));
        assert_eq!(counted(2, "socket"), "2 sockets".replace(' ', NBSP));
    }

    #[test]
    fn rates_have_three_digits() {
        assert_eq!(per_second(0, 1.0), "0/s".replace(' ', NBSP));
        assert_eq!(per_second(5, 2.0), "2.5/s".replace(' ', NBSP));
        assert_eq!(per_second(9_999, 1.0), "9,999/s".replace(' ', NBSP));
        assert_eq!(per_second(12_345, 1.0), "12.3 k/s".replace(' ', NBSP));
        assert_eq!(per_second(2_500_000, 1.0), "2.5 M/s".replace(' ', NBSP));
        assert_eq!(per_second(7, 0.0), "-".replace(' ', NBSP));
        assert_eq!(per_minute(412.4), "+412/min");
        assert_eq!(per_minute(-3.0), "-3.0/min");
        assert_eq!(per_minute(0.0), "0/min");
        assert_eq!(per_minute(f64::NAN), "-");
    }

    #[test]
    fn durations_have_two_units() {
        assert_eq!(duration(0.0), "0 s".replace(' ', NBSP));
        assert_eq!(duration(0.000_25), "250 us".replace(' ', NBSP));
        assert_eq!(duration(0.039), "39 ms".replace(' ', NBSP));
        assert_eq!(duration(3.21), "3.2 s".replace(' ', NBSP));
        assert_eq!(duration(59.7), "1 m 00 s".replace(' ', NBSP));
        assert_eq!(duration(192.0), "3 m 12 s".replace(' ', NBSP));
        assert_eq!(duration(7_500.0), "2 h 05 m".replace(' ', NBSP));
        assert_eq!(duration(273_600.0), "3 d 4 h".replace(' ', NBSP));
        assert_eq!(duration(f64::INFINITY), "-".replace(' ', NBSP));
        assert_eq!(duration(-1.0), "-".replace(' ', NBSP));
        assert_eq!(short_age(192.0), "3m12s");
    }

    #[test]
    fn latencies_have_two_digits_or_three() {
        let cases = [
            (0, "0ns"),
            (701, "701ns"),
            (1_240, "1.2us"),
            (37_200, "37us"),
            (999_499, "999us"),
            (999_500, "1.0ms"),
            (1_240_000, "1.2ms"),
            (420_000_000, "420ms"),
            (1_300_000_000, "1.3s"),
            (u64::MAX, "18446744074s"),
        ];
        for (ns, text) in cases {
            assert_eq!(short_latency(ns), text);
        }
    }

    #[test]
    fn bytes_use_binary_units() {
        assert_eq!(bytes(512), "512 B".replace(' ', NBSP));
        assert_eq!(bytes(1536), "1.5 KiB".replace(' ', NBSP));
        assert_eq!(bytes(96 << 20), "96 MiB".replace(' ', NBSP));
        assert_eq!(bytes(u64::MAX), "16 EiB".replace(' ', NBSP));
    }
}
