//! inventory: every TCP socket that any descriptor of any process refers to.
//!
//! The iterator `task_file` visits every open file of every task once per descriptor table.
//! `bpf_sock_from_file` (5.11+) turns a file into its `struct socket`; on 5.10 the same is
//! `file->f_op == &socket_file_ops`, then `file->private_data`.

use aya_ebpf::{
    Global,
    helpers::generated::{bpf_seq_write, bpf_sock_from_file},
};
use sockleak_ebpf::{
    ABSENT, IPPROTO_MPTCP, IPPROTO_TCP, InventoryRecord, SOCKET_ACCEPTED, SOCKET_KERNEL,
    SOCKET_MPTCP, SOCKET_PORT_BOUND, SOCKET_PORT_KNOWN, SOCKET_TRIED,
};

use crate::{
    constants::Member as _,
    kernel::{
        Direct, FILE_INODE, FILE_OP, FILE_PRIVATE_DATA, INODE_INO, MPTCP_FIRST, Probe, Ptr, Reader,
        SOCKET_SK, Sock, Task, member,
    },
    process, sockets,
};

/// Address of `socket_file_ops`; only for kernels without `bpf_sock_from_file`.
#[unsafe(no_mangle)]
pub static SOCKET_FILE_OPS: Global<u64> = Global::new(0);

/// `struct bpf_iter__task_file` (kernel/bpf/task_iter.c), 5.10 to 7.2.
#[repr(C)]
pub struct TaskFile {
    meta: *const Meta,
    task: *const u8,
    fd: u32,
    pad: u32,
    file: *const u8,
}

/// `struct bpf_iter_meta` (include/linux/bpf.h).
#[repr(C)]
pub struct Meta {
    /// `struct seq_file *`
    pub seq: *mut u8,
    session_id: u64,
    seq_num: u64,
}

/// One file, on kernels with `bpf_sock_from_file`.
#[inline(always)]
pub fn file(ctx: &TaskFile) {
    if ctx.task.is_null() || ctx.file.is_null() {
        return;
    }
    // SAFETY: the context's file, checked for NULL; the helper returns NULL for other files.
    let socket = unsafe { bpf_sock_from_file(ctx.file.cast_mut().cast()) };
    if socket.is_null() {
        return;
    }
    // SAFETY: a `struct socket *` that the open file keeps alive.
    let sk = unsafe { member::<Direct, Ptr>(socket.cast_const().cast(), &SOCKET_SK).0 };
    if sk.is_null() {
        return;
    }
    socket_of::<Direct>(ctx, sk);
}

/// One file, on 5.10.
#[inline(always)]
pub fn file_by_operations(ctx: &TaskFile) {
    if ctx.task.is_null() || ctx.file.is_null() {
        return;
    }
    // SAFETY: the context's file, checked for NULL.
    let operations = unsafe { member::<Direct, Ptr>(ctx.file, &FILE_OP).0 };
    if operations as u64 != SOCKET_FILE_OPS.load() {
        return;
    }
    // SAFETY: `private_data` of a socket file is its `struct socket *`, which the open file
    // keeps alive; the verifier sees a `void *`, so it is read by helper from here on.
    let sk = unsafe {
        let socket = member::<Direct, Ptr>(ctx.file, &FILE_PRIVATE_DATA).0;
        member::<Probe, Ptr>(socket, &SOCKET_SK).0
    };
    if sk.is_null() {
        return;
    }
    socket_of::<Probe>(ctx, sk);
}

#[inline(always)]
fn socket_of<R: Reader>(ctx: &TaskFile, sk: *const u8) {
    let sock = Sock::<R>::new(sk);
    match sock.protocol() {
        IPPROTO_TCP if sock.is_tcp() => write(ctx, &sock, 0),
        // The descriptor's socket is the MPTCP one; what `alloc` counts is its subflow, which
        // 6.12+ creates only at connect, bind or listen.
        IPPROTO_MPTCP if sock.is_inet() && MPTCP_FIRST.offset() != ABSENT => {
            // SAFETY: a `struct mptcp_sock *`; beyond `struct sock`, hence by helper.
            let first = unsafe { member::<Probe, Ptr>(sk, &MPTCP_FIRST).0 };
            if !first.is_null() {
                write(ctx, &Sock::<Probe>::new(first), SOCKET_MPTCP);
            }
        }
        _ => {}
    }
}

#[inline(always)]
fn write<R: Reader>(ctx: &TaskFile, sk: &Sock<R>, flags: u32) {
    let holder = process::key_of(&Task::<Direct>::new(ctx.task).leader());
    // SAFETY: the context's file has an inode.
    let inode: u64 = unsafe {
        let inode = member::<Direct, Ptr>(ctx.file, &FILE_INODE).0;
        member::<Direct, u64>(inode, &INODE_INO)
    };
    let entry = match sockets::find(sk.addr()) {
        // SAFETY: a live value of the socket map; the open file keeps the socket from being
        // destroyed, so the entry cannot be recycled while it is read.
        Some(entry) => unsafe { *entry },
        None => sockets::entry(0),
    };
    let mut flags = flags | entry.flags & (SOCKET_KERNEL | SOCKET_ACCEPTED | SOCKET_TRIED);
    if sk.num() != 0
        && let Some(bound) = sk.is_port_bound()
    {
        flags |= SOCKET_PORT_KNOWN;
        if bound {
            flags |= SOCKET_PORT_BOUND;
        }
    }
    let creator = process::key_at(entry.slot, entry.mark);
    let (local, peer) = sk.addresses();
    let mut record = InventoryRecord {
        sk: sk.addr(),
        inode,
        holder_start_ns: holder.start_boottime_ns,
        birth_ns: entry.birth_ns,
        creator_start_ns: creator.start_boottime_ns,
        creator_tgid: creator.tgid,
        holder_tgid: holder.tgid,
        fd: ctx.fd,
        netns: sk.netns(),
        ack_backlog: sk.ack_backlog(),
        flags,
        family: sk.family(),
        local_port: sk.num(),
        peer_port_be: sk.dport_be(),
        state: u16::from(sk.state()),
        local,
        peer,
        stack: entry.stack,
        ending: entry.ending,
    };
    // SAFETY: the context's seq file and an initialised record without padding. On overflow
    // the iterator grows its buffer and visits the file again.
    unsafe {
        let seq = (*ctx.meta).seq;
        bpf_seq_write(
            seq.cast(),
            (&raw mut record).cast(),
            size_of::<InventoryRecord>() as u32,
        );
    }
}
