//! From what the system offers to a plan that can be carried out, or to exit status 3.

use anyhow::{Error, anyhow};

use super::exit::Failure;
use crate::{
    kernel::{Facts, problems},
    probe::{Choice, LoadError, Plan, facts, plan},
};

/// Asks the system and chooses.
pub fn prepare(choice: Choice) -> (Facts, Plan) {
    let facts = facts::gather();
    let plan = plan::plan(&facts, choice);
    (facts, plan)
}

/// Gives an error its exit status: 3, with the command that fixes it, when the kernel or the
/// privileges are the cause.
pub fn explain(facts: &Facts, error: Error) -> Error {
    let Some(load) = error.downcast_ref::<LoadError>() else {
        return error;
    };
    if !load.is_unsupported() {
        return error;
    }
    let problems = problems(facts);
    let cause = problems
        .iter()
        .find(|problem| problem.fatal)
        .or_else(|| problems.first());
    let (what, fix) = match cause {
        Some(problem) => (format!("{load} ({})", problem.what), problem.fix.clone()),
        None => (
            load.to_string(),
            "`sockleak probes` shows what this kernel allows; `sockleak snapshot --no-bpf` works \
             without BPF"
                .to_owned(),
        ),
    };
    anyhow!(Failure::NotAllowed { what, fix })
}
