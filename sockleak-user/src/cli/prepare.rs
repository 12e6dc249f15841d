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
    let fatal = problems(facts).into_iter().find(|problem| problem.fatal);
    let (what, fix) = match fatal {
        // Every hook fails for the same reason then; it need not be said once per backend.
        Some(problem) => (problem.what, problem.fix),
        None => (
            load.to_string(),
            "without --backend, sockleak takes what this kernel offers; `sockleak probes` shows \
             what that is, and `sockleak snapshot --no-bpf` works without BPF"
                .to_owned(),
        ),
    };
    anyhow!(Failure::NotAllowed { what, fix })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::exit,
        kernel::samples,
        probe::{Backend, plan::PlanError},
    };

    fn refused() -> Error {
        let reasons = "kprobe: this kernel has no kprobes".to_owned();
        let hook = "destroy";
        LoadError::Plan(PlanError::Essential { hook, reasons }).into()
    }

    #[test]
    fn missing_privileges_are_said_once_with_the_command_that_grants_them() {
        let error = explain(&samples::unprivileged(), refused());
        assert_eq!(exit::status(&error), exit::NOT_ALLOWED);
        let text = format!("{error:#}");
        assert!(text.contains("CAP_BPF") && text.contains("sudo"), "{text}");
        assert!(!text.contains("kprobe:"), "{text}");
    }

    #[test]
    fn a_forced_backend_that_is_not_there_is_named_with_its_reason() {
        let facts = samples::hardened();
        let plan = plan::plan(&facts, Choice::Only(Backend::Kprobe));
        let error = plan.check().expect_err("it has no kprobes");
        let error = explain(&facts, LoadError::Plan(error).into());
        assert_eq!(exit::status(&error), exit::NOT_ALLOWED);
        let text = format!("{error:#}");
        assert!(
            text.contains("kprobe: ") && text.contains("--backend"),
            "{text}"
        );
    }

    #[test]
    fn other_errors_stay_what_they_are() {
        let error = explain(&samples::everything_works(), anyhow!("disk full"));
        assert_eq!(exit::status(&error), exit::FAILED);
    }
}
