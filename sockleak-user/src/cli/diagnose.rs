//! `sockleak diagnose`: what is wrong, in a few seconds.

use anyhow::Result;

use super::{
    args::DiagnoseArgs,
    config::DiagnoseConfig,
    exit,
    prepare::{explain, prepare},
    printer::Printer,
    progress::Progress,
};
use crate::{
    engine::{DiagnoseSettings, diagnose, timestamp},
    probe::Choice,
    report::{Body, Report},
};

/// Runs the subcommand; returns its exit status.
///
/// Where BPF is not to be had it does with what /proc shows, and says what that leaves open.
///
/// # Errors
/// With exit status 2 for a namespace that is not there, 3 when a backend was asked for that this
/// kernel or these privileges do not allow.
pub fn run(args: &DiagnoseArgs) -> Result<u8> {
    let config = DiagnoseConfig::new(args)?;
    let settings = DiagnoseSettings {
        filter: config.filter,
        duration: config.duration,
        older: config.older,
        stacks: config.stacks,
        what_if: config.what_if,
    };
    let progress = Progress::begin("looking, and watching", Some(config.duration));
    let (facts, plan) = prepare(config.choice.unwrap_or(Choice::Auto));
    let plan = config.choice.map(|_| &plan);
    let may_go_without = config.choice.is_none_or(|choice| choice == Choice::Auto);
    let report = diagnose(&facts, plan, may_go_without, &settings)
        .map_err(|error| explain(&facts, error))?;
    drop(progress);
    let is_sick = !report.healthy;
    Printer::stdout(config.format)
        .print(&Report::new(timestamp(), Body::Diagnosis(report.into())))?;
    Ok(match is_sick && config.exit_code {
        true => exit::FINDING,
        false => exit::DONE,
    })
}
