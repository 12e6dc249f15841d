//! Programs that do exactly so much and say so: the ground truth that reports are held against.
//!
//! A workload advances phase by phase. At the end of each phase it prints one JSON object
//! ([`Phase`]) and waits for `step` on its standard input; nothing moves until then. `quit` or
//! the end of the input ends it. It lives in a network namespace of its own.

mod close;
mod connect;
mod crew;
mod destroy;
mod driver;
mod failures;
mod leak;
mod mptcp;
mod peer;
mod phase;
mod script;
mod share;
mod sockets;

use anyhow::{Context as _, bail};

pub use driver::Driver;
pub use failures::{Breakdown, FAILURES, Failure, Ledger, Searches, Walks};
pub use phase::{Phase, Truth};
pub use script::Script;

/// What the command line asks for.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many sockets, connections or rounds per process and phase.
    pub count: usize,
    /// How many processes, where the workload has several.
    pub processes: usize,
    /// IPv6 instead of IPv4.
    pub v6: bool,
}

type Workload = fn(&Options, &mut Script) -> anyhow::Result<()>;

/// All workloads: name, what it does, how.
pub const WORKLOADS: &[(&str, &str, Workload)] = &[
    (
        "unbound-leak",
        "processes create sockets and forget them",
        leak::unbound,
    ),
    (
        "bound-leak",
        "processes bind sockets and forget them",
        leak::bound,
    ),
    (
        "named",
        "a leaking process named with a terminal escape sequence",
        leak::named,
    ),
    (
        "active-close",
        "connections that the client closes first",
        connect::active,
    ),
    (
        "passive-close",
        "connections that the server closes first",
        connect::passive,
    ),
    (
        "refused",
        "connect() is refused, the sockets are kept",
        connect::refused,
    ),
    (
        "no-port",
        "connect() finds no port, the sockets are kept",
        connect::no_port,
    ),
    (
        "churn",
        "connect, accept and close, round after round",
        connect::churn,
    ),
    (
        "forked",
        "children inherit sockets that their parent closes",
        share::forked,
    ),
    (
        "passed",
        "sockets move to another process over SCM_RIGHTS",
        share::passed,
    ),
    (
        "exit",
        "sockets are closed by exit and by SIGKILL",
        close::by_exit,
    ),
    (
        "short-lived",
        "many processes that create sockets and exit",
        close::short_lived,
    ),
    (
        "reset",
        "the peer resets, the sockets are kept",
        peer::reset,
    ),
    (
        "aborted",
        "connections whose clients are destroyed by sock_diag and kept",
        peer::aborted,
    ),
    (
        "close-wait",
        "the peer closes, the sockets are kept",
        peer::close_wait,
    ),
    (
        "accept-queue",
        "connections that nobody accepts",
        peer::accept_queue,
    ),
    (
        "orphans",
        "sockets closed with data that cannot be sent",
        peer::orphans,
    ),
    (
        "mptcp",
        "MPTCP sockets, whose TCP subflows are hidden",
        mptcp::subflows,
    ),
];

/// Runs the workload that the arguments (without the program's name) ask for.
///
/// # Errors
/// Wrong arguments, or whatever the kernel refused.
pub fn run(arguments: &[String]) -> anyhow::Result<()> {
    let (name, options) = parse(arguments)?;
    let mut all = WORKLOADS.iter().chain(FAILURES);
    let (name, _, workload) = (all.find(|(known, ..)| *known == name))
        .with_context(|| format!("there is no workload {name:?}"))?;
    let mut script = Script::begin(name)?;
    workload(&options, &mut script)
}

fn parse(arguments: &[String]) -> anyhow::Result<(&str, Options)> {
    let mut name = None;
    let mut options = Options {
        count: 100,
        processes: 4,
        v6: false,
    };
    for argument in arguments {
        match argument.split_once('=') {
            Some(("--count", value)) => options.count = value.parse().context("--count")?,
            Some(("--processes", value)) => {
                options.processes = value.parse().context("--processes")?;
            }
            Some(("--descriptors", value)) => {
                let most = value.parse().context("--descriptors")?;
                lower_descriptors(most).context("--descriptors")?;
            }
            Some(("--family", "4")) => options.v6 = false,
            Some(("--family", "6")) => options.v6 = true,
            None if name.is_none() && !argument.starts_with('-') => name = Some(argument.as_str()),
            _ => bail!("cannot understand {argument:?}"),
        }
    }
    Ok((name.context("which workload?")?, options))
}

/// Few descriptors make a leak of a few sockets.
fn lower_descriptors(most: u64) -> rustix::io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let lowered = Rlimit {
        current: Some(most),
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    setrlimit(Resource::Nofile, lowered)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn arguments_are_read() {
        let arguments = words("churn --count=7 --family=6");
        let (name, options) = parse(&arguments).unwrap();
        assert_eq!((name, options.count, options.v6), ("churn", 7, true));
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(parse(&words("churn --count=x")).is_err());
        assert!(parse(&words("churn again")).is_err());
        assert!(parse(&words("--count=3")).is_err());
        assert!(run(&words("no-such-workload")).is_err());
    }
}
