//! What came of the plan, in the terms of the reports.

use std::collections::BTreeMap;

use super::{
    catalog::{Hook, Variant},
    plan::HookPlan,
};
use crate::report::{HookReport, HookState};

/// A hook after the attempt to attach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The hook.
    pub hook: Hook,
    /// The variant that serves it.
    pub served: Option<&'static Variant>,
    /// Why there is none, or why a better one was passed over.
    pub reason: Option<String>,
}

impl Outcome {
    /// What the plan promises, before anything is loaded.
    pub fn planned(plan: &HookPlan) -> Self {
        Self {
            hook: plan.hook,
            served: plan.candidates.first().copied(),
            reason: plan.passed_over(),
        }
    }

    fn state(&self) -> HookState {
        HookState {
            backend: self.served.map(|variant| variant.backend.name().to_owned()),
            reason: self.reason.clone(),
            limits: self
                .served
                .and_then(|variant| variant.limits)
                .map(ToOwned::to_owned),
        }
    }

    /// As `sockleak probes` shows it.
    pub fn report(&self) -> HookReport {
        let state = self.state();
        HookReport {
            hook: self.hook.name().to_owned(),
            gives: self.hook.gives().to_owned(),
            backend: state.backend,
            attach_to: self.served.map(attach_points).unwrap_or_default(),
            reason: state.reason,
            limits: state.limits,
        }
    }
}

fn attach_points(variant: &Variant) -> Vec<String> {
    use super::catalog::Target::*;
    variant
        .attachments
        .iter()
        .map(|attachment| match attachment.target {
            Fentry(name, _) | Fexit(name, _) | Kprobe(name) | Kretprobe(name) => name.to_owned(),
            TpBtf(name, _) => format!("tp_btf/{name}"),
            Event(category, name) => format!("{category}:{name}"),
            CgroupCreate => "cgroup/sock_create".to_owned(),
            CgroupRelease => "cgroup/sock_release".to_owned(),
            IterFiles | IterFilesByOperations => "iter/task_file".to_owned(),
            IterTcp => "iter/tcp".to_owned(),
        })
        .collect()
}

/// The states of all hooks by name, for the `start` line.
pub fn states(outcomes: &[Outcome]) -> BTreeMap<String, HookState> {
    outcomes
        .iter()
        .map(|outcome| (outcome.hook.name().to_owned(), outcome.state()))
        .collect()
}

/// What was not visible, one sentence per gap, for verdicts.
pub fn gaps(outcomes: &[Outcome]) -> Vec<String> {
    let mut gaps: Vec<String> = Vec::new();
    for outcome in outcomes {
        let gap = match (outcome.served, &outcome.reason) {
            (Some(variant), _) => variant
                .limits
                .map(|limits| format!("{}: {limits}", outcome.hook.name())),
            // The reasons are in the start report; a verdict only needs the gap.
            (None, _) => Some(format!("{} is not visible", outcome.hook.gives())),
        };
        if let Some(gap) = gap
            && !gaps.contains(&gap)
        {
            gaps.push(gap);
        }
    }
    gaps
}
