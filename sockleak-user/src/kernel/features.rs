//! Which program types, helpers and file systems this kernel offers.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::io::Errno;

use super::bpf::{self, Kind};
use super::btf::Btf;
use super::privileges::{Capability, Lockdown, Privileges};

/// Present exactly when kprobes can be opened through perf_event_open(2) (CONFIG_KPROBE_EVENTS).
const KPROBE_PMU: &str = "/sys/bus/event_source/devices/kprobe/type";

/// Where aya looks for the numbers of tracepoints. The directory above is there without the mount, too.
const TRACEFS: [&str; 2] = [
    "/sys/kernel/tracing/events",
    "/sys/kernel/debug/tracing/events",
];

/// Exists in every kernel with BPF to be attached to, and nothing else calls it.
const FENTRY_PROBE: [&str; 2] = ["bpf_fentry_test1", "tcp_v4_destroy_sock"];

/// Kernel-internal ENOTSUPP, which trampolines return where the architecture has none.
const ENOTSUPP: i32 = 524;

/// Helpers whose absence changes what is done, without `BPF_FUNC_`.
const HELPERS: [&str; 9] = [
    "sock_from_file",
    "get_func_ret",
    "get_func_arg",
    "get_current_task_btf",
    "task_pt_regs",
    "get_attach_cookie",
    "ringbuf_reserve",
    "get_stack",
    "sk_storage_get",
];

/// Whether the kernel accepts something.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "state", content = "reason", rename_all = "lowercase")]
pub enum Support {
    /// Tried, and accepted.
    Yes,
    /// This kernel cannot do it.
    No(String),
    /// The kernel refused it with EPERM or EACCES: capabilities, lockdown, seccomp or another
    /// policy.
    Blocked(String),
    /// It could not be tried.
    #[default]
    Untried,
}

impl Support {
    /// Whether it works.
    #[must_use]
    pub const fn is_yes(&self) -> bool {
        matches!(self, Self::Yes)
    }

    /// Why it does not work; `None` when it does.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Yes => None,
            Self::No(reason) | Self::Blocked(reason) => Some(reason),
            Self::Untried => Some("could not be tried without BTF"),
        }
    }
}

impl fmt::Display for Support {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason().unwrap_or("yes"))
    }
}

/// What the kernel accepts from this process.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Features {
    /// fentry and fexit programs.
    pub fentry: Support,
    /// kprobe and kretprobe programs.
    pub kprobe: Support,
    /// Typed tracepoint programs.
    pub tp_btf: Support,
    /// The iterator over the open files of all tasks.
    pub iter_task_file: Support,
    /// cgroup/sock_create.
    pub cgroup_sock_create: Support,
    /// cgroup/sock_release (kernel 5.9).
    pub cgroup_sock_release: Support,
    /// Ring buffer maps.
    pub ringbuf: Support,
    /// Tracepoints can be opened as events: tracefs is mounted in one of the usual places.
    pub trace_events: bool,
    /// Where the cgroup v2 hierarchy is mounted, as a path to open; sanitize it before printing.
    pub cgroup2: Option<String>,
    /// Names of the helpers that exist, without `BPF_FUNC_`. Which program types may call them
    /// is not said.
    pub helpers: BTreeSet<String>,
    /// Socket-local storage may be used by tracing programs (5.11).
    pub sk_storage_in_tracing: bool,
    /// BTF id of the kernel function `bpf_rdonly_cast` (6.2), if programs may call it.
    #[serde(skip)]
    pub rdonly_cast: Option<u32>,
}

impl Features {
    /// Tries it all out. What needs a BTF id stays [`Support::Untried`] without BTF.
    #[must_use]
    pub fn probe(btf: Option<&Btf<'_>>, privileges: &Privileges) -> Self {
        let func = |name: &str| Some(btf?.func(name)?.id);
        let tracepoint = |name: &str| Some(btf?.tracepoint(name)?.id);
        let ask = Asker { privileges };
        let absent = |what: &str| match btf {
            Some(_) => Support::No(format!("this kernel has no {what}")),
            None => Support::Untried,
        };
        let helpers = HELPERS.iter().filter(|helper| {
            let enumerator = format!("BPF_FUNC_{helper}");
            btf.is_some_and(|btf| btf.enumerator("bpf_func_id", &enumerator).is_some())
        });
        Self {
            fentry: match FENTRY_PROBE.into_iter().find_map(func) {
                Some(id) => ask.fentry(id),
                None => absent("function to try fentry on"),
            },
            kprobe: ask.kprobe(),
            // Not attached: another tracepoint attached soon after would wait for RCU.
            tp_btf: match tracepoint("tcp_destroy_sock") {
                Some(id) => ask.program("tp_btf programs", Kind::TpBtf(id)),
                None => absent("tracepoint tcp_destroy_sock"),
            },
            iter_task_file: match func("bpf_iter_task_file") {
                Some(id) => ask.program("iter/task_file programs", Kind::Iter(id)),
                None => absent("task_file iterator"),
            },
            cgroup_sock_create: ask
                .cgroup_program("cgroup/sock_create programs", Kind::CgroupSockCreate),
            cgroup_sock_release: ask
                .cgroup_program("cgroup/sock_release programs", Kind::CgroupSockRelease),
            ringbuf: ask.answer("ring buffer maps", bpf::create_ringbuf()),
            trace_events: TRACEFS.iter().any(|tracefs| Path::new(tracefs).is_dir()),
            // One mount point that is not UTF-8 must not hide the others.
            cgroup2: fs::read("/proc/self/mountinfo")
                .ok()
                .and_then(|table| cgroup2_mount(&String::from_utf8_lossy(&table))),
            helpers: helpers.map(|helper| (*helper).to_owned()).collect(),
            sk_storage_in_tracing: func("bpf_sk_storage_get_tracing").is_some(),
            rdonly_cast: func("bpf_rdonly_cast").filter(|function| {
                let structure = btf.and_then(|btf| btf.struct_id("sock"));
                structure.is_some_and(|structure| bpf::load_cast(*function, structure).is_ok())
            }),
        }
    }

    /// Whether the kernel has this helper (name without `bpf_`).
    #[must_use]
    pub fn helper(&self, name: &str) -> bool {
        self.helpers.contains(name)
    }
}

/// Turns the kernel's error numbers into reasons.
struct Asker<'a> {
    privileges: &'a Privileges,
}

impl Asker<'_> {
    fn program(&self, what: &str, kind: Kind) -> Support {
        self.answer(what, bpf::load(kind))
    }

    /// Programs that a network stack runs take a capability more.
    fn cgroup_program(&self, what: &str, kind: Kind) -> Support {
        match bpf::load(kind) {
            Err(Errno::PERM) if self.lacks_net_admin() => Support::Blocked(format!(
                "the kernel refuses {what} (EPERM): CAP_NET_ADMIN is missing"
            )),
            answer => self.answer(what, answer),
        }
    }

    fn lacks_net_admin(&self) -> bool {
        self.privileges.may_trace() && !self.privileges.has(Capability::NetAdmin)
    }

    /// Kernels without direct calls from ftrace, such as arm64 before 6.4, load what they then
    /// cannot attach. x86-64 has them since before the first kernel supported here, and detaching
    /// waits for RCU, so there the question is saved.
    fn fentry(&self, id: u32) -> Support {
        let loaded = bpf::load(Kind::Fentry(id));
        let accepted = match cfg!(target_arch = "x86_64") {
            true => loaded,
            false => loaded.and_then(|program| bpf::attach_tracing(&program)),
        };
        self.answer("fentry programs", accepted)
    }

    /// Whether kprobes can be opened through perf_event_open(2), and programs loaded for them.
    fn kprobe(&self) -> Support {
        if !Path::new(KPROBE_PMU).exists() {
            return Support::No(format!(
                "this kernel has no kprobes ({KPROBE_PMU} does not exist, CONFIG_KPROBE_EVENTS)"
            ));
        }
        if self.privileges.lockdown == Lockdown::Confidentiality {
            return Support::Blocked("lockdown in confidentiality mode forbids kprobes".to_owned());
        }
        self.program("kprobe programs", Kind::Kprobe)
    }

    fn answer(&self, what: &str, result: Result<OwnedFd, Errno>) -> Support {
        match result {
            Ok(_) => Support::Yes,
            Err(errno @ (Errno::PERM | Errno::ACCESS)) => Support::Blocked(format!(
                "the kernel refuses {what} ({}): {}",
                name(errno),
                policy(self.privileges)
            )),
            Err(errno) => Support::No(format!("this kernel has no {what} ({})", name(errno))),
        }
    }
}

/// What is likely behind a refusal.
fn policy(privileges: &Privileges) -> String {
    if !privileges.may_trace() {
        return match privileges.initial_user_ns {
            Some(false) => "this is a user namespace, whose capabilities do not reach bpf(2)",
            _ => match [Capability::Bpf, Capability::Perfmon].map(|one| privileges.has(one)) {
                [true, _] => "CAP_PERFMON is missing",
                [_, true] => "CAP_BPF is missing",
                _ => "CAP_BPF and CAP_PERFMON are missing",
            },
        }
        .to_owned();
    }
    let seccomp = match privileges.seccomp {
        true => ", a seccomp filter is in force",
        false => "",
    };
    format!(
        "a security policy of this machine forbids it although the capabilities are there \
         (lockdown: {}{seccomp})",
        privileges.lockdown
    )
}

fn name(errno: Errno) -> String {
    match errno {
        Errno::PERM => "EPERM".to_owned(),
        Errno::ACCESS => "EACCES".to_owned(),
        Errno::INVAL => "EINVAL".to_owned(),
        Errno::NOSYS => "ENOSYS".to_owned(),
        other if other.raw_os_error() == ENOTSUPP => "ENOTSUPP".to_owned(),
        other => other.to_string(),
    }
}

/// The mount point of cgroup v2 in a `/proc/PID/mountinfo`. A mount of the hierarchy's root comes
/// before one of a part of it.
pub(crate) fn cgroup2_mount(mountinfo: &str) -> Option<String> {
    let mounts: Vec<(&str, &str)> = mountinfo
        .lines()
        .filter_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let mut columns = before.split(' ').skip(3);
            let root = columns.next()?;
            let mount_point = columns.next()?;
            (after.split(' ').next()? == "cgroup2").then_some((root, mount_point))
        })
        .collect();
    let whole = mounts.iter().find(|(root, _)| *root == "/");
    let (_, mount_point) = whole.or(mounts.first())?;
    Some(unescape(mount_point))
}

/// Undoes the octal escapes of blanks and backslashes in mountinfo.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part
            .get(..3)
            .and_then(|code| u8::from_str_radix(code, 8).ok());
        match (code, part.get(3..)) {
            (Some(code), Some(rest)) => {
                plain.push(char::from(code));
                plain.push_str(rest);
            }
            _ => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::super::privileges::Capability;
    use super::*;

    #[test]
    fn finds_the_cgroup2_mount() {
        let unified = "\
30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate
31 23 0:27 / /proc rw - proc proc rw
";
        assert_eq!(cgroup2_mount(unified).as_deref(), Some("/sys/fs/cgroup"));
        let hybrid = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
        assert_eq!(
            cgroup2_mount(hybrid).as_deref(),
            Some("/sys/fs/cgroup/unified")
        );
        let v1_only = "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        assert_eq!(cgroup2_mount(v1_only), None);
        assert_eq!(cgroup2_mount("garbage - cgroup2\n - cgroup2 x\n\n"), None);
    }

    #[test]
    fn the_whole_hierarchy_comes_before_a_part() {
        let table = "\
50 1 0:38 /pods/a /mnt/part rw - cgroup2 c rw
51 1 0:38 / /mnt/the\\040whole rw - cgroup2 c rw
";
        assert_eq!(cgroup2_mount(table).as_deref(), Some("/mnt/the whole"));
    }

    #[test]
    fn escapes_that_are_none_stay() {
        assert_eq!(unescape(r"a\134b"), r"a\b");
        assert_eq!(unescape(r"a\9"), r"a\9");
        assert_eq!(unescape(r"\"), r"\");
    }

    #[test]
    fn a_refusal_is_not_an_absence() {
        let root = Privileges {
            capabilities: [Capability::SysAdmin].into(),
            ..Privileges::default()
        };
        let ask = Asker { privileges: &root };
        let blocked = ask.answer("fentry programs", Err(Errno::PERM));
        assert!(matches!(&blocked, Support::Blocked(why) if why.contains("security policy")));
        let absent = ask.answer("fentry programs", Err(Errno::INVAL));
        assert!(matches!(&absent, Support::No(why) if why.contains("EINVAL")));
        let notsupp = ask.answer("x", Err(Errno::from_raw_os_error(ENOTSUPP)));
        assert!(matches!(&notsupp, Support::No(why) if why.contains("ENOTSUPP")));
        let nobody = Privileges::default();
        let ask = Asker {
            privileges: &nobody,
        };
        let blocked = ask.answer("fentry programs", Err(Errno::PERM));
        assert!(matches!(&blocked, Support::Blocked(why) if why.contains("CAP_BPF")));
    }
}
