//! Connections of which one end has gone, or never came.

use std::io::{ErrorKind, Write as _};
use std::net::TcpStream;

use anyhow::Context as _;

use super::script::until;
use super::sockets::{
    CLOSE, CLOSE_WAIT, Connections, all_in, close_by_reset, close_first, listener,
};
use super::{Options, Phase, Script, Truth};

/// `open`, `reset` (the clients are CLOSED and kept), `closed`.
pub(super) fn reset(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    let count = options.count as u64;
    let (mut phase, mut truth) = open_phase(options, script);
    let (listener, address) = listener(options)?;
    let Connections { clients, servers } = Connections::open(&listener, address, options.count)?;
    if !script.show(&phase)? {
        return Ok(());
    }

    for server in &servers {
        close_by_reset(server)?;
    }
    drop(servers);
    until("the clients have been reset", || all_in(&clients, CLOSE))?;
    (truth.established, truth.unbound) = (0, count);
    next(&mut phase, "reset", &truth, count);
    if !script.show(&phase)? {
        return Ok(());
    }

    drop(clients);
    truth.unbound = 0;
    next(&mut phase, "closed", &truth, 2 * count);
    script.show(&phase).map(drop)
}

/// `open`, `aborted` (the clients are destroyed by somebody else, as `ss -K` does it, and kept), `closed`.
pub(super) fn aborted(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    let count = options.count as u64;
    let (mut phase, mut truth) = open_phase(options, script);
    let (listener, address) = listener(options)?;
    let Connections { clients, servers } = Connections::open(&listener, address, options.count)?;
    if !script.show(&phase)? {
        return Ok(());
    }

    for client in &clients {
        super::destroy::destroy(client.local_addr()?, address)?;
    }
    until("the clients are destroyed", || all_in(&clients, CLOSE))?;
    until("the servers know of it", || all_in(&servers, CLOSE))?;
    drop(servers);
    (truth.established, truth.unbound) = (0, count);
    next(&mut phase, "aborted", &truth, count);
    if !script.show(&phase)? {
        return Ok(());
    }

    drop(clients);
    truth.unbound = 0;
    next(&mut phase, "closed", &truth, 2 * count);
    script.show(&phase).map(drop)
}

/// `open`, `close-wait` (the accepted ends know of the close and are kept), `closed`.
pub(super) fn close_wait(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    let count = options.count as u64;
    let (mut phase, mut truth) = open_phase(options, script);
    let (listener, address) = listener(options)?;
    let Connections { clients, servers } = Connections::open(&listener, address, options.count)?;
    if !script.show(&phase)? {
        return Ok(());
    }

    close_first(clients)?;
    until("the servers know of the close", || {
        all_in(&servers, CLOSE_WAIT)
    })?;
    (truth.established, truth.close_wait) = (0, count);
    next(&mut phase, "close-wait", &truth, count);
    if !script.show(&phase)? {
        return Ok(());
    }

    drop(servers);
    truth.close_wait = 0;
    next(&mut phase, "closed", &truth, 2 * count);
    script.show(&phase).map(drop)
}

/// `queued` (connected, not accepted), `closed` (the listener is closed first, which resets).
pub(super) fn accept_queue(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    let count = options.count as u64;
    let (mut phase, mut truth) = open_phase(options, script);
    let (listener, address) = listener(options)?;
    let clients = (0..options.count)
        .map(|_| TcpStream::connect(address).context("cannot connect"))
        .collect::<anyhow::Result<Vec<_>>>()?;
    // connect() returns before the last ACK has made the child.
    until("all connections are in the queue", || {
        let queued = super::sockets::accept_queue(&listener)?;
        Ok(u64::from(queued) == count)
    })?;
    truth.established = count;
    truth.accepted = 0;
    phase.accept_queue = count;
    next(&mut phase, "queued", &truth, 0);
    if !script.show(&phase)? {
        return Ok(());
    }

    drop(listener);
    until("the clients have been reset", || all_in(&clients, CLOSE))?;
    drop(clients);
    (truth.established, truth.listen) = (0, 0);
    phase.accept_queue = 0;
    next(&mut phase, "closed", &truth, 2 * count + 1);
    script.show(&phase).map(drop)
}

/// `orphaned` (the clients were closed with data that the servers do not read), `closed` (the
/// servers are closed with unread data, which resets the orphans).
pub(super) fn orphans(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    let count = options.count as u64;
    let (mut phase, mut truth) = open_phase(options, script);
    let (listener, address) = listener(options)?;
    let Connections { clients, servers } = Connections::open(&listener, address, options.count)?;
    for client in &clients {
        fill(client)?;
    }
    drop(clients);
    truth.established = count;
    phase.orphans = count;
    next(&mut phase, "orphaned", &truth, 0);
    if !script.show(&phase)? {
        return Ok(());
    }

    drop(servers);
    truth.established = 0;
    phase.orphans = 0;
    next(&mut phase, "closed", &truth, 2 * count);
    script.show(&phase).map(drop)
}

/// Writes until nothing more fits, neither here nor at the peer.
fn fill(mut stream: &TcpStream) -> anyhow::Result<()> {
    stream.set_nonblocking(true)?;
    let block = vec![0; 64 * 1024];
    let mut full = 0;
    // Loopback delivers at once, but the peer's window may open a little later.
    while full < 3 {
        match stream.write(&block) {
            Ok(_) => full = 0,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                full += 1;
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            Err(error) => return Err(error).context("cannot fill a connection"),
        }
    }
    Ok(())
}

fn open_phase(options: &Options, script: &Script) -> (Phase, Truth) {
    let count = options.count as u64;
    let truth = Truth {
        listen: 1,
        established: 2 * count,
        allocated: 1 + count,
        accepted: count,
        ..Truth::of_self()
    };
    let phase = Phase {
        processes: vec![truth.clone()],
        allocated: Some(1 + count),
        children: Some(count),
        destroyed: Some(0),
        ..script.phase("open")
    };
    (phase, truth)
}

fn next(phase: &mut Phase, name: &str, truth: &Truth, destroyed: u64) {
    phase.phase = name.to_owned();
    phase.processes = vec![truth.clone()];
    phase.destroyed = Some(destroyed);
}
