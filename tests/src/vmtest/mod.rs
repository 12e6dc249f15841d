//! sockleak against the kernel it runs on: workloads with known ground truth, every backend
//! forced in turn, exact figures.
//!
//! Runs as root in a test guest (where sockleak must account for every socket of the system) and
//! on any machine (where others create sockets, too, and only our own are held against the
//! truth). Prints `PASS name`, `FAIL name: why` or `SKIP name: why` per test and a summary.

mod agent;
mod backends;
mod bpf_ids;
mod compare;
mod crippled;
mod demos;
mod diagnose;
mod failures;
mod hostile;
mod looks;
mod loss;
mod origins;
mod ports;
mod replay;
mod run;
mod setting;
mod suite;
mod tally;
mod totals;
mod watch;
mod workloads;

use std::process::ExitCode;

use setting::Setting;
use suite::Suite;

/// First argument with which the test program plays a workload.
pub const WORKLOAD_COMMAND: &str = "__workload";

/// First argument with which the test program gives something up and becomes sockleak.
const CRIPPLED_COMMAND: &str = "__without";

/// Runs the tests whose names contain one of `filters`, all without filters; with `--brief` not those that
/// take long and that most kernels can do without. Some run only when a filter asks for them.
pub fn main(filters: &[String]) -> ExitCode {
    if let Some((command, rest)) = filters.split_first()
        && command == CRIPPLED_COMMAND
    {
        return crippled::exec(rest);
    }
    if let Some((command, rest)) = filters.split_first()
        && command == run::COMMAND
    {
        return run::play(rest);
    }
    let setting = match Setting::find() {
        Ok(setting) => setting,
        Err(error) => {
            println!("FAIL setting: {error:#}");
            println!("vmtest: 0 passed, 1 failed, 0 skipped");
            return ExitCode::FAILURE;
        }
    };
    let mut suite = Suite::new(filters);
    looks::run(&setting, &mut suite);
    ports::run(&setting, &mut suite);
    diagnose::run(&setting, &mut suite);
    demos::run(&setting, &mut suite);
    backends::run(&setting, &mut suite);
    hostile::run(&setting, &mut suite);
    crippled::run(&setting, &mut suite);
    suite.finish()
}
