//! What the helper gives up before it reads anything: nobody who takes it over by a broken file
//! should gain much.

use std::io;

use rustix::process::{Resource, Rlimit, Signal, setrlimit};

/// Bytes of private memory. Mapped files do not count.
pub const MEMORY: u64 = 512 << 20;

/// Ends with the agent, however that ends.
pub fn follow(parent: u32) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have died before the request.
    if std::os::unix::process::parent_id() != parent {
        return Err(io::Error::other("the agent has ended"));
    }
    Ok(())
}

/// Closes whatever was inherited besides the socket, which is standard input.
pub fn close_all_but_standard() -> io::Result<()> {
    // SAFETY: close_range(2) takes three integers. This is the beginning of the process's one
    // thread: nothing of ours has a descriptor above standard error that could be closed under
    // its owner.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Memory, and nothing is written to any file, not even a core dump.
pub fn bound_resources() -> io::Result<()> {
    for (resource, limit) in [
        // Since 4.7 all private writable mappings count, not only the heap.
        (Resource::Data, MEMORY),
        (Resource::Core, 0),
        (Resource::Fsize, 0),
    ] {
        let limit = Some(limit);
        setrlimit(
            resource,
            Rlimit {
                current: limit,
                maximum: limit,
            },
        )?;
    }
    Ok(())
}

/// Bytes of private memory in use: field 6 of `/proc/self/statm`, `mm->data_vm`, which is what
/// the limit is compared with.
pub fn memory_in_use() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(5)?.parse().ok()?;
    Some(pages * u64::try_from(rustix::param::page_size()).ok()?)
}
