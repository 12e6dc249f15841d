//! The `sockleak` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    sockleak::cli::main()
}
