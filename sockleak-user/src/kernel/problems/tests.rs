//! Systems with one thing wrong each.

use super::*;
use crate::kernel::samples::{everything_works, hardened, unprivileged};

fn fatal(facts: &Facts) -> Vec<Problem> {
    let mut found = problems(facts);
    found.retain(|problem| problem.fatal);
    found
}

#[test]
fn a_system_where_everything_works_has_no_problem() {
    assert_eq!(problems(&everything_works()), []);
}

#[test]
fn without_privileges_the_first_problem_is_the_missing_capabilities() {
    let mut facts = unprivileged();
    facts.symbols = Ok(hidden());
    let found = problems(&facts);
    assert_eq!(found[0].what, "CAP_BPF and CAP_PERFMON are missing");
    assert!(found[0].fatal && found[0].fix.contains("sudo setcap cap_bpf,cap_perfmon"));
    // One cause is told once: the refusals that follow from it are not listed again.
    assert_eq!(fatal(&facts).len(), 1, "{found:#?}");
    assert!(found.iter().any(|p| p.what.contains("CAP_SYS_PTRACE")));
    assert!(found.iter().any(|p| p.what.contains("CAP_SYSLOG")));
}

#[test]
fn one_missing_capability_is_named_alone() {
    let mut facts = everything_works();
    let capabilities = &mut facts.privileges.capabilities;
    capabilities.remove(&Capability::SysAdmin);
    capabilities.remove(&Capability::Perfmon);
    assert_eq!(fatal(&facts)[0].what, "CAP_PERFMON is missing");
    facts.privileges.capabilities.insert(Capability::Perfmon);
    assert_eq!(problems(&facts), []);
    facts.privileges.capabilities.remove(&Capability::NetAdmin);
    let found = problems(&facts);
    assert_eq!(found[0].what, "CAP_NET_ADMIN is missing");
    assert!(!found[0].fatal, "functions can be hooked without it");
}

#[test]
fn where_only_cgroup_programs_see_who_creates_sockets_net_admin_is_essential() {
    let mut facts = hardened();
    let capabilities = &mut facts.privileges.capabilities;
    capabilities.remove(&Capability::SysAdmin);
    capabilities.remove(&Capability::NetAdmin);
    let found = fatal(&facts);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0].what, "CAP_NET_ADMIN is missing");
    assert!(found[0].fix.contains("cap_net_admin"));
}

#[test]
fn without_btf_nothing_works_and_the_kernel_option_is_named() {
    let mut facts = everything_works();
    facts.btf = Err("no /sys/kernel/btf/vmlinux (CONFIG_DEBUG_INFO_BTF)".to_owned());
    facts.features.fentry = Support::Untried;
    facts.features.tp_btf = Support::Untried;
    facts.features.iter_task_file = Support::Untried;
    let found = problems(&facts);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].fatal && found[0].fix.contains("CONFIG_DEBUG_INFO_BTF"));
}

#[test]
fn confidentiality_costs_kprobes_or_everything() {
    let mut facts = everything_works();
    facts.privileges.lockdown = Lockdown::Confidentiality;
    facts.features.kprobe = Support::Blocked("lockdown".to_owned());
    let found = problems(&facts);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(!found[0].fatal && found[0].costs.contains("no kprobes"));
    facts.features.fentry = Support::Blocked("x".to_owned());
    facts.features.tp_btf = Support::Blocked("x".to_owned());
    assert!(
        fatal(&facts)
            .iter()
            .any(|p| p.what.contains("confidentiality"))
    );
}

fn hidden() -> crate::kernel::Symbols {
    crate::kernel::Symbols {
        hidden: true,
        ..Default::default()
    }
}

#[test]
fn hidden_addresses_name_the_setting_that_hides_them() {
    let mut facts = everything_works();
    facts.symbols = Ok(hidden());
    facts.privileges.kptr_restrict = Some(2);
    let found = problems(&facts);
    assert_eq!(found.len(), 1);
    assert!(!found[0].fatal);
    assert_eq!(found[0].fix, "sudo sysctl kernel.kptr_restrict=1");
}

#[test]
fn memlock_matters_before_5_11_only_and_only_where_it_cannot_be_raised() {
    let mut facts = everything_works();
    facts
        .privileges
        .capabilities
        .remove(&Capability::SysResource);
    facts.privileges.memlock = Some(64 << 10);
    assert_eq!(problems(&facts), []);
    facts.release = "5.10.0-32-cloud-amd64".to_owned();
    let found = problems(&facts);
    assert!(found[0].fatal && found[0].what.contains("RLIMIT_MEMLOCK is 64 KiB"));
    assert!(found[0].fix.contains("--memlock=unlimited"));
    facts.privileges.memlock = None;
    assert_eq!(problems(&facts), []);
    facts.privileges.memlock = Some(64 << 10);
    facts
        .privileges
        .capabilities
        .insert(Capability::SysResource);
    assert_eq!(problems(&facts), []);
}

#[test]
fn a_hardened_kernel_loses_precision_and_not_the_run() {
    let mut facts = hardened();
    let found = problems(&facts);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(!found[0].fatal && found[0].costs.contains("tracepoint backend serves"));
    facts.features.cgroup2 = None;
    let found = problems(&facts);
    assert!(found.iter().any(|p| p.fix.contains("mount -t cgroup2")));
    assert!(found.iter().all(|p| !p.fatal));
    facts.features.tp_btf = Support::Blocked("refused".to_owned());
    assert!(!fatal(&facts).is_empty(), "no backend is left");
}

#[test]
fn containers_are_told_what_they_lack() {
    let mut facts = everything_works();
    facts.privileges.initial_pid_ns = Some(false);
    assert!(problems(&facts)[0].fix.contains("--pid=host"));
    facts.privileges.initial_user_ns = Some(false);
    assert!(fatal(&facts)[0].what.contains("user namespace"));
    let mut facts = everything_works();
    facts.privileges.seccomp = true;
    facts.features.ringbuf = Support::Blocked("EPERM".to_owned());
    assert!(fatal(&facts)[0].fix.contains("seccomp"));
}

#[test]
fn every_problem_says_all_three_things() {
    let mut facts = unprivileged();
    facts.btf = Err("none".to_owned());
    facts.symbols = Ok(hidden());
    facts.release = "5.10.1".to_owned();
    facts.features.cgroup2 = None;
    facts.privileges.initial_user_ns = Some(false);
    facts.privileges.initial_pid_ns = Some(false);
    facts.privileges.lockdown = Lockdown::Confidentiality;
    let found = problems(&facts);
    assert!(found.len() >= 7, "{found:#?}");
    for problem in &found {
        for text in [&problem.what, &problem.costs, &problem.fix] {
            assert!(!text.is_empty() && !text.contains("  "), "{text:?}");
        }
    }
    let first_minor = found.iter().position(|p| !p.fatal).unwrap();
    assert!(found[first_minor..].iter().all(|p| !p.fatal));
}
