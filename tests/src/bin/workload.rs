//! A program that misbehaves on purpose and says exactly how: `workload NAME [--count=N]
//! [--processes=N] [--family=4|6]`. See the library's `workload` module.

use sockleak_tests::workload::{FAILURES, WORKLOADS, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    // The demos' actors, for tests that start demos.
    if let Some(code) = sockleak::demo::perform_if_asked() {
        return code;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.is_empty() {
        for (name, summary, _) in WORKLOADS.iter().chain(FAILURES) {
            println!("{name:24} {summary}");
        }
        return ExitCode::SUCCESS;
    }
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("workload: {error:#}");
            ExitCode::FAILURE
        }
    }
}
