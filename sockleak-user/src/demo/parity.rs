//! More than half of the range is taken towards one destination: from there on every connect()
//! walks all ports of the first parity in vain before it takes one of the second.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::bail;

use super::actor::{DemoError, Launcher};
use super::closed_leak::SPARE_DESCRIPTORS;
use super::netns::raise_roomy_limit;
use super::role::{Arguments, Role};
use super::traffic::{self, Ending, IP_LOCAL_PORT_RANGE};
use super::{ProcessTruth, Running, Scenario};

pub(super) static SCENARIO: Scenario = Scenario {
    name: "parity",
    summary: "half of the range is taken towards one destination: connect() gets dear at a step",
    story: "\
A gateway opens connections to one destination and keeps them. connect() walks
the ports of the range by two: first those of the parity of the range's first
port, then the others. When the first half is taken towards the destination,
14,116 of 28,232 ports, every further connect() looks at all of it in vain
before it takes a port of the second half. Nothing fails; the gateway's CPUs
burn in __inet_hash_connect. A second gateway does the same towards another
destination with IP_LOCAL_PORT_RANGE on its sockets, as a remedy.",
    start,
    steps: BATCHES.len() as u32,
};

/// The default of every kernel since 3.2.
pub(super) const RANGE: [u16; 2] = [32768, 60999];

/// Connections per step. The first fourteen are half of the range.
pub(super) const BATCHES: [usize; 17] = [
    1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1116, 1000, 1000,
    1000,
];

/// Servers per destination: a process may hold 20,000 sockets on small machines.
const SERVERS: usize = 2;

fn start(launcher: &Launcher) -> Result<Running, DemoError> {
    let mut running = Running::stage(launcher, SCENARIO.name, RANGE)?;
    let most: usize = BATCHES.iter().sum();
    let batches: Vec<String> = BATCHES.iter().map(ToString::to_string).collect();
    let batches = format!("--batches={}", batches.join(","));
    for (to, comm, own_range) in [
        ("127.0.0.1:6379", "gateway", false),
        ("127.0.0.1:6380", "gateway-ranged", true),
    ] {
        for _ in 0..SERVERS {
            let arguments = [format!("--listen={to}"), format!("--most={most}")];
            running.enter_and_wait(launcher, "keeper", "backend", &arguments)?;
        }
        let arguments = [
            format!("--to={to}"),
            batches.clone(),
            format!("--own-range={}", u8::from(own_range)),
        ];
        running.enter_and_wait(launcher, "gateway", comm, &arguments)?;
    }
    Ok(running)
}

/// Opens `--batches=N,...` connections to `--to=ADDRESS`, one batch per step, and keeps them.
/// With `--own-range=1` each socket has IP_LOCAL_PORT_RANGE, set to the whole range.
pub(super) struct Gateway {
    account: ProcessTruth,
    server: SocketAddr,
    batches: std::vec::IntoIter<usize>,
    own_range: bool,
    without_option: bool,
    connections: Vec<OwnedFd>,
}

impl Gateway {
    pub(super) fn new(arguments: &Arguments) -> anyhow::Result<Self> {
        let batches: Vec<usize> = arguments.list("batches")?;
        let own_range = arguments.number::<u8>("own-range")? == 1;
        let wanted = batches.iter().sum::<usize>() + SPARE_DESCRIPTORS;
        let limit = raise_roomy_limit(wanted as u64);
        if limit < wanted as u64 {
            bail!("{limit} open files are not enough: the incident needs {wanted} (ulimit -n)");
        }
        let without_option = own_range && !set_range(&traffic::socket()?)?;
        let mut account = arguments.account("opens connections and keeps them", false);
        // The one above, to see whether there is the option.
        account.created = u64::from(own_range);
        account.dst = Some(arguments.number("to")?);
        account.own_range = own_range;
        Ok(Self {
            account,
            server: arguments.number("to")?,
            batches: batches.into_iter(),
            own_range,
            without_option,
            connections: Vec::new(),
        })
    }
}

fn set_range(socket: &OwnedFd) -> anyhow::Result<bool> {
    let [low, high] = RANGE;
    let value = u32::from(low) | u32::from(high) << 16;
    traffic::set_ip(socket, IP_LOCAL_PORT_RANGE, value)
}

impl Role for Gateway {
    fn act(&mut self) -> anyhow::Result<Option<Duration>> {
        Ok(None)
    }

    fn step(&mut self) -> anyhow::Result<()> {
        if self.without_option {
            return Ok(());
        }
        for _ in 0..self.batches.next().unwrap_or(0) {
            let socket = traffic::socket()?;
            self.account.created += 1;
            if self.own_range {
                set_range(&socket)?;
            }
            match traffic::connect(&socket, self.server)? {
                Ending::Done => self.account.connects += 1,
                Ending::NoPort => bail!("no port is left with half of the range free"),
            }
            self.connections.push(socket);
        }
        Ok(())
    }

    fn count(&mut self) -> anyhow::Result<Vec<ProcessTruth>> {
        self.account.held.established = self.connections.len() as u64;
        Ok(vec![self.account.clone()])
    }

    fn notes(&self) -> Vec<String> {
        match self.without_option {
            true => vec![format!(
                "{} does nothing: this kernel has no IP_LOCAL_PORT_RANGE (Linux 6.3)",
                self.account.comm
            )],
            false => Vec::new(),
        }
    }
}
