//! Everything that is installed, where it belongs (FHS, Debian Policy 12).

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use super::Source;
use crate::cmd;

/// Names that stay in the program: those of the incidents, whose stacks `sockleak demo` shows, and
/// what they call. All others take 1.4 MB and are never looked up.
const KEPT: [&str; 2] = ["*sockleak*demo*", "socket"];

/// Fills a directory as if it were `/`.
pub fn lay_out(source: &Source<'_>, stage: &Path) -> Result<()> {
    let share = stage.join("usr/share");
    let doc = share.join("doc/sockleak");
    let bin = stage.join("usr/bin/sockleak");
    for dir in [&stage.join("usr/bin"), &doc, &doc.join("examples")] {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    }
    strip(&source.binary, &bin)?;
    pages(source, &share)?;

    let root = source.root;
    fs::write(doc.join("copyright"), copyright(root)?)?;
    for (from, to) in [
        ("CHANGELOG.md", "changelog"),
        ("README.md", "README.md"),
        ("SECURITY.md", "SECURITY.md"),
        ("docs/recording.md", "recording.md"),
        (
            "docs/systemd/sockleak-watch.service",
            "examples/sockleak-watch.service",
        ),
    ] {
        let from = root.join(from);
        fs::copy(&from, doc.join(to)).with_context(|| format!("copying {}", from.display()))?;
    }
    compress(&doc.join("changelog"))?;
    schemas(&root.join("docs/schema"), &doc.join("schema"))?;
    as_everybody_may_read(stage)
}

fn strip(from: &Path, to: &Path) -> Result<()> {
    let mut command = Command::new("strip");
    command.args(["--strip-all", "--wildcard", "-o"]).arg(to);
    for name in KEPT {
        command.arg(format!("--keep-symbol={name}"));
    }
    cmd::output(command.arg(from)).context("strip is part of binutils, as the linker is")?;
    Ok(())
}

fn pages(source: &Source<'_>, share: &Path) -> Result<()> {
    let date = cmd::output(
        Command::new("date")
            .args(["--utc", "+%Y-%m-%d"])
            .arg(format!("--date=@{}", source.epoch)),
    )?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(source.root)
        .args([
            "run",
            "--locked",
            "--quiet",
            "--package",
            "sockleak-pages",
            "--",
        ])
        .arg(share)
        .arg(date.trim());
    cmd::output(&mut command)?;
    let pages = share.join("man/man1");
    for entry in fs::read_dir(&pages).with_context(|| format!("reading {}", pages.display()))? {
        compress(&entry?.path())?;
    }
    Ok(())
}

/// As Debian Policy 12.1 and 12.7 have it: without name and time.
fn compress(path: &Path) -> Result<()> {
    let mut gzip = Command::new("gzip");
    cmd::output(
        gzip.args(["-9", "--no-name"])
            .arg(path)
            .stdin(Stdio::null()),
    )?;
    Ok(())
}

fn schemas(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    let mut count = 0;
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let path = entry?.path();
        if let Some(name) = path.file_name().filter(|_| path.is_file()) {
            fs::copy(&path, to.join(name))?;
            count += 1;
        }
    }
    if count == 0 {
        bail!("{} has no schemas", from.display());
    }
    Ok(())
}

fn copyright(root: &Path) -> Result<String> {
    let read = |name: &str| {
        let path = root.join(name);
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    };
    Ok(format!(
        "sockleak is licensed under MIT or Apache-2.0, at your choice.\n\n{}\n\
         The Apache License 2.0 is in /usr/share/common-licenses/Apache-2.0 on Debian.\n",
        read("LICENSE-MIT")?
    ))
}

/// Whatever the umask is.
fn as_everybody_may_read(dir: &Path) -> Result<()> {
    let set = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
            .with_context(|| format!("chmod {}", path.display()))
    };
    set(dir, 0o755)?;
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            as_everybody_may_read(&path)?;
        } else {
            let is_program = path.parent().is_some_and(|parent| parent.ends_with("bin"));
            set(&path, if is_program { 0o755 } else { 0o644 })?;
        }
    }
    Ok(())
}
