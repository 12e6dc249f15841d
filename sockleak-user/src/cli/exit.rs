//! Exit status, and the errors that decide it.

/// Everything was done.
pub const DONE: u8 = 0;
/// Something failed.
pub const FAILED: u8 = 1;
/// The command line makes no sense.
pub const USAGE: u8 = 2;
/// This kernel or these privileges do not allow it.
pub const NOT_ALLOWED: u8 = 3;

/// `diagnose --exit-code` has a finding.
pub const FINDING: u8 = 4;
/// `run --fail-on-leak` has found a leak.
pub const LEAK: u8 = 23;
/// `run`: the command is there and cannot be started.
pub const CANNOT_START: u8 = 126;
/// `run`: there is no such command.
pub const NO_COMMAND: u8 = 127;

/// Errors with an exit status of their own. Put one anywhere into an [`anyhow::Error`], with as
/// much context around it as helps.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// An argument that parses but makes no sense: exit status 2.
    #[error("{0}")]
    Usage(String),

    /// This kernel or these privileges do not allow it: exit status 3.
    #[error("{what}\nfix: {fix}")]
    NotAllowed {
        /// The missing capability or setting.
        what: String,
        /// The command that grants it.
        fix: String,
    },

    /// The command of `run` cannot be started: exit status 127 or 126, as shells do.
    #[error("{what}")]
    CannotStart {
        /// What was tried and what failed.
        what: String,
        /// There is no such command.
        missing: bool,
    },

    /// The reader of our output has closed the pipe: a quiet end, exit status 0.
    #[error("the reader of the output is gone")]
    ReaderGone,
}

/// The exit status of a run that ended with this error.
pub fn status(error: &anyhow::Error) -> u8 {
    match failure(error) {
        Some(Failure::Usage(_)) => USAGE,
        Some(Failure::NotAllowed { .. }) => NOT_ALLOWED,
        Some(Failure::CannotStart { missing: true, .. }) => NO_COMMAND,
        Some(Failure::CannotStart { missing: false, .. }) => CANNOT_START,
        Some(Failure::ReaderGone) => DONE,
        None => FAILED,
    }
}

/// The run ended because nobody reads its output any more; nothing should be said about it.
pub fn reader_is_gone(error: &anyhow::Error) -> bool {
    matches!(failure(error), Some(Failure::ReaderGone))
}

/// As context or as a cause, wherever it is.
fn failure(error: &anyhow::Error) -> Option<&Failure> {
    let as_context = error.downcast_ref();
    as_context.or_else(|| error.chain().find_map(|cause| cause.downcast_ref()))
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    fn not_allowed() -> Failure {
        Failure::NotAllowed {
            what: "CAP_BPF is missing".to_owned(),
            fix: "sudo sockleak".to_owned(),
        }
    }

    #[test]
    fn status_is_found_under_any_context() {
        let deep = Err::<(), _>(not_allowed())
            .context("loading programs")
            .context("starting watch");
        assert_eq!(deep.map_err(|error| status(&error)), Err(NOT_ALLOWED));
        let as_context = anyhow!("EPERM").context(not_allowed()).context("more");
        assert_eq!(status(&as_context), NOT_ALLOWED);
        assert_eq!(status(&anyhow!(Failure::Usage("x".to_owned()))), USAGE);
        assert_eq!(status(&anyhow!("anything else")), FAILED);
    }

    #[test]
    fn a_closed_pipe_is_quiet() {
        let error = anyhow!(Failure::ReaderGone).context("printing");
        assert!(reader_is_gone(&error));
        assert_eq!(status(&error), DONE);
    }

    #[test]
    fn the_message_names_the_fix() {
        let error = anyhow!(not_allowed()).context("cannot trace");
        assert_eq!(
            format!("{error:#}"),
            "cannot trace: CAP_BPF is missing\nfix: sudo sockleak"
        );
    }
}
