//! The kernel structure members that the programs read.
//!
//! Rust emits no CO-RE relocations, so the offsets come from the running kernel's BTF: user
//! space resolves every path of this table and writes what it finds into the instructions before
//! load: see [`crate::placeholders`].

/// Value of an offset global when the running kernel has no such member.
pub const ABSENT: u32 = u32::MAX;

/// A kernel structure member that a program reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldSpec {
    /// Name of its constant.
    pub global: &'static str,
    /// `struct.member.member...`; anonymous members are transparent.
    pub path: &'static str,
    /// Size of the load in bytes; the member must have exactly this size. 0 means a bit: the
    /// member is a one-bit bitfield or a boolean byte.
    pub size: u32,
}

/// Calls `$apply!` with the table; the library makes data of it, the programs make constants.
#[macro_export]
#[doc(hidden)]
macro_rules! kernel_fields {
    ($apply:ident) => {
        $apply! {
            (SK_FAMILY, "sock.__sk_common.skc_family", 2)
            (SK_STATE, "sock.__sk_common.skc_state", 1)
            (SK_NUM, "sock.__sk_common.skc_num", 2)
            (SK_DPORT, "sock.__sk_common.skc_dport", 2)
            (SK_PORTPAIR, "sock.__sk_common.skc_portpair", 4)
            (SK_DADDR, "sock.__sk_common.skc_daddr", 4)
            (SK_RCV_SADDR, "sock.__sk_common.skc_rcv_saddr", 4)
            (SK_V6_DADDR, "sock.__sk_common.skc_v6_daddr", 16)
            (SK_V6_RCV_SADDR, "sock.__sk_common.skc_v6_rcv_saddr", 16)
            (SK_NET, "sock.__sk_common.skc_net.net", 8)
            (SK_PROTOCOL, "sock.sk_protocol", 2)
            (SK_TYPE, "sock.sk_type", 2)
            (SK_KERN_SOCK, "sock.sk_kern_sock", 0)
            (SK_ACK_BACKLOG, "sock.sk_ack_backlog", 4)
            (NET_INUM, "net.ns.inum", 4)
            (SOCKET_SK, "socket.sk", 8)
            (FILE_OP, "file.f_op", 8)
            (FILE_INODE, "file.f_inode", 8)
            (FILE_PRIVATE_DATA, "file.private_data", 8)
            (INODE_INO, "inode.i_ino", 8)
            (TASK_TGID, "task_struct.tgid", 4)
            (TASK_GROUP_LEADER, "task_struct.group_leader", 8)
            (TASK_START_BOOTTIME, "task_struct.start_boottime", 8)
            (TASK_COMM, "task_struct.comm", 16)
            (TASK_NSPROXY, "task_struct.nsproxy", 8)
            (NSPROXY_NET, "nsproxy.net_ns", 8)
            (SK_REUSE, "sock.__sk_common.skc_reuse", 1)
            (SK_REUSEPORT, "sock.__sk_common.skc_reuseport", 0)
            (SK_ERR, "sock.sk_err", 4)
            (SK_SOCKET, "sock.sk_socket", 8)
            (SK_RTX_QUEUE, "sock.tcp_rtx_queue.rb_node", 8)
            (INET_SPORT, "inet_sock.inet_sport", 2)
            (INET_FLAGS, "inet_sock.inet_flags", 8)
            (INET_NO_PORT, "inet_sock.bind_address_no_port", 0)
            (INET_PORT_RANGE, "inet_sock.local_port_range", 4)
            (INET_PORT_RANGE_LOW, "inet_sock.local_port_range.lo", 2)
            (ICSK_BIND_HASH, "inet_connection_sock.icsk_bind_hash", 8)
            (TB_FASTREUSE, "inet_bind_bucket.fastreuse", 1)
            (TB_FASTREUSEPORT, "inet_bind_bucket.fastreuseport", 1)
            (NET_PORT_RANGE, "net.ipv4.ip_local_ports.range", 4)
            (NET_PORT_RANGE_PAIR, "net.ipv4.ip_local_ports.range", 8)
            (NET_STEP_WIDTH, "net.ipv4.sysctl_ip_local_port_step_width", 4)
            (TASK_NVCSW, "task_struct.nvcsw", 8)
            (TASK_NIVCSW, "task_struct.nivcsw", 8)
            (TASK_SUM_EXEC, "task_struct.se.sum_exec_runtime", 8)
            (EVENT_SKADDR, "trace_event_raw_inet_sock_set_state.skaddr", 8)
            (EVENT_OLDSTATE, "trace_event_raw_inet_sock_set_state.oldstate", 4)
            (EVENT_NEWSTATE, "trace_event_raw_inet_sock_set_state.newstate", 4)
            (TASK_FILES, "task_struct.files", 8)
            (FILES_FDT, "files_struct.fdt", 8)
            (FDT_FD, "fdtable.fd", 8)
            (FDT_MAX_FDS, "fdtable.max_fds", 4)
            (INODE_MODE, "inode.i_mode", 2)
            (TASK_STACK, "task_struct.stack", 8)
            (REGS_NR, "pt_regs.orig_ax", 8)
            (REGS_ARG1, "pt_regs.di", 8)
            (REGS_ARG2, "pt_regs.si", 8)
            (REGS_SP, "pt_regs.sp", 8)
            (TASK_PID, "task_struct.pid", 4)
            (TASK_FLAGS, "task_struct.flags", 4)
            (TASK_MM, "task_struct.mm", 8)
            (MM_START_CODE, "mm_struct.start_code", 8)
            (MM_END_CODE, "mm_struct.end_code", 8)
            (MM_EXE_FILE, "mm_struct.exe_file", 8)
            (BINPRM_INTERP, "linux_binprm.interp", 8)
            (MPTCP_FIRST, "mptcp_sock.first", 8)
            (NUMBER, "refcount_struct.refs.counter", 4)
        }
    };
}

macro_rules! table {
    ($(($global:ident, $path:literal, $size:literal))*) => {
        /// Every member the programs read.
        pub const FIELDS: &[FieldSpec] = &[
            $(FieldSpec { global: stringify!($global), path: $path, size: $size },)*
        ];
    };
}

kernel_fields!(table);
