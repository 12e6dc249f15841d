//! What stands in the way, what it costs and the command that removes it.

use super::facts::Facts;
use super::features::Support;
use super::privileges::{Capability, Lockdown};
use crate::model::Arrange as _;

/// Something about this system that costs a capability of sockleak.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// What is the matter.
    pub what: String,
    /// Which capability of sockleak is lost.
    pub costs: String,
    /// The command that fixes it, or the nearest there is to one.
    pub fix: String,
    /// Nothing can be traced at all; only `snapshot --no-bpf` is left.
    pub fatal: bool,
}

const SETCAP: &str = "run it with sudo, or once: sudo setcap \
    cap_bpf,cap_perfmon,cap_net_admin,cap_sys_ptrace,cap_syslog,cap_dac_read_search,cap_sys_resource=ep \
    \"$(command -v sockleak)\"";

const NOTHING_TRACED: &str = "nothing can be traced; only `sockleak snapshot --no-bpf` works, for the processes of this user";

/// Every problem, the fatal ones first. Empty on a system where everything works.
#[must_use]
pub fn problems(facts: &Facts) -> Vec<Problem> {
    let mut found: Vec<Problem> = [
        user_namespace(facts),
        tracing_capabilities(facts),
        no_btf(facts),
        confidentiality(facts),
        ringbuf(facts),
        memlock(facts),
        no_function_hooks(facts),
        one_backend_blocked(facts),
        tracepoints(facts),
        inventory(facts),
        cgroup_programs(facts),
        no_cgroup2(facts),
        ptrace(facts),
        hidden_addresses(facts),
        pid_namespace(facts),
    ]
    .into_iter()
    .flatten()
    .collect();
    found.arrange_by_key(|problem| !problem.fatal);
    found
}

fn problem(fatal: bool, what: String, costs: &str, fix: &str) -> Option<Problem> {
    Some(Problem {
        what,
        costs: costs.to_owned(),
        fix: fix.to_owned(),
        fatal,
    })
}

fn user_namespace(facts: &Facts) -> Option<Problem> {
    (facts.privileges.initial_user_ns == Some(false)).then_some(())?;
    problem(
        true,
        "this is not the initial user namespace; its root may not use bpf(2)".to_owned(),
        NOTHING_TRACED,
        "run sockleak on the host, or in a container without user namespace: \
         docker run --privileged --userns=host --pid=host --network=host ...",
    )
}

fn tracing_capabilities(facts: &Facts) -> Option<Problem> {
    let privileges = &facts.privileges;
    // Before 5.8 there are no such capabilities; there CAP_SYS_ADMIN is held or is what lacks.
    let missing: Vec<&str> = [Capability::Bpf, Capability::Perfmon]
        .into_iter()
        .filter(|capability| !privileges.has(*capability))
        .map(Capability::name)
        .collect();
    (!missing.is_empty()).then_some(())?;
    problem(
        true,
        format!("{} missing", list(&missing)),
        NOTHING_TRACED,
        SETCAP,
    )
}

fn no_btf(facts: &Facts) -> Option<Problem> {
    let error = facts.btf.as_ref().err()?;
    problem(
        true,
        error.clone(),
        "nothing can be traced; only `sockleak snapshot --no-bpf` works",
        "boot a kernel that has it (distribution kernels of Debian 11, Ubuntu 20.10, RHEL 8.2 and \
         later do): grep CONFIG_DEBUG_INFO_BTF \"/boot/config-$(uname -r)\"",
    )
}

fn confidentiality(facts: &Facts) -> Option<Problem> {
    (facts.privileges.lockdown == Lockdown::Confidentiality).then_some(())?;
    // Typed loads of trampolines and tp_btf need no helper that lockdown refuses.
    let typed = facts.features.fentry.is_yes() || facts.features.tp_btf.is_yes();
    problem(
        !typed,
        "the kernel is locked down in confidentiality mode".to_owned(),
        match typed {
            true => {
                "no kprobes, and programs may read kernel memory only through typed pointers: \
                 the number of ports that a search examined is unknown"
            }
            false => "nothing can be traced; only `sockleak snapshot --no-bpf` works",
        },
        "boot with lockdown=integrity instead: \
         cat /sys/kernel/security/lockdown; tr ' ' '\\n' < /proc/cmdline | grep lockdown",
    )
}

fn ringbuf(facts: &Facts) -> Option<Problem> {
    let reason = facts.features.ringbuf.reason()?;
    // Without the capabilities the refusal says nothing new.
    facts.privileges.may_trace().then_some(())?;
    problem(
        true,
        reason.to_owned(),
        "nothing can be traced; only `sockleak snapshot --no-bpf` works",
        match facts.features.ringbuf {
            Support::Blocked(_) => blocked_fix(facts),
            _ => "boot a kernel from 5.10 on: uname -r",
        },
    )
}

fn memlock(facts: &Facts) -> Option<Problem> {
    // 5.11 counts BPF memory to the memory cgroup instead.
    let counted = facts.version().is_some_and(|version| version < (5, 11));
    let limit = facts.privileges.memlock?;
    let can_raise = facts.privileges.has(Capability::SysResource);
    (counted && !can_raise && limit < MEMLOCK_NEEDED).then_some(())?;
    problem(
        true,
        format!(
            "RLIMIT_MEMLOCK is {} KiB, counts BPF maps on this kernel (before 5.11), and \
             CAP_SYS_RESOURCE to raise it is missing",
            limit >> 10
        ),
        NOTHING_TRACED,
        "sudo prlimit --pid $$ --memlock=unlimited",
    )
}

/// What the maps take together with the default limits, generously.
const MEMLOCK_NEEDED: u64 = 256 << 20;

fn no_function_hooks(facts: &Facts) -> Option<Problem> {
    let (fentry, kprobe) = (&facts.features.fentry, &facts.features.kprobe);
    let reasons = fentry.reason().zip(kprobe.reason())?;
    (facts.btf.is_ok() && facts.privileges.may_trace()).then_some(())?;
    problem(
        false,
        format!(
            "no backend sees kernel functions: {}; {}",
            reasons.0, reasons.1
        ),
        "the tracepoint backend serves instead: sockets that the kernel makes for itself (MPTCP \
         subflows, NFS) and the time that successful port searches take are not seen",
        "boot a kernel with CONFIG_KPROBE_EVENTS=y, or lift the policy that refuses fentry: \
         sudo mount -t securityfs none /sys/kernel/security; \
         cat /sys/kernel/security/lockdown /sys/kernel/security/lsm",
    )
}

fn one_backend_blocked(facts: &Facts) -> Option<Problem> {
    let Support::Blocked(reason) = &facts.features.fentry else {
        return None;
    };
    (facts.features.kprobe.is_yes()).then_some(())?;
    problem(
        false,
        reason.clone(),
        "kprobes serve instead of fentry, at about three times the cost per socket",
        blocked_fix(facts),
    )
}

fn tracepoints(facts: &Facts) -> Option<Problem> {
    let reason = facts.features.tp_btf.reason()?;
    (facts.btf.is_ok() && facts.privileges.may_trace()).then_some(())?;
    problem(
        !facts.can_hook_functions(),
        reason.to_owned(),
        "the tracepoint backend is not available",
        blocked_fix(facts),
    )
}

fn inventory(facts: &Facts) -> Option<Problem> {
    let reason = facts.features.iter_task_file.reason()?;
    (facts.btf.is_ok() && facts.privileges.may_trace()).then_some(())?;
    problem(
        false,
        reason.to_owned(),
        "sockets older than sockleak are looked for in /proc, which takes seconds and misses \
         those that are only in flight between processes",
        blocked_fix(facts),
    )
}

fn cgroup_programs(facts: &Facts) -> Option<Problem> {
    (facts.privileges.may_trace() && !facts.privileges.has(Capability::NetAdmin)).then_some(())?;
    // Where no function can be hooked they are the only way to see who creates sockets.
    let only_way = !facts.can_hook_functions();
    problem(
        only_way,
        "CAP_NET_ADMIN is missing".to_owned(),
        match only_way {
            true => NOTHING_TRACED,
            false => "the cgroup hooks of the tracepoint backend",
        },
        SETCAP,
    )
}

fn no_cgroup2(facts: &Facts) -> Option<Problem> {
    facts.features.cgroup2.is_none().then_some(())?;
    // Only the tracepoint backend needs it.
    (!facts.can_hook_functions()).then_some(())?;
    problem(
        false,
        "cgroup v2 is not mounted".to_owned(),
        "the tracepoint backend cannot see who creates sockets, only that they change state and go",
        "sudo mkdir -p /run/sockleak-cgroup2 && sudo mount -t cgroup2 none /run/sockleak-cgroup2",
    )
}

fn ptrace(facts: &Facts) -> Option<Problem> {
    (!facts.privileges.has(Capability::SysPtrace)).then_some(())?;
    problem(
        false,
        "CAP_SYS_PTRACE is missing".to_owned(),
        "descriptors, limits and stacks of other users' processes; `--no-bpf` sees only this \
         user's sockets",
        SETCAP,
    )
}

fn hidden_addresses(facts: &Facts) -> Option<Problem> {
    let hidden = facts.symbols.as_ref().is_ok_and(|symbols| symbols.hidden);
    hidden.then_some(())?;
    let costs = "the number of ports that a search examined (table_perturb) and, before 5.11, \
                 the inventory through BPF (socket_file_ops)";
    match facts.privileges.kptr_restrict {
        Some(2..) => problem(
            false,
            "kernel.kptr_restrict=2 hides the addresses of kernel symbols from everybody"
                .to_owned(),
            costs,
            "sudo sysctl kernel.kptr_restrict=1",
        ),
        _ => problem(
            false,
            "CAP_SYSLOG is missing, so the addresses of kernel symbols are hidden".to_owned(),
            costs,
            SETCAP,
        ),
    }
}

fn pid_namespace(facts: &Facts) -> Option<Problem> {
    (facts.privileges.initial_pid_ns == Some(false)).then_some(())?;
    problem(
        false,
        "this is not the initial pid namespace".to_owned(),
        "the pids in the reports are those of the host and do not match /proc here: names, \
         containers and limits of processes may be missing",
        "run sockleak on the host, or in a container that shares its pids: docker run --pid=host ...",
    )
}

/// What to do about a refusal that capabilities do not explain.
fn blocked_fix(facts: &Facts) -> &'static str {
    if !facts.privileges.may_trace() {
        SETCAP
    } else if facts.privileges.seccomp {
        "run outside the container, or let its seccomp profile pass bpf(2) and \
         perf_event_open(2): docker run --privileged --security-opt seccomp=unconfined ..."
    } else {
        "see which policy refuses it: cat /sys/kernel/security/lockdown \
         /sys/kernel/security/lsm; sudo dmesg | tail"
    }
}

fn list(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => format!("{one} is"),
        [rest @ .., last] => format!("{} and {last} are", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests;
