//! Names under which user space finds maps, globals and programs in the object.

/// Maps.
pub mod maps {
    /// Array of [`crate::SocketBucket`].
    pub const SOCKETS: &str = "SOCKETS";
    /// Hash: address of the `struct sock` -> [`crate::SocketEntry`]; those whose buckets are full.
    pub const OVERFLOW: &str = "OVERFLOW";
    /// Array of [`crate::ProcessSlot`].
    pub const PROCESSES: &str = "PROCESSES";
    /// Array of one element: as many [`crate::Counters`] as [`crate::CPUS`].
    pub const COUNTERS: &str = ".bss.counters";
    /// Array of one `u64` per place in [`PROCESSES`]: 0 free.
    pub const PROCESS_CLAIMS: &str = "PROCESS_CLAIMS";
    /// Array of one `u32` per place in [`PROCESSES`]: not 0, the process's stacks are wanted.
    pub const SUSPECTS: &str = "SUSPECTS";
    /// Array of one `u64` per place in [`SEARCHES`]: 0 free.
    pub const SEARCH_CLAIMS: &str = "SEARCH_CLAIMS";
    /// Array of [`crate::SearchSlot`].
    pub const SEARCHES: &str = "SEARCHES";
    /// Hash: [`crate::FailureKey`] -> [`crate::FailureStats`].
    pub const FAILURES: &str = "FAILURES";
    /// Hash: [`crate::Ending`] -> how often, `u64`.
    pub const ENDINGS: &str = "ENDINGS";
    /// Hash: [`crate::Site`] -> how often, `u64`.
    pub const SITES: &str = "SITES";
    /// Stack traces, by [`crate::Site::stack`].
    pub const STACKS: &str = "STACKS";
    /// Array of one `u32`: which stacks the keys of [`STACKS`] mean now; odd while they are removed.
    pub const STACK_EPOCH: &str = "STACK_EPOCH";
    /// Hash: [`crate::ProcessKey`] of a process of the command -> anything, `u32`.
    pub const FOLLOWED: &str = "FOLLOWED";
    /// Hash: [`crate::LeftKey`] -> [`crate::LeftStats`].
    pub const LEFT: &str = "LEFT";
    /// Hash: key of a stack -> [`crate::CodeStack`].
    pub const CODE_STACKS: &str = "CODE_STACKS";
    /// Hash: inode number, `u64` -> [`crate::Executable`].
    pub const EXECUTABLES: &str = "EXECUTABLES";
    /// Array of one [`crate::RunTotals`].
    pub const RUN_TOTALS: &str = "RUN_TOTALS";
    /// Ring buffer of [`crate::RunEvent`].
    pub const RUN_EVENTS: &str = "RUN_EVENTS";
    /// Ring buffer of [`crate::EventRecord`].
    pub const EVENTS: &str = "EVENTS";
}

/// Read-only globals, `u64`; for what is not in [`crate::placeholders`].
pub mod globals {
    /// Address of the variable `table_perturb`; 0 unknown.
    pub const TABLE_PERTURB: &str = "TABLE_PERTURB";
    /// Address of `socket_file_ops`, for kernels without `bpf_sock_from_file`.
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

    /// fentry on `__inet_hash_connect`.
    pub const FENTRY_SEARCH: &str = "fentry_search";
    /// fexit on `__inet_hash_connect` with four arguments.
    pub const FEXIT_SEARCH4: &str = "fexit_search4";
    /// fexit on `__inet_hash_connect` with five arguments.
    pub const FEXIT_SEARCH5: &str = "fexit_search5";
    /// fexit on `tcp_v6_connect`.
    pub const FEXIT_V6_CONNECT: &str = "fexit_v6_connect";
    /// fentry on `tcp_time_wait`.
    pub const FENTRY_TIME_WAIT: &str = "fentry_time_wait";
    /// fentry on `inet_csk_get_port`.
    pub const FENTRY_GET_PORT: &str = "fentry_get_port";
    /// fexit on `inet_csk_get_port`.
    pub const FEXIT_GET_PORT: &str = "fexit_get_port";
    /// fexit on `inet_bind_sk`.
    pub const FEXIT_BIND_SK: &str = "fexit_bind_sk";
    /// fexit on `inet6_bind_sk`.
    pub const FEXIT_BIND6_SK: &str = "fexit_bind6_sk";
    /// fexit on `inet_bind`.
    pub const FEXIT_BIND: &str = "fexit_bind";
    /// fexit on `inet6_bind`.
    pub const FEXIT_BIND6: &str = "fexit_bind6";
    /// fexit on `tcp_v4_pre_connect`.
    pub const FEXIT_PRE_CONNECT4: &str = "fexit_pre_connect4";
    /// fexit on `tcp_v6_pre_connect`.
    pub const FEXIT_PRE_CONNECT6: &str = "fexit_pre_connect6";
    /// fexit on `security_socket_connect`.
    pub const FEXIT_LSM_CONNECT: &str = "fexit_lsm_connect";
    /// fexit on `security_socket_bind`.
    pub const FEXIT_LSM_BIND: &str = "fexit_lsm_bind";

    /// kprobe on `__inet_hash_connect`.
    pub const KPROBE_SEARCH: &str = "kprobe_search";
    /// kretprobe on `__inet_hash_connect`.
    pub const KRETPROBE_SEARCH: &str = "kretprobe_search";
    /// kprobe on `tcp_v6_connect`.
    pub const KPROBE_V6_CONNECT: &str = "kprobe_v6_connect";
    /// kretprobe on `tcp_v6_connect`.
    pub const KRETPROBE_V6_CONNECT: &str = "kretprobe_v6_connect";
    /// kprobe on `tcp_time_wait`.
    pub const KPROBE_TIME_WAIT: &str = "kprobe_time_wait";
    /// kprobe on `inet_csk_get_port`.
    pub const KPROBE_GET_PORT: &str = "kprobe_get_port";
    /// kretprobe on `inet_csk_get_port`.
    pub const KRETPROBE_GET_PORT: &str = "kretprobe_get_port";
    /// kprobe on `inet_bind_sk` and `inet6_bind_sk`.
    pub const KPROBE_BIND_SK: &str = "kprobe_bind_sk";
    /// kretprobe on `inet_bind_sk` and `inet6_bind_sk`.
    pub const KRETPROBE_BIND_SK: &str = "kretprobe_bind_sk";
    /// kprobe on `inet_bind` and `inet6_bind`.
    pub const KPROBE_BIND: &str = "kprobe_bind";
    /// kretprobe on `inet_bind` and `inet6_bind`.
    pub const KRETPROBE_BIND: &str = "kretprobe_bind";
    /// kprobe on `tcp_v4_pre_connect` and `tcp_v6_pre_connect`.
    pub const KPROBE_PRE_CONNECT: &str = "kprobe_pre_connect";
    /// kretprobe on `tcp_v4_pre_connect` and `tcp_v6_pre_connect`.
    pub const KRETPROBE_PRE_CONNECT: &str = "kretprobe_pre_connect";
    /// kprobe on `security_socket_connect`.
    pub const KPROBE_LSM_CONNECT: &str = "kprobe_lsm_connect";
    /// kretprobe on `security_socket_connect`.
    pub const KRETPROBE_LSM_CONNECT: &str = "kretprobe_lsm_connect";
    /// kprobe on `security_socket_bind`.
    pub const KPROBE_LSM_BIND: &str = "kprobe_lsm_bind";
    /// kretprobe on `security_socket_bind`.
    pub const KRETPROBE_LSM_BIND: &str = "kretprobe_lsm_bind";

    /// kprobe on `inet_bhash2_reset_saddr`: a connect() that found no port.
    pub const KPROBE_NO_PORT: &str = "kprobe_no_port";
    /// tp_btf `inet_sock_set_state`: the same where there are no kprobes or no such function.
    pub const TP_NO_PORT: &str = "tp_no_port";
    /// Tracepoint event `sock:inet_sock_set_state`: the same, with preemption off on all kernels.
    pub const EVENT_NO_PORT: &str = "event_no_port";
    /// fentry on `tcp_done_with_error`.
    pub const FENTRY_DONE_WITH_ERROR: &str = "fentry_done_with_error";
    /// kprobe on `tcp_done_with_error`.
    pub const KPROBE_DONE_WITH_ERROR: &str = "kprobe_done_with_error";
    /// fentry on `tcp_abort`.
    pub const FENTRY_ABORT: &str = "fentry_abort";
    /// kprobe on `tcp_abort`.
    pub const KPROBE_ABORT: &str = "kprobe_abort";
    /// Typed raw tracepoint `tcp_receive_reset`.
    pub const TP_RESET: &str = "tp_reset";
    /// fentry on `tcp_done`.
    pub const FENTRY_DONE: &str = "fentry_done";
    /// kprobe on `tcp_done`.
    pub const KPROBE_DONE: &str = "kprobe_done";
    /// tp_btf `inet_sock_set_state`: begin and latest end of a search.
    pub const TP_SEARCH: &str = "tp_search";
    /// tp_btf `sys_exit`.
    pub const TP_EXIT: &str = "tp_exit";

    /// tp_btf `sched_process_fork`.
    pub const TP_FORK: &str = "tp_fork";
    /// tp_btf `sched_process_exec`.
    pub const TP_EXEC: &str = "tp_exec";
    /// tp_btf `sched_process_free`.
    pub const TP_FREE: &str = "tp_free";

    /// iter/task_file with `bpf_sock_from_file` (5.11+).
    pub const ITER_FILES: &str = "iter_files";
    /// iter/tcp: orphans of one network namespace.
    pub const ITER_TCP: &str = "iter_tcp";
    /// iter/task_file that compares `file->f_op` with `socket_file_ops` (5.10).
    pub const ITER_FILES_FOP: &str = "iter_files_fop";
}
