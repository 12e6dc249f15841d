//! Holds sockets in every state a descriptor can show, and says which is which:
//! `holder zoo|own|shared|passed|thread|stray|churn|scan|half-closed|small-range|reserved-range`.
//!
//! Prints a line `NAME PID FD PORT` per socket (port 0 for none), then `ready`, and holds them
//! until its standard input ends. Runs in a new network namespace of its own; needs
//! CAP_SYS_ADMIN for that, except for `own` and `scan`, which stay where they are.

#[path = "holder/conditions.rs"]
mod conditions;
#[path = "holder/peers.rs"]
mod peers;
#[path = "holder/sharing.rs"]
mod sharing;
#[path = "holder/zoo.rs"]
mod zoo;

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use anyhow::{Context as _, bail};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::Signal;

fn main() -> anyhow::Result<()> {
    // The parent may be gone already; then standard input ends at once.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let scenario = std::env::args().nth(1).context("no scenario")?;
    if !matches!(scenario.as_str(), "own" | "scan") {
        // SAFETY: only CLONE_NEWNET is passed; the descriptor table stays shared.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }
            .context("cannot make a network namespace")?;
        sockleak::demo::loopback_up().context("cannot bring lo up")?;
    }
    let mut kept = Kept::default();
    match scenario.as_str() {
        "zoo" => zoo::fill(&mut kept)?,
        "own" => zoo::closed(&mut kept)?,
        "shared" => sharing::forked(&mut kept)?,
        "passed" => sharing::passed(&mut kept)?,
        "thread" => return sharing::in_thread(kept),
        "stray" => sharing::in_namespace_left_behind(&mut kept)?,
        "churn" => return sharing::churn(),
        "scan" => return scan(),
        "half-closed" => conditions::half_closed(&mut kept)?,
        "small-range" => conditions::range(&mut kept, "40000 40199", "")?,
        "reserved-range" => conditions::range(&mut kept, "32768 60999", "32768-52767")?,
        other => bail!("unknown scenario {other}"),
    }
    hold(kept)
}

/// Sockets that are held to the end.
#[derive(Default)]
pub struct Kept {
    sockets: Vec<OwnedFd>,
    lines: Vec<String>,
}

impl Kept {
    /// Keeps `socket` under `name`, with the port it has now.
    pub fn keep(&mut self, name: &str, socket: impl Into<OwnedFd>) -> anyhow::Result<()> {
        let socket = socket.into();
        let port = local(&socket)?.port();
        self.keep_with(name, socket, port);
        Ok(())
    }

    /// Keeps `socket`, of which the kernel should say that it has `port`.
    pub fn keep_with(&mut self, name: &str, socket: impl Into<OwnedFd>, port: u16) {
        let socket = socket.into();
        self.note(name, std::process::id(), socket.as_raw_fd(), port);
        self.sockets.push(socket);
    }

    /// Keeps something that is no socket of interest.
    pub fn keep_silently(&mut self, socket: impl Into<OwnedFd>) {
        self.sockets.push(socket.into());
    }

    /// A descriptor that something else keeps.
    pub fn note(&mut self, name: &str, pid: u32, fd: i32, port: u16) {
        self.lines.push(format!("{name} {pid} {fd} {port}\n"));
    }

    /// Tells the parent.
    pub fn show(&self) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        out.write_all(self.lines.concat().as_bytes())?;
        out.write_all(b"ready\n")?;
        Ok(out.flush()?)
    }
}

/// Tells the parent and waits for it.
fn hold(kept: Kept) -> anyhow::Result<()> {
    kept.show()?;
    wait_for_end();
    Ok(())
}

/// Returns when standard input ends.
pub fn wait_for_end() {
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

/// A TCP socket of a family on which nothing has been done.
pub fn socket(family: AddressFamily) -> anyhow::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    rustix::net::socket_with(family, SocketType::STREAM, flags, None)
        .context("cannot create a socket")
}

/// What getsockname() says.
pub fn local(socket: impl AsFd) -> anyhow::Result<SocketAddr> {
    Ok(SocketAddr::try_from(rustix::net::getsockname(socket)?)?)
}

/// Looks without BPF, as the user this runs as, and prints what was found: a line
/// `PID FD CLASS PORT` per descriptor, `ready`, and one line of outcome as JSON.
fn scan() -> anyhow::Result<()> {
    let mut out = String::new();
    let outcome = sockleak::source::inventory::procfs::scan(|held| {
        let (pid, fd, port) = (held.holder.pid, held.fd, held.local.port());
        out.push_str(&format!("{:?} {pid} {fd} {port}\n", held.class));
    })?;
    println!("{out}ready");
    let outcome = serde_json::json!({
        "processes": outcome.processes,
        "denied": outcome.denied,
        "incomplete": outcome.incomplete,
    });
    println!("{outcome}");
    Ok(())
}
