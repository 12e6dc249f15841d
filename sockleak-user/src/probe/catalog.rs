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
    /// connect() looks for a local port, or finds none.
    Connect,
    /// bind() or listen() asks for a port.
    Bind,
    /// Every TCP socket that any descriptor refers to.
    Inventory,
}

impl Hook {
    /// All hooks in the order in which they are attached: a creation recorded before its
    /// destruction can be seen would leave a stale record.
    pub const ALL: [Self; 8] = [
        Self::Destroy,
        Self::Alloc,
        Self::Accept,
        Self::AcceptOwner,
        Self::Release,
        Self::Connect,
        Self::Bind,
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
            Self::Connect => "connect",
            Self::Bind => "bind",
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
            Self::Connect => "every port search of connect() and why it failed",
            Self::Bind => "every port that bind() or listen() asks for, and why not",
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

/// A parameter type that may be anything: the program does not use it, or reads it by helper.
pub const ANY: &str = "_";

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
/// `__inet_hash_connect` up to 6.12; its callback's own arguments change more often.
const SEARCH4: &[&str] = &[ANY, "struct sock *", "u64", ANY];
/// The same from 6.18 on.
const SEARCH5: &[&str] = &[ANY, "struct sock *", "u64", ANY, ANY];
/// `uaddr` is a `struct sockaddr *`, from 7.x on a `struct sockaddr_unsized *`.
const SOCK_ADDRESS: &[&str] = &["struct sock *", ANY, "int"];
const SOCKET_ADDRESS: &[&str] = &["struct socket *", ANY, "int"];
const GET_PORT: &[&str] = &["struct sock *", "short unsigned int"];
const TIME_WAIT: &[&str] = &["struct sock *", "int", "int"];
const SYS_EXIT: &[&str] = &["struct pt_regs *", "long int"];
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
/// What a port search depends on.
const SEARCH: &[&str] = &[
    "SK_REUSE",
    "SK_REUSEPORT",
    "SK_ERR",
    "SK_RTX_QUEUE",
    "TASK_NVCSW",
    "TASK_NIVCSW",
    "TASK_SUM_EXEC",
    "INET_SPORT",
];
/// From a system call's registers to its socket.
const SYSTEM_CALL: &[&str] = &[
    "REGS_NR",
    "REGS_ARG1",
    "REGS_ARG2",
    "TASK_FILES",
    "FILES_FDT",
    "FDT_FD",
    "FDT_MAX_FDS",
    "FILE_INODE",
    "FILE_PRIVATE_DATA",
    "INODE_MODE",
    "SOCKET_SK",
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
        hook: Hook::Connect,
        backend: Backend::Fentry,
        attachments: &[
            NO_PORT,
            on(
                programs::FENTRY_SEARCH,
                Target::Fentry("__inet_hash_connect", SEARCH5),
            ),
            on(
                programs::FEXIT_SEARCH5,
                Target::Fexit("__inet_hash_connect", SEARCH5),
            ),
            FEXIT_V6_CONNECT,
            FENTRY_TIME_WAIT,
            FEXIT_PRE_CONNECT4,
            FEXIT_PRE_CONNECT6,
            FEXIT_LSM_CONNECT,
        ],
        fields: CONNECT_FIELDS,
        limits: None,
    },
    Variant {
        hook: Hook::Connect,
        backend: Backend::Fentry,
        attachments: &[
            NO_PORT,
            on(
                programs::FENTRY_SEARCH,
                Target::Fentry("__inet_hash_connect", SEARCH4),
            ),
            on(
                programs::FEXIT_SEARCH4,
                Target::Fexit("__inet_hash_connect", SEARCH4),
            ),
            FEXIT_V6_CONNECT,
            FENTRY_TIME_WAIT,
            FEXIT_PRE_CONNECT4,
            FEXIT_PRE_CONNECT6,
            FEXIT_LSM_CONNECT,
        ],
        fields: CONNECT_FIELDS,
        limits: None,
    },
    Variant {
        hook: Hook::Connect,
        backend: Backend::Kprobe,
        attachments: &[
            NO_PORT,
            on(
                programs::KPROBE_SEARCH,
                Target::Kprobe("__inet_hash_connect"),
            ),
            on(
                programs::KRETPROBE_SEARCH,
                Target::Kretprobe("__inet_hash_connect"),
            ),
            if_built_in(
                programs::KPROBE_V6_CONNECT,
                Target::Kprobe("tcp_v6_connect"),
            ),
            if_built_in(
                programs::KRETPROBE_V6_CONNECT,
                Target::Kretprobe("tcp_v6_connect"),
            ),
            if_built_in(programs::KPROBE_TIME_WAIT, Target::Kprobe("tcp_time_wait")),
            if_built_in(
                programs::KPROBE_PRE_CONNECT,
                Target::Kprobe("tcp_v4_pre_connect"),
            ),
            if_built_in(
                programs::KRETPROBE_PRE_CONNECT,
                Target::Kretprobe("tcp_v4_pre_connect"),
            ),
            if_built_in(
                programs::KPROBE_PRE_CONNECT,
                Target::Kprobe("tcp_v6_pre_connect"),
            ),
            if_built_in(
                programs::KRETPROBE_PRE_CONNECT,
                Target::Kretprobe("tcp_v6_pre_connect"),
            ),
            if_built_in(
                programs::KPROBE_LSM_CONNECT,
                Target::Kprobe("security_socket_connect"),
            ),
            if_built_in(
                programs::KRETPROBE_LSM_CONNECT,
                Target::Kretprobe("security_socket_connect"),
            ),
        ],
        fields: CONNECT_FIELDS,
        limits: Some(KRETPROBE_LIMIT),
    },
    Variant {
        hook: Hook::Connect,
        backend: Backend::Tracepoint,
        attachments: &[
            NO_PORT,
            on(
                programs::TP_SEARCH,
                Target::TpBtf("inet_sock_set_state", SET_STATE),
            ),
            on(programs::TP_EXIT, Target::TpBtf("sys_exit", SYS_EXIT)),
        ],
        fields: &[PROCESS, IS_TCP, CONNECTION, SEARCH, SYSTEM_CALL],
        limits: Some(
            "the time that a successful search takes is an upper bound, the ports it examines are \
             not counted, who enters TIME_WAIT is not seen, and neither are 32-bit programs and \
             io_uring where a failure shows only in the system call; every system call of the \
             host passes through a short program",
        ),
    },
    Variant {
        hook: Hook::Bind,
        backend: Backend::Fentry,
        attachments: &[
            FENTRY_GET_PORT,
            FEXIT_GET_PORT,
            on(
                programs::FEXIT_BIND_SK,
                Target::Fexit("inet_bind_sk", SOCK_ADDRESS),
            ),
            if_built_in(
                programs::FEXIT_BIND6_SK,
                Target::Fexit("inet6_bind_sk", SOCK_ADDRESS),
            ),
            FEXIT_LSM_BIND,
        ],
        fields: BIND_FIELDS,
        limits: None,
    },
    Variant {
        hook: Hook::Bind,
        backend: Backend::Fentry,
        attachments: &[
            FENTRY_GET_PORT,
            FEXIT_GET_PORT,
            on(
                programs::FEXIT_BIND,
                Target::Fexit("inet_bind", SOCKET_ADDRESS),
            ),
            if_built_in(
                programs::FEXIT_BIND6,
                Target::Fexit("inet6_bind", SOCKET_ADDRESS),
            ),
            FEXIT_LSM_BIND,
        ],
        fields: BIND_FIELDS,
        limits: None,
    },
    Variant {
        hook: Hook::Bind,
        backend: Backend::Kprobe,
        attachments: &[
            KPROBE_GET_PORT,
            KRETPROBE_GET_PORT,
            on(programs::KPROBE_BIND_SK, Target::Kprobe("inet_bind_sk")),
            on(
                programs::KRETPROBE_BIND_SK,
                Target::Kretprobe("inet_bind_sk"),
            ),
            if_built_in(programs::KPROBE_BIND_SK, Target::Kprobe("inet6_bind_sk")),
            if_built_in(
                programs::KRETPROBE_BIND_SK,
                Target::Kretprobe("inet6_bind_sk"),
            ),
            KPROBE_LSM_BIND,
            KRETPROBE_LSM_BIND,
        ],
        fields: BIND_FIELDS,
        limits: Some(KRETPROBE_LIMIT),
    },
    Variant {
        hook: Hook::Bind,
        backend: Backend::Kprobe,
        attachments: &[
            KPROBE_GET_PORT,
            KRETPROBE_GET_PORT,
            on(programs::KPROBE_BIND, Target::Kprobe("inet_bind")),
            on(programs::KRETPROBE_BIND, Target::Kretprobe("inet_bind")),
            if_built_in(programs::KPROBE_BIND, Target::Kprobe("inet6_bind")),
            if_built_in(programs::KRETPROBE_BIND, Target::Kretprobe("inet6_bind")),
            KPROBE_LSM_BIND,
            KRETPROBE_LSM_BIND,
        ],
        fields: BIND_FIELDS,
        limits: Some(KRETPROBE_LIMIT),
    },
    Variant {
        hook: Hook::Bind,
        backend: Backend::Tracepoint,
        attachments: &[on(programs::TP_EXIT, Target::TpBtf("sys_exit", SYS_EXIT))],
        fields: &[PROCESS, IS_TCP, CONNECTION, SEARCH, SYSTEM_CALL],
        limits: Some(
            "only calls that fail are seen, not how long any takes, and no calls of 32-bit \
             programs and io_uring",
        ),
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

const CONNECT_FIELDS: &[&[&str]] = &[PROCESS, IS_TCP, CONNECTION, SEARCH];
const BIND_FIELDS: &[&[&str]] = &[PROCESS, IS_TCP, CONNECTION, SEARCH, SOCKET_SK];

const NO_PORT: Attachment = on(
    programs::TP_NO_PORT,
    Target::TpBtf("inet_sock_set_state", SET_STATE),
);
const FEXIT_V6_CONNECT: Attachment = if_built_in(
    programs::FEXIT_V6_CONNECT,
    Target::Fexit("tcp_v6_connect", SOCK_ADDRESS),
);
const FENTRY_TIME_WAIT: Attachment = if_built_in(
    programs::FENTRY_TIME_WAIT,
    Target::Fentry("tcp_time_wait", TIME_WAIT),
);
const FEXIT_PRE_CONNECT4: Attachment = if_built_in(
    programs::FEXIT_PRE_CONNECT4,
    Target::Fexit("tcp_v4_pre_connect", SOCK_ADDRESS),
);
const FEXIT_PRE_CONNECT6: Attachment = if_built_in(
    programs::FEXIT_PRE_CONNECT6,
    Target::Fexit("tcp_v6_pre_connect", SOCK_ADDRESS),
);
const FEXIT_LSM_CONNECT: Attachment = if_built_in(
    programs::FEXIT_LSM_CONNECT,
    Target::Fexit("security_socket_connect", SOCKET_ADDRESS),
);
const FENTRY_GET_PORT: Attachment = on(
    programs::FENTRY_GET_PORT,
    Target::Fentry("inet_csk_get_port", GET_PORT),
);
const FEXIT_GET_PORT: Attachment = on(
    programs::FEXIT_GET_PORT,
    Target::Fexit("inet_csk_get_port", GET_PORT),
);
const FEXIT_LSM_BIND: Attachment = if_built_in(
    programs::FEXIT_LSM_BIND,
    Target::Fexit("security_socket_bind", SOCKET_ADDRESS),
);
const KPROBE_GET_PORT: Attachment = on(
    programs::KPROBE_GET_PORT,
    Target::Kprobe("inet_csk_get_port"),
);
const KRETPROBE_GET_PORT: Attachment = on(
    programs::KRETPROBE_GET_PORT,
    Target::Kretprobe("inet_csk_get_port"),
);
const KPROBE_LSM_BIND: Attachment = if_built_in(
    programs::KPROBE_LSM_BIND,
    Target::Kprobe("security_socket_bind"),
);
const KRETPROBE_LSM_BIND: Attachment = if_built_in(
    programs::KRETPROBE_LSM_BIND,
    Target::Kretprobe("security_socket_bind"),
);

const KRETPROBE_LIMIT: &str = "a kretprobe is skipped when more threads are in the function than \
                               the kernel keeps room for; failures of connect() are counted all \
                               the same";
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
