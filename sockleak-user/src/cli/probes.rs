//! `sockleak probes`: what this kernel allows, found out by trying.

use super::args::ProbesArgs;
use super::config;
use super::printer::Printer;
use super::progress::Progress;
use crate::engine::timestamp;
use crate::kernel::{Facts, Problem, problems};
use crate::probe::coverage::Outcome;
use crate::probe::plan::{Plan, plan};
use crate::probe::{Attached, LoadError, LoadOptions, Stacks, facts};
use crate::report::{Body, ProbesReport, ProblemReport, Report};

/// The hooks are attached for a moment, not to be used: the smallest maps will do.
const FOR_A_MOMENT: LoadOptions = LoadOptions {
    sockets: 1,
    processes: 1,
    searches: 1,
    // So that no hook is left out.
    events: true,
    stacks: Stacks::Auto,
    follow: false,
};

/// Loads and attaches everything once, detaches it and prints what came of it.
///
/// That little or nothing works is an answer, not a failure.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: &ProbesArgs) -> anyhow::Result<()> {
    let progress = Progress::begin("trying every hook", None);
    let facts = facts::gather();
    let plan = plan(&facts, config::choice(args.attach.backend));
    let attempt = Attached::load(&facts, &plan, &FOR_A_MOMENT);
    let attempt = attempt.map(|attached| attached.outcomes().to_vec());
    let report = report(&facts, &plan, attempt);
    drop(progress);
    Printer::stdout(config::format(&args.output))
        .print(&Report::new(timestamp(), Body::Probes(report)))
}

fn report(facts: &Facts, plan: &Plan, attempt: Result<Vec<Outcome>, LoadError>) -> ProbesReport {
    let mut problems: Vec<_> = problems(facts).into_iter().map(problem).collect();
    let outcomes = attempt.unwrap_or_else(|error| {
        if !problems.iter().any(|problem| problem.fatal) {
            problems.insert(0, refused(&error));
        }
        plan.hooks.iter().map(Outcome::planned).collect()
    });
    ProbesReport {
        kernel: facts.release.clone(),
        machine: facts.machine.clone(),
        hooks: outcomes.iter().map(Outcome::report).collect(),
        problems,
    }
}

fn problem(problem: Problem) -> ProblemReport {
    ProblemReport {
        what: problem.what,
        costs: problem.costs,
        fix: problem.fix,
        fatal: problem.fatal,
    }
}

/// Everything looked possible, and still the kernel said no.
fn refused(error: &LoadError) -> ProblemReport {
    ProblemReport {
        what: error.to_string(),
        costs: "nothing can be traced".to_owned(),
        fix: "try another backend (sockleak probes --backend tracepoint); \
              sockleak snapshot --no-bpf works without tracing"
            .to_owned(),
        fatal: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::samples;
    use crate::probe::{Choice, Hook};

    #[test]
    fn a_refusal_that_no_fact_explains_is_a_problem_of_its_own() {
        let facts = samples::everything_works();
        let plan = plan(&facts, Choice::Auto);
        let error = LoadError::Refused {
            hook: "alloc",
            reasons: "fentry: the verifier said no".to_owned(),
        };
        let report = report(&facts, &plan, Err(error));
        assert_eq!(report.hooks.len(), Hook::ALL.len());
        let fatal: Vec<_> = report.problems.iter().filter(|p| p.fatal).collect();
        assert_eq!(fatal.len(), 1);
        assert!(fatal[0].what.contains("the verifier said no"));
    }

    #[test]
    fn a_refusal_that_is_explained_is_not_repeated() {
        let mut facts = samples::everything_works();
        facts.btf = Err("this kernel has no BTF".to_owned());
        let plan = plan(&facts, Choice::Auto);
        let error = plan.check().expect_err("nothing works without BTF");
        let report = report(&facts, &plan, Err(error.into()));
        let fatal: Vec<_> = report.problems.iter().filter(|p| p.fatal).collect();
        assert_eq!(fatal.len(), 1, "{fatal:?}");
        assert_eq!(fatal[0].what, "this kernel has no BTF");
        assert!(report.hooks.iter().all(|hook| hook.backend.is_none()));
    }
}
