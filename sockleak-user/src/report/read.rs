//! Reports read back from the lines they were printed as.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Deserializer, de};

use super::{Body, Report, SCHEMA};

/// Why a line is no report that this version understands.
#[derive(Debug, thiserror::Error)]
pub enum NotAReport {
    /// It is not what any version prints.
    #[error("not a report: {0}")]
    Malformed(serde_json::Error),
    /// It has a type that this version does not know, or cannot read back.
    #[error("a report of type {0:?}, which this version cannot show")]
    Type(String),
    /// It has another layout.
    #[error("a report of schema {0}; this version reads schema {SCHEMA}")]
    Schema(u32),
    /// Its fields are not those that this version knows.
    #[error("a report of type {kind:?} that this version cannot read: {error}")]
    Fields {
        /// Its type.
        kind: &'static str,
        /// What is wrong.
        error: serde_json::Error,
    },
}

/// What every report begins with.
#[derive(Debug, Deserialize)]
pub struct Head<'a> {
    /// Its kind.
    #[serde(borrow)]
    pub r#type: Cow<'a, str>,
    /// Version of its layout.
    pub schema: u32,
    /// When it was made, RFC 3339 in UTC.
    #[serde(borrow)]
    pub ts: Cow<'a, str>,
}

impl<'a> Head<'a> {
    /// That of a line, whatever else is in it.
    ///
    /// # Errors
    /// When the line is no object with these members.
    pub fn of(line: &'a str) -> Result<Self, NotAReport> {
        serde_json::from_str(line).map_err(NotAReport::Malformed)
    }
}

impl Report {
    /// The report that was printed as this line of JSON. Members that this version does not know
    /// are left out.
    ///
    /// # Errors
    /// When it is not one of `watch` or of a recording.
    pub fn from_json(line: &str) -> Result<Self, NotAReport> {
        let head = Head::of(line)?;
        if head.schema != SCHEMA {
            return Err(NotAReport::Schema(head.schema));
        }
        let body = match head.r#type.as_ref() {
            "recording" => Body::Recording(fields("recording", line)?),
            "start" => Body::Start(fields("start", line)?),
            "interval" => Body::Interval(fields("interval", line)?),
            "failure" => Body::Failure(fields("failure", line)?),
            "hot_loop" => Body::HotLoop(fields("hot_loop", line)?),
            "pressure" => Body::Pressure(fields("pressure", line)?),
            "leak" => Body::Leak(fields("leak", line)?),
            "event" => Body::Event(fields("event", line)?),
            "end" => Body::End(fields("end", line)?),
            "gap" => Body::Gap(fields("gap", line)?),
            "cut" => Body::Cut(fields("cut", line)?),
            other => return Err(NotAReport::Type(other.to_owned())),
        };
        Ok(Self {
            schema: head.schema,
            ts: head.ts.into_owned(),
            body,
        })
    }
}

fn fields<'a, T: Deserialize<'a>>(kind: &'static str, line: &'a str) -> Result<T, NotAReport> {
    serde_json::from_str(line).map_err(|error| NotAReport::Fields { kind, error })
}

/// A map by pid inside a flattened structure, where serde does not turn the names of members
/// into numbers.
pub(super) fn by_pid<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<u32, u64>, D::Error> {
    let names = BTreeMap::<String, u64>::deserialize(deserializer)?;
    let numbers = names.into_iter().map(|(pid, count)| {
        let pid = pid.parse().map_err(de::Error::custom)?;
        Ok((pid, count))
    });
    numbers.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::render::{Json, Renderer, fixtures};

    fn line(report: &Report) -> String {
        let mut out = Vec::new();
        Json.render(report, &mut out).expect("memory is enough");
        String::from_utf8(out).expect("JSON is UTF-8")
    }

    /// `snapshot`, `ports`, `run`, `probes` and `diagnosis` are never recorded.
    #[test]
    fn what_watch_prints_is_read_back_as_it_was() {
        let mut read = 0;
        for (name, report) in fixtures::all() {
            let printed = line(&report);
            match Report::from_json(&printed) {
                Ok(again) => {
                    assert_eq!(line(&again), printed, "{name}");
                    read += 1;
                }
                Err(NotAReport::Type(kind)) => {
                    assert!(
                        ["snapshot", "ports", "run", "probes", "diagnosis"]
                            .contains(&kind.as_str()),
                        "{name}: {kind}"
                    );
                }
                Err(error) => panic!("{name}: {error}"),
            }
        }
        assert!(read >= 22, "only {read}");
    }

    /// Lines as the first version with recordings wrote them; never to be made again. A field that
    /// they lack is an `Option`, or has `#[serde(default)]` where nothing means nothing.
    #[test]
    fn recordings_of_earlier_versions_stay_readable() {
        let lines = include_str!("recorded/format-1.jsonl");
        for line in lines.lines() {
            let kind = Head::of(line).expect("a report").r#type;
            if let Err(error) = Report::from_json(line) {
                panic!("recordings have {kind:?} without a field that is new: {error}");
            }
        }
        assert!(lines.lines().count() > 20);
    }

    #[test]
    fn members_that_are_not_known_are_left_out() {
        let (_, report) = fixtures::all()
            .into_iter()
            .find(|(name, _)| *name == "leak_bound")
            .expect("it is there");
        let printed = line(&report);
        let later = printed.replacen("{", "{\"added_later\":[1,{}],", 1);
        let later = later.replace("\"bound_only\"", "\"added_later\"");
        let read = Report::from_json(&later).expect("additions are not breaking");
        let Body::Leak(leak) = read.body else {
            panic!("a leak was printed");
        };
        assert_eq!(leak.after, super::super::After::Unknown);
        assert_eq!(leak.count, 12_001);
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let why = |text: &str| {
            Report::from_json(text)
                .map(|_| ())
                .map_err(|e| e.to_string())
        };
        let head = r#""schema":1,"ts":"2026-08-01T03:14:15.926Z""#;
        for (text, reason) in [
            ("", "not a report"),
            ("[]", "not a report"),
            (&format!(r#"{{"type":"snapshot",{head}}}"#), "\"snapshot\""),
            (&format!(r#"{{"type":"end",{head}}}"#), "missing field"),
            (
                r#"{"type":"end","schema":2,"ts":"x"}"#,
                "a report of schema 2",
            ),
        ] {
            let error = why(text).expect_err("it is no report");
            assert!(error.contains(reason), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = Report::from_json(&text);
        }

        #[test]
        fn no_change_of_a_line_panics(which in 0..64_usize, at: usize, byte in 0_u8..128) {
            let all = fixtures::all();
            let (_, report) = &all[which % all.len()];
            let mut bytes = line(report).into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(text) = String::from_utf8(bytes) {
                let _ = Report::from_json(&text);
            }
        }
    }
}
