//! `sockleak snapshot`: one look, no tracing.

use anyhow::Result;

use super::{
    args::SnapshotArgs,
    config::SnapshotConfig,
    prepare::{explain, prepare},
    printer::Printer,
    progress::Progress,
};
use crate::{
    engine::{SnapshotSettings, snapshot, timestamp},
    probe::{Attached, Choice},
    report::{Body, Report},
};

/// Runs the subcommand.
///
/// # Errors
/// With exit status 3 when the iterator is not to be had; `--no-bpf` needs none.
pub fn run(args: &SnapshotArgs) -> Result<()> {
    let config = SnapshotConfig::new(args)?;
    let settings = SnapshotSettings {
        filter: config.filter,
        sockets: config.sockets,
    };
    let progress = Progress::begin("looking at all descriptors", None);
    let report = if config.no_bpf {
        snapshot(None, &settings)?
    } else {
        let (facts, plan) = prepare(Choice::Auto);
        let mut attached = Attached::load_inventory(&facts, &plan)
            .map_err(|error| explain(&facts, error.into()))?;
        snapshot(Some(&mut attached), &settings)?
    };
    drop(progress);
    Printer::stdout(config.format).print(&Report::new(timestamp(), Body::Snapshot(report)))
}
