//! `cargo xtask bench overhead`: instructions that watching adds to a round of socket work.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use super::{
    figures::{self, Runs},
    hollow,
    peers::{self, Peers},
    table,
};
use crate::{
    build_bpf,
    cmd::note,
    frame::Kind,
    guest,
    guest_build::{self, INIT, Profile, ROUNDS, SOCKLEAK},
    initramfs::Content,
    kernel::{self, Kernel, MATRIX},
    qemu::{Machine, Qemu},
    vm::ENV,
};

/// Ways to attach, by the name that `--backend` takes.
pub const BACKENDS: [&str; 3] = ["fentry", "kprobe", "tracepoint"];

/// Guests at once.
const AT_ONCE: usize = 2;

/// Options of `bench overhead`.
#[derive(Debug, Args)]
pub struct Options {
    /// Only this kernel series; may be given several times.
    #[arg(long = "kernel", value_name = "SERIES")]
    kernels: Vec<String>,
    /// Only this backend; may be given several times.
    #[arg(long = "backend", value_name = "NAME", value_parser = BACKENDS)]
    backends: Vec<String>,
    /// Measure bpftrace with a script that does the same job and tools of libbpf-tools as well.
    #[arg(long)]
    peers: bool,
    /// Sockets that are open and idle meanwhile.
    #[arg(long, value_name = "N", default_value_t = 0)]
    live: u32,
    /// Run every guest twice and say how far the figures are apart.
    #[arg(long)]
    twice: bool,
    /// Write the table to docs/overhead.md.
    #[arg(long)]
    write: bool,
    /// Let the kernel time every BPF program, and print what the guests print. The clock is part of the
    /// figures then: good for comparing programs, not for the table.
    #[arg(long, conflicts_with = "write")]
    programs: bool,
    /// Print what the guests print.
    #[arg(long)]
    raw: bool,
    /// Seconds until a guest is stopped.
    #[arg(long, default_value_t = 3600)]
    timeout: u64,
}

/// Figures of one kernel.
pub struct OfKernel {
    /// `6.18.15+deb13-cloud-amd64`
    pub release: String,
    /// What was measured.
    pub runs: Runs,
    /// How far a second run was from it.
    pub distance: Option<(f64, String)>,
}

/// Runs the subcommand.
pub fn run(root: &Path, options: &Options) -> Result<()> {
    let mut programs = build(root)?;
    if options.peers {
        programs.peers = peers::provide(&root.join("target"))?;
    }
    let qemu = Qemu::provide()?;
    let wanted: Vec<&str> = match options.kernels.as_slice() {
        [] => MATRIX.to_vec(),
        some => some.iter().map(String::as_str).collect(),
    };
    let all = all(&wanted, |series| {
        let kernel = kernel::provide(series)?;
        let runs = measure(&qemu, &kernel, &programs, options)?;
        let distance = match options.twice {
            true => Some(figures::distance(
                &runs,
                &measure(&qemu, &kernel, &programs, options)?,
            )),
            false => None,
        };
        Ok(OfKernel {
            release: kernel.release,
            runs,
            distance,
        })
    })?;
    let document = table::document(&all, &command_line(options));
    print!("{document}");
    match options.write {
        true => super::write(&root.join("docs/overhead.md"), &document),
        false => Ok(()),
    }
}

/// Measures every kernel, two at a time: a guest that counts instructions has one processor, and what it counts
/// does not depend on what else this machine does.
fn all(
    wanted: &[&str],
    measured: impl Fn(&str) -> Result<OfKernel> + Sync,
) -> Result<Vec<OfKernel>> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let at = next.fetch_add(1, Ordering::Relaxed)
                    && let Some(series) = wanted.get(at)
                {
                    let result = measured(series);
                    if let Ok(mut results) = results.lock() {
                        results.insert(at, result);
                    }
                }
            });
        }
    });
    let results = results.into_inner().unwrap_or_default();
    results.into_values().collect()
}

/// As a person would type it.
fn command_line(options: &Options) -> String {
    let mut line = "cargo xtask bench overhead".to_owned();
    for kernel in &options.kernels {
        line += &format!(" --kernel {kernel}");
    }
    for backend in &options.backends {
        line += &format!(" --backend {backend}");
    }
    if options.peers {
        line += " --peers";
    }
    if options.live > 0 {
        line += &format!(" --live {}", options.live);
    }
    if options.twice {
        line += " --twice";
    }
    if options.write {
        line += " --write";
    }
    line
}

/// What goes into the guest.
struct Programs {
    init: PathBuf,
    files: Vec<(PathBuf, String)>,
    peers: Peers,
}

fn build(root: &Path) -> Result<Programs> {
    let built = guest_build::build(root, &[INIT, SOCKLEAK, ROUNDS], Profile::Release)?;
    let [init, sockleak, rounds] = built.as_slice() else {
        bail!("not every program was built");
    };
    let object = build_bpf::committed(root).join(build_bpf::object_name("x86_64"));
    let object =
        fs::read(&object).with_context(|| format!("could not read {}", object.display()))?;
    let floor = root.join("target/sockleak-floor");
    let program =
        fs::read(sockleak).with_context(|| format!("could not read {}", sockleak.display()))?;
    fs::write(&floor, hollow::hollow_binary(&program, &object)?)
        .with_context(|| format!("could not write {}", floor.display()))?;
    fs::set_permissions(&floor, fs::metadata(sockleak)?.permissions())?;
    Ok(Programs {
        init: init.clone(),
        files: vec![
            (sockleak.clone(), "/bin/sockleak".to_owned()),
            (floor, "/bin/sockleak-floor".to_owned()),
            (rounds.clone(), "/bin/rounds".to_owned()),
        ],
        peers: Peers::default(),
    })
}

fn measure(qemu: &Qemu, kernel: &Kernel, programs: &Programs, options: &Options) -> Result<Runs> {
    let mut command = vec!["/bin/rounds".to_owned(), format!("--live={}", options.live)];
    if options.programs {
        command.push("--programs".to_owned());
    }
    // The first run after boot finds cold caches everywhere.
    command.extend(["warm".to_owned(), "base".to_owned()]);
    for backend in BACKENDS {
        if !options.backends.is_empty() && options.backends.iter().all(|wanted| wanted != backend) {
            continue;
        }
        // An interval that is longer than the loops: no report falls into them, they are measured apart.
        let watch = format!("watch --json -i 60 --backend {backend}");
        command.push(format!("floor-{backend}=/bin/sockleak-floor {watch}"));
        command.push(format!("{backend}=/bin/sockleak {watch}"));
        command.push(format!(
            "stacks-{backend}=/bin/sockleak {watch} --stacks always"
        ));
        command.push(format!("events-{backend}=/bin/sockleak {watch} --events"));
    }
    command.extend(programs.peers.runs.iter().cloned());
    command.push("again".to_owned());
    let content = Content {
        init: programs.init.clone(),
        command,
        env: ENV.into_iter().map(str::to_owned).collect(),
        files: programs.files.clone(),
        complete: programs.peers.files.clone(),
        modules: Vec::new(),
    };
    let machine = Machine {
        smp: 1,
        // bpftrace brings a compiler, which the archive holds twice while it is unpacked.
        mem: if options.peers { "3G" } else { "1G" }.to_owned(),
        icount: true,
        append: "nokaslr".to_owned(),
    };
    note(format!("measuring on {}", kernel.release));
    let mut text = Vec::new();
    let outcome = guest::run(
        qemu,
        kernel,
        &machine,
        &content,
        Duration::from_secs(options.timeout),
        |kind, bytes| match kind {
            Kind::Stdout => {
                text.extend_from_slice(bytes);
                if options.raw || options.programs {
                    eprint!("{}", String::from_utf8_lossy(bytes));
                }
            }
            _ => eprint!("{}", String::from_utf8_lossy(bytes)),
        },
    )?;
    if outcome.status != 0 {
        bail!("{}: exit status {}", kernel.release, outcome.status);
    }
    outcome.sound(kernel)?;
    note(format!(
        "{}: measured in {:.0} s",
        kernel.release,
        outcome.total.as_secs_f64()
    ));
    figures::parse(std::str::from_utf8(&text).context("the guest printed no text")?)
}
