//! `cargo xtask bench agent`: what the agent itself takes, by connections a second and sockets held.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::Value;

use super::agent_table;
use crate::{
    build_bpf,
    cmd::{self, note},
    load::{Load, Outcome},
};

/// Options of `bench agent`.
#[derive(Debug, Args)]
pub struct Options {
    /// In a guest of this kernel series instead of on this machine; may be given several times.
    #[arg(long = "kernel", value_name = "SERIES")]
    kernels: Vec<String>,
    /// Connections a second, `max` for as many as there can be.
    #[arg(long, default_value = "0,1000,5000,max")]
    rates: String,
    /// Sockets that are held meanwhile.
    #[arg(long, default_value = "0,10000,100000")]
    live: String,
    /// How long each figure is taken, seconds.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// More words for `sockleak watch`.
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    words: String,
    /// Write the table to docs/agent.md.
    #[arg(long)]
    write: bool,
    /// Print the figures as they come.
    #[arg(long)]
    raw: bool,
    /// Seconds until a guest is stopped.
    #[arg(long, default_value_t = 3600)]
    timeout: u64,
}

/// Where figures were taken.
pub struct Place {
    /// `this machine, 6.18.44` or `guest, 6.12.9`.
    pub name: String,
    /// Lines of `load measure`.
    pub lines: Vec<Value>,
}

/// Sizes of files, bytes.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// The program, linked statically, as it is built.
    pub program: u64,
    /// The same without the names of functions.
    pub stripped: Option<u64>,
    /// The BPF object in it.
    pub object: u64,
}

/// Runs the subcommand.
pub fn run(root: &Path, options: &Options) -> Result<()> {
    let load = Load::build(root)?;
    let sizes = sizes(root, &load.sockleak)?;
    let words = words(options);
    let raw = |bytes: &[u8]| {
        if options.raw {
            eprint!("{}", String::from_utf8_lossy(bytes));
        }
    };
    let mut places = Vec::new();
    if options.kernels.is_empty() {
        note("measuring on this machine");
        let outcome = load.here(&words, raw)?;
        let name = format!("this machine, {}", outcome.release);
        places.push(place(name, &outcome)?);
    }
    for series in &options.kernels {
        let timeout = Duration::from_secs(options.timeout);
        let outcome = load.in_guest(series, &words, timeout, raw)?;
        let name = format!("guest (emulated), {}", outcome.release);
        places.push(place(name, &outcome)?);
    }
    let document = agent_table::document(&places, &sizes, &command_line(options));
    print!("{document}");
    match options.write {
        true => super::write(&root.join("docs/agent.md"), &document),
        false => Ok(()),
    }
}

/// As a person would type it.
fn command_line(options: &Options) -> String {
    let mut line = "cargo xtask bench agent".to_owned();
    for kernel in &options.kernels {
        line += &format!(" --kernel {kernel}");
    }
    line += &format!(
        " --rates {} --live {} --seconds {}",
        options.rates, options.live, options.seconds
    );
    if !options.words.is_empty() {
        line += &format!(" --words '{}'", options.words);
    }
    if options.write {
        line += " --write";
    }
    line
}

fn sizes(root: &Path, sockleak: &Path) -> Result<Sizes> {
    let size = |path: &Path| -> Result<u64> {
        let meta =
            fs::metadata(path).with_context(|| format!("could not look at {}", path.display()))?;
        Ok(meta.len())
    };
    let stripped = root.join("target/sockleak-stripped");
    let strip = cmd::which("strip").map(|strip| {
        let done = cmd::run(Command::new(strip).arg("-o").arg(&stripped).arg(sockleak));
        done.and_then(|()| size(&stripped))
    });
    Ok(Sizes {
        program: size(sockleak)?,
        stripped: strip.transpose()?,
        object: size(&build_bpf::committed(root).join(build_bpf::object_name("x86_64")))?,
    })
}

/// The words after `load measure`.
fn words(options: &Options) -> Vec<String> {
    vec![
        "measure".to_owned(),
        format!("words={}", options.words),
        format!("rates={}", options.rates),
        format!("live={}", options.live),
        format!("seconds={}", options.seconds),
    ]
}

fn place(name: String, outcome: &Outcome) -> Result<Place> {
    if outcome.status != 0 {
        bail!("{name}: exit status {}", outcome.status);
    }
    Ok(Place {
        name,
        lines: lines(&outcome.text)?,
    })
}

fn lines(text: &str) -> Result<Vec<Value>> {
    text.lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("`load` printed {line}")))
        .collect()
}
