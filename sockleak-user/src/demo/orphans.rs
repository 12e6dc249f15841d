//! Connections closed en masse while their data cannot be delivered: the process has let go, the
//! kernel has not.

use std::io::{ErrorKind, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::net::sockopt;

use super::actor::{DemoError, Launcher};
use super::role::{Arguments, Role};
use super::traffic::{self, Ending};
use super::{GroundTruth, ProcessTruth, Running, Scenario};
use crate::report::EndReport;

pub(super) static SCENARIO: Scenario = Scenario {
    name: "orphans",
    summary: "connections closed with data that the peer does not read: 600 orphans",
    story: "\
A name server answers over short connections and closes them as soon as the
answer is written. Its clients do not read, so the data stays, and with it the
socket: without a descriptor, in FIN_WAIT1. No process shows these sockets any
more, but each counts against tcp_max_orphans and its data against tcp_mem;
when these run out the kernel resets connections and logs \"too many orphaned
sockets\". The report must count them although no process shows them, and
name who has closed them, who does not read, and how much data is left.",
    start,
    steps: 0,
};

const RANGE: [u16; 2] = [32768, 60999];
/// Orphans: enough to see, few enough for small machines (tcp_max_orphans is 4,096 with 1 GiB).
const MOST: u64 = 600;
/// Buffers of both ends, bytes (the kernel doubles them): data that has to be kept.
const BUFFER: usize = 4_096;

fn start(launcher: &Launcher) -> Result<Running, DemoError> {
    stage(launcher, &[])
}

/// The server sets SO_LINGER {1, 0}: close() resets, nothing is left.
pub(super) fn with_linger(launcher: &Launcher) -> Result<Running, DemoError> {
    stage(launcher, &["--linger=0".to_owned()])
}

/// The server sets TCP_USER_TIMEOUT, so that the kernel gives up a second after the peer has
/// taken something for the last time.
pub(super) fn with_user_timeout(launcher: &Launcher) -> Result<Running, DemoError> {
    stage(launcher, &["--user-timeout=1000".to_owned()])
}

fn stage(launcher: &Launcher, options: &[String]) -> Result<Running, DemoError> {
    let mut running = Running::stage(launcher, SCENARIO.name, RANGE)?;
    let client = "127.0.0.1:9981";
    let arguments = [
        format!("--listen={client}"),
        format!("--most={MOST}"),
        format!("--receive={BUFFER}"),
    ];
    running.enter_and_wait(launcher, "keeper", "clients", &arguments)?;
    let mut arguments = vec![format!("--to={client}"), format!("--most={MOST}")];
    arguments.extend_from_slice(options);
    running.enter_and_wait(launcher, "deserter", "httpdns", &arguments)?;
    Ok(running)
}

/// Connects to `--to=ADDRESS` `--most=N` times, writes until nothing more fits, and closes.
pub(super) struct Deserter {
    account: ProcessTruth,
    peer: SocketAddr,
    left: u64,
    linger: Option<Duration>,
    user_timeout_ms: Option<u32>,
}

/// Connections kept back at the start, so that orphans still come while somebody watches.
const RESERVE: u64 = 60;

impl Deserter {
    pub(super) fn new(arguments: &Arguments) -> anyhow::Result<Self> {
        let peer = arguments.number("to")?;
        let mut account = arguments.account("closes with data unsent", false);
        account.dst = Some(peer);
        Ok(Self {
            account,
            peer,
            left: arguments.number("most")?,
            linger: arguments
                .text("linger")
                .map(|_| arguments.number("linger").map(Duration::from_secs))
                .transpose()?,
            user_timeout_ms: arguments
                .text("user-timeout")
                .map(|_| arguments.number("user-timeout"))
                .transpose()?,
        })
    }

    fn desert(&mut self) -> anyhow::Result<()> {
        self.left -= 1;
        let socket = traffic::socket()?;
        self.account.created += 1;
        sockopt::set_socket_send_buffer_size(&socket, BUFFER)?;
        if let Some(limit) = self.user_timeout_ms {
            sockopt::set_tcp_user_timeout(&socket, limit)?;
        }
        sockopt::set_socket_linger(&socket, self.linger)?;
        match traffic::connect(&socket, self.peer)? {
            Ending::Done => self.account.connects += 1,
            Ending::NoPort => bail!("there is no port"),
        }
        let stream = TcpStream::from(socket);
        fill(&stream)?;
        drop(stream);
        self.account.orphaned += 1;
        Ok(())
    }
}

/// Writes until nothing more fits, neither here nor at the peer.
fn fill(mut stream: &TcpStream) -> anyhow::Result<()> {
    stream.set_nonblocking(true)?;
    let block = [0; BUFFER];
    let mut full = 0;
    // Loopback delivers at once, but the peer's window may open a little later.
    while full < 3 {
        match stream.write(&block) {
            Ok(_) => full = 0,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                full += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error).context("cannot fill a connection"),
        }
    }
    Ok(())
}

impl Role for Deserter {
    fn act(&mut self) -> anyhow::Result<Option<Duration>> {
        let (batch, rest) = match self.left.saturating_sub(RESERVE) {
            0 => (2, Duration::from_millis(100)),
            many => (many.min(50), Duration::ZERO),
        };
        for _ in 0..batch.min(self.left) {
            self.desert()?;
        }
        Ok((self.left > 0).then_some(rest))
    }

    fn is_ready(&self) -> bool {
        self.left <= RESERVE
    }

    fn count(&mut self) -> anyhow::Result<Vec<ProcessTruth>> {
        Ok(vec![self.account.clone()])
    }
}

/// Compares the connections closed with data unsent with a report. Others on the host may have
/// orphans, too.
pub fn check_orphans(truth: &GroundTruth, end: &EndReport) -> Vec<String> {
    let mut wrong = Vec::new();
    let all: u64 = truth.processes.iter().map(|own| own.orphaned).sum();
    let reported = (end.unattributed_kinds.as_ref()).map_or(0, |kinds| kinds.orphan);
    if reported < all {
        wrong.push(format!("{all} sockets are orphans, reported {reported}"));
    }
    for own in truth.processes.iter().filter(|own| own.orphaned > 0) {
        let Some(orphans) = &end.orphans else {
            wrong.push("the report says nothing about orphans".to_owned());
            break;
        };
        let closed = (orphans.processes.iter().find(|one| one.pid == own.pid)).map(|one| one.count);
        if closed != Some(own.orphaned) {
            wrong.push(format!(
                "{} has left {} orphans, reported {closed:?}",
                own.comm, own.orphaned
            ));
        }
        let peer = own.dst.map(|dst| dst.to_string());
        let theirs = (orphans.peers.iter())
            .find(|one| one.netns == truth.netns && Some(&one.peer) == peer.as_ref());
        let told = theirs.map(|one| (one.count, one.unsent_bytes > own.orphaned));
        if told != Some((own.orphaned, true)) {
            wrong.push(format!(
                "{} orphans are to {peer:?}, reported {theirs:?}",
                own.orphaned
            ));
        }
    }
    wrong
}
