//! What the calls of a workload returned, counted call by call.

use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// Equal failures. Names are those of sockleak's `failure` lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Process.
    pub pid: u32,
    /// `connect`, `bind` or `listen`.
    pub op: String,
    /// Name of the errno.
    pub errno: String,
    /// What the workload did to provoke it.
    pub cause: String,
    /// Destination of connect().
    pub dst: Option<SocketAddr>,
    /// Address and port asked for by bind(), or bound before; `None` when there was none.
    pub src: Option<SocketAddr>,
    /// Range that the kernel searched; `None` when it did not.
    pub range: Option<[u16; 2]>,
    /// How many ports of that range the kernel looks at before it gives up.
    pub candidates: Option<u64>,
    /// Who had the ports of the range, when the phase ended; `None` when they do not matter.
    pub breakdown: Option<Breakdown>,
    /// How often.
    pub count: u64,
}

/// Ports of a range by what they were taken by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breakdown {
    /// Connections to the destination.
    pub connected: u64,
    /// TIME_WAIT towards the destination.
    pub time_wait: u64,
    /// bind() without a connection.
    pub bound: u64,
    /// net.ipv4.ip_local_reserved_ports.
    pub reserved: u64,
}

/// Calls of a process that made the kernel look for a port, or at one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Searches {
    /// Process.
    pub pid: u32,
    /// `connect`, `bind` or `listen`.
    pub op: String,
    /// Destination of connect().
    pub dst: Option<SocketAddr>,
    /// Calls for which the kernel had to choose a port.
    pub calls: u64,
    /// Of those, failed.
    pub failed: u64,
    /// Calls with a port that was given beforehand, which the kernel only had to check.
    pub preset: u64,
    /// Of those, failed.
    pub preset_failed: u64,
}

impl Searches {
    fn add(&mut self, preset: bool, calls: u64, failed: u64) {
        let (all, vain) = match preset {
            true => (&mut self.preset, &mut self.preset_failed),
            false => (&mut self.calls, &mut self.failed),
        };
        *all += calls;
        *vain += failed;
    }
}

/// Everything that a workload's processes asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Failures.
    pub failures: Vec<Failure>,
    /// Port searches.
    pub searches: Vec<Searches>,
}

/// How a call is meant to fail.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    /// What it returns.
    pub(super) errno: Errno,
    /// Name of the cause.
    pub(super) cause: &'static str,
    /// The range that has been searched, if one has.
    pub(super) range: Option<[u16; 2]>,
}

impl Fault {
    /// Every port of `range` is taken.
    pub(super) fn exhausted(errno: Errno, range: [u16; 2]) -> Self {
        Self {
            errno,
            cause: "ephemeral_exhausted",
            range: Some(range),
        }
    }

    /// A failure without a search.
    pub(super) fn at_once(errno: Errno, cause: &'static str) -> Self {
        Self {
            errno,
            cause,
            range: None,
        }
    }

    /// The kernel's port code is reached: everything but what is refused before.
    fn is_search(&self) -> bool {
        !matches!(
            self.cause,
            "denied" | "no_source_address" | "address_not_local"
        )
    }
}

impl Ledger {
    /// connect() that has to work, or at least to get under way.
    pub(super) fn connects(&mut self, socket: &OwnedFd, dst: SocketAddr) -> anyhow::Result<()> {
        let preset = local(socket)?.port() != 0;
        match rustix::net::connect(socket, &dst) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => bail!("connect to {dst} failed: {error}"),
        }
        self.searched("connect", Some(canonical(dst)), preset, false);
        Ok(())
    }

    /// connect() that is refused by the peer: a failure, but none of ports.
    pub(super) fn connect_refused(
        &mut self,
        socket: &OwnedFd,
        dst: SocketAddr,
    ) -> anyhow::Result<()> {
        match rustix::net::connect(socket, &dst) {
            Err(Errno::CONNREFUSED) => {}
            other => bail!("connect to {dst}, where nobody listens, gave {other:?}"),
        }
        self.searched("connect", Some(dst), false, false);
        Ok(())
    }

    /// connect() that has to fail like this.
    pub(super) fn connect_fails(
        &mut self,
        socket: &OwnedFd,
        dst: SocketAddr,
        fault: Fault,
    ) -> anyhow::Result<()> {
        let local = local(socket)?;
        expect(rustix::net::connect(socket, &dst), fault)
            .with_context(|| format!("connect to {dst}"))?;
        let preset = local.port() != 0;
        self.connect_failed(dst, preset.then_some(local), fault, 1)
    }

    /// `count` connect() calls that have failed like this.
    pub(super) fn connect_failed(
        &mut self,
        dst: SocketAddr,
        src: Option<SocketAddr>,
        fault: Fault,
        count: u64,
    ) -> anyhow::Result<()> {
        let dst = Some(canonical(dst));
        if fault.is_search() {
            let entry = self.search("connect", dst);
            entry.add(src.is_some(), count, count);
        }
        self.failed("connect", dst, src, fault, count)
    }

    /// bind() that has to work.
    pub(super) fn binds(&mut self, socket: &OwnedFd, address: SocketAddr) -> anyhow::Result<()> {
        rustix::net::bind(socket, &address).with_context(|| format!("bind {address}"))?;
        // With IP_BIND_ADDRESS_NO_PORT nothing has been looked for.
        if local(socket)?.port() != 0 {
            self.searched("bind", None, address.port() != 0, false);
        }
        Ok(())
    }

    /// bind() that has to fail like this.
    pub(super) fn bind_fails(
        &mut self,
        socket: &OwnedFd,
        address: SocketAddr,
        fault: Fault,
    ) -> anyhow::Result<()> {
        expect(rustix::net::bind(socket, &address), fault)
            .with_context(|| format!("bind {address}"))?;
        if fault.is_search() {
            self.searched("bind", None, address.port() != 0, true);
        }
        self.failed("bind", None, Some(address), fault, 1)
    }

    /// listen() that has to work. On a socket that has a port the kernel checks the port again,
    /// which is neither a bind() nor a search.
    pub(super) fn listens(&mut self, socket: &OwnedFd) -> anyhow::Result<()> {
        let searches = local(socket)?.port() == 0;
        rustix::net::listen(socket, 4096).context("listen")?;
        if searches {
            self.searched("listen", None, false, false);
        }
        Ok(())
    }

    /// listen() that has to fail like this.
    pub(super) fn listen_fails(&mut self, socket: &OwnedFd, fault: Fault) -> anyhow::Result<()> {
        let local = local(socket)?;
        let preset = local.port() != 0;
        expect(rustix::net::listen(socket, 4096), fault).context("listen")?;
        self.searched("listen", None, preset, true);
        self.failed("listen", None, preset.then_some(local), fault, 1)
    }

    /// Says of all failures for want of a port who has the ports now.
    pub(super) fn taken_by(&mut self, breakdown: Breakdown) {
        for failure in &mut self.failures {
            if failure.cause == "ephemeral_exhausted" {
                failure.breakdown = Some(breakdown);
            }
        }
    }

    /// Takes over what another process has done.
    pub(super) fn add(&mut self, other: Self) {
        self.failures.extend(other.failures);
        self.searches.extend(other.searches);
    }

    fn searched(&mut self, op: &str, dst: Option<SocketAddr>, preset: bool, failed: bool) {
        self.search(op, dst).add(preset, 1, failed.into());
    }

    /// This process's entry, made if need be.
    fn search(&mut self, op: &str, dst: Option<SocketAddr>) -> &mut Searches {
        let pid = std::process::id();
        let known = (self.searches.iter())
            .position(|one| one.pid == pid && one.op == op && one.dst == dst)
            .unwrap_or(self.searches.len());
        if known == self.searches.len() {
            self.searches.push(Searches {
                pid,
                op: op.to_owned(),
                dst,
                ..Searches::default()
            });
        }
        &mut self.searches[known]
    }

    fn failed(
        &mut self,
        op: &str,
        dst: Option<SocketAddr>,
        src: Option<SocketAddr>,
        fault: Fault,
        count: u64,
    ) -> anyhow::Result<()> {
        let one = Failure {
            pid: std::process::id(),
            op: op.to_owned(),
            errno: name(fault.errno)?.to_owned(),
            cause: fault.cause.to_owned(),
            dst,
            src,
            range: fault.range,
            candidates: (fault.range).filter(|_| op == "connect").map(candidates),
            breakdown: None,
            count,
        };
        let equal = |known: &&mut Failure| {
            Failure {
                count,
                ..(*known).clone()
            } == one
        };
        match self.failures.iter_mut().find(equal) {
            Some(known) => known.count += count,
            None => self.failures.push(one),
        }
        Ok(())
    }
}

/// How many ports connect() looks at in a range without a usable one: an even number, because
/// it walks both parities equally far (`remaining &= ~1` in __inet_hash_connect). With
/// IP_LOCAL_PORT_RANGE later kernels walk all; ranges of workloads are even there.
fn candidates([low, high]: [u16; 2]) -> u64 {
    (u64::from(high - low) + 1) & !1
}

/// The address as the kernel connects to it: IPv4-mapped is IPv4.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The socket's own address.
pub(super) fn local(socket: &OwnedFd) -> anyhow::Result<SocketAddr> {
    let address = rustix::net::getsockname(socket).context("getsockname")?;
    SocketAddr::try_from(address).context("a socket of another family")
}

fn expect(result: Result<(), Errno>, fault: Fault) -> anyhow::Result<()> {
    match result {
        Err(errno) if errno == fault.errno => Ok(()),
        other => bail!(
            "gave {other:?} instead of {:?} ({})",
            fault.errno,
            fault.cause
        ),
    }
}

fn name(errno: Errno) -> anyhow::Result<&'static str> {
    Ok(match errno {
        Errno::ADDRNOTAVAIL => "EADDRNOTAVAIL",
        Errno::ADDRINUSE => "EADDRINUSE",
        Errno::ACCESS => "EACCES",
        Errno::PERM => "EPERM",
        other => bail!("no workload is meant to see {other}"),
    })
}
