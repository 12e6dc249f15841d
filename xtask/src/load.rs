//! Runs the test program `load` (`tests/src/bin/load.rs`) beside sockleak, on this machine or in a guest.

use std::{
    io::{BufRead as _, BufReader},
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

    /// On this machine, as root. `sink` gets what it prints as it comes.
    pub fn here(&self, words: &[String], mut sink: impl FnMut(&[u8])) -> Result<Outcome> {
        let release = cmd::output(Command::new("uname").arg("-r"))?;
        let program = self.sockleak.to_str();
        let program = program.context("a path that is not UTF-8")?;
        let mut child = Command::new(&self.load)
            .args(words)
            .arg(format!("program={program}"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("could not start the load")?;
        let output = child.stdout.take().context("a load without output")?;
        let mut text = Vec::new();
        for line in BufReader::new(output).split(b'\n') {
            let begin = text.len();
            text.extend(line.context("reading what the load prints")?);
            text.push(b'\n');
            sink(text.get(begin..).unwrap_or_default());
        }
        let status = child.wait().context("waiting for the load")?;
        Ok(Outcome {
            release: release.trim().to_owned(),
            text: String::from_utf8(text).context("the load printed no text")?,
            status: status.code().unwrap_or(-1),
        })
    }

    /// In a guest of this kernel series, as [`Self::here`].
    pub fn in_guest(
        &self,
        series: &str,
        words: &[String],
        timeout: Duration,
        mut sink: impl FnMut(&[u8]),
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
                    sink(bytes);
                }
                _ => eprint!("{}", String::from_utf8_lossy(bytes)),
            },
        )?;
        outcome.sound(&kernel)?;
        Ok(Outcome {
            release: kernel.release,
            text: String::from_utf8(text).context("the guest printed no text")?,
            status: outcome.status,
        })
    }
}
