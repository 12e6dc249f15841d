//! Runs commands as a reader would type them, next to a demo that is held.
//!
//! `sockleak`, `sudo` and `pgrep` are scripts of ours in front of `$PATH`: sudo does nothing (the tests are root), and sockleak
//! is told what a page does not say: `--backend tracepoint`, which every kernel has, so that what is printed does
//! not depend on the kernel of the machine; next to a demo `--netns`, because demos of other pages run on the same
//! host at the same time; and demos have one limit of descriptors everywhere. For the same reason pgrep finds
//! processes of that demo only.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal};

/// Seconds until a command is ended.
const PATIENCE: &str = "300";

/// A recording, and its name where commands are run.
const RECORDED: &str = "sockleak-user/src/cli/recorded/linux-6.12.rec";
const RECORDING: &str = "incident.rec";

/// Descriptors that an actor of a demo may have, so that it stops at the same number everywhere: what it may
/// have is part of what is printed. It cannot raise the limit without CAP_SYS_RESOURCE.
const DESCRIPTORS: &str = "20000";

/// sockleak with what a page does not say; see the head of this file.
const SHIM: &str = r#"#!/bin/sh
sub=$1
[ $# -gt 0 ] && shift
case " $* " in *" --netns "*|*" -p "*) ours= ;; *) ours=${STAGE:+--netns $STAGE} ;; esac
case " $* " in *" --no-bpf "*|*" --backend "*) how= ;; *) how="--backend tracepoint" ;; esac
case $sub in
    watch | diagnose) exec SOCKLEAK $sub $how $ours "$@" ;;
    snapshot) exec SOCKLEAK $sub $ours "$@" ;;
    demo)
        [ $# -eq 0 ] && exec SOCKLEAK demo
        case $(ulimit -Hn) in
            LIMIT) ;;
            *) ulimit -n LIMIT && exec setpriv --bounding-set=-sys_resource SOCKLEAK $sub $how "$@" ;;
        esac
        exec SOCKLEAK $sub $how "$@"
        ;;
    run) exec SOCKLEAK $sub $how "$@" ;;
esac
exec SOCKLEAK $sub "$@"
"#;

/// A directory with our commands, below which everything runs.
#[derive(Debug)]
pub struct Theatre {
    dir: PathBuf,
}

impl Theatre {
    /// Prepares the directory `dir`, which is emptied, for the program `sockleak`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn build(dir: &Path, sockleak: &Path) -> Result<Self> {
        if dir.exists() {
            fs::remove_dir_all(dir).with_context(|| format!("cannot empty {}", dir.display()))?;
        }
        let bin = dir.join("bin");
        fs::create_dir_all(&bin).with_context(|| format!("cannot create {}", bin.display()))?;
        // Its file has to have the name that users see in stacks.
        let program = dir.join("sockleak");
        fs::hard_link(sockleak, &program)
            .or_else(|_| fs::copy(sockleak, &program).map(drop))
            .with_context(|| format!("cannot copy {}", sockleak.display()))?;
        let shim = SHIM
            .replace("SOCKLEAK", &program.display().to_string())
            .replace("LIMIT", DESCRIPTORS);
        script(&bin.join("sockleak"), &shim)?;
        let pgrep =
            "#!/bin/sh\nPATH=${PATH#*:}\nexec pgrep ${STAGE:+--ns $STAGE --nslist net} \"$@\"\n";
        script(&bin.join("pgrep"), pgrep)?;
        script(&bin.join("sudo"), "#!/bin/sh\nexec \"$@\"\n")?;
        Ok(Self {
            dir: dir.to_path_buf(),
        })
    }

    /// Removes what lines have left in the places where they ran.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn clear(&self) -> Result<()> {
        let entries = fs::read_dir(&self.dir);
        for entry in entries.with_context(|| format!("cannot list {}", self.dir.display()))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() && entry.file_name() != "bin" {
                let path = entry.path();
                fs::remove_dir_all(&path)
                    .with_context(|| format!("cannot empty {}", path.display()))?;
            }
        }
        Ok(())
    }

    fn command(&self, program: &str) -> Command {
        let mut path = self.dir.join("bin").into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut command = Command::new(program);
        command
            .env("PATH", path)
            .env("LC_ALL", "C")
            .env_remove("COLUMNS")
            .stdin(Stdio::null());
        command
    }

    /// Starts `demo` and returns when it is complete.
    ///
    /// # Errors
    /// When it does not start.
    pub fn hold(&self, demo: &str) -> Result<Held> {
        let mut child = self
            .command("sockleak")
            .args(["demo", demo, "--hold"])
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start demo {demo}"))?;
        let output = child.stdout.take().context("the demo has no output")?;
        let mut held = Held { child, stage: 0 };
        for line in BufReader::new(output).lines() {
            let line = line?;
            if let Some((_, rest)) = line.split_once("nsenter -t ") {
                let pid = rest.split(' ').next().unwrap_or_default();
                held.stage = pid.parse().with_context(|| format!("no pid in {line:?}"))?;
            }
            if line.starts_with("Ctrl-C") {
                return Ok(held);
            }
        }
        bail!("demo {demo} ended: {:?}", held.child.wait())
    }

    /// Runs a line of shell in the directory `place`; what it prints, and its exit status.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run(
        &self,
        place: &str,
        line: &str,
        held: Option<&Held>,
        inside: bool,
    ) -> Result<(String, i32)> {
        let dir = self.dir.join(place);
        if !dir.exists() {
            fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
            fs::copy(super::root().join(RECORDED), dir.join(RECORDING))
                .with_context(|| format!("cannot copy {RECORDED}"))?;
        }
        let mut command = self.command("timeout");
        command.arg(PATIENCE);
        if let Some(held) = held {
            command.env("STAGE", held.stage.to_string());
            if inside {
                command.args(["nsenter", "-t", &held.stage.to_string(), "-n"]);
            }
        }
        let output = command
            .args(["sh", "-c", &format!("exec 2>&1\n{line}")])
            .current_dir(dir)
            .output()
            .with_context(|| format!("cannot run {line:?}"))?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok((printed, output.status.code().unwrap_or(-1)))
    }
}

fn script(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot make {} executable", path.display()))
}

/// A demo that runs; it ends when this is dropped.
#[derive(Debug)]
pub struct Held {
    child: Child,
    stage: u32,
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}
