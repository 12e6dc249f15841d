//! What the guest's `rounds` printed, and what it means.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use super::peers;

/// The kinds of rounds, in the order of the table, with what a round does.
pub const KINDS: [(&str, &str); 5] = [
    ("orderly", "connect, accept, close both"),
    ("connect", "the same, closed by reset"),
    ("socket", "socket, close"),
    ("bind", "bind(0), close"),
    ("refused", "refused connect, close"),
];
/// Reports that an agent makes while it is left alone: one a minute for five minutes.
const IDLE_REPORTS: f64 = 5.0;

/// Instructions that a round took.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct Round {
    /// Median of all rounds.
    median_ns: f64,
    /// Mean of all rounds.
    mean_ns: f64,
    /// The agent's share of the mean.
    agent_inside_ns: f64,
    /// The agent's work about a round, whenever it was done.
    agent_ns: f64,
}

impl Round {
    /// Instructions more than in a round of `base`, without the agent's own work.
    ///
    /// Where the agent works during rounds, the median does not tell them apart: then of the mean.
    pub fn added_to(&self, base: &Self) -> f64 {
        if self.agent_inside_ns > 0.0 {
            self.mean_ns - self.agent_inside_ns - base.mean_ns
        } else {
            self.median_ns - base.median_ns
        }
    }

    /// A round with nothing attached.
    pub fn alone(&self) -> f64 {
        self.median_ns
    }

    /// The agent's own work about a round.
    pub fn agent(&self) -> f64 {
        self.agent_ns
    }
}

/// The agent of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentCost {
    /// Instructions of one periodic report, hooks attached and nothing going on.
    pub report: f64,
    /// What was wrong with its accounts at the end; `None` when they were exact and nothing was lost.
    pub inexact: Option<String>,
}

/// One run of all kinds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Run {
    /// By name of the kind.
    pub rounds: BTreeMap<String, Round>,
    /// `None` when nothing was attached.
    pub agent: Option<AgentCost>,
    /// Why there are no figures.
    pub error: Option<String>,
}

/// All runs of a guest, by name.
pub type Runs = BTreeMap<String, Run>;

/// Reads the output of `rounds`.
pub fn parse(text: &str) -> Result<Runs> {
    let mut runs = Runs::new();
    for line in text.lines() {
        let value: Value =
            serde_json::from_str(line).with_context(|| format!("not a line of rounds: {line}"))?;
        let name = value["run"].as_str().context("a line without a run")?;
        let run = runs.entry(name.to_owned()).or_default();
        if let Some(error) = value["error"].as_str() {
            run.error = Some(error.to_owned());
        } else if value.get("programs").is_some() {
            // For who reads along.
        } else if let Some(kind) = value["kind"].as_str() {
            run.rounds
                .insert(kind.to_owned(), Round::deserialize(&value)?);
        } else if let Some(agent) = value.get("agent") {
            if name.starts_with(peers::PREFIX) {
                continue;
            }
            let idle = agent["idle_ns"].as_f64().context("an agent without cost")?;
            run.agent = Some(AgentCost {
                report: idle / IDLE_REPORTS,
                inexact: inexact(&agent["end"], &agent["status"]),
            });
        }
    }
    for (name, run) in &runs {
        if run.error.is_none() && run.rounds.len() != KINDS.len() {
            bail!("run {name} has figures for {} kinds only", run.rounds.len());
        }
    }
    Ok(runs)
}

fn inexact(end: &Value, status: &Value) -> Option<String> {
    if *status != 0 {
        return Some(format!("exit status {status}"));
    }
    if end["difference"] != 0 {
        return Some(format!("difference {}", end["difference"]));
    }
    let mut lost = Vec::new();
    collect(&end["loss"], "", &mut lost);
    (!lost.is_empty()).then(|| lost.join(", "))
}

/// Every number in `value` that is not zero, with its name.
fn collect(value: &Value, name: &str, into: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                collect(value, name, into);
            }
        }
        Value::Number(number) if number.as_f64() != Some(0.0) => {
            into.push(format!("{name} {number}"));
        }
        _ => {}
    }
}

/// The largest distance between figures of two runs of the same guest, relative to the first, and where.
pub fn distance(first: &Runs, second: &Runs) -> (f64, String) {
    let mut largest = (0.0, "nowhere".to_owned());
    let mut compare = |a: f64, b: f64, place: String| {
        let distance = ((a - b) / a.max(1.0)).abs();
        if distance > largest.0 {
            largest = (distance, place);
        }
    };
    for (name, run) in first {
        for (kind, round) in &run.rounds {
            let find = |runs: &Runs, name: &str| Some(*runs.get(name)?.rounds.get(kind)?);
            let place = format!("{name}, {kind}");
            let (Some(base), Some(other), Some(other_base)) = (
                find(first, "base"),
                find(second, name),
                find(second, "base"),
            ) else {
                return (f64::INFINITY, format!("{place}: only once"));
            };
            match name.as_str() {
                "base" => compare(round.alone(), other.alone(), place),
                "warm" | "again" => {}
                _ => compare(round.added_to(&base), other.added_to(&other_base), place),
            }
        }
    }
    largest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(run: &str, kind: &str, ns: f64, inside: f64) -> String {
        format!(
            "{{\"run\":\"{run}\",\"kind\":\"{kind}\",\"median_ns\":{ns},\"mean_ns\":{},\
             \"agent_inside_ns\":{inside},\"agent_ns\":{inside}}}\n",
            ns + 70.0
        )
    }

    fn guest(base: f64, with: f64, inside: f64) -> Runs {
        let mut text = String::new();
        for (kind, _) in KINDS {
            text += &line("base", kind, base, 0.0);
            text += &line("fentry", kind, with, inside);
        }
        parse(&text).unwrap()
    }

    #[test]
    fn the_agents_share_is_told_apart() {
        let runs = guest(1000.0, 1700.0, 500.0);
        let (base, round) = (runs["base"].rounds["bind"], runs["fentry"].rounds["bind"]);
        assert_eq!((round.added_to(&base), round.agent()), (200.0, 500.0));
    }

    #[test]
    fn added_instructions_are_compared_not_totals() {
        let (first, second) = (guest(1000.0, 1200.0, 0.0), guest(1000.0, 1202.0, 0.0));
        let (distance, place) = distance(&first, &second);
        assert!((distance - 0.01).abs() < 1e-9, "{distance} at {place}");
        assert!(place.starts_with("fentry"), "{place}");
    }

    #[test]
    fn a_run_that_lost_something_is_not_exact() {
        let status = Value::from(0);
        let end = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let fine = end(r#"{"difference":0,"loss":{"sockets_full":0,"programs_missed":{}}}"#);
        assert_eq!(inexact(&fine, &status), None);
        let off = end(r#"{"difference":-1,"loss":{}}"#);
        assert_eq!(inexact(&off, &status).unwrap(), "difference -1");
        let lost = end(r#"{"difference":0,"loss":{"events_dropped":{"alloc":3}}}"#);
        assert_eq!(inexact(&lost, &status).unwrap(), "alloc 3");
        assert!(inexact(&fine, &Value::from(1)).is_some());
    }

    #[test]
    fn a_run_cut_short_is_an_error() {
        assert!(parse(&line("base", "bind", 1.0, 0.0)).is_err());
    }
}
