//! Names under which user space finds maps, globals and programs in the object.

/// Maps.
pub mod maps {
    /// Hash: address of the `struct sock` -> [`crate::SocketEntry`].
    pub const SOCKETS: &str = "SOCKETS";
    /// Hash: [`crate::ProcessKey`] -> [`crate::ProcessStats`].
    pub const PROCESSES: &str = "PROCESSES";
    /// Per-CPU array of one [`crate::Counters`].
    pub const COUNTERS: &str = "COUNTERS";
    /// Hash: [`crate::SearchKey`] -> [`crate::SearchStats`].
    pub const SEARCHES: &str = "SEARCHES";
    /// Hash: [`crate::FailureKey`] -> [`crate::FailureStats`].
    pub const FAILURES: &str = "FAILURES";
    /// Ring buffer of [`crate::EventRecord`].
    pub const EVENTS: &str = "EVENTS";
}

/// Read-only globals besides the offsets of [`crate::FIELDS`]; all `u32` unless noted.
pub mod globals {
    /// 1: write every event to the ring buffer.
    pub const EMIT_EVENTS: &str = "EMIT_EVENTS";
    /// 1: the helper `bpf_get_current_task_btf` exists (5.11+).
    pub const TASK_BTF: &str = "TASK_BTF";
    /// `u64`: address of `socket_file_ops`, for kernels without `bpf_sock_from_file`.
    pub const SOCKET_FILE_OPS: &str = "SOCKET_FILE_OPS";
}

/// Programs, by backend and the kernel function they attach to.
pub mod programs {
    /// fentry on `tcp_v4_init_sock`.
    pub const FENTRY_INIT_V4: &str = "fentry_init_v4";
    /// fentry on `tcp_v6_init_sock`.
    pub const FENTRY_INIT_V6: &str = "fentry_init_v6";
    /// fexit on `tcp_create_openreq_child`.
    pub const FEXIT_CHILD: &str = "fexit_child";
    /// fentry on `__inet_accept`.
    pub const FENTRY_ACCEPT: &str = "fentry_accept";
    /// fentry on `security_sock_graft`.
    pub const FENTRY_GRAFT: &str = "fentry_graft";
    /// fentry on `tcp_v4_destroy_sock`.
    pub const FENTRY_DESTROY: &str = "fentry_destroy";
    /// fentry on `inet_release`.
    pub const FENTRY_RELEASE: &str = "fentry_release";

    /// kprobe on `tcp_v4_init_sock` and on `tcp_v6_init_sock`.
    pub const KPROBE_INIT: &str = "kprobe_init";
    /// kretprobe on `tcp_create_openreq_child`.
    pub const KRETPROBE_CHILD: &str = "kretprobe_child";
    /// kprobe on `__inet_accept`.
    pub const KPROBE_ACCEPT: &str = "kprobe_accept";
    /// kprobe on `security_sock_graft`.
    pub const KPROBE_GRAFT: &str = "kprobe_graft";
    /// kprobe on `tcp_v4_destroy_sock`.
    pub const KPROBE_DESTROY: &str = "kprobe_destroy";
    /// kprobe on `inet_release`.
    pub const KPROBE_RELEASE: &str = "kprobe_release";

    /// cgroup/sock_create at the root of the cgroup2 hierarchy.
    pub const CGROUP_CREATE: &str = "cgroup_create";
    /// tp_btf `inet_sock_set_state`.
    pub const TP_STATE: &str = "tp_state";
    /// tp_btf `tcp_destroy_sock`.
    pub const TP_DESTROY: &str = "tp_destroy";
    /// cgroup/sock_release at the root of the cgroup2 hierarchy.
    pub const CGROUP_RELEASE: &str = "cgroup_release";

    /// iter/task_file with `bpf_sock_from_file` (5.11+).
    pub const ITER_FILES: &str = "iter_files";
    /// iter/task_file that compares `file->f_op` with `socket_file_ops` (5.10).
    pub const ITER_FILES_FOP: &str = "iter_files_fop";
}
