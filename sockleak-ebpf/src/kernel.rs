//! Typed, offset-checked reads of kernel structures.
//!
//! User space writes the offsets into the instructions, from the running kernel's BTF.

use core::marker::PhantomData;

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_skc_to_tcp_sock};
use sockleak_ebpf::{
    ABSENT, AF_INET, AF_INET6, IPPROTO_MPTCP, IPPROTO_TCP, OPTION_NO_PORT, OPTION_REUSEADDR,
    OPTION_REUSEPORT, SOCK_STREAM,
};

pub use crate::{constants::*, task::*};

/// Bit of `inet_flags` (`INET_FLAGS_BIND_ADDRESS_NO_PORT`, 6.6 to 7.2; before, a bitfield).
const INET_FLAGS_BIND_ADDRESS_NO_PORT: u32 = 18;

/// How kernel memory may be read in a program.
pub trait Reader {
    /// Reads a `T`; zero when the memory cannot be read.
    ///
    /// # Safety
    /// `from` is what the implementation asks for.
    unsafe fn read<T: Copy + Default>(from: *const u8) -> T;

    /// Reads a member of the structure at `base`, as [`Member::load`]; zero when the memory cannot be read.
    ///
    /// # Safety
    /// `base` is what the implementation asks for, and `T` what [`Member::load`] does.
    unsafe fn member<T: Copy + Default>(base: *const u8, field: &impl Member) -> T;

    /// Reads a member of the `struct tcp_sock` that the TCP socket `sk` is; zero when it is none.
    ///
    /// # Safety
    /// As [`Self::member`], for `sk`.
    unsafe fn beyond<T: Copy + Default>(sk: *const u8, field: &impl Member) -> T;
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

    #[inline(always)]
    unsafe fn member<T: Copy + Default>(base: *const u8, field: &impl Member) -> T {
        // SAFETY: passed on to the caller.
        unsafe { field.load(base) }
    }

    #[inline(always)]
    unsafe fn beyond<T: Copy + Default>(sk: *const u8, field: &impl Member) -> T {
        if CAST.load() == 1 {
            // SAFETY: passed on to the caller.
            return unsafe { field.load(field.cast(sk)) };
        }
        // SAFETY: the helper (5.9) asks for a socket of any kind; what it returns has the greater type.
        unsafe {
            let tcp = bpf_skc_to_tcp_sock(sk.cast_mut().cast());
            if tcp.is_null() {
                return T::default();
            }
            field.load(tcp.cast_const().cast())
        }
    }
}

/// Reads by helper, for pointers without a type (kprobes, cgroup programs), where they cannot be given one.
pub struct Probe;

impl Reader for Probe {
    #[inline(always)]
    unsafe fn read<T: Copy + Default>(from: *const u8) -> T {
        let mut value = T::default();
        // The helper clears the destination when it fails; a branch on its answer would double
        // the paths that the verifier has to follow.
        // SAFETY: the helper checks the address and writes as many bytes as there are.
        unsafe {
            bpf_probe_read_kernel((&raw mut value).cast(), size_of::<T>() as u32, from.cast());
        }
        value
    }

    #[inline(always)]
    unsafe fn member<T: Copy + Default>(base: *const u8, field: &impl Member) -> T {
        // SAFETY: passed on to the caller.
        unsafe {
            if CAST.load() == 1 {
                field.load(field.cast(base))
            } else {
                Self::read(base.add(field.offset() as usize))
            }
        }
    }

    #[inline(always)]
    unsafe fn beyond<T: Copy + Default>(sk: *const u8, field: &impl Member) -> T {
        // SAFETY: passed on to the caller.
        unsafe { Self::member(sk, field) }
    }
}

/// As [`Reader::member`].
///
/// # Safety
/// As there.
#[inline(always)]
pub unsafe fn member<R: Reader, T: Copy + Default>(base: *const u8, field: &impl Member) -> T {
    // SAFETY: passed on to the caller.
    unsafe { R::member(base, field) }
}

/// Whether a member that is a bit is set.
///
/// # Safety
/// As [`Reader::member`].
#[inline(always)]
unsafe fn bit<R: Reader>(base: *const u8, field: &impl Member) -> bool {
    // SAFETY: passed on to the caller.
    let byte: u8 = unsafe { R::member(base, field) };
    byte & field.mask() != 0
}

/// Reads 16 bytes: an IPv6 address or a comm.
#[inline(always)]
pub unsafe fn member16<R: Reader>(base: *const u8, field: &impl Member) -> [u64; 2] {
    let offset = field.offset() as usize;
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
    fn member<T: Copy + Default>(&self, field: &impl Member) -> T {
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

    /// `skc_portpair`: [`Self::num`] and [`Self::dport_be`] at once
    #[inline(always)]
    pub fn ports(&self) -> (u16, u16) {
        let pair: u32 = self.member(&SK_PORTPAIR);
        ((pair >> 16) as u16, pair as u16)
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

    /// A TCP or MPTCP socket.
    #[inline(always)]
    pub fn is_stream(&self) -> bool {
        let protocol = self.protocol();
        (protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP)
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
        // SAFETY: a member of `struct sock`.
        unsafe { bit::<R>(self.ptr, &SK_KERN_SOCK) }
    }

    /// Its network namespace.
    #[inline(always)]
    pub fn net(&self) -> Net<R> {
        Net {
            ptr: self.member::<Ptr>(&SK_NET).0,
            reader: PhantomData,
        }
    }

    /// Inode number of its network namespace.
    #[inline(always)]
    pub fn netns(&self) -> u32 {
        self.net().inum()
    }

    /// A member of `struct inet_sock` or what else contains `struct sock` at its start. The
    /// verifier knows only a `struct sock`, so it is read by helper in every backend.
    #[inline(always)]
    fn beyond<T: Copy + Default>(&self, field: &impl Member) -> Option<T> {
        if field.offset() == ABSENT {
            return None;
        }
        // SAFETY: TCP sockets are `struct tcp_sock`s; the helper checks the address.
        Some(unsafe { member::<Probe, T>(self.ptr, field) })
    }

    /// `sk_err`: positive errno that the connection died of, not yet told to the process
    #[inline(always)]
    pub fn err(&self) -> u32 {
        self.member(&SK_ERR)
    }

    /// Whether nothing waits for an acknowledgement: not even a SYN was sent.
    #[inline(always)]
    pub fn has_sent_nothing(&self) -> bool {
        self.member::<u64>(&SK_RTX_QUEUE) == 0
    }

    /// `inet_sport`: local port in network order; unlike `skc_num` it stays when the port is
    /// given back.
    #[inline(always)]
    pub fn sport_be(&self) -> u16 {
        self.beyond(&INET_SPORT).unwrap_or(0)
    }

    /// SO_REUSEADDR, SO_REUSEPORT, IP_BIND_ADDRESS_NO_PORT as [`sockleak_ebpf::FailureKey`] has
    /// them. `skc_reuse` is the low nibble of its byte on little-endian machines.
    #[inline(always)]
    pub fn port_options(&self) -> u8 {
        let mut options = 0;
        if self.member::<u8>(&SK_REUSE) & 0xf != 0 {
            options |= OPTION_REUSEADDR;
        }
        // SAFETY: a member of `struct sock`.
        if unsafe { bit::<R>(self.ptr, &SK_REUSEPORT) } {
            options |= OPTION_REUSEPORT;
        }
        let no_port = if INET_NO_PORT.offset() == ABSENT {
            let flags: u64 = self.beyond(&INET_FLAGS).unwrap_or(0);
            flags >> INET_FLAGS_BIND_ADDRESS_NO_PORT & 1 == 1
        } else {
            // SAFETY: as in `beyond`.
            unsafe { bit::<Probe>(self.ptr, &INET_NO_PORT) }
        };
        if no_port {
            options |= OPTION_NO_PORT;
        }
        options
    }

    /// The range in which the kernel looks for a port, `low | high << 16`, and whether
    /// IP_LOCAL_PORT_RANGE is set (`inet_sk_get_local_port_range`); 0 when unknown.
    #[inline(always)]
    pub fn port_range(&self) -> (u32, bool) {
        self.port_range_in(&self.net())
    }

    /// As [`Self::port_range`]; `net` is its network namespace.
    #[inline(always)]
    pub fn port_range_in(&self, net: &Net<R>) -> (u32, bool) {
        let range = net.port_range();
        let own: u32 = if INET_PORT_RANGE.offset() == ABSENT {
            0
        } else if INET_PORT_RANGE_LOW.offset() != ABSENT {
            // A structure of two numbers (Debian's 6.1), which the verifier does not let us read whole.
            self.beyond(&INET_PORT_RANGE).unwrap_or(0)
        } else {
            // SAFETY: `self.ptr` is a `struct sock *`, and this a member of `struct inet_sock`, with which
            // `struct tcp_sock` begins.
            unsafe { R::beyond(self.ptr, &INET_PORT_RANGE) }
        };
        if own == 0 || range == 0 {
            return (range, false);
        }
        let (mut low, mut high) = (range & 0xffff, range >> 16);
        let (own_low, own_high) = (own & 0xffff, own >> 16);
        let (all_low, all_high) = (low, high);
        if all_low <= own_low && own_low <= all_high {
            low = own_low;
        }
        if all_low <= own_high && own_high <= all_high {
            high = own_high;
        }
        (low | high << 16, true)
    }

    /// Whether connect() passes over the socket's port because its bucket belongs to bind()
    /// (`fastreuse` or `fastreuseport` not negative); `None` when it has no bucket.
    #[inline(always)]
    pub fn is_port_bound(&self) -> Option<bool> {
        let bucket = self.beyond::<Ptr>(&ICSK_BIND_HASH)?.0;
        if bucket.is_null() {
            return None;
        }
        // SAFETY: a `struct inet_bind_bucket *`; the helper checks the address.
        unsafe {
            let address: i8 = member::<Probe, i8>(bucket, &TB_FASTREUSE);
            let port: i8 = member::<Probe, i8>(bucket, &TB_FASTREUSEPORT);
            Some(address >= 0 || port >= 0)
        }
    }

    /// Peer address, 4 or 16 bytes in network order.
    #[inline(always)]
    pub fn peer(&self) -> [u64; 2] {
        self.peer_of(self.family())
    }

    /// As [`Self::peer`], of a socket whose [`Self::family`] this is.
    #[inline(always)]
    pub fn peer_of(&self, family: u16) -> [u64; 2] {
        if family == AF_INET {
            [u64::from(self.member::<u32>(&SK_DADDR)), 0]
        } else {
            // SAFETY: a member of `struct sock`, 16 bytes.
            unsafe { member16::<R>(self.ptr, &SK_V6_DADDR) }
        }
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

/// A `struct net *`, referenced by a socket.
pub struct Net<R> {
    ptr: *const u8,
    reader: PhantomData<R>,
}

impl<R: Reader> Net<R> {
    #[inline(always)]
    fn member<T: Copy + Default>(&self, field: &impl Member) -> T {
        // SAFETY: `self.ptr` is a `struct net *` and the field is one of its members.
        unsafe { member::<R, T>(self.ptr, field) }
    }

    /// `ns.inum`: inode number
    #[inline(always)]
    pub fn inum(&self) -> u32 {
        self.member(&NET_INUM)
    }

    /// `ip_local_port_range`, `low | high << 16`; 0 unknown.
    #[inline(always)]
    pub fn port_range(&self) -> u32 {
        if NET_PORT_RANGE.offset() != ABSENT {
            self.member(&NET_PORT_RANGE)
        } else if NET_PORT_RANGE_PAIR.offset() != ABSENT {
            let pair: u64 = self.member(&NET_PORT_RANGE_PAIR);
            (pair as u32 & 0xffff) | ((pair >> 32) as u32) << 16
        } else {
            0
        }
    }

    /// `ip_local_port_step_width` (7.1+), 0 elsewhere.
    #[inline(always)]
    pub fn step_width(&self) -> u32 {
        if NET_STEP_WIDTH.offset() == ABSENT {
            return 0;
        }
        self.member(&NET_STEP_WIDTH)
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
