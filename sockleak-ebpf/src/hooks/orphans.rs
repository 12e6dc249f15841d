//! orphans: connections of one network namespace that no process has any more, and who had made or
//! accepted them.
//!
//! The iterator `tcp` (5.9+) visits every socket in the listening and established hashes of the network
//! namespace of whoever opens it (net/ipv4/tcp_ipv4.c `bpf_iter_tcp_seq_ops`), also mini-sockets, which
//! are no `struct sock`. `sock_orphan` clears `sk_socket`; a connection that waits to be accepted has none either,
//! but nobody has an entry for it.

use aya_ebpf::helpers::generated::bpf_seq_write;
use sockleak_ebpf::{SOCKET_ADOPTED, SOCKET_KERNEL};

use super::inventory::Meta;
use crate::{
    kernel::{Probe, Ptr, SK_SOCKET, SK_STATE, member},
    process, sockets,
};

const TCP_TIME_WAIT: u8 = 6;
const TCP_NEW_SYN_RECV: u8 = 12;

/// `struct bpf_iter__tcp` (net/ipv4/tcp_ipv4.c), 5.10 to 7.2.
#[repr(C)]
pub struct TcpSocket {
    meta: *const Meta,
    sk_common: *const u8,
    uid: u32,
}

/// One socket; writes the [`sockleak_ebpf::ProcessKey`] of whoever had it if it is an orphan.
#[inline(always)]
pub fn socket(ctx: &TcpSocket) {
    let sk = ctx.sk_common;
    if sk.is_null() {
        return;
    }
    // SAFETY: a `struct sock_common`, with which `struct sock` begins; read by helper, as the verifier does not
    // know of more.
    let state: u8 = unsafe { member::<Probe, u8>(sk, &SK_STATE) };
    if state == TCP_TIME_WAIT || state == TCP_NEW_SYN_RECV {
        return;
    }
    // SAFETY: it is a `struct sock`.
    if unsafe { !member::<Probe, Ptr>(sk, &SK_SOCKET).0.is_null() } {
        return;
    }
    let Some(entry) = sockets::find(sk as u64) else {
        return;
    };
    // SAFETY: a live entry.
    let (slot, mark, flags) = unsafe { ((*entry).slot, (*entry).mark, (*entry).flags) };
    if flags & (SOCKET_KERNEL | SOCKET_ADOPTED) != 0 {
        return;
    }
    let mut key = process::key_at(slot, mark);
    if key.tgid != 0 {
        // SAFETY: the context's seq file, and an initialised record without padding.
        unsafe {
            let seq = (*ctx.meta).seq;
            bpf_seq_write(seq.cast(), (&raw mut key).cast(), size_of_val(&key) as u32);
        }
    }
}
