//! `sockleak run`: run a command, report the sockets it left open and where they were made.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use anyhow::{Context as _, Result};

use super::args::RunArgs;
use super::config::{choice, format_for};
use super::exit::{DONE, FAILED, Failure, LEAK};
use super::prepare::{explain, prepare};
use super::printer::Printer;
use crate::engine::{CannotStart, Run, timestamp};
use crate::report::{Body, Report};

/// Runs the subcommand; gives the exit status.
///
/// # Errors
/// With exit status 3 when this kernel or these privileges do not allow it, 126 or 127 when the
/// command cannot be started.
pub fn run(args: &RunArgs) -> Result<u8> {
    // Before the command is run: its work should not be lost because of a wrong path.
    let (out, terminal): (Box<dyn Write + Send>, bool) = match &args.output {
        Some(path) => {
            let file = File::create(path)
                .with_context(|| format!("cannot write the report to {}", path.display()))?;
            (Box::new(file), false)
        }
        None => (Box::new(io::stderr()), io::stderr().is_terminal()),
    };
    let mut printer = Printer::to(format_for(&args.print, terminal), out);
    let (facts, plan) = prepare(choice(args.attach.backend));
    let run = Run::prepare(&facts, &plan).map_err(|error| explain(&facts, error))?;
    let (report, status) = run.run(&args.command).map_err(cannot_start)?;
    let leak = report.leak;
    printer.print(&Report::new(timestamp(), Body::Run(Box::new(report))))?;
    Ok(exit_status(status, leak && args.fail_on_leak))
}

fn cannot_start(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<CannotStart>() {
        Some(cause) => Failure::CannotStart {
            what: cause.to_string(),
            missing: cause.error.kind() == io::ErrorKind::NotFound,
        }
        .into(),
        None => error,
    }
}

/// A command that fails has said so for a reason, which a leak does not replace.
fn exit_status(status: ExitStatus, leak: bool) -> u8 {
    let own = match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).unwrap_or(FAILED),
        (None, Some(signal)) => u8::try_from(128 + signal).unwrap_or(FAILED),
        (None, None) => FAILED,
    };
    if own == DONE && leak { LEAK } else { own }
}

#[cfg(test)]
mod tests {
    use super::super::exit;
    use super::*;

    #[test]
    fn the_commands_own_failure_is_stronger_than_a_leak() {
        let exited = |code: i32| ExitStatus::from_raw(code << 8);
        assert_eq!(exit_status(exited(0), false), 0);
        assert_eq!(exit_status(exited(0), true), 23);
        assert_eq!(exit_status(exited(101), true), 101);
        assert_eq!(exit_status(ExitStatus::from_raw(9), true), 137);
        assert_eq!(exit_status(exited(255), false), 255);
    }

    #[test]
    fn commands_that_cannot_be_started_differ() {
        let status = |kind: io::ErrorKind| {
            let error = CannotStart {
                command: "x".to_owned(),
                error: kind.into(),
            };
            exit::status(&cannot_start(error.into()))
        };
        assert_eq!(status(io::ErrorKind::NotFound), 127);
        assert_eq!(status(io::ErrorKind::PermissionDenied), 126);
    }
}
