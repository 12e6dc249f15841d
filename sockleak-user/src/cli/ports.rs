//! `sockleak ports`: what the local ports of a network namespace are used for.

use std::io::{self, ErrorKind};

use anyhow::{Context as _, Error, Result};

use super::{
    args::PortsArgs, config::PortsConfig, exit::Failure, prepare::prepare, printer::Printer,
    progress::Progress,
};
use crate::{
    engine::{PortsSettings, ports, timestamp},
    probe::{Attached, Choice},
    report::{Body, Report},
    source::netns::{NetnsError, NetnsHandle},
};

/// Runs the subcommand.
///
/// Where BPF is not to be had it does without, and the report says how it looked.
///
/// # Errors
/// With exit status 2 for a namespace that is not there, 3 when these privileges do not allow
/// to enter it.
pub fn run(args: &PortsArgs) -> Result<()> {
    let config = PortsConfig::new(args)?;
    let netns = match &config.netns {
        Some(path) => NetnsHandle::of_path(path).map_err(|error| {
            let what = format!("cannot open network namespace {}", path.display());
            not_allowed(&error, &what).unwrap_or_else(|| Error::new(error).context(what))
        })?,
        None => NetnsHandle::current().context("cannot open the own network namespace")?,
    };
    let settings = PortsSettings {
        filter: config.filter,
        to: config.to.map(|dst| (config.from, dst)),
        top: config.top,
    };
    let progress = Progress::begin("looking at all descriptors and ports", None);
    let mut attached = (!config.no_bpf).then(attach).flatten();
    let report = ports(attached.as_mut(), &netns, &settings).map_err(explain)?;
    drop(progress);
    Printer::stdout(config.format).print(&Report::new(timestamp(), Body::Ports(report.into())))
}

/// Exit status 3 for a namespace that may not be entered.
fn explain(error: Error) -> Error {
    let refused = match error.downcast_ref::<NetnsError>() {
        Some(NetnsError::Enter { inode, source }) => {
            not_allowed(source, &format!("cannot enter network namespace {inode}"))
        }
        _ => None,
    };
    refused.unwrap_or(error)
}

fn not_allowed(error: &io::Error, what: &str) -> Option<Error> {
    (error.kind() == ErrorKind::PermissionDenied).then(|| {
        let fix = "run it as root: sudo sockleak ports ... (CAP_SYS_ADMIN and CAP_SYS_PTRACE)";
        Error::new(Failure::NotAllowed {
            what: format!("{what}: {error}"),
            fix: fix.to_owned(),
        })
    })
}

/// The iterator over descriptors, where this kernel and these privileges allow it.
fn attach() -> Option<Attached> {
    let (facts, plan) = prepare(Choice::Auto);
    match Attached::load_inventory(&facts, &plan) {
        Ok(attached) => Some(attached),
        Err(error) => {
            log::info!("without BPF: {error}");
            None
        }
    }
}
