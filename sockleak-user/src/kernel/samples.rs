//! Systems written by hand, for the tests of everything that decides on [`Facts`].

use std::collections::BTreeSet;

use super::facts::{BtfFacts, Facts};
use super::features::{Features, Support};
use super::privileges::{Capability, Lockdown, Privileges};
use super::symbols::Symbols;

/// Root on an ordinary 6.12 distribution kernel: everything works. BTF answers nothing yet; add
/// what the test is about.
pub(crate) fn everything_works() -> Facts {
    use Capability::{
        Bpf, DacReadSearch, NetAdmin, Perfmon, SysAdmin, SysPtrace, SysResource, Syslog,
    };
    Facts {
        release: "6.12.107+deb13-cloud-amd64".to_owned(),
        machine: "x86_64".to_owned(),
        btf: Ok(BtfFacts::default()),
        symbols: Ok(Symbols::default()),
        features: Features {
            fentry: Support::Yes,
            kprobe: Support::Yes,
            tp_btf: Support::Yes,
            iter_task_file: Support::Yes,
            cgroup_sock_create: Support::Yes,
            cgroup_sock_release: Support::Yes,
            ringbuf: Support::Yes,
            trace_events: true,
            cgroup2: Some("/sys/fs/cgroup".to_owned()),
            helpers: ["sock_from_file", "get_func_ret", "get_current_task_btf"]
                .map(str::to_owned)
                .into(),
            sk_storage_in_tracing: true,
            rdonly_cast: None,
        },
        privileges: Privileges {
            euid: 0,
            capabilities: BTreeSet::from([
                Bpf,
                DacReadSearch,
                NetAdmin,
                Perfmon,
                SysAdmin,
                SysPtrace,
                SysResource,
                Syslog,
            ]),
            lockdown: Lockdown::None,
            seccomp: false,
            memlock: Some(8 << 20),
            perf_event_paranoid: Some(2),
            unprivileged_bpf_disabled: Some(2),
            kptr_restrict: Some(0),
            initial_pid_ns: Some(true),
            initial_user_ns: Some(true),
            initial_cgroup_ns: Some(true),
        },
    }
}

/// Root on a hardened 6.18: no kprobes, trampolines refused; tracepoints, iterators and cgroup
/// programs work.
pub(crate) fn hardened() -> Facts {
    let mut facts = everything_works();
    facts.release = "6.18.44".to_owned();
    facts.features.fentry =
        Support::Blocked("the kernel refuses fentry programs (EPERM)".to_owned());
    facts.features.kprobe = Support::No("this kernel has no kprobes".to_owned());
    facts.privileges.lockdown = Lockdown::Integrity;
    facts
}

/// An ordinary user.
pub(crate) fn unprivileged() -> Facts {
    let blocked = || Support::Blocked("CAP_BPF and CAP_PERFMON are missing".to_owned());
    let mut facts = everything_works();
    facts.privileges.euid = 1000;
    facts.privileges.capabilities.clear();
    let features = &mut facts.features;
    for feature in [
        &mut features.fentry,
        &mut features.kprobe,
        &mut features.tp_btf,
        &mut features.iter_task_file,
        &mut features.cgroup_sock_create,
        &mut features.cgroup_sock_release,
        &mut features.ringbuf,
    ] {
        *feature = blocked();
    }
    facts
}
