//! What the kernel says of sockets through interfaces that sockleak's hooks do not use.

use std::collections::BTreeMap;
use std::fs;

use anyhow::Context as _;

/// Descriptors of process `pid` that are TCP sockets, by the `system.sockprotoname` attribute
/// (net/socket.c); 0 when the process is gone.
pub fn tcp_descriptors(pid: u32) -> u64 {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return 0;
    };
    let is_tcp = |descriptor: &fs::DirEntry| {
        let mut name = [0; 16];
        rustix::fs::getxattr(descriptor.path(), "system.sockprotoname", &mut name).is_ok()
            && name.starts_with(b"TCP")
    };
    descriptors.flatten().filter(is_tcp).count() as u64
}

/// Hashed sockets of both families in the namespace of process `pid`, by state
/// (include/net/tcp_states.h). A TIME_WAIT in substate FIN_WAIT2 is listed as 5.
///
/// # Errors
/// When the process is gone.
pub fn hashed_by_state(pid: u32) -> anyhow::Result<BTreeMap<u8, u64>> {
    let mut states = BTreeMap::new();
    for table in ["tcp", "tcp6"] {
        let path = format!("/proc/{pid}/net/{table}");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        for line in text.lines().skip(1) {
            let state = line.split_whitespace().nth(3).context("no state column")?;
            *states.entry(u8::from_str_radix(state, 16)?).or_default() += 1;
        }
    }
    Ok(states)
}
