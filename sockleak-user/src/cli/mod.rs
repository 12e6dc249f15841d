//! The command line: [`args`] is what was typed, [`config`] what it means, and every subcommand
//! is a file of its own.

pub mod args;
pub mod config;
pub mod demo;
pub mod diagnose;
pub mod duration;
pub mod exit;
mod logging;
mod output;
pub mod ports;
mod prepare;
pub mod printer;
pub mod probes;
mod progress;
pub mod report;
pub mod run;
pub mod snapshot;
pub mod watch;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::sanitize::defused;
use args::{Cli, Command};

/// The whole program.
pub fn main() -> ExitCode {
    crate::memory::keep_little();
    // Incidents are played by children that run this same program.
    if let Some(status) = crate::demo::perform_if_asked() {
        return status;
    }
    // And a child names the functions of stacks.
    if let Some(status) = crate::enrich::symbols::work_if_asked() {
        return status;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return answer(&error),
    };
    logging::start(cli.verbose);
    match dispatch(cli) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            if !exit::reader_is_gone(&error) {
                complain(&format!("sockleak: {error:#}"));
            }
            ExitCode::from(exit::status(&error))
        }
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<u8> {
    match cli.command {
        Command::Run(args) => return run::run(&args),
        Command::Diagnose(args) => return diagnose::run(&args),
        Command::Probes(args) => probes::run(&args),
        Command::Watch(args) => watch::run(&args),
        Command::Snapshot(args) => snapshot::run(&args),
        Command::Ports(args) => ports::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Demo(args) => demo::run(&args),
    }?;
    Ok(exit::DONE)
}

/// `--help`, `--version` and usage errors, which clap reports alike.
fn answer(error: &clap::Error) -> ExitCode {
    let asked_for = matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    );
    if asked_for {
        // A reader that has closed the pipe does not want to know.
        let _ = error.print();
        return ExitCode::from(exit::DONE);
    }
    // The message quotes the arguments, which may come from anywhere.
    complain(error.render().to_string().trim_end());
    ExitCode::from(exit::USAGE)
}

/// Writes to standard error what may quote foreign text. Nobody is left to tell when that fails.
fn complain(message: &str) {
    let mut text = String::with_capacity(message.len() + 1);
    for line in message.lines() {
        text.push_str(&defused(line));
        text.push('\n');
    }
    let _ = std::io::stderr().write_all(text.as_bytes());
}
