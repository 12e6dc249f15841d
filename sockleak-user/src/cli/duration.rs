//! Durations as the field's tools write them: `500ms`, `10s`, `5m`, `1h`; a bare number is
//! seconds.

use std::time::Duration;

/// Shortest interval: below it an inventory of a busy host would be all that a CPU does.
pub const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// Parses a duration; fractions are fine (`1.5s`).
///
/// # Errors
/// What is wrong with it, for the usage message.
pub fn parse(text: &str) -> Result<Duration, String> {
    let unit_at = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(unit_at);
    let unit_s = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return Err(format!("unknown unit {unit:?}; use ms, s, m, h or d")),
    };
    let number: f64 = digits
        .parse()
        .map_err(|_| "not a number with a unit, as in 500ms, 10s, 5m or 1h".to_owned())?;
    Duration::try_from_secs_f64(number * unit_s).map_err(|_| "too long".to_owned())
}

/// A duration that is not zero.
///
/// # Errors
/// As [`parse`].
pub fn positive(text: &str) -> Result<Duration, String> {
    match parse(text)? {
        Duration::ZERO => Err("must be longer than nothing".to_owned()),
        duration => Ok(duration),
    }
}

/// A duration of at least [`SHORTEST_INTERVAL`].
///
/// # Errors
/// As [`parse`].
pub fn interval(text: &str) -> Result<Duration, String> {
    match parse(text)? {
        duration if duration < SHORTEST_INTERVAL => Err("must be at least 100ms".to_owned()),
        duration => Ok(duration),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn units() {
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse("10"), Ok(Duration::from_secs(10)));
        assert_eq!(parse("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(parse("1h"), Ok(Duration::from_secs(3_600)));
        assert_eq!(parse("2d"), Ok(Duration::from_secs(172_800)));
        assert_eq!(parse("1.5s"), Ok(Duration::from_millis(1_500)));
        assert_eq!(parse("0"), Ok(Duration::ZERO));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "s",
            ".",
            "-1s",
            "+1s",
            "1 s",
            "1x",
            "1e3s",
            "nan",
            "inf",
            "1.2.3s",
            "9h9",
            "1S",
            "99999999999999999999999d",
        ] {
            assert!(parse(text).is_err(), "{text:?} was accepted");
        }
        assert!(positive("0s").is_err());
        assert!(interval("99ms").is_err());
        assert_eq!(interval("100ms"), Ok(SHORTEST_INTERVAL));
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>()) {
            let _ = parse(&text);
        }

        #[test]
        fn milliseconds_are_exact(ms in 0..=86_400_000_u64) {
            prop_assert_eq!(parse(&format!("{ms}ms")), Ok(Duration::from_millis(ms)));
        }
    }
}
