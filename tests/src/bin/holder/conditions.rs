//! What `diagnose` has findings for and no demo plays.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Kept;

/// Where the one listens that does not close.
const PORT: u16 = 8080;
/// Connections that it forgets.
const FORGOTTEN: usize = 200;
/// Descriptors that it may have: the forgotten ones are a third.
const LIMIT: u64 = 600;

/// A server whose clients have closed, and which has not: CLOSE_WAIT.
pub fn half_closed(kept: &mut Kept) -> anyhow::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let current = Some(LIMIT);
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).context("cannot lower the limit")?;
    let server = TcpListener::bind(("127.0.0.1", PORT)).context("cannot listen")?;
    for _ in 0..FORGOTTEN {
        let client = TcpStream::connect(("127.0.0.1", PORT)).context("cannot connect")?;
        let (accepted, _) = server.accept().context("cannot accept")?;
        drop(client);
        kept.keep_silently(accepted);
    }
    kept.keep_silently(server);
    Ok(())
}

/// A namespace with so many ports, of which these are reserved, and somebody who lives there.
pub fn range(kept: &mut Kept, range: &str, reserved: &str) -> anyhow::Result<()> {
    for (name, value) in [
        ("ip_local_port_range", range),
        ("ip_local_reserved_ports", reserved),
    ] {
        let path = format!("/proc/sys/net/ipv4/{name}");
        fs::write(&path, value).with_context(|| format!("cannot write {value} to {path}"))?;
    }
    let server = TcpListener::bind(("127.0.0.1", PORT)).context("cannot listen")?;
    kept.keep("inhabitant", OwnedFd::from(server))
}
