//! Connections made and closed in order, and connections that do not come about.

use std::net::{SocketAddr, TcpStream};

use anyhow::{Context as _, bail};
use rustix::io::Errno;

use super::script::until;
use super::sockets::{CLOSE_WAIT, Connections, all_in, close_by_reset, close_first, listener};
use super::{Options, Script, Truth};

/// `open`, `half-closed` (the servers are in CLOSE_WAIT), `closed` (only the listener is left).
pub(super) fn active(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    open_and_close(options, script, true)
}

/// The same, but the accepting end closes first.
pub(super) fn passive(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    open_and_close(options, script, false)
}

fn open_and_close(
    options: &Options,
    script: &mut Script,
    client_first: bool,
) -> anyhow::Result<()> {
    let count = options.count as u64;
    let mut truth = Truth::of_self();
    let (listener, address) = listener(options)?;
    let Connections { clients, servers } = Connections::open(&listener, address, options.count)?;
    truth.allocated = 1 + count;
    truth.accepted = count;
    truth.listen = 1;
    truth.established = 2 * count;
    let mut phase = script.phase("open");
    phase.allocated = Some(1 + count);
    phase.children = Some(count);
    phase.destroyed = Some(0);
    phase.processes = vec![truth.clone()];
    if !script.show(&phase)? {
        return Ok(());
    }

    let (first, second) = match client_first {
        true => (clients, servers),
        false => (servers, clients),
    };
    close_first(first)?;
    until("the other ends know of the close", || {
        all_in(&second, CLOSE_WAIT)
    })?;
    // Closed in FIN_WAIT2 they become mini-sockets at once (tcp_fin_timeout <= 60 s): destroyed.
    truth.established = 0;
    truth.close_wait = count;
    phase.phase = "half-closed".to_owned();
    phase.destroyed = Some(count);
    phase.processes = vec![truth.clone()];
    if !script.show(&phase)? {
        return Ok(());
    }

    drop(second);
    truth.close_wait = 0;
    phase.phase = "closed".to_owned();
    phase.destroyed = Some(2 * count);
    phase.processes = vec![truth];
    script.show(&phase).map(drop)
}

/// `refused` (all are kept), `closed`.
pub(super) fn refused(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    fail(options, script, "refused", |address, sockets| {
        for socket in sockets {
            match rustix::net::connect(socket, &SocketAddr::new(address, 9)) {
                Err(Errno::CONNREFUSED) => {}
                other => bail!("connect to a closed port gave {other:?}"),
            }
        }
        Ok(0)
    })
}

/// `failed` (all are kept; four more hold the whole range), `closed`.
pub(super) fn no_port(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    let range = "/proc/sys/net/ipv4/ip_local_port_range";
    std::fs::write(range, "50000 50003").with_context(|| format!("cannot write {range}"))?;
    let holders = (50000..50004)
        .map(|port| options.bound_socket(port))
        .collect::<anyhow::Result<Vec<_>>>()?;
    fail(options, script, "failed", |address, sockets| {
        for socket in sockets {
            match rustix::net::connect(socket, &SocketAddr::new(address, 9)) {
                Err(Errno::ADDRNOTAVAIL) => {}
                other => bail!("connect without a free port gave {other:?}"),
            }
        }
        Ok(holders.len() as u64)
    })
}

fn fail(
    options: &Options,
    script: &mut Script,
    name: &str,
    connect: impl FnOnce(std::net::IpAddr, &[std::os::fd::OwnedFd]) -> anyhow::Result<u64>,
) -> anyhow::Result<()> {
    let sockets = options.sockets(options.count)?;
    let bound = connect(options.loopback(), &sockets)?;
    let count = sockets.len() as u64;
    let mut phase = script.phase(name);
    phase.allocated = Some(count + bound);
    phase.children = Some(0);
    phase.destroyed = Some(0);
    let mut truth = Truth {
        unbound: count,
        bound,
        allocated: count + bound,
        ..Truth::of_self()
    };
    phase.processes = vec![truth.clone()];
    if !script.show(&phase)? {
        return Ok(());
    }
    drop(sockets);
    truth.unbound = 0;
    phase.phase = "closed".to_owned();
    phase.destroyed = Some(count);
    phase.processes = vec![truth];
    script.show(&phase).map(drop)
}

/// `round-1`, `round-2`, ...: each `count` times connect, accept and close by reset, which
/// leaves no TIME_WAIT behind. Goes on for as long as it is told to.
pub(super) fn churn(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    let (listener, address) = listener(options)?;
    let mut truth = Truth {
        listen: 1,
        allocated: 1,
        ..Truth::of_self()
    };
    let mut rounds = 0;
    loop {
        for _ in 0..options.count {
            let client = TcpStream::connect(address).context("cannot connect")?;
            let (server, _) = listener.accept().context("cannot accept")?;
            close_by_reset(&client)?;
            drop((client, server));
            rounds += 1;
        }
        truth.allocated = 1 + rounds;
        truth.accepted = rounds;
        let mut phase = script.phase(&format!("round-{}", rounds / options.count.max(1) as u64));
        phase.allocated = Some(1 + rounds);
        phase.children = Some(rounds);
        phase.destroyed = Some(2 * rounds);
        phase.processes = vec![truth.clone()];
        if !script.show(&phase)? {
            return Ok(());
        }
    }
}
