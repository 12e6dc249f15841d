//! `cargo xtask test`: everything that a change has to pass.

mod count;
mod matrix;
mod table;

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;

use self::count::Tally;
use crate::{
    bundle::Bundle,
    check_bpf,
    cmd::{self, note},
    dist,
    guest_build::{self, INIT, Profile, Program, SOCKLEAK, VMTEST},
    kernel::{self, Kernel, MATRIX, NotFetched},
    lint,
    qemu::Qemu,
};

/// Arguments of `vmtest` (`tests/src/vmtest/suite.rs`): for kernels between the oldest and the newest, and for
/// the oldest.
const BRIEF: &str = "--brief";
const OLDER: &str = "--older";

/// What a guest that gets one of these arguments leaves out.
const LEFT_OUT: [(&[&str], &str); 2] = [
    (
        &[BRIEF],
        "exhausted ranges, counts of examined ports, diagnose, and leaks by kprobe",
    ),
    (
        &[BRIEF, OLDER],
        "many ports, hostile names on a terminal, the healthy by kprobe and tracepoint",
    ),
];

/// Options of `test`.
#[derive(Debug, Args)]
pub struct Options {
    /// Leave out the kernel matrix.
    #[arg(long, conflicts_with = "kernels")]
    no_vm: bool,
    /// Kernels of the matrix instead of all five.
    #[arg(long = "kernel", value_name = "KERNEL")]
    kernels: Vec<String>,
    /// For work in progress: no rebuild of the BPF object, and no matrix unless --kernel is given.
    #[arg(long)]
    quick: bool,
    /// Run every test on every kernel, also those that need the oldest and the newest only. The demos run only on
    /// request (`vmtest demos`).
    #[arg(long)]
    full: bool,
    /// Seconds until a guest is stopped.
    #[arg(long, default_value_t = 1200)]
    timeout: u64,
}

impl Options {
    /// The argument with which a guest of this series leaves out tests that take long: none for the newest, and
    /// where they were asked for.
    fn shortened(&self, series: &str) -> Option<&'static str> {
        if self.full || !self.kernels.is_empty() || MATRIX.last() == Some(&series) {
            None
        } else if MATRIX.first() == Some(&series) {
            Some(OLDER)
        } else {
            Some(BRIEF)
        }
    }
}

/// What ran, what did not, and how it went.
#[derive(Default)]
struct Report {
    tally: Tally,
    failures: Vec<String>,
    not_run: Vec<String>,
    times: Vec<(String, Duration)>,
}

impl Report {
    /// Records one step that either works or not.
    fn step(&mut self, name: &str, result: Result<()>) {
        self.tally += Tally::one(result.is_ok());
        if let Err(error) = result {
            eprintln!("xtask: {name}: {error:#}");
            self.failures.push(name.to_owned());
        }
    }

    fn timed<T>(&mut self, name: &str, work: impl FnOnce(&mut Self) -> T) -> T {
        note(format!("=== {name} ==="));
        let start = Instant::now();
        let value = work(self);
        self.times.push((name.to_owned(), start.elapsed()));
        value
    }

    fn not_run(&mut self, what: impl Into<String>) {
        let what = what.into();
        note(format!("NOT RUN: {what}"));
        self.not_run.push(what);
    }
}

/// What runs in guests.
const GUEST_PROGRAMS: [Program; 3] = [INIT, SOCKLEAK, VMTEST];

/// Everything that guests need from the network.
struct Fetched {
    qemu: Result<Qemu>,
    kernels: Vec<(String, Result<Kernel>)>,
}

/// Runs the subcommand.
pub fn run(root: &Path, options: &Options) -> Result<ExitCode> {
    let start = Instant::now();
    let wanted: Vec<String> = match () {
        () if options.no_vm => Vec::new(),
        () if !options.kernels.is_empty() => options.kernels.clone(),
        () if options.quick => Vec::new(),
        () => MATRIX.map(str::to_owned).to_vec(),
    };
    let mut report = Report::default();
    // The network is used while the processors compile.
    let fetching = (!wanted.is_empty()).then(|| {
        let wanted = wanted.clone();
        thread::spawn(move || Fetched {
            qemu: Qemu::provide(),
            kernels: wanted
                .into_iter()
                .map(|series| (series.clone(), kernel::provide(&series)))
                .collect(),
        })
    });

    report.timed("lint", |report| {
        for check in lint::all(root) {
            report.tally += Tally::one(check.result.is_ok());
            if check.result.is_err() {
                report.failures.push(check.name.to_owned());
            }
        }
    });
    report.timed("unit, property and native tests", |report| {
        cargo_tests(root, report)
    });
    if options.quick {
        report.not_run("check-bpf (--quick)");
    } else {
        report.timed("check-bpf", |report| {
            let result = check_bpf::run(root);
            report.step("check-bpf", result);
        });
    }
    if !options.quick {
        report.timed("packages", |report| {
            // As for the guests, which therefore find it built.
            let built = guest_build::build(root, &GUEST_PROGRAMS, Profile::Guest);
            let tried = built.and_then(|built| match &built[..] {
                [_, program, _] => dist::try_out(root, program.clone()),
                _ => bail!("cargo built something else"),
            });
            report.step("packages", tried);
        });
        report.not_run("the package in a clean system (cargo xtask dist --check, as root)");
    }
    let rows = match fetching {
        Some(fetching) => report.timed("kernel matrix", |report| {
            let fetched = fetching
                .join()
                .map_err(|_| anyhow!("the thread that downloads panicked"));
            match fetched {
                Ok(fetched) => run_matrix(root, fetched, options, report),
                Err(error) => {
                    report.step("kernel matrix", Err(error));
                    Vec::new()
                }
            }
        }),
        None => {
            report.not_run("the kernel matrix (switched off by an option)");
            Vec::new()
        }
    };
    summary(&report, &rows, start.elapsed());
    Ok(if report.tally.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// `cargo test` for the workspace, then the tests that a plain `cargo test` ignores.
fn cargo_tests(root: &Path, report: &mut Report) {
    let path = tools_path(report).unwrap_or_else(|error| {
        report.not_run(format!("tests that call other programs: {error:#}"));
        None
    });
    let mut run = |args: &[&str]| -> u64 {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command
            .current_dir(root)
            .args(["test", "--workspace", "--locked", "--no-fail-fast"])
            .args(args);
        if let Some(path) = &path {
            command.env("PATH", path);
        }
        count_cargo_tests(&mut command, report).unwrap_or_else(|error| {
            report.step(&cmd::show(&command), Err(error));
            0
        })
    };
    if run(&[]) > 0 {
        run(&["--", "--ignored"]);
    }
}

/// Programs that tests call, with their Debian packages and what is not tested without them.
const TOOLS: [(&str, &str, &str); 4] = [
    ("bpftool", "usr/sbin/bpftool", "comparisons with bpftool"),
    ("jq", "usr/bin/jq", "one-liners of docs/jq.md"),
    ("lsof", "usr/bin/lsof", "what docs/ says of lsof"),
    ("tmux", "usr/bin/tmux", "watch on a terminal"),
];

/// `$PATH` with the programs that tests call, where the machine lacks them.
fn tools_path(report: &mut Report) -> Result<Option<std::ffi::OsString>> {
    let mut dirs = Vec::new();
    for (name, program, what) in TOOLS {
        if cmd::which(name).is_some() {
            continue;
        }
        let bundle = Bundle::provide(name, &[&["bookworm"], &["trixie"]]);
        match bundle.and_then(|bundle| bundle.path_entry(program)) {
            Ok(dir) => dirs.push(dir),
            Err(error) => report.not_run(format!("{what}: {error:#}")),
        }
    }
    if dirs.is_empty() {
        return Ok(None);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    dirs.extend(std::env::split_paths(&path));
    Ok(Some(std::env::join_paths(dirs)?))
}

/// Runs `cargo test`, passing its output on and counting what it says; returns how many tests it ignored.
fn count_cargo_tests(command: &mut Command, report: &mut Report) -> Result<u64> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("could not start `{}`", cmd::show(command)))?;
    let stdout = child
        .stdout
        .take()
        .context("cargo has no standard output")?;
    let stderr = child.stderr.take().context("cargo has no standard error")?;
    // Tests that cannot run here say so past the harness, on standard error.
    let errors = thread::spawn(move || {
        let mut skipped = BTreeSet::new();
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            eprintln!("{line}");
            if line.starts_with("SKIPPED ") {
                skipped.insert(line);
            }
        }
        skipped
    });
    let mut tally = Tally::default();
    let mut failed = Vec::new();
    for line in BufReader::new(stdout).lines() {
        let line = line.context("could not read what cargo test prints")?;
        println!("{line}");
        if let Some(result) = count::cargo_result(&line) {
            tally += result;
        } else if let Some(name) = line
            .strip_prefix("test ")
            .and_then(|test| test.strip_suffix(" ... FAILED"))
        {
            failed.push(format!("test {name}"));
        }
    }
    let status = child.wait()?;
    report.not_run.extend(errors.join().unwrap_or_default());
    report.tally += Tally {
        skipped: 0,
        ..tally
    };
    report.failures.extend(failed);
    if !status.success() && tally.failed == 0 {
        bail!("{status}, and no test result says why: see above");
    }
    Ok(tally.skipped)
}

fn run_matrix(
    root: &Path,
    fetched: Fetched,
    options: &Options,
    report: &mut Report,
) -> Vec<table::Row> {
    let qemu = match fetched.qemu {
        Ok(qemu) => qemu,
        Err(error) => {
            report.not_run(format!(
                "the whole kernel matrix, because QEMU is missing: {error:#}"
            ));
            return Vec::new();
        }
    };
    let mut kernels = Vec::new();
    for (series, result) in fetched.kernels {
        match result {
            Ok(kernel) => kernels.push(kernel),
            Err(error)
                if error
                    .downcast_ref::<NotFetched>()
                    .is_some_and(|e| e.unreachable) =>
            {
                report.not_run(format!("kernel {series}: {error:#}"));
            }
            Err(error) => report.step(&format!("kernel {series}"), Err(error)),
        }
    }
    if kernels.is_empty() {
        return Vec::new();
    }
    let built = guest_build::build(root, &GUEST_PROGRAMS, Profile::Guest);
    let programs = match built.as_deref() {
        Ok([init, sockleak, vmtest]) => matrix::Programs {
            init: init.clone(),
            sockleak: sockleak.clone(),
            vmtest: vmtest.clone(),
        },
        Ok(_) => return Vec::new(),
        Err(error) => {
            report.step("static programs for the guests", Err(anyhow!("{error:#}")));
            return Vec::new();
        }
    };
    for (arguments, what) in LEFT_OUT {
        let series: Vec<&str> = (kernels.iter().map(|kernel| kernel.series.as_str()))
            .filter(|series| {
                (options.shortened(series)).is_some_and(|one| arguments.contains(&one))
            })
            .collect();
        if !series.is_empty() {
            report.not_run(format!("{what} on {} (--full)", series.join(", ")));
        }
    }
    let rows = matrix::run(root, &qemu, &kernels, &programs, options);
    for row in &rows {
        let total = row.total();
        report.tally += Tally {
            skipped: 0,
            ..total
        };
        report.failures.extend(
            row.failures
                .iter()
                .map(|line| format!("[{}] {line}", row.series)),
        );
        report.not_run.extend(
            row.skips
                .iter()
                .map(|line| format!("[{}] {line}", row.series)),
        );
    }
    rows
}

fn summary(report: &Report, rows: &[table::Row], total: Duration) {
    println!("\n=== summary ===");
    for (name, time) in &report.times {
        println!("{:<36}{:>7.0} s", name, time.as_secs_f64());
    }
    println!("{:<36}{:>7.0} s", "in all", total.as_secs_f64());
    if !rows.is_empty() {
        println!("\n{}", table::table(rows));
    }
    if !report.not_run.is_empty() {
        println!("\nNOT RUN ({}):", report.not_run.len());
        for what in &report.not_run {
            println!("  {what}");
        }
    }
    if !report.failures.is_empty() {
        println!("\nFAILED ({}):", report.failures.len());
        for what in &report.failures {
            println!("  {}", what.lines().next().unwrap_or_default());
        }
    }
    println!(
        "\n{} passed, {} failed",
        report.tally.passed, report.tally.failed
    );
}
