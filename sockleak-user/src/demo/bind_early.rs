//! A proxy binds before it connects: what would do for every destination is used up by all.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::bail;

use super::actor::{DemoError, Launcher};
use super::closed_leak::SPARE_DESCRIPTORS;
use super::netns::raise_roomy_limit;
use super::role::{Arguments, Role};
use super::traffic::{self, Ending, IP_BIND_ADDRESS_NO_PORT};
use super::{ProcessTruth, Running, Scenario};

pub(super) static SCENARIO: Scenario = Scenario {
    name: "bind-early",
    summary: "a proxy binds before it connects, so all destinations share one range",
    story: "\
A proxy has to use a certain source address, so it calls bind(address, 0) and
then connect(). bind() knows no destination and takes a port that nobody else
has: the 2,000 ports of the range are shared by all eight backends, 250 each,
where connect() could use all 2,000 towards every one of them. What fails is
bind(), with EADDRINUSE. The report must say so and name the socket option
that helps: IP_BIND_ADDRESS_NO_PORT.",
    start,
    steps: 0,
};

const RANGE: [u16; 2] = [40000, 41999];
const BACKENDS: u16 = 8;
/// Connections that the proxy wants; 500 more than there are ports.
const WANTED: usize = 2_500;

fn start(launcher: &Launcher) -> Result<Running, DemoError> {
    stage(launcher, false)
}

/// With `no_port`, the proxy has the remedy.
pub(super) fn stage(launcher: &Launcher, no_port: bool) -> Result<Running, DemoError> {
    let mut running = Running::stage(launcher, SCENARIO.name, RANGE)?;
    let backends: Vec<String> = (0..BACKENDS)
        .map(|number| format!("127.0.0.1:{}", 8000 + number))
        .collect();
    for backend in &backends {
        let arguments = [format!("--listen={backend}"), format!("--most={WANTED}")];
        running.enter(launcher, "keeper", "backend", &arguments)?;
    }
    running.wait_for_all()?;
    let arguments = [
        format!("--to={}", backends.join(",")),
        format!("--most={WANTED}"),
        format!("--no-port={}", u8::from(no_port)),
    ];
    running.enter_and_wait(launcher, "proxy", "proxy", &arguments)?;
    Ok(running)
}

/// Opens `--most=N` connections to `--to=ADDRESS,...` in turn, each bound to 127.0.0.1 first.
pub(super) struct Proxy {
    account: ProcessTruth,
    backends: Vec<SocketAddr>,
    no_port: bool,
    left: usize,
    connections: Vec<OwnedFd>,
}

/// Attempts kept back at the start, so that there are failures while somebody watches.
const RESERVE: usize = 60;

impl Proxy {
    pub(super) fn new(arguments: &Arguments) -> anyhow::Result<Self> {
        let left = arguments.number("most")?;
        let wanted = (left + SPARE_DESCRIPTORS) as u64;
        let limit = raise_roomy_limit(wanted);
        if limit < wanted {
            bail!("{limit} open files are not enough: the incident needs {wanted} (ulimit -n)");
        }
        let mut account = arguments.account("binds, then connects", false);
        account.cause = Some("ephemeral_exhausted".to_owned());
        Ok(Self {
            account,
            backends: arguments.list("to")?,
            no_port: arguments.number::<u8>("no-port")? == 1,
            left,
            connections: Vec::new(),
        })
    }

    fn open(&mut self) -> anyhow::Result<()> {
        self.left -= 1;
        let Some(to) = self.backends.get(self.left % self.backends.len().max(1)) else {
            bail!("there is no backend");
        };
        let socket = traffic::socket()?;
        self.account.created += 1;
        if self.no_port {
            traffic::set_ip(&socket, IP_BIND_ADDRESS_NO_PORT, 1)?;
        }
        let here = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
        if traffic::bind(&socket, here)? == Ending::NoPort {
            self.account.failed_binds += 1;
            return Ok(());
        }
        match traffic::connect(&socket, *to)? {
            Ending::Done => self.account.connects += 1,
            Ending::NoPort => bail!("connect() found no port"),
        }
        self.connections.push(socket);
        Ok(())
    }
}

impl Role for Proxy {
    fn act(&mut self) -> anyhow::Result<Option<Duration>> {
        let (batch, rest) = match self.left.saturating_sub(RESERVE) {
            0 => (2, Duration::from_millis(100)),
            many => (many.min(100), Duration::ZERO),
        };
        for _ in 0..batch.min(self.left) {
            self.open()?;
        }
        Ok((self.left > 0).then_some(rest))
    }

    fn is_ready(&self) -> bool {
        self.left <= RESERVE
    }

    fn count(&mut self) -> anyhow::Result<Vec<ProcessTruth>> {
        self.account.held.established = self.connections.len() as u64;
        Ok(vec![self.account.clone()])
    }
}
