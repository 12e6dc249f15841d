//! `cargo xtask compat`: what each kernel and backend offers, asked in a guest of each: docs/compatibility.md.

mod page;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde::Deserialize;

use crate::{
    cmd::{self, note},
    frame::Kind,
    guest,
    guest_build::{self, INIT, Profile, SOCKLEAK},
    initramfs::Content,
    kernel::{self, Kernel, MATRIX},
    qemu::{Machine, Qemu},
    vm,
};

/// Options of `compat`.
#[derive(Debug, Args)]
pub struct Options {
    /// Write docs/compatibility.md instead of printing it; only with the whole matrix.
    #[arg(long, conflicts_with = "kernels")]
    write: bool,
    /// Kernels instead of all five.
    #[arg(long = "kernel", value_name = "KERNEL")]
    kernels: Vec<String>,
    /// Seconds until a guest is stopped.
    #[arg(long, default_value_t = 600)]
    timeout: u64,
}

/// As `--backend` has them, best first.
pub const BACKENDS: [&str; 4] = ["auto", "fentry", "kprobe", "tracepoint"];

/// What one kernel has said.
#[derive(Debug)]
pub struct Answers {
    /// Series.
    pub series: String,
    /// By backend.
    pub backends: BTreeMap<String, Backend>,
}

/// What a backend offers on a kernel.
#[derive(Debug, Default)]
pub struct Backend {
    /// What `probes` says.
    pub probes: Option<Probes>,
    /// What a `watch` held against the kernel's count at its end; `None` when it did not run.
    pub difference: Option<i64>,
}

/// `sockleak probes --json`
#[derive(Debug, Deserialize)]
pub struct Probes {
    /// Release.
    pub kernel: String,
    /// In the catalog's order.
    pub hooks: Vec<Hook>,
}

/// One of its hooks.
#[derive(Debug, Deserialize)]
pub struct Hook {
    /// Name.
    pub hook: String,
    /// What it is good for.
    pub gives: String,
    /// Who serves it.
    pub backend: Option<String>,
    /// Why nobody better does, or nobody.
    pub reason: Option<String>,
    /// What cannot be seen.
    pub limits: Option<String>,
}

/// Runs the subcommand.
pub fn run(root: &Path, options: &Options) -> Result<()> {
    let series: Vec<String> = match options.kernels.is_empty() {
        true => MATRIX.map(str::to_owned).to_vec(),
        false => options.kernels.clone(),
    };
    let qemu = Qemu::provide()?;
    let built = guest_build::build(root, &[INIT, SOCKLEAK], Profile::Guest)?;
    let [init, sockleak] = &built[..] else {
        bail!("cargo built something else");
    };
    let mut all = Vec::new();
    for series in &series {
        let kernel = kernel::provide(series)?;
        note(format!("asking {}", kernel.release));
        let said = ask(&qemu, &kernel, init, sockleak, options.timeout)?;
        all.push(answers(series, &said).with_context(|| format!("kernel {series}"))?);
    }
    let text = page::page(&all)?;
    if options.write {
        let path = root.join("docs/compatibility.md");
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        note(format!("wrote {}", path.display()));
    } else {
        print!("{text}");
    }
    Ok(())
}

/// One boot for all questions: lines `BACKEND {...}`.
fn ask(qemu: &Qemu, kernel: &Kernel, init: &Path, sockleak: &Path, timeout: u64) -> Result<String> {
    let shell = cmd::which("sh").context("sh is on no PATH")?;
    let script = format!(
        "for b in {}; do \
         echo $b $(sockleak probes --json --backend $b); \
         sockleak watch --json -d 1s --backend $b > /watch || true; \
         while read -r line; do case $line in *'\"type\":\"end\"'*) echo \"$b $line\";; esac; done < /watch; \
         done",
        BACKENDS.join(" ")
    );
    let files: Vec<(PathBuf, String)> = vec![
        (shell, "/bin/sh".into()),
        (sockleak.to_owned(), "/bin/sockleak".into()),
    ];
    let content = Content {
        init: init.to_owned(),
        command: vec!["/bin/sh".into(), "-c".into(), script],
        env: vm::ENV.into_iter().map(str::to_owned).collect(),
        files,
        complete: Vec::new(),
        modules: Vec::new(),
    };
    let machine = Machine {
        smp: 2,
        mem: "1G".into(),
        icount: false,
        append: String::new(),
    };
    let mut said = Vec::new();
    let timeout = Duration::from_secs(timeout);
    let outcome = guest::run(qemu, kernel, &machine, &content, timeout, |kind, bytes| {
        if kind == Kind::Stdout {
            said.extend_from_slice(bytes);
        }
    })?;
    if outcome.status != 0 || !outcome.problems.is_empty() {
        bail!(
            "status {}; the kernel complained: {:?}",
            outcome.status,
            outcome.problems
        );
    }
    String::from_utf8(said).context("it said something that is not UTF-8")
}

fn answers(series: &str, said: &str) -> Result<Answers> {
    let mut backends: BTreeMap<String, Backend> = BTreeMap::new();
    for line in said.lines() {
        let (backend, object) = line.split_once(' ').with_context(|| line.to_owned())?;
        let object: serde_json::Value = serde_json::from_str(object).context(line.to_owned())?;
        let entry = backends.entry(backend.to_owned()).or_default();
        match object["type"].as_str() {
            Some("probes") => entry.probes = Some(serde_json::from_value(object)?),
            Some("end") => entry.difference = object["difference"].as_i64(),
            other => bail!("a line of type {other:?}"),
        }
    }
    for backend in BACKENDS {
        let probes = backends.get(backend).and_then(|one| one.probes.as_ref());
        probes.with_context(|| format!("nothing was said about {backend}"))?;
    }
    Ok(Answers {
        series: series.to_owned(),
        backends,
    })
}

#[cfg(test)]
pub mod tests {
    /// What a kernel says that has no fentry.
    pub fn said() -> String {
        let hook =
            |name: &str, backend: Option<&str>, reason: Option<&str>, limits: Option<&str>| {
                serde_json::json!({"hook": name, "gives": format!("what {name} gives"),
                "backend": backend, "attach_to": [], "reason": reason, "limits": limits})
            };
        let probes = |hooks: Vec<serde_json::Value>| serde_json::json!({"type": "probes", "kernel": "9.9-test", "hooks": hooks, "problems": []});
        let by = |backend: &str| {
            probes(vec![
                hook("alloc", Some(backend), None, None),
                hook("bind", Some(backend), None, Some("how long it takes")),
            ])
        };
        let without = probes(vec![
            hook("alloc", None, Some("fentry: refused"), None),
            hook("bind", None, Some("fentry: refused"), None),
        ]);
        format!(
            "auto {}\nauto {{\"type\":\"end\",\"difference\":0}}\nfentry {without}\nkprobe {}\n\
             kprobe {{\"type\":\"end\",\"difference\":2}}\ntracepoint {}\n",
            by("kprobe"),
            by("kprobe"),
            by("tracepoint")
        )
    }

    #[test]
    fn lines_become_answers_and_nothing_may_be_missing() {
        let answers = super::answers("9.9", &said()).unwrap();
        assert_eq!(answers.backends.len(), 4);
        assert_eq!(answers.backends["auto"].difference, Some(0));
        assert_eq!(answers.backends["fentry"].difference, None);
        let short = said().lines().take(2).collect::<Vec<_>>().join("\n");
        let error = super::answers("9.9", &short).unwrap_err();
        assert!(error.to_string().contains("fentry"), "{error:#}");
    }
}
