//! listen() that fails.

use std::net::SocketAddr;

use rustix::io::Errno;

use super::super::{Options, Script};
use super::exhausted::RANGE;
use super::ledger::Fault;
use super::sys;
use super::world::World;

/// `over`: listen() on a socket without a port has to choose one.
pub(super) fn exhausted(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    let mut world = World::new(options);
    let [low, _] = RANGE;
    sys::set_range([low, low + 3])?;
    let fault = Fault::exhausted(Errno::ADDRINUSE, [low, low + 3]);
    // One listener finds a port by itself.
    let socket = world.socket()?;
    world.ledger.listens(&socket)?;
    let own: SocketAddr = super::ledger::local(&socket)?;
    world.kept.push(socket);
    for port in (low..low + 4).filter(|port| *port != own.port()) {
        let address = world.here(port);
        world.bind_and_keep(address)?;
    }
    for _ in world.times() {
        let socket = world.socket()?;
        world.ledger.listen_fails(&socket, fault)?;
    }
    world.show(script, None)
}

/// `over`: all share the port by SO_REUSEADDR until one of them listens.
pub(super) fn conflict(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    let mut world = World::new(options);
    let here = world.here(45000);
    let fault = Fault::at_once(Errno::ADDRINUSE, "port_conflict");
    let mut all = Vec::new();
    for _ in 0..options.count + 1 {
        let socket = world.reusing_socket()?;
        world.ledger.binds(&socket, here)?;
        all.push(socket);
    }
    // The kernel looks at the port again, and all is well: no bind(), no failure.
    for (turn, socket) in all.iter().enumerate() {
        match turn {
            0 => world.ledger.listens(socket)?,
            _ => world.ledger.listen_fails(socket, fault)?,
        }
    }
    world.kept.extend(all);
    world.show(script, None)
}
