//! sockleak on a system that lacks something: no BTF, or not all capabilities.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail, ensure};
use rustix::mount::MountPropagationFlags;
use rustix::thread::{CapabilitySet, UnshareFlags};

use super::agent::{Run, finish};
use super::setting::Setting;
use super::suite::{Outcome, Suite};
use super::{CRIPPLED_COMMAND, compare};
use crate::schema;

/// What is taken away, and the word by which the message must name it.
const LACKS: [(&str, &str); 3] = [
    ("btf", "BTF"),
    ("bpf-capability", "CAP_BPF"),
    ("perfmon-capability", "CAP_PERFMON"),
];

pub(super) fn run(setting: &Setting, suite: &mut Suite) {
    for (lack, word) in LACKS {
        suite.test(&format!("without/{lack}/refused"), || {
            refused(setting, lack, word)
        });
        suite.test(&format!("without/{lack}/no-bpf"), || no_bpf(setting, lack));
    }
}

/// Status 3, naming what is missing.
fn refused(setting: &Setting, lack: &str, word: &str) -> anyhow::Result<Outcome> {
    for arguments in [
        &["watch", "--json", "-d", "1s"][..],
        &["snapshot", "--json"],
    ] {
        let run = without(setting, lack, arguments)?;
        explained(&run, word).with_context(|| format!("{arguments:?}"))?;
    }
    Ok(Outcome::Pass)
}

fn explained(run: &Run, word: &str) -> anyhow::Result<()> {
    ensure!(
        run.status == Some(3),
        "status {:?}: {}",
        run.status,
        run.stderr
    );
    ensure!(
        run.stderr.contains(word),
        "{word} is not named: {}",
        run.stderr
    );
    ensure!(run.stderr.contains("fix: "), "no remedy: {}", run.stderr);
    ensure!(run.stdout.is_empty(), "it began all the same");
    Ok(())
}

/// Without BPF it needs none of that, and finds as much.
fn no_bpf(setting: &Setting, lack: &str) -> anyhow::Result<Outcome> {
    let mut driver = setting.workload(&["bound-leak", "--count=200", "--processes=2"])?;
    let phase = driver.must_phase()?;
    let run = without(setting, lack, &["snapshot", "--json", "--no-bpf"])?;
    ensure!(
        run.status == Some(0),
        "status {:?}: {}",
        run.status,
        run.stderr
    );
    let snapshot = schema::validate(String::from_utf8(run.stdout)?.trim_end())?;
    ensure!(
        snapshot["method"] == "proc",
        "method {}",
        snapshot["method"]
    );
    compare::holdings(&snapshot, &phase)?;
    driver.quit()?;
    Ok(Outcome::Pass)
}

fn without(setting: &Setting, lack: &str, arguments: &[&str]) -> anyhow::Result<Run> {
    finish(
        Command::new("/proc/self/exe")
            .args([CRIPPLED_COMMAND, lack])
            .arg(&setting.sockleak)
            .args(arguments),
    )
}

/// Takes away what the first argument says and becomes the program of the second.
pub(super) fn exec(arguments: &[String]) -> ExitCode {
    let error = match arguments {
        [lack, program, rest @ ..] => match give_up(lack) {
            Ok(()) => Command::new(program).args(rest).exec().into(),
            Err(error) => error,
        },
        _ => anyhow::anyhow!("without what, and which program?"),
    };
    eprintln!("vmtest: {error:#}");
    ExitCode::FAILURE
}

fn give_up(lack: &str) -> anyhow::Result<()> {
    match lack {
        "btf" => {
            // SAFETY: only CLONE_NEWNS is passed; the descriptor table stays as it is.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }
                .context("cannot leave the mount namespace")?;
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            rustix::mount::mount_change("/", private).context("cannot make / private")?;
            // An empty directory hides the file, as on a kernel without CONFIG_DEBUG_INFO_BTF.
            let empty = std::env::temp_dir().join(format!("no-btf-{}", std::process::id()));
            std::fs::create_dir(&empty).context("cannot make an empty directory")?;
            let mounted = rustix::mount::mount_bind(&empty, "/sys/kernel/btf");
            std::fs::remove_dir(&empty)?;
            mounted.context("cannot hide /sys/kernel/btf")
        }
        "bpf-capability" => drop_capability(CapabilitySet::BPF),
        "perfmon-capability" => drop_capability(CapabilitySet::PERFMON),
        other => bail!("cannot go without {other:?}"),
    }
}

/// CAP_SYS_ADMIN stands for the others, so it goes, too; exec makes it so.
fn drop_capability(capability: CapabilitySet) -> anyhow::Result<()> {
    for one in [capability, CapabilitySet::SYS_ADMIN] {
        rustix::thread::remove_capability_from_bounding_set(one)
            .with_context(|| format!("cannot drop {one:?}"))?;
    }
    Ok(())
}
