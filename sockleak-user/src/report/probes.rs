//! `sockleak probes`: what this kernel and these privileges allow.

use serde::Serialize;

/// What this kernel allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProbesReport {
    /// Kernel release (`uname -r`).
    pub kernel: String,
    /// Machine (`uname -m`).
    pub machine: String,
    /// Every logical hook.
    pub hooks: Vec<HookReport>,
    /// What stands in the way, each with the command that fixes it.
    pub problems: Vec<ProblemReport>,
}

/// One logical hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HookReport {
    /// Logical name: `alloc`, `accept`, `destroy`, `release`, `inventory`.
    pub hook: String,
    /// What it gives.
    pub gives: String,
    /// Chosen backend; `None` when the hook is not available.
    pub backend: Option<String>,
    /// Kernel functions or tracepoints the backend uses.
    pub attach_to: Vec<String>,
    /// Why a better backend was not chosen or why there is none.
    pub reason: Option<String>,
    /// What this backend cannot see, if anything.
    pub limits: Option<String>,
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProblemReport {
    /// What is wrong.
    pub what: String,
    /// Which capability of sockleak it costs.
    pub costs: String,
    /// The command or setting that fixes it.
    pub fix: String,
    /// Nothing can be traced before this is fixed.
    pub fatal: bool,
}
