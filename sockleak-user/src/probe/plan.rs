//! Which variant serves which hook: a pure function of what the kernel offers.

use thiserror::Error;

use super::catalog::{self, ANY, Backend, Hook, Target, Variant};
use super::facts::ITER_TCP;
use crate::kernel::{Facts, FuncProto, Support};

/// What the user asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The best that the kernel offers, per hook.
    #[default]
    Auto,
    /// Only this backend (iterators belong to all).
    Only(Backend),
}

/// Per hook, what to try in which order and what was ruled out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// In attach order.
    pub hooks: Vec<HookPlan>,
}

/// The plan for one hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookPlan {
    /// The hook.
    pub hook: Hook,
    /// Variants that this kernel should accept, best first. Loading can still fail; then the
    /// next one is tried.
    pub candidates: Vec<&'static Variant>,
    /// Variants ruled out, and why.
    pub rejected: Vec<Rejected>,
}

/// A variant that was ruled out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Its backend.
    pub backend: Backend,
    /// Why.
    pub reason: String,
    /// It would have been tried before any candidate.
    pub preferred: bool,
}

/// The plan cannot work at all.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PlanError {
    /// Without both ends of a socket's life nothing can be accounted for.
    #[error("hook `{hook}` cannot be attached: {reasons}")]
    Essential {
        /// Name of the hook.
        hook: &'static str,
        /// Every backend with its reason.
        reasons: String,
    },
}

impl HookPlan {
    /// All reasons in one line, `fentry: ...; kprobe: ...`.
    pub fn reasons(&self) -> Option<String> {
        Self::joined(self.rejected.iter())
    }

    /// The reasons why nothing better than the best candidate is tried. That the same backend
    /// goes another way on another kernel is none.
    pub fn passed_over(&self) -> Option<String> {
        let chosen = self.candidates.first().map(|variant| variant.backend);
        let worse = |rejected: &&Rejected| rejected.preferred && Some(rejected.backend) != chosen;
        Self::joined(self.rejected.iter().filter(worse))
    }

    fn joined<'a>(rejected: impl Iterator<Item = &'a Rejected>) -> Option<String> {
        let mut parts: Vec<String> = Vec::new();
        for rejected in rejected {
            let part = format!("{}: {}", rejected.backend, rejected.reason);
            if !parts.contains(&part) {
                parts.push(part);
            }
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

/// Chooses for every hook.
pub fn plan(facts: &Facts, choice: Choice) -> Plan {
    Plan {
        hooks: Hook::ALL
            .into_iter()
            .map(|hook| plan_hook(facts, choice, hook))
            .collect(),
    }
}

impl Plan {
    /// Whether the hooks that everything rests on have a candidate.
    ///
    /// # Errors
    /// Names the hook that has none, with every backend's reason.
    pub fn check(&self) -> Result<(), PlanError> {
        for planned in &self.hooks {
            let essential = matches!(planned.hook, Hook::Alloc | Hook::Destroy);
            if essential && planned.candidates.is_empty() {
                return Err(PlanError::Essential {
                    hook: planned.hook.name(),
                    reasons: planned.reasons().unwrap_or_default(),
                });
            }
        }
        Ok(())
    }
}

/// Whether a command's processes can be followed; the same whatever the backend of the rest.
pub fn plan_follow(facts: &Facts) -> HookPlan {
    plan_hook(facts, Choice::Auto, Hook::Follow)
}

fn plan_hook(facts: &Facts, choice: Choice, hook: Hook) -> HookPlan {
    let mut planned = HookPlan {
        hook,
        candidates: Vec::new(),
        rejected: Vec::new(),
    };
    for variant in catalog::variants(hook) {
        if let Choice::Only(backend) = choice
            && variant.backend != backend
            && variant.backend != Backend::Iterator
        {
            continue;
        }
        match obstacle(facts, variant) {
            None => planned.candidates.push(variant),
            Some(reason) => planned.rejected.push(Rejected {
                backend: variant.backend,
                reason,
                preferred: planned.candidates.is_empty(),
            }),
        }
    }
    let wanted = |backend| choice == Choice::Auto || choice == Choice::Only(backend);
    for backend in [Backend::Fentry, Backend::Kprobe, Backend::Tracepoint] {
        if let Some(reason) = catalog::absence(hook, backend)
            && planned.candidates.is_empty()
            && wanted(backend)
        {
            planned.rejected.push(Rejected {
                backend,
                reason: reason.to_owned(),
                preferred: true,
            });
        }
    }
    planned
}

/// Why this kernel cannot serve a variant; `None` when it should.
fn obstacle(facts: &Facts, variant: &Variant) -> Option<String> {
    let btf = match &facts.btf {
        Ok(btf) => btf,
        Err(reason) => return Some(reason.clone()),
    };
    for attachment in variant.attachments {
        if attachment.optional && is_missing(facts, attachment.target) {
            continue;
        }
        if let Some(reason) = target_obstacle(facts, attachment.target) {
            return Some(reason);
        }
    }
    variant.fields.iter().copied().flatten().find_map(|field| {
        let missing = btf.missing_fields.get(*field);
        match (btf.fields.contains_key(*field), missing) {
            (true, _) => None,
            (false, Some(reason)) => Some(reason.clone()),
            (false, None) => Some(format!("the offset {field} was not looked up")),
        }
    })
}

/// Whether an optional attachment has nothing to attach to, so that it is left out.
pub fn is_missing(facts: &Facts, target: Target) -> bool {
    match target {
        Target::Fentry(name, _) | Target::Fexit(name, _) => facts.function(name).is_none(),
        Target::Kprobe(name) | Target::Kretprobe(name) => !has_symbol(facts, name),
        _ => false,
    }
}

fn has_symbol(facts: &Facts, name: &str) -> bool {
    facts.function(name).is_some()
        || facts
            .symbols
            .as_ref()
            .is_ok_and(|symbols| symbols.contains(name))
}

fn target_obstacle(facts: &Facts, target: Target) -> Option<String> {
    let features = &facts.features;
    match target {
        Target::Fentry(name, types) | Target::Fexit(name, types) => refused(&features.fentry)
            .or_else(|| prototype_obstacle("function", name, facts.function(name), types)),
        Target::Kprobe(name) | Target::Kretprobe(name) => refused(&features.kprobe).or_else(|| {
            (!has_symbol(facts, name)).then(|| format!("this kernel has no function {name}"))
        }),
        Target::TpBtf(name, types) => refused(&features.tp_btf)
            .or_else(|| prototype_obstacle("tracepoint", name, facts.tracepoint(name), types)),
        // Found out here and not when it is attached: by then the verifier has worked on it for 0.1 s.
        Target::Event(..) => (!features.trace_events).then(|| {
            "tracefs is not mounted or may not be read (mount -t tracefs none /sys/kernel/tracing)"
                .to_owned()
        }),
        Target::CgroupCreate => refused(&features.cgroup_sock_create).or_else(|| no_cgroup2(facts)),
        Target::CgroupRelease => {
            refused(&features.cgroup_sock_release).or_else(|| no_cgroup2(facts))
        }
        Target::IterTcp => refused(&features.iter_task_file).or_else(|| {
            (facts.function(ITER_TCP).is_none())
                .then(|| "this kernel has no iterator over TCP sockets (5.9)".to_owned())
        }),
        Target::IterFiles => refused(&features.iter_task_file).or_else(|| {
            (!features.helper("sock_from_file"))
                .then(|| "this kernel has no helper bpf_sock_from_file (5.11)".to_owned())
        }),
        Target::IterFilesByOperations => refused(&features.iter_task_file).or_else(|| {
            let address = facts
                .symbols
                .as_ref()
                .ok()
                .and_then(|table| table.address("socket_file_ops"));
            address.is_none().then(|| {
                "the address of socket_file_ops is not in /proc/kallsyms or hidden \
                 (kernel.kptr_restrict, CAP_SYSLOG, CONFIG_KALLSYMS_ALL)"
                    .to_owned()
            })
        }),
    }
}

fn refused(support: &Support) -> Option<String> {
    support.reason().map(ToOwned::to_owned)
}

fn no_cgroup2(facts: &Facts) -> Option<String> {
    facts.features.cgroup2.is_none().then(|| {
        "no cgroup2 hierarchy is mounted (mount -t cgroup2 none /sys/fs/cgroup)".to_owned()
    })
}

fn prototype_obstacle(
    what: &str,
    name: &str,
    found: Option<&FuncProto>,
    types: &[&str],
) -> Option<String> {
    let Some(proto) = found else {
        return Some(format!("this kernel has no {what} {name}"));
    };
    let found: Vec<&str> = proto
        .params
        .iter()
        .map(|param| param.type_text.as_str())
        .collect();
    let same = found.len() == types.len()
        && found
            .iter()
            .zip(types)
            .all(|(found, wanted)| *wanted == ANY || unqualified(found) == unqualified(wanted));
    (!same).then(|| {
        format!(
            "{what} {name} takes ({}) here, ({}) is expected",
            found.join(", "),
            types.join(", ")
        )
    })
}

/// `const` changes neither layout nor meaning, and compilers differ in keeping it.
fn unqualified(text: &str) -> String {
    text.replace("const ", "")
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
