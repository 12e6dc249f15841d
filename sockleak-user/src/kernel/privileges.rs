//! What this process may do, and what the machine's policy leaves of it.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;

/// The capabilities that sockleak has a use for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub enum Capability {
    /// Load programs, create maps (kernel 5.8).
    #[serde(rename = "CAP_BPF")]
    Bpf,
    /// Tracing programs, reading kernel memory (kernel 5.8).
    #[serde(rename = "CAP_PERFMON")]
    Perfmon,
    /// cgroup socket programs, sock_diag of other users, network namespaces of demos.
    #[serde(rename = "CAP_NET_ADMIN")]
    NetAdmin,
    /// Contains the three above.
    #[serde(rename = "CAP_SYS_ADMIN")]
    SysAdmin,
    /// Look into the descriptors of other users' processes.
    #[serde(rename = "CAP_SYS_PTRACE")]
    SysPtrace,
    /// See addresses in `/proc/kallsyms`.
    #[serde(rename = "CAP_SYSLOG")]
    Syslog,
    /// Read files of other users.
    #[serde(rename = "CAP_DAC_READ_SEARCH")]
    DacReadSearch,
    /// Raise RLIMIT_MEMLOCK, which counts BPF memory before 5.11.
    #[serde(rename = "CAP_SYS_RESOURCE")]
    SysResource,
}

impl Capability {
    /// All of them, and how the caps crate calls them.
    const ALL: [(Self, caps::Capability); 8] = [
        (Self::Bpf, caps::Capability::CAP_BPF),
        (Self::Perfmon, caps::Capability::CAP_PERFMON),
        (Self::NetAdmin, caps::Capability::CAP_NET_ADMIN),
        (Self::SysAdmin, caps::Capability::CAP_SYS_ADMIN),
        (Self::SysPtrace, caps::Capability::CAP_SYS_PTRACE),
        (Self::Syslog, caps::Capability::CAP_SYSLOG),
        (Self::DacReadSearch, caps::Capability::CAP_DAC_READ_SEARCH),
        (Self::SysResource, caps::Capability::CAP_SYS_RESOURCE),
    ];

    /// The name in capabilities(7).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bpf => "CAP_BPF",
            Self::Perfmon => "CAP_PERFMON",
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::SysPtrace => "CAP_SYS_PTRACE",
            Self::Syslog => "CAP_SYSLOG",
            Self::DacReadSearch => "CAP_DAC_READ_SEARCH",
            Self::SysResource => "CAP_SYS_RESOURCE",
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The kernel's lockdown mode (kernel_lockdown(7)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Lockdown {
    /// Off.
    None,
    /// User space must not change the kernel; tracing works.
    Integrity,
    /// User space must not read the kernel either: no kprobes, no bpf_probe_read_kernel.
    Confidentiality,
    /// `/sys/kernel/security/lockdown` is not there: built without it, or securityfs is not
    /// mounted.
    #[default]
    Unknown,
}

impl Lockdown {
    /// From the file's contents, where the mode in force stands in brackets.
    fn parse(text: &str) -> Self {
        match text
            .split_whitespace()
            .find_map(|word| word.strip_prefix('[')?.strip_suffix(']'))
        {
            Some("none") => Self::None,
            Some("integrity") => Self::Integrity,
            Some("confidentiality") => Self::Confidentiality,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for Lockdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Integrity => "integrity",
            Self::Confidentiality => "confidentiality",
            Self::Unknown => "unknown",
        })
    }
}

/// What this process may do. `None` stands for "could not be read" unless said otherwise.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Privileges {
    /// Effective user id.
    pub euid: u32,
    /// Effective capabilities, as far as sockleak has a use for them.
    pub capabilities: BTreeSet<Capability>,
    /// Lockdown mode.
    pub lockdown: Lockdown,
    /// A seccomp filter is in force, as in most containers; it may refuse bpf(2).
    pub seccomp: bool,
    /// Soft RLIMIT_MEMLOCK in bytes, `None` for unlimited. Counts BPF memory before 5.11.
    pub memlock: Option<u64>,
    /// `kernel.perf_event_paranoid`.
    pub perf_event_paranoid: Option<i32>,
    /// `kernel.unprivileged_bpf_disabled`.
    pub unprivileged_bpf_disabled: Option<i32>,
    /// `kernel.kptr_restrict`.
    pub kptr_restrict: Option<i32>,
    /// This is the initial pid namespace, whose pids the kernel side reports.
    pub initial_pid_ns: Option<bool>,
    /// This is the initial user namespace, the only one whose capabilities open bpf(2).
    pub initial_user_ns: Option<bool>,
    /// This is the initial cgroup namespace, from which every cgroup can be reached.
    pub initial_cgroup_ns: Option<bool>,
}

impl Privileges {
    /// Asks the running system.
    #[must_use]
    pub fn gather() -> Self {
        let effective = caps::read(None, caps::CapSet::Effective).unwrap_or_default();
        let capabilities = Capability::ALL
            .iter()
            .filter(|(_, theirs)| effective.contains(theirs))
            .map(|(ours, _)| *ours)
            .collect();
        let lockdown = fs::read_to_string("/sys/kernel/security/lockdown");
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            euid: rustix::process::geteuid().as_raw(),
            capabilities,
            lockdown: lockdown.map_or(Lockdown::Unknown, |text| Lockdown::parse(&text)),
            seccomp: has_seccomp_filter(&status),
            memlock: rustix::process::getrlimit(rustix::process::Resource::Memlock).current,
            perf_event_paranoid: sysctl("kernel/perf_event_paranoid"),
            unprivileged_bpf_disabled: sysctl("kernel/unprivileged_bpf_disabled"),
            kptr_restrict: sysctl("kernel/kptr_restrict"),
            // PROC_*_INIT_INO of include/linux/proc_ns.h.
            initial_cgroup_ns: is_namespace("cgroup", 0xefff_fffb),
            initial_pid_ns: is_namespace("pid", 0xefff_fffc),
            initial_user_ns: is_namespace("user", 0xefff_fffd),
        }
    }

    /// Whether the process holds the capability, alone or as part of CAP_SYS_ADMIN.
    #[must_use]
    pub fn has(&self, capability: Capability) -> bool {
        let contained = matches!(
            capability,
            Capability::Bpf | Capability::Perfmon | Capability::NetAdmin
        );
        self.capabilities.contains(&capability)
            || contained && self.capabilities.contains(&Capability::SysAdmin)
    }

    /// Whether tracing programs may be loaded as far as capabilities go.
    #[must_use]
    pub fn may_trace(&self) -> bool {
        self.has(Capability::Bpf)
            && self.has(Capability::Perfmon)
            && self.initial_user_ns != Some(false)
    }
}

fn sysctl(name: &str) -> Option<i32> {
    let text = fs::read_to_string(format!("/proc/sys/{name}")).ok()?;
    text.trim().parse().ok()
}

fn is_namespace(kind: &str, inode: u64) -> Option<bool> {
    let link = fs::read_link(format!("/proc/self/ns/{kind}")).ok()?;
    Some(link.to_str()? == format!("{kind}:[{inode}]"))
}

/// `Seccomp: 2` in `/proc/PID/status` is SECCOMP_MODE_FILTER.
fn has_seccomp_filter(status: &str) -> bool {
    status
        .lines()
        .filter_map(|line| line.strip_prefix("Seccomp:"))
        .any(|mode| mode.trim() == "2")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_lockdown_mode_in_brackets() {
        let parse = Lockdown::parse;
        assert_eq!(parse("[none] integrity confidentiality\n"), Lockdown::None);
        assert_eq!(
            parse("none [integrity] confidentiality\n"),
            Lockdown::Integrity
        );
        assert_eq!(
            parse("none integrity [confidentiality]"),
            Lockdown::Confidentiality
        );
        assert_eq!(parse(""), Lockdown::Unknown);
        assert_eq!(parse("none [newmode]"), Lockdown::Unknown);
    }

    #[test]
    fn sys_admin_contains_bpf_but_not_ptrace() {
        let root = Privileges {
            capabilities: [Capability::SysAdmin].into(),
            ..Privileges::default()
        };
        assert!(root.has(Capability::Bpf) && root.has(Capability::NetAdmin));
        assert!(!root.has(Capability::SysPtrace));
        assert!(root.may_trace());
    }

    #[test]
    fn capabilities_of_an_inner_user_namespace_do_not_trace() {
        let container = Privileges {
            capabilities: [Capability::SysAdmin].into(),
            initial_user_ns: Some(false),
            ..Privileges::default()
        };
        assert!(!container.may_trace());
    }

    #[test]
    fn only_a_seccomp_filter_counts() {
        assert!(has_seccomp_filter(
            "Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n"
        ));
        assert!(!has_seccomp_filter("Seccomp:\t0\nSeccomp_filters:\t2\n"));
    }
}
