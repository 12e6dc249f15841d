//! Failures and searches, added up: what a workload's calls returned, and what sockleak said.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::workload::{Failure, Ledger};

/// Equal failures: pid, op, errno, cause, destination.
type Kind = (u64, String, String, String, Option<String>);

/// Searches of a process: pid, op, destination.
type Search = (u64, String, Option<String>);

/// Counts by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    failures: BTreeMap<Kind, u64>,
    searches: BTreeMap<Search, Calls>,
}

/// Calls, and those of them that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Calls {
    calls: u64,
    failed: u64,
}

impl Tally {
    /// Adds what a workload has done, as far as the backend sees it.
    pub(super) fn add(&mut self, backend: &str, ledger: &Ledger) {
        for one in &ledger.failures {
            *self.failures.entry(kind(one)).or_default() += one.count;
        }
        for one in &ledger.searches {
            // No tracepoint sees a bind() or listen() that succeeds.
            if backend == "tracepoint" && one.op != "connect" {
                continue;
            }
            // connect() with a port does not search; bind() and listen() go the same way with
            // and without.
            let (calls, failed) = match one.op.as_str() {
                "connect" => (one.calls, one.failed),
                _ => (one.calls + one.preset, one.failed + one.preset_failed),
            };
            if calls > 0 {
                let dst = one.dst.map(|dst| dst.to_string());
                let entry = (self.searches)
                    .entry((one.pid.into(), one.op.clone(), dst))
                    .or_default();
                entry.calls += calls;
                entry.failed += failed;
            }
        }
    }

    /// What these lines of a watch say about the processes that `counts` is true for.
    pub(super) fn of(lines: &[Value], counts: impl Fn(u32) -> bool) -> anyhow::Result<Self> {
        let ours = |line: &Value| {
            let pid = line["pid"].as_u64().and_then(|pid| pid.try_into().ok());
            pid.is_some_and(&counts)
        };
        let mut all = Self::default();
        for line in lines {
            if line["type"] == "failure" && ours(line) {
                let kind = (
                    number(line, "pid")?,
                    text(line, "op")?,
                    text(line, "errno")?,
                    text(line, "cause")?,
                    line["dst"].as_str().map(str::to_owned),
                );
                *all.failures.entry(kind).or_default() += number(line, "count")?;
            }
            if line["type"] == "interval" {
                let searches = line["searches"].as_array().context("no searches")?;
                for one in searches.iter().filter(|one| ours(one)) {
                    let dst = one["dst"].as_str().map(str::to_owned);
                    let search = (number(one, "pid")?, text(one, "op")?, dst);
                    let entry = all.searches.entry(search).or_default();
                    entry.calls += number(one, "calls")?;
                    entry.failed += number(one, "failed")?;
                }
            }
        }
        Ok(all)
    }

    /// Both say the same.
    pub(super) fn same_as(&self, reported: &Self) -> anyhow::Result<()> {
        let mut wrong = differences("failures", &self.failures, &reported.failures);
        wrong.extend(differences("calls", &self.searches, &reported.searches));
        ensure!(wrong.is_empty(), "{}", wrong.join("; "));
        Ok(())
    }
}

fn differences<K, V>(what: &str, truth: &BTreeMap<K, V>, said: &BTreeMap<K, V>) -> Vec<String>
where
    K: Ord + std::fmt::Debug,
    V: PartialEq + Default + std::fmt::Debug,
{
    let kinds: BTreeSet<&K> = truth.keys().chain(said.keys()).collect();
    let nothing = V::default();
    (kinds.into_iter())
        .filter_map(|kind| {
            let truth = truth.get(kind).unwrap_or(&nothing);
            let said = said.get(kind).unwrap_or(&nothing);
            (truth != said).then(|| format!("{what} {kind:?}: {truth:?}, reported {said:?}"))
        })
        .collect()
}

fn kind(one: &Failure) -> Kind {
    (
        one.pid.into(),
        one.op.clone(),
        one.errno.clone(),
        one.cause.clone(),
        one.dst.map(|dst| dst.to_string()),
    )
}

/// The lines of one workload's failures tell its circumstances right.
pub(super) fn circumstances(lines: &[Value], ledger: &Ledger) -> anyhow::Result<()> {
    for truth in &ledger.failures {
        let of_kind = |line: &&Value| {
            line["type"] == "failure"
                && line["pid"] == truth.pid
                && line["op"] == truth.op
                && line["cause"] == truth.cause
                && line["dst"].as_str().map(str::to_owned) == truth.dst.map(|dst| dst.to_string())
        };
        let told: Vec<_> = lines.iter().filter(of_kind).collect();
        let same = ledger
            .failures
            .iter()
            .filter(|other| kind(other) == kind(truth));
        let ports = same.filter_map(|other| Some(other.src?.port())).collect();
        let fits = told.iter().any(|line| detail(line, truth, &ports).is_ok());
        if !fits {
            match told.first() {
                Some(line) => detail(line, truth, &ports)?,
                None => bail!("not reported: {truth:?}"),
            }
        }
    }
    Ok(())
}

fn detail(line: &Value, truth: &Failure, ports: &BTreeSet<u16>) -> anyhow::Result<()> {
    let range = truth.range.map(Vec::from);
    ensure!(
        line["range"] == serde_json::json!(range),
        "the range is {range:?}: {line}"
    );
    if let Some(candidates) = truth.candidates {
        ensure!(
            line["candidates"] == candidates,
            "{candidates} ports were examined: {line}"
        );
        ensure!(
            line["search_ns"].as_u64().is_some_and(|ns| ns > 0),
            "no duration: {line}"
        );
    }
    if let Some(src) = truth.src {
        let told = line["src"].as_str().map(str::parse::<SocketAddr>);
        let told = told.with_context(|| format!("bound to {src}: {line}"))??;
        ensure!(told.ip() == src.ip(), "bound to {src}: {line}");
        // Of equal failures with several ports, the last one's is told.
        let port = ports.contains(&told.port());
        ensure!(port, "bound to one of {ports:?}: {line}");
    }
    Ok(())
}

/// Lines of failures for want of a port say who has the ports, and name this process as the one
/// that holds most.
pub(super) fn breakdowns(lines: &[Value], ledger: &Ledger) -> anyhow::Result<()> {
    for truth in &ledger.failures {
        let taken = truth.breakdown.context("the workload does not know")?;
        let told = (lines.iter())
            .find(|line| line["type"] == "failure" && line["pid"] == truth.pid)
            .with_context(|| format!("not reported: {truth:?}"))?;
        for (kind, ports) in [
            ("connected", taken.connected),
            ("time_wait", taken.time_wait),
            ("bound", taken.bound),
            ("reserved", taken.reserved),
        ] {
            let told_ports = &told["breakdown"][kind];
            ensure!(*told_ports == ports, "{ports} ports are {kind}: {told}");
        }
        // TIME_WAIT and reservations have no holder that every backend sees.
        let holder = &told["holders"][0];
        let held = taken.connected + taken.bound > 0;
        ensure!(
            !held || *holder == truth.pid,
            "{} holds them: {told}",
            truth.pid
        );
    }
    Ok(())
}

fn number(value: &Value, name: &str) -> anyhow::Result<u64> {
    (value[name].as_u64()).with_context(|| format!("no number {name} in {value}"))
}

fn text(value: &Value, name: &str) -> anyhow::Result<String> {
    let text = value[name].as_str();
    Ok(text
        .with_context(|| format!("no text {name} in {value}"))?
        .to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ledger() -> Ledger {
        serde_json::from_value(json!({
            "failures": [{
                "pid": 7, "op": "connect", "errno": "EADDRNOTAVAIL",
                "cause": "ephemeral_exhausted", "dst": "127.0.0.1:9", "src": null,
                "range": [1, 2], "candidates": 2, "count": 3,
                "breakdown": {"connected": 2, "time_wait": 0, "bound": 0, "reserved": 0},
            }],
            "searches": [
                {"pid": 7, "op": "connect", "dst": "127.0.0.1:9", "calls": 5, "failed": 3,
                 "preset": 9, "preset_failed": 9},
            ],
        }))
        .unwrap()
    }

    fn lines() -> Vec<Value> {
        let failure = |count: u64| {
            json!({
                "type": "failure", "pid": 7, "op": "connect", "errno": "EADDRNOTAVAIL",
                "cause": "ephemeral_exhausted", "dst": "127.0.0.1:9", "src": null,
                "range": [1, 2], "candidates": 2, "search_ns": 5, "count": count,
                "breakdown": {"connected": 2, "time_wait": 0, "bound": 0, "reserved": 0},
                "holders": [7],
            })
        };
        let searches = json!([
            {"pid": 7, "op": "connect", "dst": "127.0.0.1:9", "calls": 5, "failed": 3},
            {"pid": 8, "op": "bind", "dst": null, "calls": 1, "failed": 0},
        ]);
        vec![
            failure(1),
            json!({"type": "interval", "searches": searches}),
            failure(2),
        ]
    }

    fn check(lines: &[Value]) -> anyhow::Result<()> {
        let mut truth = Tally::default();
        truth.add("fentry", &ledger());
        truth.same_as(&Tally::of(lines, |pid| pid == 7)?)?;
        circumstances(lines, &ledger())?;
        breakdowns(lines, &ledger())
    }

    #[test]
    fn folded_lines_add_up() {
        check(&lines()).unwrap();
    }

    #[test]
    fn every_deviation_is_found() {
        type Change = fn(&mut Vec<Value>);
        let changes: [(&str, Change); 9] = [
            ("missed", |lines| drop(lines.pop())),
            ("invented", |lines| lines.push(lines[0].clone())),
            ("cause", |lines| lines[0]["cause"] = json!("time_wait")),
            ("op", |lines| lines[2]["op"] = json!("bind")),
            ("calls", |lines| lines[1]["searches"][0]["calls"] = json!(4)),
            ("failed", |lines| {
                lines[1]["searches"][0]["failed"] = json!(4);
            }),
            ("range", |lines| {
                lines[0]["range"] = json!(null);
                lines[2]["range"] = json!([1, 3]);
            }),
            ("breakdown", |lines| {
                lines[0]["breakdown"]["bound"] = json!(1);
            }),
            ("holder", |lines| lines[0]["holders"] = json!([8, 7])),
        ];
        for (what, change) in changes {
            let mut lines = lines();
            change(&mut lines);
            assert!(check(&lines).is_err(), "{what} went unnoticed");
        }
        assert!(
            Tally::of(&lines(), |_| true).unwrap() != Tally::of(&lines()[..1], |_| true).unwrap()
        );
    }
}
