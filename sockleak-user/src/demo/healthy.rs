//! Everything that looks like a leak and is none: preforked workers that share listeners, pools
//! of idle connections, churn that leaves TIME_WAIT behind, bursts of young sockets.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use rustix::io::FdFlags;

use super::actor::{Actor, Cue, DemoError, Launcher};
use super::role::{Arguments, Role};
use super::{ProcessTruth, Running, Scenario, server};

pub(super) static SCENARIO: Scenario = Scenario {
    name: "healthy",
    summary: "a busy and correct server with its clients: nobody may be accused",
    story: "\
A preforking server whose workers share their listeners over IPv4 and IPv6, a
client with a pool of connections, a client that makes a new connection for
every request and leaves them in TIME_WAIT, and a program that opens sockets
in bursts and closes them. All of it is correct: the report must accuse
nobody.",
    start,
    steps: 0,
};

const SERVERS: &str = "127.0.0.1:8080,[::1]:8080";

fn start(launcher: &Launcher) -> Result<Running, DemoError> {
    let mut running = Running::stage(launcher, SCENARIO.name, [32768, 60999])?;
    let to = format!("--to={SERVERS}");
    let prefork = [format!("--listen={SERVERS}"), "--workers=3".to_owned()];
    running.enter_and_wait(launcher, "prefork", "front", &prefork)?;
    let pool = [to.clone(), "--size=60".to_owned()];
    running.enter_and_wait(launcher, "pool", "pool-client", &pool)?;
    running.enter_and_wait(launcher, "churn", "churn-client", &[to])?;
    running.enter_and_wait(launcher, "orderly", "burst", &[])?;
    Ok(running)
}

/// Opens listeners and leaves the work to `--workers=N` processes that inherit them.
pub(super) struct Prefork {
    account: ProcessTruth,
    listeners: Vec<TcpListener>,
    workers: Vec<Actor>,
}

impl Prefork {
    pub(super) fn start(arguments: &Arguments) -> anyhow::Result<Self> {
        let listeners = server::listen_on(arguments)?;
        let mut inherited = Vec::new();
        for listener in &listeners {
            rustix::io::fcntl_setfd(listener, FdFlags::empty())?;
            inherited.push(listener.as_raw_fd().to_string());
        }
        let inherit = format!("--inherit={}", inherited.join(","));
        let workers = (0..arguments.number::<usize>("workers")?)
            .map(|index| {
                let comm = format!("--comm=front-{index}");
                let mut worker =
                    Actor::start(&Launcher::this_binary(), "echo", &[inherit.clone(), comm])?;
                worker.ready()?;
                Ok(worker)
            })
            .collect::<Result<Vec<_>, DemoError>>()?;
        let mut account = arguments.account("listens for its workers", false);
        account.created = listeners.len() as u64;
        account.held.listen = listeners.len() as u64;
        account.held.shared = listeners.len() as u64;
        Ok(Self {
            account,
            listeners,
            workers,
        })
    }

    fn ask(&mut self, cue: Cue) -> anyhow::Result<Vec<ProcessTruth>> {
        self.account.held.listen = self.listeners.len() as u64;
        let mut all = vec![self.account.clone()];
        for worker in &mut self.workers {
            all.extend(worker.ask(cue)?);
        }
        Ok(all)
    }
}

impl Role for Prefork {
    fn act(&mut self) -> anyhow::Result<Option<Duration>> {
        Ok(None)
    }

    fn come_to_rest(&mut self) -> anyhow::Result<()> {
        self.ask(Cue::Freeze).map(drop)
    }

    fn count(&mut self) -> anyhow::Result<Vec<ProcessTruth>> {
        self.ask(Cue::Count)
    }
}

/// A new connection for every request, closed by us: one TIME_WAIT each.
pub(super) struct Churn {
    account: ProcessTruth,
    servers: Vec<SocketAddr>,
    rounds: u64,
}

/// Most requests in one run, a quarter of the default ports of each family.
const MOST_ROUNDS: u64 = 14_000;

impl Churn {
    pub(super) fn new(arguments: &Arguments) -> anyhow::Result<Self> {
        Ok(Self {
            account: arguments.account("makes short connections", false),
            servers: arguments.list("to")?,
            rounds: 0,
        })
    }
}

impl Role for Churn {
    fn act(&mut self) -> anyhow::Result<Option<Duration>> {
        for server in &self.servers {
            self.account.created += 1;
            drop(server::connect(*server)?);
            self.rounds += 1;
        }
        Ok((self.rounds < MOST_ROUNDS).then_some(Duration::from_millis(4)))
    }

    fn is_ready(&self) -> bool {
        self.rounds >= 200
    }

    fn count(&mut self) -> anyhow::Result<Vec<ProcessTruth>> {
        Ok(vec![self.account.clone()])
    }
}
