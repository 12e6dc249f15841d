//! Socket options and settings that no library has.

use std::ffi::CString;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::Context as _;

/// IP_LOCAL_PORT_RANGE of include/uapi/linux/in.h, since Linux 6.3.
const IP_LOCAL_PORT_RANGE: i32 = 51;
/// IP_BIND_ADDRESS_NO_PORT, since Linux 4.2.
const IP_BIND_ADDRESS_NO_PORT: i32 = 24;
/// TCP_FASTOPEN_CONNECT of include/uapi/linux/tcp.h, since Linux 4.11.
const TCP_FASTOPEN_CONNECT: i32 = 30;

/// Sets a socket option of type `int`.
fn set(socket: &OwnedFd, level: i32, name: i32, value: u32) -> io::Result<()> {
    // SAFETY: the kernel reads the four bytes of `value` and keeps no pointer.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Restricts the socket's port search; false when this kernel cannot.
pub(super) fn set_port_range(socket: &OwnedFd, [low, high]: [u16; 2]) -> anyhow::Result<bool> {
    let range = u32::from(low) | u32::from(high) << 16;
    match set(socket, libc::IPPROTO_IP, IP_LOCAL_PORT_RANGE, range) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(false),
        Err(error) => Err(error).context("cannot set IP_LOCAL_PORT_RANGE"),
    }
}

/// Leaves the choice of a port to connect().
pub(super) fn set_no_port(socket: &OwnedFd) -> anyhow::Result<()> {
    set(socket, libc::IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        .context("cannot set IP_BIND_ADDRESS_NO_PORT")
}

/// Lets connect() wait for data where it can.
pub(super) fn set_fastopen_connect(socket: &OwnedFd) -> anyhow::Result<()> {
    set(socket, libc::IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
        .context("cannot set TCP_FASTOPEN_CONNECT")
}

/// Sets `net.ipv4.NAME` of this namespace; it holds for IPv6, too.
pub(super) fn sysctl(name: &str, value: &str) -> anyhow::Result<()> {
    let path = format!("/proc/sys/net/ipv4/{name}");
    std::fs::write(&path, value).with_context(|| format!("cannot write {value} to {path}"))
}

/// Sets the range of local ports.
pub(super) fn set_range([low, high]: [u16; 2]) -> anyhow::Result<()> {
    sysctl("ip_local_port_range", &format!("{low} {high}"))
}

/// `struct in6_ifreq` of include/uapi/linux/ipv6.h.
#[repr(C)]
struct In6Ifreq {
    address: [u8; 16],
    prefix: u32,
    index: i32,
}

/// `struct in6_rtmsg` of include/uapi/linux/ipv6_route.h.
#[derive(Default)]
#[repr(C)]
struct In6Rtmsg {
    dst: [u8; 16],
    src: [u8; 16],
    gateway: [u8; 16],
    kind: u32,
    dst_len: u16,
    src_len: u16,
    metric: u32,
    info: u64,
    flags: u32,
    index: i32,
}

/// SIOCDIFADDR of include/uapi/linux/sockios.h.
const SIOCDIFADDR: libc::Ioctl = 0x8936;

fn ioctl6<T>(request: libc::Ioctl, argument: &T, what: &str) -> anyhow::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType};
    let socket = rustix::net::socket_with(
        AddressFamily::INET6,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: the kernel reads the structure of this request, which `argument` is.
    match unsafe { libc::ioctl(socket.as_raw_fd(), request, std::ptr::from_ref(argument)) } {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()).with_context(|| what.to_owned()),
    }
}

fn loopback_index() -> anyhow::Result<i32> {
    let name = CString::new("lo")?;
    // SAFETY: reads a string that ends in NUL.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    i32::try_from(index).context("the index of lo")
}

/// Takes an IPv6 address off lo.
pub(super) fn remove_address(address: IpAddr, prefix: u32) -> anyhow::Result<()> {
    let IpAddr::V6(address) = address else {
        anyhow::bail!("{address} is not an IPv6 address");
    };
    let request = In6Ifreq {
        address: address.octets(),
        prefix,
        index: loopback_index()?,
    };
    ioctl6(SIOCDIFADDR, &request, "cannot remove an address from lo")
}

/// Routes an IPv6 network to lo (SIOCADDRT).
pub(super) fn add_route(network: IpAddr, prefix: u16) -> anyhow::Result<()> {
    let IpAddr::V6(network) = network else {
        anyhow::bail!("{network} is not an IPv6 network");
    };
    let route = In6Rtmsg {
        dst: network.octets(),
        dst_len: prefix,
        metric: 1,
        flags: u32::from(libc::RTF_UP),
        index: loopback_index()?,
        ..In6Rtmsg::default()
    };
    ioctl6(libc::SIOCADDRT as libc::Ioctl, &route, "cannot route to lo")
}
