//! Makes the guest look like a system that was booted the usual way.

use std::{fs, io, os::fd::AsRawFd as _, path::Path};

use anyhow::{Context as _, Result};
use rustix::{
    mount::MountFlags,
    net::{AddressFamily, SocketType},
    process::{Resource, Rlimit},
};

/// Open files that a process of the guest may have: enough for leaks of tens of thousands of sockets.
const FILES: u64 = 1_048_576;

/// File systems in the order to mount them: directory, type, data, needed.
const MOUNTS: [(&str, &str, &str, bool); 12] = [
    ("/dev", "devtmpfs", "mode=0755", true),
    ("/proc", "proc", "", true),
    ("/sys", "sysfs", "", true),
    ("/dev/pts", "devpts", "mode=0620,ptmxmode=0666", false),
    ("/dev/shm", "tmpfs", "mode=1777", false),
    ("/tmp", "tmpfs", "mode=1777", true),
    ("/run", "tmpfs", "mode=0755", true),
    ("/sys/fs/cgroup", "cgroup2", "", true),
    ("/sys/kernel/debug", "debugfs", "", true),
    ("/sys/kernel/tracing", "tracefs", "", true),
    ("/sys/fs/bpf", "bpf", "mode=0700", true),
    ("/sys/kernel/security", "securityfs", "", false),
];

/// Mounts the kernel's file systems.
pub fn mount_all() -> Result<()> {
    for (dir, kind, data, needed) in MOUNTS {
        let _ = fs::create_dir_all(dir);
        let data = std::ffi::CString::new(data)?;
        let mounted = rustix::mount::mount(kind, dir, kind, MountFlags::empty(), data.as_c_str());
        match mounted {
            Ok(()) => {}
            Err(error) if !needed => eprintln!("init: no {kind} on {dir}: {error}"),
            Err(error) => {
                return Err(error).with_context(|| format!("could not mount {kind} on {dir}"));
            }
        }
    }
    Ok(())
}

/// Everything that needs those file systems: modules, the loopback device, names and limits.
pub fn finish() -> Result<()> {
    load_modules()?;
    bring_up_loopback().context("could not bring up lo")?;
    rustix::system::sethostname(b"guest").context("could not set the host name")?;
    let _ = std::os::unix::fs::symlink("/proc/self/fd", "/dev/fd");
    for (key, value) in [
        ("fs/nr_open", FILES.to_string()),
        ("fs/file-max", (4 * FILES).to_string()),
    ] {
        let path = Path::new("/proc/sys").join(key);
        fs::write(&path, value).with_context(|| format!("could not write {}", path.display()))?;
    }
    let limit = Rlimit {
        current: Some(FILES),
        maximum: Some(FILES),
    };
    rustix::process::setrlimit(Resource::Nofile, limit)
        .context("could not raise the limit of open files")?;
    // Controllers for tests that make cgroups; which exist differs between kernels.
    for controller in ["cpu", "memory", "pids"] {
        let _ = fs::write(
            "/sys/fs/cgroup/cgroup.subtree_control",
            format!("+{controller}"),
        );
    }
    Ok(())
}

/// Loads the modules the host listed, dependencies first; a kernel has no modprobe helper in here.
fn load_modules() -> Result<()> {
    let list = fs::read_to_string("/modules").context("could not read /modules")?;
    for path in list.lines() {
        let file = fs::File::open(path).with_context(|| format!("could not open {path}"))?;
        match rustix::system::finit_module(&file, c"", 0) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error).with_context(|| format!("could not load {path}")),
        }
    }
    Ok(())
}

fn bring_up_loopback() -> io::Result<()> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    // SAFETY: ifreq is plain data for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = (*from).cast_signed();
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq from the pointer, which points to a live, initialised one.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Ends every process but init.
pub fn kill_everything_else() {
    // SAFETY: kill takes plain numbers; -1 from process 1 reaches every process but itself.
    unsafe { libc::kill(-1, libc::SIGKILL) };
}
