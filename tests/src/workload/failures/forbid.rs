//! Two ways to forbid connect() and bind(): programs of a cgroup, and Landlock.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::PathBuf;

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit};

/// Numbers of include/uapi/linux/bpf.h.
const BPF_PROG_LOAD: i32 = 5;
const BPF_PROG_ATTACH: i32 = 8;
const BPF_PROG_TYPE_CGROUP_SOCK_ADDR: u32 = 18;
/// `bind` and `connect` of an IPv4 and of an IPv6 address.
const ATTACH_IPV4: [u32; 2] = [8, 10];
const ATTACH_IPV6: [u32; 2] = [9, 11];

/// A cgroup whose processes may neither connect() nor bind().
#[derive(Debug)]
pub(super) struct CgroupBan {
    directory: PathBuf,
}

impl CgroupBan {
    /// Makes the cgroup below the root of the cgroup2 hierarchy; a reason when there is none.
    pub(super) fn make(v6: bool) -> anyhow::Result<Result<Self, String>> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let root = mounts.lines().find_map(|line| {
            let mut words = line.split(' ');
            let place = words.nth(1)?;
            (words.next()? == "cgroup2").then(|| PathBuf::from(place))
        });
        let Some(root) = root else {
            return Ok(Err("no cgroup2 hierarchy is mounted".to_owned()));
        };
        let directory = root.join(format!("sockleak-test-{}", std::process::id()));
        fs::create_dir(&directory).context("cannot make a cgroup")?;
        let ban = Self { directory };
        let cgroup = fs::File::open(&ban.directory)?;
        // Before Linux 5.11 programs count against it. Where this may not be lifted, loading tells.
        let unlimited = Rlimit {
            current: None,
            maximum: None,
        };
        let _ = rustix::process::setrlimit(Resource::Memlock, unlimited);
        for kind in if v6 { ATTACH_IPV6 } else { ATTACH_IPV4 } {
            let program = load_refusal(kind).context("cannot load a cgroup program")?;
            // struct { u32 target_fd, attach_bpf_fd, attach_type, attach_flags }
            let mut attribute = [0_u32; 4];
            attribute[0] = cgroup.as_raw_fd().cast_unsigned();
            attribute[1] = program.as_raw_fd().cast_unsigned();
            attribute[2] = kind;
            bpf(BPF_PROG_ATTACH, &attribute).context("cannot attach a cgroup program")?;
        }
        Ok(Ok(ban))
    }

    /// Moves this process into the cgroup.
    pub(super) fn submit(&self) -> anyhow::Result<()> {
        fs::write(self.directory.join("cgroup.procs"), "0").context("cannot enter a cgroup")
    }

    /// Removes the cgroup, whose processes are gone.
    pub(super) fn lift(&self) -> anyhow::Result<()> {
        super::super::script::until("the cgroup is empty", || {
            match fs::remove_dir(&self.directory) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(false),
                other => other.map(|()| true),
            }
        })
    }
}

impl Drop for CgroupBan {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.directory);
    }
}

/// A program that returns 0, which the kernel makes EPERM.
fn load_refusal(kind: u32) -> io::Result<OwnedFd> {
    // r0 = 0 (BPF_ALU64 | BPF_MOV | BPF_K); exit (BPF_JMP | BPF_EXIT).
    let code: [u64; 2] = [0xb7, 0x95];
    let license = c"Dual MIT/GPL";
    // union bpf_attr, as far as expected_attach_type at byte 68.
    let mut attribute = [0_u32; 18];
    attribute[0] = BPF_PROG_TYPE_CGROUP_SOCK_ADDR;
    attribute[1] = 2;
    let mut pointer = |at: usize, address: u64| {
        // Little-endian machines only, as all that sockleak runs on.
        attribute[at] = address as u32;
        attribute[at + 1] = (address >> 32) as u32;
    };
    pointer(2, code.as_ptr() as u64);
    pointer(4, license.as_ptr() as u64);
    attribute[17] = kind;
    let descriptor = bpf(BPF_PROG_LOAD, &attribute)?;
    // SAFETY: BPF_PROG_LOAD has returned a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn bpf(command: i32, attribute: &[u32]) -> io::Result<i32> {
    // SAFETY: the kernel reads size_of_val(attribute) bytes; the pointers in it are valid for
    // the length of the call, and neither command writes.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            attribute.as_ptr(),
            size_of_val(attribute),
        )
    };
    match i32::try_from(result) {
        Ok(result @ 0..) => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Forbids this process to connect and to bind over TCP, for good; false when the kernel's
/// Landlock cannot (ABI 4, Linux 6.7).
pub(super) fn landlock_tcp() -> anyhow::Result<bool> {
    /// LANDLOCK_CREATE_RULESET_VERSION.
    const VERSION: u32 = 1;
    /// LANDLOCK_ACCESS_NET_BIND_TCP and _CONNECT_TCP.
    const BOTH: u64 = 3;
    // SAFETY: asks for the version only; the null pointer is what that takes.
    let abi = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u64>(),
            0_usize,
            VERSION,
        )
    };
    if abi < 4 {
        return Ok(false);
    }
    // struct landlock_ruleset_attr { u64 handled_access_fs, handled_access_net }
    let rules: [u64; 2] = [0, BOTH];
    // SAFETY: the kernel reads the 16 bytes of `rules`.
    let ruleset = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            rules.as_ptr(),
            size_of_val(&rules),
            0_u32,
        )
    };
    let ruleset = i32::try_from(ruleset)?;
    if ruleset < 0 {
        return Err(io::Error::last_os_error()).context("landlock_create_ruleset");
    }
    // SAFETY: the call above has returned a new descriptor, which nobody else owns.
    let ruleset = unsafe { OwnedFd::from_raw_fd(ruleset) };
    rustix::thread::set_no_new_privs(true).context("no_new_privs")?;
    // SAFETY: takes a descriptor and flags, no memory.
    let result =
        unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0_u32) };
    if result != 0 {
        return Err(io::Error::last_os_error()).context("landlock_restrict_self");
    }
    Ok(true)
}
