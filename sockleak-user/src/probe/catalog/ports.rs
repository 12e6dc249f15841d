//! The hooks that see ports searched and refused.

use sockleak_ebpf::names::programs;

use super::parts::{CONNECTION, IS_TCP, PROCESS, SET_STATE, SOCKET_SK, if_built_in, on};
use super::{ANY, Attachment, Backend, Hook, Target, Variant};

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
/// The tracepoint event of state changes.
const EVENT: &[&str] = &["EVENT_SKADDR", "EVENT_OLDSTATE", "EVENT_NEWSTATE"];
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

/// Attachments of connect() by trampolines: where failures are counted, the parameters of the
/// search, and the program at its end.
macro_rules! by_trampoline {
    ($no_port:ident, $search:ident, $end:ident) => {
        &[
            on(
                programs::FENTRY_SEARCH,
                Target::Fentry("__inet_hash_connect", $search),
            ),
            on(
                programs::$end,
                Target::Fexit("__inet_hash_connect", $search),
            ),
            FEXIT_V6_CONNECT,
            FENTRY_TIME_WAIT,
            FEXIT_PRE_CONNECT4,
            FEXIT_PRE_CONNECT6,
            FEXIT_LSM_CONNECT,
            // Last, so that what is said first about a kernel without trampolines is just that.
            $no_port,
        ]
    };
}

const fn by_trampoline(attachments: &'static [Attachment]) -> Variant {
    Variant {
        hook: Hook::Connect,
        backend: Backend::Fentry,
        attachments,
        fields: CONNECT_FIELDS,
        limits: None,
    }
}

/// Attachments of connect() by kprobes: where failures are counted.
macro_rules! by_kprobe {
    ($no_port:ident) => {
        &[
            $no_port,
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
        ]
    };
}

const fn by_kprobe(attachments: &'static [Attachment]) -> Variant {
    Variant {
        hook: Hook::Connect,
        backend: Backend::Kprobe,
        attachments,
        fields: CONNECT_FIELDS,
        limits: Some(KRETPROBE_LIMIT),
    }
}

/// Attachments of connect() by tracepoints: where failures are counted.
macro_rules! by_tracepoint {
    ($no_port:ident) => {
        &[
            $no_port,
            on(
                programs::TP_SEARCH,
                Target::TpBtf("inet_sock_set_state", SET_STATE),
            ),
            on(programs::TP_EXIT, Target::TpBtf("sys_exit", SYS_EXIT)),
        ]
    };
}

const fn by_tracepoint(
    attachments: &'static [Attachment],
    fields: &'static [&'static [&'static str]],
) -> Variant {
    Variant {
        hook: Hook::Connect,
        backend: Backend::Tracepoint,
        attachments,
        fields,
        limits: Some(TRACEPOINT_LIMIT),
    }
}

/// Best first within a hook.
pub(super) const VARIANTS: &[Variant] = &[
    by_trampoline(by_trampoline!(NO_PORT_BY_KPROBE, SEARCH5, FEXIT_SEARCH5)),
    by_trampoline(by_trampoline!(
        NO_PORT_BY_TRACEPOINT,
        SEARCH5,
        FEXIT_SEARCH5
    )),
    by_trampoline(by_trampoline!(NO_PORT_BY_KPROBE, SEARCH4, FEXIT_SEARCH4)),
    by_trampoline(by_trampoline!(
        NO_PORT_BY_TRACEPOINT,
        SEARCH4,
        FEXIT_SEARCH4
    )),
    by_kprobe(by_kprobe!(NO_PORT_BY_KPROBE)),
    by_kprobe(by_kprobe!(NO_PORT_BY_TRACEPOINT)),
    by_tracepoint(
        by_tracepoint!(NO_PORT_BY_EVENT),
        &[PROCESS, IS_TCP, CONNECTION, SEARCH, SYSTEM_CALL, EVENT],
    ),
    by_tracepoint(
        by_tracepoint!(NO_PORT_BY_TRACEPOINT),
        &[PROCESS, IS_TCP, CONNECTION, SEARCH, SYSTEM_CALL],
    ),
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
];

const CONNECT_FIELDS: &[&[&str]] = &[PROCESS, IS_TCP, CONNECTION, SEARCH];
const BIND_FIELDS: &[&[&str]] = &[PROCESS, IS_TCP, CONNECTION, SEARCH, SOCKET_SK];

/// A kprobe's program is not preempted, and this function runs only when connect() has failed
/// or a connection is given up.
const NO_PORT_BY_KPROBE: Attachment = on(
    programs::KPROBE_NO_PORT,
    Target::Kprobe("inet_bhash2_reset_saddr"),
);
const NO_PORT_BY_EVENT: Attachment = on(
    programs::EVENT_NO_PORT,
    Target::Event("sock", "inet_sock_set_state"),
);
const NO_PORT_BY_TRACEPOINT: Attachment = on(
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

const TRACEPOINT_LIMIT: &str = "the time that a successful search takes is an upper bound, the \
                                ports it examines are not counted, who enters TIME_WAIT is not \
                                seen, and neither are 32-bit programs and io_uring where a failure \
                                shows only in the system call; every system call of the host \
                                passes through a short program";
const KRETPROBE_LIMIT: &str = "a kretprobe is skipped when more threads are in the function than \
                               the kernel keeps room for; failures of connect() are counted all \
                               the same";
