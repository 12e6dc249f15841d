//! Typed, offset-checked reads of kernel structures.
//!
//! The offsets are globals that user space fills from the running kernel's BTF before load.

use core::marker::PhantomData;

use aya_ebpf::{
    Global,
    helpers::{bpf_get_current_task, bpf_get_current_task_btf, bpf_probe_read_kernel},
};
use sockleak_ebpf::{ABSENT, AF_INET, AF_INET6, IPPROTO_TCP, SOCK_STREAM};

macro_rules! globals {
    ($(($global:ident, $path:literal, $size:literal))*) => {
        $(#[doc = $path] #[unsafe(no_mangle)] pub static $global: Global<u32> = Global::new(ABSENT);)*
    };
}
sockleak_ebpf::kernel_fields!(globals);

/// 1 when `bpf_get_current_task_btf` exists (5.11+).
#[unsafe(no_mangle)]
pub static TASK_BTF: Global<u32> = Global::new(0);

/// How kernel memory may be read in a program.
pub trait Reader {
    /// Reads a `T`; zero when the memory cannot be read.
    ///
    /// # Safety
    /// `from` is what the implementation asks for.
    unsafe fn read<T: Copy + Default>(from: *const u8) -> T;
}

/// Plain loads through pointers that the verifier knows the type of (trampolines, tp_btf,
/// iterators). The kernel turns a fault into zero.
pub struct Direct;

impl Reader for Direct {
    #[inline(always)]
    unsafe fn read<T: Copy + Default>(from: *const u8) -> T {
        // SAFETY: the verifier has checked the pointer against the kernel's BTF.
        unsafe { core::ptr::read_volatile(from.cast::<T>()) }
    }
}

/// Reads by helper, for pointers without a type (kprobes, cgroup programs).
pub struct Probe;

impl Reader for Probe {
    #[inline(always)]
    unsafe fn read<T: Copy + Default>(from: *const u8) -> T {
        // SAFETY: the helper checks the address.
        unsafe { bpf_probe_read_kernel(from.cast::<T>()) }.unwrap_or_default()
    }
}

/// Reads the member at the offset in `field`.
///
/// # Safety
/// As [`Reader::read`], for `base`.
#[inline(always)]
pub unsafe fn member<R: Reader, T: Copy + Default>(base: *const u8, field: &Global<u32>) -> T {
    // SAFETY: passed on to the caller; the offset lies within the structure.
    unsafe { R::read(base.add(field.load() as usize)) }
}

/// Reads 16 bytes: an IPv6 address or a comm.
#[inline(always)]
unsafe fn member16<R: Reader>(base: *const u8, field: &Global<u32>) -> [u64; 2] {
    let offset = field.load() as usize;
    // SAFETY: passed on to the caller; the member is 16 bytes long.
    unsafe { [R::read(base.add(offset)), R::read(base.add(offset + 8))] }
}

/// A `struct sock *`.
pub struct Sock<R> {
    ptr: *const u8,
    reader: PhantomData<R>,
}

impl<R: Reader> Sock<R> {
    /// Wraps a pointer that `R` can read.
    #[inline(always)]
    pub fn new(ptr: *const u8) -> Self {
        Self {
            ptr,
            reader: PhantomData,
        }
    }

    /// Its address, the key of the socket map.
    #[inline(always)]
    pub fn addr(&self) -> u64 {
        self.ptr as u64
    }

    #[inline(always)]
    fn member<T: Copy + Default>(&self, field: &Global<u32>) -> T {
        // SAFETY: `self.ptr` is a `struct sock *` and the field is one of its members.
        unsafe { member::<R, T>(self.ptr, field) }
    }

    /// `skc_family`
    #[inline(always)]
    pub fn family(&self) -> u16 {
        self.member(&SK_FAMILY)
    }

    /// `skc_state`
    #[inline(always)]
    pub fn state(&self) -> u8 {
        self.member(&SK_STATE)
    }

    /// `skc_num`: local port, host order
    #[inline(always)]
    pub fn num(&self) -> u16 {
        self.member(&SK_NUM)
    }

    /// `skc_dport`: peer port, network order
    #[inline(always)]
    pub fn dport_be(&self) -> u16 {
        self.member(&SK_DPORT)
    }

    /// `sk_protocol`
    #[inline(always)]
    pub fn protocol(&self) -> u16 {
        self.member(&SK_PROTOCOL)
    }

    /// `sk_ack_backlog`
    #[inline(always)]
    pub fn ack_backlog(&self) -> u32 {
        self.member(&SK_ACK_BACKLOG)
    }

    /// A TCP stream socket. Raw sockets of protocol TCP are not, nor are MPTCP sockets.
    #[inline(always)]
    pub fn is_tcp(&self) -> bool {
        self.protocol() == IPPROTO_TCP
            && self.member::<u16>(&SK_TYPE) == SOCK_STREAM
            && self.is_inet()
    }

    /// AF_INET or AF_INET6.
    #[inline(always)]
    pub fn is_inet(&self) -> bool {
        let family = self.family();
        family == AF_INET || family == AF_INET6
    }

    /// `sk_kern_sock`: made by the kernel for itself. `sk_alloc` sets it before init.
    #[inline(always)]
    pub fn is_kernel(&self) -> bool {
        let bit = SK_KERN_SOCK.load();
        // SAFETY: a member of `struct sock`; the global holds its bit offset.
        let byte: u8 = unsafe { R::read(self.ptr.add((bit >> 3) as usize)) };
        (byte >> (bit & 7)) & 1 == 1
    }

    /// Inode number of its network namespace.
    #[inline(always)]
    pub fn netns(&self) -> u32 {
        let net: *const u8 = self.member::<Ptr>(&SK_NET).0;
        // SAFETY: `struct net *`, referenced by the socket.
        unsafe { member::<R, u32>(net, &NET_INUM) }
    }

    /// Local and peer address, 4 or 16 bytes in network order.
    #[inline(always)]
    pub fn addresses(&self) -> ([u64; 2], [u64; 2]) {
        if self.family() == AF_INET {
            (
                [u64::from(self.member::<u32>(&SK_RCV_SADDR)), 0],
                [u64::from(self.member::<u32>(&SK_DADDR)), 0],
            )
        } else {
            // SAFETY: members of `struct sock`, 16 bytes each.
            unsafe {
                (
                    member16::<R>(self.ptr, &SK_V6_RCV_SADDR),
                    member16::<R>(self.ptr, &SK_V6_DADDR),
                )
            }
        }
    }
}

/// A pointer member; `Default` is null.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Ptr(pub *const u8);

impl Default for Ptr {
    #[inline(always)]
    fn default() -> Self {
        Self(core::ptr::null())
    }
}

/// A `struct task_struct *`.
pub struct Task<R> {
    ptr: *const u8,
    reader: PhantomData<R>,
}

impl<R: Reader> Task<R> {
    /// Wraps a pointer that `R` can read.
    #[inline(always)]
    pub fn new(ptr: *const u8) -> Self {
        Self {
            ptr,
            reader: PhantomData,
        }
    }

    #[inline(always)]
    fn member<T: Copy + Default>(&self, field: &Global<u32>) -> T {
        // SAFETY: `self.ptr` is a `struct task_struct *` and the field is one of its members.
        unsafe { member::<R, T>(self.ptr, field) }
    }

    /// Thread group leader: what `/proc/PID` shows.
    #[inline(always)]
    pub fn leader(&self) -> Self {
        Self::new(self.member::<Ptr>(&TASK_GROUP_LEADER).0)
    }

    /// `tgid`
    #[inline(always)]
    pub fn tgid(&self) -> u32 {
        self.member(&TASK_TGID)
    }

    /// `start_boottime`, ns
    #[inline(always)]
    pub fn start_boottime_ns(&self) -> u64 {
        self.member(&TASK_START_BOOTTIME)
    }

    /// `comm`
    #[inline(always)]
    pub fn comm(&self) -> [u64; 2] {
        // SAFETY: a member of `struct task_struct`, 16 bytes long.
        unsafe { member16::<R>(self.ptr, &TASK_COMM) }
    }

    /// Inode number of the network namespace it lives in; 0 while it exits.
    #[inline(always)]
    pub fn netns(&self) -> u32 {
        let nsproxy = self.member::<Ptr>(&TASK_NSPROXY).0;
        if nsproxy.is_null() {
            return 0;
        }
        // SAFETY: `struct nsproxy *` and `struct net *` of a live task.
        unsafe {
            let net = member::<R, Ptr>(nsproxy, &NSPROXY_NET).0;
            member::<R, u32>(net, &NET_INUM)
        }
    }
}

/// What can be done with the current task, by either reader.
pub enum CurrentTask {
    /// A typed pointer (5.11+).
    Typed(Task<Direct>),
    /// A plain address.
    Plain(Task<Probe>),
}

/// The current task. `TASK_BTF` is a constant to the verifier, so one arm is dead code.
#[inline(always)]
pub fn current_task() -> CurrentTask {
    // SAFETY: helpers without arguments.
    unsafe {
        if TASK_BTF.load() == 1 {
            CurrentTask::Typed(Task::new(bpf_get_current_task_btf().cast_const().cast()))
        } else {
            CurrentTask::Plain(Task::new(bpf_get_current_task() as *const u8))
        }
    }
}
