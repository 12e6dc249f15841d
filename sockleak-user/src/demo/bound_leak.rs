//! Leaked sockets that hold ports: the whole range 50000-62000 belongs to a process that does
//! nothing with it, its further binds fail, and another process cannot connect.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::io::Errno;
use rustix::net::AddressFamily;

use super::actor::{DemoError, Launcher};
use super::closed_leak::{SPARE_DESCRIPTORS, bare_socket};
use super::netns::raise_roomy_limit;
use super::role::{Arguments, Role};
use super::{ProcessTruth, Running, Scenario};
use crate::report::After;

pub(super) static SCENARIO: Scenario = Scenario {
    name: "bound-leak",
    summary: "forgotten sockets hold all 12,001 ports of a range; others cannot connect",
    story: "\
An application binds each new socket and forgets it. When the ports
50000-62000 are used up, its further binds fail with EADDRINUSE and it forgets
those sockets, too. Now `ftp` cannot connect anywhere: EADDRNOTAVAIL, \"Cannot
assign requested address\", while `ss -ta` lists next to nothing. The report
must name the application, not the victim, and say who holds the range.",
    start,
    steps: 0,
};

const RANGE: [u16; 2] = [50000, 62000];

/// Sockets that failed to bind when the incident was recorded for real.
const UNBOUND: usize = 28_983;

/// Listeners outside the range, so that the namespace uses more ports than the range has.
const OUTSIDE: std::ops::Range<u16> = 2100..2135;

fn start(launcher: &Launcher) -> Result<Running, DemoError> {
    let mut running = Running::stage(launcher, SCENARIO.name, RANGE)?;
    let ftp = "127.0.0.1:21";
    let listen = format!("--listen={ftp}");
    running.enter_and_wait(launcher, "listener", "ftpd", &[listen])?;
    let others: Vec<String> = OUTSIDE.map(|port| format!("127.0.0.1:{port}")).collect();
    let listen = format!("--listen={}", others.join(","));
    running.enter_and_wait(launcher, "listener", "inetd", &[listen])?;
    let [low, high] = RANGE;
    let arguments = [
        format!("--low={low}"),
        format!("--high={high}"),
        format!("--unbound={UNBOUND}"),
    ];
    running.enter_and_wait(launcher, "bind-and-forget", "app", &arguments)?;
    running.enter_and_wait(launcher, "victim", "ftp", &[format!("--to={ftp}")])?;
    Ok(running)
}

/// Binds every port of a range, then goes on creating sockets whose bind fails.
pub(super) struct BindAndForget {
    account: ProcessTruth,
    low: u16,
    high: u16,
    free: BTreeSet<u16>,
    wanted: usize,
    most: usize,
    sockets: Vec<OwnedFd>,
}

/// Sockets kept back at the start, so that the leak still grows while somebody watches.
const GROWTH: usize = 80;

impl BindAndForget {
    pub(super) fn new(arguments: &Arguments) -> anyhow::Result<Self> {
        let low = arguments.number("low")?;
        let high = arguments.number("high")?;
        let free: BTreeSet<u16> = (low..=high).collect();
        let wanted = free.len() + arguments.number::<usize>("unbound")?;
        let limit = raise_roomy_limit((wanted + SPARE_DESCRIPTORS) as u64);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let most = wanted.min(limit.saturating_sub(SPARE_DESCRIPTORS));
        if most < free.len() + GROWTH {
            bail!("{limit} open files are not enough: the incident needs {wanted} (ulimit -n)");
        }
        Ok(Self {
            account: ProcessTruth {
                after: Some(After::BindFailed),
                ..arguments.account("binds sockets and forgets them", true)
            },
            low,
            high,
            free,
            wanted,
            most,
            sockets: Vec::with_capacity(most),
        })
    }

    /// One more socket while there are ports.
    fn take_a_port(&mut self) -> anyhow::Result<()> {
        let socket = self.create()?;
        // bind(0) first looks at every other port. Once that half is used up each call would
        // walk it in vain (0.5 ms), so the other half is asked for by number.
        let half = usize::from(self.high - self.low) / 2;
        let by_number = (self.free.len() <= half).then(|| self.free.first().copied());
        bind(&socket, by_number.flatten().unwrap_or(0)).context("cannot bind a free port")?;
        let address: SocketAddr = rustix::net::getsockname(&socket)?.try_into()?;
        self.free.remove(&address.port());
        self.account.held.bound += 1;
        self.sockets.push(socket);
        Ok(())
    }

    /// One more socket when there are none: its bind fails.
    fn fail_to_take_a_port(&mut self) -> anyhow::Result<()> {
        let socket = self.create()?;
        // A failing bind(0) walks the whole range (1 ms); one in eight is enough to show it.
        let port = match self.account.failed_binds % 8 {
            0 => 0,
            _ => self.low,
        };
        match bind(&socket, port) {
            Err(Errno::ADDRINUSE) => self.account.failed_binds += 1,
            Err(error) => bail!("bind to port {port} failed in an unexpected way: {error}"),
            Ok(()) => bail!("bind to port {port} succeeded with the whole range in use"),
        }
        self.account.held.unbound += 1;
        self.sockets.push(socket);
        Ok(())
    }

    #[inline(never)]
    fn create(&mut self) -> anyhow::Result<OwnedFd> {
        let socket = bare_socket(AddressFamily::INET).context("cannot create a socket")?;
        self.account.created += 1;
        Ok(socket)
    }
}

fn bind(socket: &OwnedFd, port: u16) -> rustix::io::Result<()> {
    rustix::net::bind(socket, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))
}

impl Role for BindAndForget {
    fn act(&mut self) -> anyhow::Result<Option<Duration>> {
        if !self.free.is_empty() {
            for _ in 0..self.free.len().min(200) {
                self.take_a_port()?;
            }
            return Ok(Some(Duration::ZERO));
        }
        let missing = (self.most - GROWTH).saturating_sub(self.sockets.len());
        let (batch, rest) = match missing {
            0 => (2, Duration::from_millis(100)),
            missing => (missing.min(200), Duration::ZERO),
        };
        for _ in 0..batch.min(self.most - self.sockets.len()) {
            self.fail_to_take_a_port()?;
        }
        Ok((self.sockets.len() < self.most).then_some(rest))
    }

    fn is_ready(&self) -> bool {
        self.sockets.len() >= self.most - GROWTH
    }

    fn count(&mut self) -> anyhow::Result<Vec<ProcessTruth>> {
        Ok(vec![self.account.clone()])
    }

    fn notes(&self) -> Vec<String> {
        if self.most == self.wanted {
            return Vec::new();
        }
        let bound = usize::from(self.high - self.low) + 1;
        vec![format!(
            "{} stops at {} unbound sockets instead of {}: this machine allows {} open files \
             and raising that takes CAP_SYS_RESOURCE",
            self.account.comm,
            self.most - bound,
            self.wanted - bound,
            self.most + SPARE_DESCRIPTORS,
        )]
    }
}

/// Tries to connect to `--to=ADDRESS`, closes the socket when that fails, and tries again.
pub(super) struct Victim {
    account: ProcessTruth,
    server: SocketAddr,
}

impl Victim {
    pub(super) fn new(arguments: &Arguments) -> anyhow::Result<Self> {
        Ok(Self {
            account: arguments.account("cannot connect", false),
            server: arguments.number("to")?,
        })
    }
}

impl Role for Victim {
    fn act(&mut self) -> anyhow::Result<Option<Duration>> {
        self.account.created += 1;
        match TcpStream::connect(self.server) {
            Ok(_) => bail!("connect to {} succeeded without a free port", self.server),
            Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => {
                self.account.failed_connects += 1;
            }
            Err(error) => bail!("connect to {} failed otherwise: {error}", self.server),
        }
        if self.account.failed_connects % 10 == 1 {
            let socket = bare_socket(AddressFamily::INET).context("cannot create a socket")?;
            self.account.created += 1;
            match bind(&socket, 0) {
                Err(Errno::ADDRINUSE) => self.account.failed_binds += 1,
                other => bail!("bind to any port gave {other:?} without a free port"),
            }
        }
        Ok(Some(Duration::from_millis(100)))
    }

    fn is_ready(&self) -> bool {
        self.account.failed_connects > 0
    }

    fn count(&mut self) -> anyhow::Result<Vec<ProcessTruth>> {
        Ok(vec![self.account.clone()])
    }
}
