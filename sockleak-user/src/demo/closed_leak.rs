//! Sockets that are created and then forgotten: no connect, no listen, no close.
//!
//! `alloc` in /proc/net/sockstat rises far above `inuse`, `ss -s` calls the difference "closed",
//! `ss -ta` lists none of them and lsof calls each "protocol: TCP" without addresses.

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::time::Duration;

use anyhow::Context as _;
use rustix::net::AddressFamily;

use super::actor::{DemoError, Launcher};
use super::netns::raise_roomy_limit;
use super::role::{Arguments, Role};
use super::{ProcessTruth, Running, Scenario};
use crate::report::After;

pub(super) static SCENARIO: Scenario = Scenario {
    name: "closed-leak",
    summary: "sockets created by the thousand, never used nor closed; ss lists none",
    story: "\
A log collector creates sockets and forgets them, and two smaller programs do
the same more slowly. `alloc` in /proc/net/sockstat grows far above `inuse`,
`ss -s` reports thousands `closed`, and no listing shows one of them. A web
server, its client and a program that closes what it opens run beside them and
must not be named.",
    start,
    steps: 0,
};

fn start(launcher: &Launcher) -> Result<Running, DemoError> {
    let mut running = Running::stage(launcher, SCENARIO.name, [32768, 60999])?;
    let text = |arguments: &[&str]| -> Vec<String> {
        arguments.iter().map(|one| (*one).to_owned()).collect()
    };
    let web = "127.0.0.1:8080";
    running.enter_and_wait(
        launcher,
        "echo",
        "web",
        &text(&[&format!("--listen={web}")]),
    )?;
    let pool = text(&[&format!("--to={web}"), "--size=40"]);
    running.enter_and_wait(launcher, "pool", "web-client", &pool)?;
    running.enter_and_wait(launcher, "orderly", "orderly", &[])?;
    let leaks = [
        (
            "log-collector",
            ["--at-once=12000", "--per-second=200", "--most=16000"],
            "--family=4",
        ),
        (
            "monitor-agent",
            ["--at-once=3000", "--per-second=50", "--most=4000"],
            "--family=6",
        ),
        (
            "cron-helper",
            ["--at-once=1000", "--per-second=20", "--most=1500"],
            "--family=4",
        ),
    ];
    for (comm, sizes, family) in leaks {
        let mut arguments = text(&sizes);
        arguments.push(family.to_owned());
        running.enter_and_wait(launcher, "never-used", comm, &arguments)?;
    }
    Ok(running)
}

/// A TCP socket and nothing else.
///
/// Through the C library, as most programs make theirs, and part of its caller: in a stack
/// `socket` is followed by the function that wanted one.
#[inline(always)]
pub(super) fn bare_socket(family: AddressFamily) -> io::Result<OwnedFd> {
    let family = i32::from(family.as_raw());
    // SAFETY: a system call without pointers.
    let fd = unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Creates `--at-once` sockets, then `--per-second` up to `--most`, and closes none.
pub(super) struct NeverUsed {
    account: ProcessTruth,
    family: AddressFamily,
    at_once: usize,
    per_tenth: usize,
    most: usize,
    wanted: usize,
    sockets: Vec<OwnedFd>,
}

/// Descriptors that an actor needs for other things than sockets.
pub(super) const SPARE_DESCRIPTORS: usize = 64;

const TENTH: Duration = Duration::from_millis(100);

impl NeverUsed {
    pub(super) fn new(arguments: &Arguments) -> anyhow::Result<Self> {
        let wanted: usize = arguments.number("most")?;
        let per_second: usize = arguments.number("per-second")?;
        let limit = raise_roomy_limit((wanted + SPARE_DESCRIPTORS) as u64);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let most = wanted.min(limit.saturating_sub(SPARE_DESCRIPTORS));
        Ok(Self {
            account: ProcessTruth {
                after: Some(After::NeverUsed),
                ..arguments.account("creates sockets and forgets them", true)
            },
            family: match arguments.number("family")? {
                6 => AddressFamily::INET6,
                _ => AddressFamily::INET,
            },
            at_once: arguments.number::<usize>("at-once")?.min(most),
            per_tenth: (per_second / 10).max(1),
            most,
            wanted,
            sockets: Vec::with_capacity(most),
        })
    }

    #[inline(never)]
    fn create_and_forget(&mut self) -> anyhow::Result<()> {
        let socket = bare_socket(self.family).context("cannot create a socket")?;
        self.account.created += 1;
        self.sockets.push(socket);
        Ok(())
    }
}

impl Role for NeverUsed {
    fn act(&mut self) -> anyhow::Result<Option<Duration>> {
        let have = self.sockets.len();
        let (batch, rest) = match self.at_once.saturating_sub(have) {
            0 => (self.per_tenth.min(self.most - have), TENTH),
            missing => (missing.min(500), Duration::ZERO),
        };
        for _ in 0..batch {
            self.create_and_forget()?;
        }
        Ok((self.sockets.len() < self.most).then_some(rest))
    }

    fn is_ready(&self) -> bool {
        self.sockets.len() >= self.at_once
    }

    fn count(&mut self) -> anyhow::Result<Vec<ProcessTruth>> {
        self.account.held.unbound = self.sockets.len() as u64;
        Ok(vec![self.account.clone()])
    }

    fn notes(&self) -> Vec<String> {
        if self.most == self.wanted {
            return Vec::new();
        }
        vec![format!(
            "{} stops at {} sockets instead of {}: the hard limit of open files does not allow \
             more, and raising it takes CAP_SYS_RESOURCE",
            self.account.comm, self.most, self.wanted
        )]
    }
}

/// Creates 50 sockets, closes them 50 ms later, and so on: a bystander.
pub(super) struct Orderly {
    account: ProcessTruth,
    sockets: Vec<OwnedFd>,
}

impl Orderly {
    pub(super) fn new(arguments: &Arguments) -> anyhow::Result<Self> {
        Ok(Self {
            account: arguments.account("opens and closes sockets", false),
            sockets: Vec::new(),
        })
    }
}

impl Role for Orderly {
    fn act(&mut self) -> anyhow::Result<Option<Duration>> {
        if self.sockets.is_empty() {
            for _ in 0..50 {
                let socket = bare_socket(AddressFamily::INET).context("cannot create a socket")?;
                self.account.created += 1;
                self.sockets.push(socket);
            }
        } else {
            self.sockets.clear();
        }
        Ok(Some(Duration::from_millis(50)))
    }

    fn come_to_rest(&mut self) -> anyhow::Result<()> {
        self.sockets.clear();
        Ok(())
    }

    fn count(&mut self) -> anyhow::Result<Vec<ProcessTruth>> {
        self.account.held.unbound = self.sockets.len() as u64;
        Ok(vec![self.account.clone()])
    }
}
