//! Ports of one process's connections are bound by another with SO_REUSEADDR, and connect()
//! passes them over from then on.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::bail;
use rustix::net::sockopt;

use super::actor::{DemoError, Launcher};
use super::closed_leak::SPARE_DESCRIPTORS;
use super::netns::raise_roomy_limit;
use super::role::{Arguments, Role};
use super::traffic::{self, Ending};
use super::{ProcessTruth, Running, Scenario};

pub(super) static SCENARIO: Scenario = Scenario {
    name: "reuse-theft",
    summary: "an agent binds with SO_REUSEADDR the ports that connections of others have",
    story: "\
A gateway keeps 800 connections to one backend; its sockets have SO_REUSEADDR,
as many frameworks set it on all of theirs. An agent chooses its source ports
itself: it goes through the range with bind() and SO_REUSEADDR, which succeeds
also where a connection of the gateway is, and connects from there. A port that
somebody has bound is none that connect() considers, towards no destination,
for as long as its bucket lives. Now the gateway cannot connect to another
backend, towards which it has no connection at all: EADDRNOTAVAIL.",
    start,
    steps: 0,
};

const RANGE: [u16; 2] = [40000, 40999];

fn start(launcher: &Launcher) -> Result<Running, DemoError> {
    stage(launcher, RANGE)
}

/// The agent takes its ports from `ports`: out of the range, nothing happens.
pub(super) fn stage(launcher: &Launcher, ports: [u16; 2]) -> Result<Running, DemoError> {
    let mut running = Running::stage(launcher, SCENARIO.name, RANGE)?;
    let [first, second, collector] = ["127.0.0.1:8000", "127.0.0.1:8001", "127.0.0.1:9000"];
    for (address, comm) in [
        (first, "backend-1"),
        (second, "backend-2"),
        (collector, "collector"),
    ] {
        let arguments = [format!("--listen={address}"), "--most=2000".to_owned()];
        running.enter_and_wait(launcher, "keeper", comm, &arguments)?;
    }
    let [low, high] = ports;
    let agent = format!("--ports={low},{high} --per-second=100000 --reserve=0");
    for (comm, to, arguments) in [
        (
            "gateway",
            first,
            "--most=800 --per-second=100000 --reserve=0",
        ),
        ("agent", collector, &agent),
        (
            "gateway-2",
            second,
            "--most=200 --per-second=20 --reserve=198",
        ),
    ] {
        let mut all = vec![format!("--to={to}")];
        all.extend(arguments.split(' ').map(str::to_owned));
        running.enter_and_wait(launcher, "reuser", comm, &all)?;
    }
    Ok(running)
}

/// Opens and keeps connections to `--to=ADDRESS` on sockets with SO_REUSEADDR: `--most=N` from
/// ports that the kernel chooses, or one from each of `--ports=LOW,HIGH`. `--reserve=N` of them are
/// to be opened when its part is complete.
pub(super) struct Reuser {
    account: ProcessTruth,
    server: SocketAddr,
    /// Ports to bind, 0 for none.
    ports: std::vec::IntoIter<u16>,
    reserve: usize,
    per_tick: usize,
    connections: Vec<OwnedFd>,
}

impl Reuser {
    pub(super) fn new(arguments: &Arguments) -> anyhow::Result<Self> {
        let ports: Vec<u16> = match arguments.list("ports")?[..] {
            [low, high] => (low..=high).collect(),
            _ => vec![0; arguments.number("most")?],
        };
        let wanted = (ports.len() + SPARE_DESCRIPTORS) as u64;
        let limit = raise_roomy_limit(wanted);
        if limit < wanted {
            bail!("{limit} open files are not enough: the incident needs {wanted} (ulimit -n)");
        }
        let server = arguments.number("to")?;
        let mut account = arguments.account("connects with SO_REUSEADDR", false);
        account.dst = Some(server);
        account.cause = Some("ephemeral_exhausted".to_owned());
        Ok(Self {
            account,
            server,
            ports: ports.into_iter(),
            reserve: arguments.number("reserve")?,
            per_tick: arguments.number::<usize>("per-second")?.div_ceil(20),
            connections: Vec::new(),
        })
    }
}

impl Role for Reuser {
    fn act(&mut self) -> anyhow::Result<Option<Duration>> {
        for _ in 0..self.per_tick {
            let Some(port) = self.ports.next() else {
                return Ok(None);
            };
            let socket = traffic::socket()?;
            self.account.created += 1;
            sockopt::set_socket_reuseaddr(&socket, true)?;
            let here = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
            if port != 0 && traffic::bind(&socket, here)? == Ending::NoPort {
                self.account.failed_binds += 1;
                continue;
            }
            match traffic::connect(&socket, self.server)? {
                Ending::Done => {
                    self.account.connects += 1;
                    self.connections.push(socket);
                }
                Ending::NoPort => self.account.failed_connects += 1,
            }
        }
        Ok(Some(Duration::from_millis(50)))
    }

    fn is_ready(&self) -> bool {
        self.ports.len() <= self.reserve
    }

    fn count(&mut self) -> anyhow::Result<Vec<ProcessTruth>> {
        self.account.held.established = self.connections.len() as u64;
        Ok(vec![self.account.clone()])
    }
}
