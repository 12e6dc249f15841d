//! Ends of system calls, for kernels that offer neither trampolines nor kprobes.
//!
//! Raw tracepoint `sys_exit(struct pt_regs *regs, long ret)`, 5.10 to 7.2. It fires for every
//! system call of the host, and the program looks at the number first. x86-64 only: elsewhere
//! the registers have other names, the offsets stay [`ABSENT`] and the variant is not offered.

use aya_ebpf::{
    helpers::bpf_get_current_task, macros::btf_tracepoint, programs::BtfTracePointContext,
};
use sockleak_ebpf::{AF_INET, AF_INET6, Cause, Op, STACKS_NEVER};

use crate::{
    calls::{self, Call},
    constants::{RUN, STACK_MODE},
    hooks::{
        connect,
        failure::{self, EACCES, EADDRINUSE, EADDRNOTAVAIL, ENOMEM, EPERM, Failure},
        search::UNCOUNTED,
        stack,
    },
    kernel::{
        Direct, FDT_FD, FDT_MAX_FDS, FILE_INODE, FILE_PRIVATE_DATA, FILES_FDT, INODE_MODE, Probe,
        Ptr, REGS_ARG1, REGS_ARG2, REGS_NR, Reader, SOCKET_SK, Sock, TASK_FILES, member, read_user,
    },
    percpu::count,
    sockets,
};

const SOCKET: u64 = 41;
const CONNECT: u64 = 42;
const BIND: u64 = 49;
const LISTEN: u64 = 50;
const IO_URING_ENTER: u64 = 426;

const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;

/// connect() of the current thread has begun on `sk`.
#[inline(always)]
pub fn connecting(sk: u64) {
    if !calls::begun(CONNECT, Call { sk, argument: 0 }) {
        count!(searches_unmatched);
    }
}

/// The current thread creates the socket at `sk`, and its stack is wanted.
#[inline(always)]
pub fn creating(sk: u64) {
    if !calls::begun(SOCKET, Call { sk, argument: 0 }) {
        count!(stacks_failed);
    }
}

#[btf_tracepoint]
fn tp_exit(ctx: BtfTracePointContext) -> i32 {
    let regs = ctx.arg::<*const u8>(0);
    // SAFETY: `struct pt_regs *` of the current task.
    let number: u64 = unsafe { member::<Direct, u64>(regs, &REGS_NR) };
    let result = ctx.arg::<i64>(1);
    match number {
        SOCKET => socket_ended(&ctx, result),
        // It creates sockets as well, which is not where the thread stands at its next socket().
        IO_URING_ENTER => forget_socket(),
        CONNECT => connect_ended(regs, result),
        BIND if result < 0 => bind_ended(regs, result),
        LISTEN if result < 0 => listen_ended(regs, result),
        _ => {}
    }
    0
}

/// socket() of the current thread has returned: the stack is what it was in the middle of it.
#[inline(always)]
fn socket_ended(ctx: &BtfTracePointContext, result: i64) {
    if STACK_MODE.load() == STACKS_NEVER && RUN.load() == 0 {
        return;
    }
    let Some(call) = calls::ended(SOCKET) else {
        return;
    };
    if result < 0 {
        return;
    }
    if let Some(entry) = sockets::find(call.sk) {
        // SAFETY: a live value of the socket map; nobody else writes this member.
        unsafe { (*entry).stack = stack::take(ctx, AF_INET) }
    }
}

#[inline(always)]
fn forget_socket() {
    if STACK_MODE.load() != STACKS_NEVER || RUN.load() == 1 {
        let _ = calls::ended(SOCKET);
    }
}

#[inline(always)]
fn connect_ended(regs: *const u8, result: i64) {
    if let Some(call) = calls::ended(CONNECT) {
        // A socket whose peer has refused has lost the peer's port.
        let (_, port_be) = address(regs);
        connect::ended_at_latest(&Sock::<Probe>::new(call.sk as *const u8), port_be);
        let _ = connect::take_failed(call.sk);
        return;
    }
    let errno = result.wrapping_neg() as u32;
    if !matches!(errno, EADDRNOTAVAIL | EACCES | EPERM) {
        return;
    }
    // It did not come to SYN_SENT.
    let Some(sk) = socket(regs) else {
        return;
    };
    if connect::take_failed(sk.addr()) {
        // It did, only the program that would have told us was skipped.
        return;
    }
    let (dst, port_be) = address(regs);
    let cause = match (errno, sk.family()) {
        (EADDRNOTAVAIL, AF_INET6) => Cause::NoSourceAddress,
        // The search is the only one to say so for IPv4: both programs there were skipped.
        (EADDRNOTAVAIL, _) if sk.num() != 0 => Cause::TupleTaken,
        (EADDRNOTAVAIL, _) => Cause::EphemeralExhausted,
        _ => Cause::Denied,
    };
    failure::record(
        &sk,
        &Failure {
            op: Op::Connect,
            cause,
            errno,
            peer: Some((dst, port_be)),
            src: [0; 2],
            port: 0,
            range: 0,
            search_ns: sockleak_ebpf::UNKNOWN,
            candidates: UNCOUNTED,
        },
    );
}

#[inline(always)]
fn bind_ended(regs: *const u8, result: i64) {
    let errno = result.wrapping_neg() as u32;
    if !matches!(errno, EADDRINUSE | EADDRNOTAVAIL | EACCES | EPERM | ENOMEM) {
        return;
    }
    let Some(sk) = socket(regs) else {
        return;
    };
    let (src, port_be) = address(regs);
    failure::bind_failed(&sk, errno, src, port_be);
}

#[inline(always)]
fn listen_ended(regs: *const u8, result: i64) {
    let errno = result.wrapping_neg() as u32;
    let Some(sk) = socket(regs) else {
        return;
    };
    let port = sk.num();
    let cause = match errno {
        EADDRINUSE if port == 0 => Cause::EphemeralExhausted,
        EADDRINUSE => Cause::PortConflict,
        EACCES | EPERM => Cause::Denied,
        _ => return,
    };
    let searched = errno == EADDRINUSE && port == 0;
    let (src, _) = sk.addresses();
    let (range, _) = sk.port_range();
    failure::record(
        &sk,
        &Failure {
            op: Op::Listen,
            cause,
            errno,
            peer: None,
            src,
            port,
            range: if searched { range } else { 0 },
            search_ns: sockleak_ebpf::UNKNOWN,
            candidates: UNCOUNTED,
        },
    );
}

/// The TCP or MPTCP socket behind the descriptor in the first argument.
#[inline(always)]
fn socket(regs: *const u8) -> Option<Sock<Probe>> {
    // SAFETY: `struct pt_regs *`; everything else is read by helper, which checks the address.
    unsafe {
        let fd = member::<Direct, u64>(regs, &REGS_ARG1) as u32;
        let task = bpf_get_current_task() as *const u8;
        let files = member::<Probe, Ptr>(task, &TASK_FILES).0;
        let table = member::<Probe, Ptr>(files, &FILES_FDT).0;
        if fd >= member::<Probe, u32>(table, &FDT_MAX_FDS) {
            return None;
        }
        let slots = member::<Probe, Ptr>(table, &FDT_FD).0;
        let file: Ptr = Probe::read(slots.add(fd as usize * size_of::<Ptr>()));
        let inode = member::<Probe, Ptr>(file.0, &FILE_INODE).0;
        if member::<Probe, u16>(inode, &INODE_MODE) & S_IFMT != S_IFSOCK {
            return None;
        }
        let socket = member::<Probe, Ptr>(file.0, &FILE_PRIVATE_DATA).0;
        let sk = Sock::<Probe>::new(member::<Probe, Ptr>(socket, &SOCKET_SK).0);
        sk.is_stream().then_some(sk)
    }
}

/// The address in the second argument: as in [`Failure::src`], and its port in network order.
#[inline(always)]
fn address(regs: *const u8) -> ([u64; 2], u16) {
    // SAFETY: `struct pt_regs *`.
    let uaddr = unsafe { member::<Direct, u64>(regs, &REGS_ARG2) } as *const u8;
    let family: u16 = read_user(uaddr);
    let port_be: u16 = read_user(uaddr.wrapping_add(2));
    match family {
        AF_INET => {
            let address: u32 = read_user(uaddr.wrapping_add(4));
            ([u64::from(address), 0], port_be)
        }
        AF_INET6 => (
            [
                read_user(uaddr.wrapping_add(8)),
                read_user(uaddr.wrapping_add(16)),
            ],
            port_be,
        ),
        _ => ([0; 2], 0),
    }
}
