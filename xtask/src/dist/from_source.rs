//! Whether README's ways from the sources to a diagnosed demo work, as a reader types them. Minutes, because the
//! program is built as users get it.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};

use super::check::UNPACK;
use crate::cmd::{self, note};

const INSTALL: &str = "cargo install --locked --path sockleak-user";
const RUN: &str = "cargo run --release -- demo bound-leak";

/// Installs into a directory of its own, runs what was installed, and runs the demo. Needs root.
pub fn works(root: &Path) -> Result<()> {
    let readme = fs::read_to_string(root.join("README.md")).context("reading README.md")?;
    for command in [INSTALL, RUN, UNPACK] {
        ensure!(readme.contains(command), "README.md has no `{command}`");
    }
    let place = root.join("target/installed");
    let _ = fs::remove_dir_all(&place);
    let mut install = typed(root, INSTALL)?;
    // Not into the reader's home, and with what is built already.
    install.arg("--root").arg(&place);
    install.env("CARGO_TARGET_DIR", root.join("target"));
    cmd::output(&mut install).context(INSTALL)?;
    let version = cmd::output(Command::new(place.join("bin/sockleak")).arg("--version"))?;
    ensure!(version.starts_with("sockleak "), "it says {version}");
    fs::remove_dir_all(&place).with_context(|| format!("removing {}", place.display()))?;

    // Its exit status is 1 when the report differs from what the incident's own processes count.
    let report = cmd::output(&mut typed(root, RUN)?).context(RUN)?;
    for wanted in ["app[", "12,001", "EADDRNOTAVAIL"] {
        ensure!(report.contains(wanted), "no {wanted} in:\n{report}");
    }
    note("installed from source, and the demo of README.md run from nothing");
    Ok(())
}

/// A command line without quotes, in the workspace.
fn typed(root: &Path, line: &str) -> Result<Command> {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().context("an empty command")?);
    command.args(words).current_dir(root);
    Ok(command)
}
