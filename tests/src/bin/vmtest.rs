//! Holds sockleak against the kernel it runs on, as root, in a test guest or on any machine:
//! `vmtest [FILTER...]`. Prints a line per test; see the library's `vmtest` module.

use std::process::ExitCode;

use sockleak_tests::{vmtest, workload};

fn main() -> ExitCode {
    // This one binary also plays the demos' actors and the workloads: a guest needs no other.
    if let Some(code) = sockleak::demo::perform_if_asked() {
        return code;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some((command, rest)) = arguments.split_first()
        && command == vmtest::WORKLOAD_COMMAND
    {
        return match workload::run(rest) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("workload: {error:#}");
                ExitCode::FAILURE
            }
        };
    }
    vmtest::main(&arguments)
}
