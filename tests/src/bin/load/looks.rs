//! How long a look at all descriptors takes: sockleak's, and that of the tools people have.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

/// The middle one of so many is taken.
const TIMES: usize = 3;

/// Times `sockleak snapshot`, `lsof` and `ss`.
pub fn run(program: &str, live: u32) -> Result<()> {
    let mut walks: Vec<f64> = Vec::new();
    let mut seen = 0;
    let whole = middle(|| {
        let output = Command::new(program)
            .args(["snapshot", "--json"])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("cannot start {program}"))?;
        ensure!(output.status.success(), "{program} snapshot failed");
        let report: Value =
            serde_json::from_slice(&output.stdout).context("sockleak snapshot printed no JSON")?;
        let took = report.get("took_s").and_then(Value::as_f64);
        walks.push(took.context("the snapshot does not say how long it took")?);
        let found = report.get("seen");
        seen = found.and_then(Value::as_u64).unwrap_or(0);
        Ok(())
    })?;
    ensure!(
        seen >= u64::from(live),
        "{live} sockets are held, but the snapshot has {seen}"
    );
    walks.sort_unstable_by(f64::total_cmp);
    println!(
        "{}",
        json!({
            "look": "sockleak", "live": live, "seen": seen,
            "whole_ns": ns(whole), "walk_s": walks.get(walks.len() / 2),
        })
    );
    for (name, words) in [("lsof", &["-nPw"][..]), ("ss", &["-tanpH"][..])] {
        let took = middle(|| {
            // The exit status of lsof says only that something could not be listed.
            Command::new(name)
                .args(words)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()?;
            Ok(())
        });
        // A guest need not have them.
        if let Ok(took) = took {
            println!(
                "{}",
                json!({"look": name, "words": words, "live": live, "whole_ns": ns(took)})
            );
        }
    }
    Ok(())
}

fn middle(mut once: impl FnMut() -> Result<()>) -> Result<Duration> {
    let mut took = Vec::new();
    for _ in 0..TIMES {
        let began = Instant::now();
        once()?;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    took.get(TIMES / 2).copied().context("nothing was timed")
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
