//! Runs sockleak to its end.

use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::setting::Setting;
use crate::schema;

/// What a run of sockleak gave.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) status: Option<i32>,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: String,
}

/// Runs sockleak with these arguments to its end.
pub(super) fn run(setting: &Setting, arguments: &[&str]) -> anyhow::Result<Run> {
    finish(Command::new(&setting.sockleak).args(arguments))
}

/// Runs a command to its end.
pub(super) fn finish(command: &mut Command) -> anyhow::Result<Run> {
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    Ok(Run {
        status: status.code(),
        stdout,
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    })
}

/// Runs a command of sockleak that prints one JSON object.
pub(super) fn object(setting: &Setting, arguments: &[&str]) -> anyhow::Result<Value> {
    let run = run(setting, arguments)?;
    if run.status != Some(0) {
        bail!(
            "sockleak {arguments:?}: status {:?}, {}",
            run.status,
            run.stderr
        );
    }
    let text = String::from_utf8(run.stdout).context("output is not UTF-8")?;
    schema::validate(text.trim_end())
}
