//! The command as the tests of this package start it: cargo builds a test's binaries only when
//! they are in the same package.

use std::process::ExitCode;

fn main() -> ExitCode {
    sockleak::cli::main()
}
