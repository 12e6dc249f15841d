//! Sockets that are forgotten on the error path: connect() is refused, nobody closes the socket,
//! and another attempt is made with a new one, until there are no descriptors left.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::io::Errno;
use rustix::net::AddressFamily;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::actor::{DemoError, Launcher};
use super::closed_leak::{SPARE_DESCRIPTORS, bare_socket};
use super::role::{Arguments, Role};
use super::{ProcessTruth, Running, Scenario};
use crate::report::After;

pub(super) static SCENARIO: Scenario = Scenario {
    name: "refused-leak",
    summary: "connect() is refused and the socket forgotten, until no descriptor is left",
    story: "\
A server lost its backend at port 2280. Its channel manager connects again and
again, each time with a new socket, and closes none of those whose connect()
is refused. netstat and ss show nothing, and soon every accept() and open() of
the server will fail with EMFILE, \"Too many open files\". A second program
that meets the same refusals closes its sockets and must not be named.",
    start,
    steps: 0,
};

/// Nobody listens there.
const BACKEND: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 2280);

/// Descriptors that the server may have open: the usual soft limit, so that it is soon reached.
const DESCRIPTORS: u64 = 1024;

fn start(launcher: &Launcher) -> Result<Running, DemoError> {
    let mut running = Running::stage(launcher, SCENARIO.name, [32768, 60999])?;
    let web = "127.0.0.1:8080";
    running.enter_and_wait(launcher, "echo", "web", &[format!("--listen={web}")])?;
    let pool = [format!("--to={web}"), "--size=40".to_owned()];
    running.enter_and_wait(launcher, "pool", "web-client", &pool)?;
    let to = format!("--to={BACKEND}");
    let patient = [to.clone(), "--forgets=0".to_owned()];
    running.enter_and_wait(launcher, "refused", "retrier", &patient)?;
    let forgetful = [to, "--forgets=1".to_owned()];
    running.enter_and_wait(launcher, "refused", "channel-manager", &forgetful)?;
    Ok(running)
}

/// Connects to `--to=ADDRESS`, where nobody listens, and forgets the sockets if `--forgets=1`.
pub(super) struct Refused {
    account: ProcessTruth,
    backend: SocketAddr,
    forgets: bool,
    most: usize,
    forgotten: Vec<OwnedFd>,
}

/// Sockets forgotten before anybody watches.
const AT_ONCE: usize = 300;
const BATCH: usize = 5;
const TENTH: Duration = Duration::from_millis(100);

impl Refused {
    pub(super) fn new(arguments: &Arguments) -> anyhow::Result<Self> {
        let forgets = arguments.number::<u8>("forgets")? != 0;
        let does = match forgets {
            true => "forgets sockets whose connect() was refused",
            false => "closes sockets whose connect() was refused",
        };
        let hard = getrlimit(Resource::Nofile).maximum;
        let limit = hard.map_or(DESCRIPTORS, |hard| hard.min(DESCRIPTORS));
        let lowered = Rlimit {
            current: Some(limit),
            maximum: hard,
        };
        setrlimit(Resource::Nofile, lowered).context("cannot lower RLIMIT_NOFILE")?;
        Ok(Self {
            account: ProcessTruth {
                after: forgets.then_some(After::ConnectRefused),
                ..arguments.account(does, forgets)
            },
            backend: arguments.number("to")?,
            forgets,
            most: usize::try_from(limit)?.saturating_sub(SPARE_DESCRIPTORS),
            forgotten: Vec::new(),
        })
    }

    #[inline(never)]
    fn connect_to_backend(&mut self) -> anyhow::Result<()> {
        let socket = bare_socket(AddressFamily::INET).context("cannot create a socket")?;
        self.account.created += 1;
        match rustix::net::connect(&socket, &self.backend) {
            Err(Errno::CONNREFUSED) => {}
            other => bail!("connect to {} gave {other:?}, nobody listens", self.backend),
        }
        if self.forgets {
            self.forgotten.push(socket);
        }
        Ok(())
    }
}

impl Role for Refused {
    fn act(&mut self) -> anyhow::Result<Option<Duration>> {
        for _ in 0..BATCH.min(self.most - self.forgotten.len()) {
            self.connect_to_backend()?;
        }
        let rest = match self.is_ready() {
            true => TENTH,
            false => Duration::ZERO,
        };
        Ok((self.forgotten.len() < self.most).then_some(rest))
    }

    fn is_ready(&self) -> bool {
        !self.forgets || self.forgotten.len() >= AT_ONCE
    }

    fn count(&mut self) -> anyhow::Result<Vec<ProcessTruth>> {
        self.account.held.unbound = self.forgotten.len() as u64;
        Ok(vec![self.account.clone()])
    }
}
