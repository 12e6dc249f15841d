//! The hooks of a socket's life, and the inventory.

use sockleak_ebpf::names::programs;

use super::parts::{
    CONNECTION, IS_TCP, PROCESS, SET_STATE, SOCK, SOCKET, SOCKET_SK, if_built_in, on,
};
use super::{Attachment, Backend, Hook, Target, Variant};

const CHILD: &[&str] = &[
    "const struct sock *",
    "struct request_sock *",
    "struct sk_buff *",
];
const ACCEPT: &[&str] = &["struct socket *", "struct socket *", "struct sock *"];
const GRAFT: &[&str] = &["struct sock *", "struct socket *"];
/// `tcp_done_with_error`, `tcp_abort`
const SOCK_ERROR: &[&str] = &["struct sock *", "int"];
const IS_KERNEL: &[&str] = &["SK_KERN_SOCK"];
/// A descriptor and who has it.
const HOLDER: &[&str] = &[
    "SOCKET_SK",
    "FILE_INODE",
    "INODE_INO",
    "TASK_TGID",
    "TASK_GROUP_LEADER",
    "TASK_START_BOOTTIME",
];
const ENDING: &[&[&str]] = &[IS_TCP, CONNECTION, &["SK_ERR"]];
const BY_OPERATIONS: &[&str] = &["FILE_OP", "FILE_PRIVATE_DATA"];

/// Nothing is inlined past a tracepoint, as `tcp_done_with_error` may be into `tcp_reset`.
const RESET: Attachment = on(programs::TP_RESET, Target::TpBtf("tcp_receive_reset", SOCK));

/// Best first within a hook.
pub(super) const VARIANTS: &[Variant] = &[
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
        hook: Hook::Ending,
        backend: Backend::Fentry,
        attachments: &[
            on(
                programs::FENTRY_DONE_WITH_ERROR,
                Target::Fentry("tcp_done_with_error", SOCK_ERROR),
            ),
            on(
                programs::FENTRY_ABORT,
                Target::Fentry("tcp_abort", SOCK_ERROR),
            ),
            RESET,
        ],
        fields: ENDING,
        limits: None,
    },
    Variant {
        hook: Hook::Ending,
        backend: Backend::Fentry,
        attachments: &[on(programs::FENTRY_DONE, Target::Fentry("tcp_done", SOCK))],
        fields: ENDING,
        limits: None,
    },
    Variant {
        hook: Hook::Ending,
        backend: Backend::Kprobe,
        attachments: &[
            on(
                programs::KPROBE_DONE_WITH_ERROR,
                Target::Kprobe("tcp_done_with_error"),
            ),
            on(programs::KPROBE_ABORT, Target::Kprobe("tcp_abort")),
            RESET,
        ],
        fields: ENDING,
        limits: None,
    },
    Variant {
        hook: Hook::Ending,
        backend: Backend::Kprobe,
        attachments: &[on(programs::KPROBE_DONE, Target::Kprobe("tcp_done"))],
        fields: ENDING,
        limits: None,
    },
    Variant {
        hook: Hook::Ending,
        backend: Backend::Tracepoint,
        attachments: &[on(
            programs::TP_SEARCH,
            Target::TpBtf("inet_sock_set_state", SET_STATE),
        )],
        fields: ENDING,
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
        hook: Hook::Orphans,
        backend: Backend::Iterator,
        attachments: &[on(programs::ITER_TCP, Target::IterTcp)],
        fields: &[&["SK_STATE", "SK_SOCKET"]],
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
