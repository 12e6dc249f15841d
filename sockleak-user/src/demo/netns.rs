//! The private network namespace and the limits of the processes in it.

use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Resource, Rlimit};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

/// Moves this thread into a new network namespace whose loopback interface is up.
pub(super) fn enter_new() -> io::Result<()> {
    // SAFETY: only CLONE_NEWNET is passed; the descriptor table stays shared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
    loopback_up()
}

/// Moves this thread into the network namespace of process `pid`.
pub(super) fn join(pid: u32) -> io::Result<()> {
    let namespace = fs::File::open(format!("/proc/{pid}/ns/net"))?;
    rustix::thread::move_into_link_name_space(
        std::os::fd::AsFd::as_fd(&namespace),
        Some(LinkNameSpaceType::Network),
    )?;
    Ok(())
}

/// Brings `lo` of this thread's network namespace up (netdevice(7), SIOCSIFFLAGS).
///
/// # Errors
/// EPERM without CAP_NET_ADMIN in the namespace.
pub fn loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: ifreq is plain old data, all zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    // SAFETY: SIOCGIFFLAGS reads ifr_name and writes ifr_flags of the ifreq behind the pointer.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: SIOCGIFFLAGS has just initialised this member of the union.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = flags | libc::IFF_UP as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads ifr_name and ifr_flags of the ifreq behind the pointer.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Sets `net.ipv4.NAME` of this thread's network namespace.
pub(super) fn set_ipv4(name: &str, value: &str) -> io::Result<()> {
    fs::write(format!("/proc/sys/net/ipv4/{name}"), value)
}

/// Lets a backlog of this thread's network namespace be as long as the kernel can have it.
pub(super) fn longest_backlog() -> io::Result<()> {
    fs::write("/proc/sys/net/core/somaxconn", "65535")
}

/// Inode number of the network namespace of process `pid`.
///
/// # Errors
/// ENOENT when there is no such process, EACCES when it may not be looked at.
pub fn namespace_inode(pid: u32) -> io::Result<u32> {
    let inode = fs::metadata(format!("/proc/{pid}/ns/net"))?.ino();
    u32::try_from(inode).map_err(|_| io::Error::other(format!("namespace inode {inode}")))
}

/// As [`raise_descriptor_limit`], with room to spare: a limit that is nearly reached would be an incident of
/// its own.
pub(super) fn raise_roomy_limit(wanted: u64) -> u64 {
    raise_descriptor_limit(wanted.saturating_add(wanted / 4))
}

/// Raises RLIMIT_NOFILE as far as this process may, at most to `wanted`, and returns the soft
/// limit then in force.
///
/// Raising the hard limit takes CAP_SYS_RESOURCE and stops at `fs.nr_open`.
pub fn raise_descriptor_limit(wanted: u64) -> u64 {
    let now = rustix::process::getrlimit(Resource::Nofile);
    let soft = now.current.unwrap_or(u64::MAX);
    let hard = now.maximum.unwrap_or(u64::MAX);
    if wanted > soft {
        let both = Rlimit {
            current: Some(wanted),
            maximum: Some(wanted.max(hard)),
        };
        let soft_only = Rlimit {
            current: Some(wanted.min(hard)),
            maximum: now.maximum,
        };
        // Failures are not errors: the limit in force is the answer.
        if rustix::process::setrlimit(Resource::Nofile, both).is_err() {
            let _ = rustix::process::setrlimit(Resource::Nofile, soft_only);
        }
    }
    rustix::process::getrlimit(Resource::Nofile)
        .current
        .unwrap_or(u64::MAX)
}
