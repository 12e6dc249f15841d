//! A program that misbehaves on purpose and says exactly how: `workload NAME [--count=N]
//! [--processes=N] [--family=4|6]`. See the library's `workload` module.

use std::process::ExitCode;

use anyhow::Context as _;
use sockleak_tests::workload::{WORKLOADS, run};

fn main() -> ExitCode {
    // The demos' actors, for tests that start demos.
    if let Some(code) = sockleak::demo::perform_if_asked() {
        return code;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.is_empty() {
        for (name, summary, _) in WORKLOADS {
            println!("{name:14} {summary}");
        }
        return ExitCode::SUCCESS;
    }
    let outcome = match arguments.as_slice() {
        [command, name] if command == "hold-demo" => hold_demo(name),
        _ => run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("workload: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Starts a demo, prints the inode number of its network namespace and waits to be killed.
fn hold_demo(name: &str) -> anyhow::Result<()> {
    let scenario = sockleak::demo::find(name).context("there is no such demo")?;
    let running = scenario.start(&sockleak::demo::Launcher::this_binary())?;
    println!("{}", running.netns());
    loop {
        std::thread::park();
    }
}
