//! What the agent itself costs, and whether that stays so: `cargo xtask bench agent` and
//! `cargo xtask soak` run this, here or in a guest.
//!
//! `load measure` prints a JSON line per figure, `load soak` one per sample and a last one with the
//! verdict. `load hold` and `load traffic` are the children that hold sockets and make connections.

#[path = "load/agent.rs"]
mod agent;
#[path = "load/children.rs"]
mod children;
#[path = "load/churn.rs"]
mod churn;
#[path = "load/looks.rs"]
mod looks;
#[path = "load/maps.rs"]
mod maps;
#[path = "load/measure.rs"]
mod measure;
#[path = "load/slope.rs"]
mod slope;
#[path = "load/soak.rs"]
mod soak;
#[path = "load/storm.rs"]
mod storm;
#[path = "load/traffic.rs"]
mod traffic;

use std::{process::ExitCode, str::FromStr, time::Duration};

use anyhow::{Context as _, Result, bail};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match run(&words) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[String]) -> Result<ExitCode> {
    let (what, rest) = words
        .split_first()
        .context("load measure|soak|storm|hold|traffic|churn")?;
    let number = |n: usize| -> Result<u32> {
        let word = rest.get(n).context("a number is missing")?;
        parse(word)
    };
    match what.as_str() {
        "measure" => measure::run(&Arguments::new(rest)?)?,
        "soak" => return soak::run(&Arguments::new(rest)?),
        "storm" => return storm::run(&Arguments::new(rest)?),
        "hold" => children::hold(number(0)?)?,
        "traffic" => traffic::run(number(0)?)?,
        "churn" => churn::run()?,
        "life" => churn::live(number(0)?)?,
        other => bail!("there is no `load {other}`"),
    }
    Ok(ExitCode::SUCCESS)
}

/// What `measure`, `soak` and `storm` are told.
pub struct Arguments {
    /// The sockleak to run.
    pub program: String,
    /// More words for it.
    pub words: Vec<String>,
    /// Connections a second; 0 is none, `max` as many as there can be.
    pub rates: Vec<Rate>,
    /// Sockets that are held meanwhile.
    pub live: Vec<u32>,
    /// How long each figure is taken; within which a storm must be over.
    pub seconds: u64,
    /// Sockets of a storm.
    pub sockets: u64,
}

/// How many connections a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// This many; 0 is none.
    Of(u32),
    /// As many as there can be.
    Max,
}

impl Rate {
    /// As it is printed and typed.
    pub fn name(self) -> String {
        match self {
            Self::Of(rate) => rate.to_string(),
            Self::Max => "max".to_owned(),
        }
    }
}

impl Arguments {
    fn new(words: &[String]) -> Result<Self> {
        let mut arguments = Self {
            program: "/bin/sockleak".to_owned(),
            words: Vec::new(),
            rates: vec![Rate::Of(0), Rate::Of(1000), Rate::Of(5000), Rate::Max],
            live: vec![0, 10_000, 100_000],
            seconds: 20,
            sockets: 10_000_000,
        };
        for word in words {
            let (name, value) = word
                .split_once('=')
                .with_context(|| format!("`{word}` is not NAME=VALUE"))?;
            match name {
                "program" => arguments.program = value.to_owned(),
                "words" => {
                    arguments.words = value.split_whitespace().map(str::to_owned).collect();
                }
                "rates" => arguments.rates = list(value, rate)?,
                "live" => arguments.live = list(value, parse)?,
                "seconds" => arguments.seconds = parse(value)?,
                "sockets" => arguments.sockets = parse(value)?,
                other => bail!("`load` does not know {other}="),
            }
        }
        Ok(arguments)
    }

    /// How long each figure is taken.
    pub fn span(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

fn rate(word: &str) -> Result<Rate> {
    match word {
        "max" => Ok(Rate::Max),
        number => Ok(Rate::Of(parse(number)?)),
    }
}

fn list<T>(words: &str, item: impl Fn(&str) -> Result<T>) -> Result<Vec<T>> {
    words.split(',').map(item).collect()
}

fn parse<T: FromStr>(word: &str) -> Result<T> {
    let parsed = word.parse().ok();
    parsed.with_context(|| format!("`{word}` is not a number that fits"))
}
