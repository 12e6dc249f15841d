//! Runs the test program `load` (`tests/src/bin/load.rs`) beside sockleak, on this machine or in a guest.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    cmd::{self, note},
    frame::Kind,
    guest,
    guest_build::{self, INIT, LOAD, Profile, SOCKLEAK},
    initramfs::Content,
    kernel,
    qemu::{Machine, Qemu},
    vm::ENV,
};

/// The programs, as users get them.
pub struct Load {
    init: PathBuf,
    /// sockleak.
    pub sockleak: PathBuf,
    load: PathBuf,
}

/// What it printed, and how it ended.
pub struct Outcome {
    /// Release of the kernel.
    pub release: String,
    /// Standard output.
    pub text: String,
    /// Exit status; 0 is success.
    pub status: i32,
}

impl Load {
    /// Builds them.
    pub fn build(root: &Path) -> Result<Self> {
        let built = guest_build::build(root, &[INIT, SOCKLEAK, LOAD], Profile::Release)?;
        let [init, sockleak, load] = built.as_slice() else {
            bail!("not every program was built");
        };
        Ok(Self {
            init: init.clone(),
            sockleak: sockleak.clone(),
            load: load.clone(),
        })
    }

    /// On this machine, as root.
    pub fn here(&self, words: &[String]) -> Result<Outcome> {
        let release = cmd::output(Command::new("uname").arg("-r"))?;
        let program = self.sockleak.to_str();
        let program = program.context("a path that is not UTF-8")?;
        let output = Command::new(&self.load)
            .args(words)
            .arg(format!("program={program}"))
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .context("could not start the load")?;
        Ok(Outcome {
            release: release.trim().to_owned(),
            text: String::from_utf8(output.stdout).context("the load printed no text")?,
            status: output.status.code().unwrap_or(-1),
        })
    }

    /// In a guest of this kernel series.
    pub fn in_guest(
        &self,
        series: &str,
        words: &[String],
        timeout: Duration,
        raw: bool,
    ) -> Result<Outcome> {
        let qemu = Qemu::provide()?;
        let kernel = kernel::provide(series)?;
        let mut command = vec!["/bin/load".to_owned()];
        command.extend(words.iter().cloned());
        command.push("program=/bin/sockleak".to_owned());
        let content = Content {
            init: self.init.clone(),
            command,
            env: ENV.into_iter().map(str::to_owned).collect(),
            files: [(&self.sockleak, "/bin/sockleak"), (&self.load, "/bin/load")]
                .map(|(host, guest)| (host.clone(), guest.to_owned()))
                .into(),
            complete: Vec::new(),
            modules: Vec::new(),
        };
        let machine = Machine {
            smp: 2,
            mem: "2G".to_owned(),
            icount: false,
            append: String::new(),
        };
        note(format!("{}: running the load", kernel.release));
        let mut text = Vec::new();
        let outcome = guest::run(
            &qemu,
            &kernel,
            &machine,
            &content,
            timeout,
            |kind, bytes| match kind {
                Kind::Stdout => {
                    text.extend_from_slice(bytes);
                    if raw {
                        eprint!("{}", String::from_utf8_lossy(bytes));
                    }
                }
                _ => eprint!("{}", String::from_utf8_lossy(bytes)),
            },
        )?;
        if !outcome.problems.is_empty() {
            bail!(
                "{}: the kernel of the guest complained:\n{}",
                kernel.release,
                outcome.problems.join("\n---\n")
            );
        }
        Ok(Outcome {
            release: kernel.release,
            text: String::from_utf8(text).context("the guest printed no text")?,
            status: outcome.status,
        })
    }
}
