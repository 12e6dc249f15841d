//! The logical hooks, and for each the ways to serve it, best first.
//!
//! To add a hook: a function in `sockleak-ebpf/src/hooks`, an entry point per backend, its
//! program names, and its variants here (CONTRIBUTING has the steps).

use std::fmt;

use sockleak_ebpf::names::programs;

/// A logical hook: something worth knowing, whoever tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hook {
    /// A TCP socket ceases to exist.
    Destroy,
    /// A TCP socket is created.
    Alloc,
    /// A connection is born from a listener.
    Accept,
    /// A born connection is handed to a process.
    AcceptOwner,
    /// The last descriptor of a socket is closed.
    Release,
    /// Every TCP socket that any descriptor refers to.
    Inventory,
}

impl Hook {
    /// All hooks in the order in which they are attached: a creation recorded before its
    /// destruction can be seen would leave a stale record.
    pub const ALL: [Self; 6] = [
        Self::Destroy,
        Self::Alloc,
        Self::Accept,
        Self::AcceptOwner,
        Self::Release,
        Self::Inventory,
    ];

    /// Name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Destroy => "destroy",
            Self::Alloc => "alloc",
            Self::Accept => "accept",
            Self::AcceptOwner => "accept_owner",
            Self::Release => "release",
            Self::Inventory => "inventory",
        }
    }

    /// What it gives.
    pub fn gives(self) -> &'static str {
        match self {
            Self::Destroy => "every TCP socket that ceases to exist",
            Self::Alloc => "every TCP socket created, with its process",
            Self::Accept => "every connection born from a listener",
            Self::AcceptOwner => "which process accepts a connection",
            Self::Release => "which process closes a socket, and what it leaves behind",
            Self::Inventory => "every TCP socket behind a descriptor, also older ones",
        }
    }
}

/// A way to be called by the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Backend {
    /// BPF trampolines (fentry, fexit).
    Fentry,
    /// kprobes and kretprobes.
    Kprobe,
    /// Typed raw tracepoints and cgroup socket hooks.
    Tracepoint,
    /// A BPF iterator; belongs to every backend.
    Iterator,
}

impl Backend {
    /// Name in flags and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
            Self::Tracepoint => "tracepoint",
            Self::Iterator => "iterator",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a program is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// fentry on a kernel function with these parameter types.
    Fentry(&'static str, &'static [&'static str]),
    /// fexit on a kernel function with these parameter types.
    Fexit(&'static str, &'static [&'static str]),
    /// kprobe on a kernel function.
    Kprobe(&'static str),
    /// kretprobe on a kernel function.
    Kretprobe(&'static str),
    /// Typed raw tracepoint with these parameter types.
    TpBtf(&'static str, &'static [&'static str]),
    /// cgroup/sock_create at the root of the cgroup2 hierarchy.
    CgroupCreate,
    /// cgroup/sock_release at the root of the cgroup2 hierarchy.
    CgroupRelease,
    /// iter/task_file through `bpf_sock_from_file`.
    IterFiles,
    /// iter/task_file through the address of `socket_file_ops`.
    IterFilesByOperations,
}

/// One program of a variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Program name in the object.
    pub program: &'static str,
    /// What it is attached to.
    pub target: Target,
    /// The function may be missing because its protocol is not built in.
    pub optional: bool,
}

/// One way to serve a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    /// The hook it serves.
    pub hook: Hook,
    /// Through what.
    pub backend: Backend,
    /// All of these must be attached.
    pub attachments: &'static [Attachment],
    /// Offsets it cannot do without.
    pub fields: &'static [&'static [&'static str]],
    /// What it cannot see.
    pub limits: Option<&'static str>,
}

const SOCK: &[&str] = &["struct sock *"];
const SOCKET: &[&str] = &["struct socket *"];
const CHILD: &[&str] = &[
    "const struct sock *",
    "struct request_sock *",
    "struct sk_buff *",
];
const ACCEPT: &[&str] = &["struct socket *", "struct socket *", "struct sock *"];
const GRAFT: &[&str] = &["struct sock *", "struct socket *"];
const SET_STATE: &[&str] = &["const struct sock *", "const int", "const int"];

/// Identity, name and namespace of the current process.
const PROCESS: &[&str] = &[
    "TASK_TGID",
    "TASK_GROUP_LEADER",
    "TASK_START_BOOTTIME",
    "TASK_COMM",
    "TASK_NSPROXY",
    "NSPROXY_NET",
    "NET_INUM",
];
/// Is it a TCP socket?
const IS_TCP: &[&str] = &["SK_FAMILY", "SK_PROTOCOL", "SK_TYPE"];
const IS_KERNEL: &[&str] = &["SK_KERN_SOCK"];
const SOCKET_SK: &[&str] = &["SOCKET_SK"];
/// State and addresses.
const CONNECTION: &[&str] = &[
    "SK_STATE",
    "SK_NUM",
    "SK_DPORT",
    "SK_DADDR",
    "SK_RCV_SADDR",
    "SK_V6_DADDR",
    "SK_V6_RCV_SADDR",
    "SK_NET",
    "SK_ACK_BACKLOG",
    "NET_INUM",
];
/// A descriptor and who has it.
const HOLDER: &[&str] = &[
    "SOCKET_SK",
    "FILE_INODE",
    "INODE_INO",
    "TASK_TGID",
    "TASK_GROUP_LEADER",
    "TASK_START_BOOTTIME",
];
const BY_OPERATIONS: &[&str] = &["FILE_OP", "FILE_PRIVATE_DATA"];

const fn on(program: &'static str, target: Target) -> Attachment {
    Attachment {
        program,
        target,
        optional: false,
    }
}

const fn if_built_in(program: &'static str, target: Target) -> Attachment {
    Attachment {
        program,
        target,
        optional: true,
    }
}

/// Every variant of every hook; within a hook, best first.
pub const VARIANTS: &[Variant] = &[
    Variant {
        hook: Hook::Destroy,
        backend: Backend::Fentry,
        attachments: &[on(
            programs::FENTRY_DESTROY,
            Target::Fentry("tcp_v4_destroy_sock", SOCK),
        )],
        fields: &[],
        limits: None,
    },
    Variant {
        hook: Hook::Destroy,
        backend: Backend::Kprobe,
        attachments: &[on(
            programs::KPROBE_DESTROY,
            Target::Kprobe("tcp_v4_destroy_sock"),
        )],
        fields: &[],
        limits: Some(KPROBE_LIMIT),
    },
    Variant {
        hook: Hook::Destroy,
        backend: Backend::Tracepoint,
        attachments: &[on(
            programs::TP_DESTROY,
            Target::TpBtf("tcp_destroy_sock", SOCK),
        )],
        fields: &[],
        limits: None,
    },
    Variant {
        hook: Hook::Alloc,
        backend: Backend::Fentry,
        attachments: &[
            on(
                programs::FENTRY_INIT_V4,
                Target::Fentry("tcp_v4_init_sock", SOCK),
            ),
            if_built_in(
                programs::FENTRY_INIT_V6,
                Target::Fentry("tcp_v6_init_sock", SOCK),
            ),
        ],
        fields: &[PROCESS, IS_KERNEL],
        limits: None,
    },
    Variant {
        hook: Hook::Alloc,
        backend: Backend::Kprobe,
        attachments: &[
            on(programs::KPROBE_INIT, Target::Kprobe("tcp_v4_init_sock")),
            if_built_in(programs::KPROBE_INIT, Target::Kprobe("tcp_v6_init_sock")),
        ],
        fields: &[PROCESS, IS_KERNEL],
        limits: Some(KPROBE_LIMIT),
    },
    Variant {
        hook: Hook::Alloc,
        backend: Backend::Tracepoint,
        attachments: &[on(programs::CGROUP_CREATE, Target::CgroupCreate)],
        fields: &[PROCESS],
        limits: Some(
            "sockets that the kernel makes for itself (MPTCP subflows, NFS, CIFS) are not seen \
             when they are created, only when they are destroyed",
        ),
    },
    Variant {
        hook: Hook::Accept,
        backend: Backend::Fentry,
        attachments: &[on(
            programs::FEXIT_CHILD,
            Target::Fexit("tcp_create_openreq_child", CHILD),
        )],
        fields: &[],
        limits: None,
    },
    Variant {
        hook: Hook::Accept,
        backend: Backend::Kprobe,
        attachments: &[on(
            programs::KRETPROBE_CHILD,
            Target::Kretprobe("tcp_create_openreq_child"),
        )],
        fields: &[],
        limits: Some(KPROBE_LIMIT),
    },
    Variant {
        hook: Hook::Accept,
        backend: Backend::Tracepoint,
        attachments: &[on(
            programs::TP_STATE,
            Target::TpBtf("inet_sock_set_state", SET_STATE),
        )],
        fields: &[IS_TCP],
        limits: None,
    },
    Variant {
        hook: Hook::AcceptOwner,
        backend: Backend::Fentry,
        attachments: &[on(
            programs::FENTRY_ACCEPT,
            Target::Fentry("__inet_accept", ACCEPT),
        )],
        fields: &[PROCESS, IS_TCP],
        limits: None,
    },
    Variant {
        hook: Hook::AcceptOwner,
        backend: Backend::Fentry,
        attachments: &[on(
            programs::FENTRY_GRAFT,
            Target::Fentry("security_sock_graft", GRAFT),
        )],
        fields: &[PROCESS, IS_TCP],
        limits: None,
    },
    Variant {
        hook: Hook::AcceptOwner,
        backend: Backend::Kprobe,
        attachments: &[on(programs::KPROBE_ACCEPT, Target::Kprobe("__inet_accept"))],
        fields: &[PROCESS, IS_TCP],
        limits: None,
    },
    Variant {
        hook: Hook::AcceptOwner,
        backend: Backend::Kprobe,
        attachments: &[on(
            programs::KPROBE_GRAFT,
            Target::Kprobe("security_sock_graft"),
        )],
        fields: &[PROCESS, IS_TCP],
        limits: None,
    },
    Variant {
        hook: Hook::Release,
        backend: Backend::Fentry,
        attachments: &[on(
            programs::FENTRY_RELEASE,
            Target::Fentry("inet_release", SOCKET),
        )],
        fields: &[PROCESS, IS_TCP, SOCKET_SK],
        limits: None,
    },
    Variant {
        hook: Hook::Release,
        backend: Backend::Kprobe,
        attachments: &[on(programs::KPROBE_RELEASE, Target::Kprobe("inet_release"))],
        fields: &[PROCESS, IS_TCP, SOCKET_SK],
        limits: None,
    },
    Variant {
        hook: Hook::Release,
        backend: Backend::Tracepoint,
        attachments: &[on(programs::CGROUP_RELEASE, Target::CgroupRelease)],
        fields: &[PROCESS],
        limits: None,
    },
    Variant {
        hook: Hook::Inventory,
        backend: Backend::Iterator,
        attachments: &[on(programs::ITER_FILES, Target::IterFiles)],
        fields: &[IS_TCP, CONNECTION, HOLDER],
        limits: None,
    },
    Variant {
        hook: Hook::Inventory,
        backend: Backend::Iterator,
        attachments: &[on(programs::ITER_FILES_FOP, Target::IterFilesByOperations)],
        fields: &[IS_TCP, CONNECTION, HOLDER, BY_OPERATIONS],
        limits: None,
    },
];

const KPROBE_LIMIT: &str = "a kprobe is skipped while another BPF program runs on the same CPU \
                            (counted where the kernel counts it)";

/// Why a hook that has no variant for a backend has none.
pub fn absence(hook: Hook, backend: Backend) -> Option<&'static str> {
    match (hook, backend) {
        (Hook::AcceptOwner, Backend::Tracepoint) => Some(
            "no tracepoint or cgroup hook sees accept() with its socket; the inventory shows who \
             holds accepted connections",
        ),
        _ => None,
    }
}

/// The variants of a hook, best first.
pub fn variants(hook: Hook) -> impl Iterator<Item = &'static Variant> {
    VARIANTS.iter().filter(move |variant| variant.hook == hook)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hook_has_a_variant_and_every_field_is_in_the_table() {
        for hook in Hook::ALL {
            assert!(variants(hook).next().is_some(), "{hook:?} has no variant");
        }
        for variant in VARIANTS {
            for field in variant.fields.iter().copied().flatten() {
                assert!(
                    sockleak_ebpf::FIELDS
                        .iter()
                        .any(|spec| spec.global == *field),
                    "{field} is not in the field table"
                );
            }
        }
    }
}
