//! bind() that fails.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::io::Errno;

use super::super::script::settle;
use super::super::{Options, Script};
use super::exhausted::RANGE;
use super::ledger::Fault;
use super::sys;
use super::world::{SERVICE, World, close_in_turn};

/// `over`: ports that a bound socket, a TIME_WAIT and a listener have.
pub(super) fn conflict(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    let mut world = World::new(options);
    let (bound, waiting) = (world.here(45000), world.here(45001));
    let fault = Fault::at_once(Errno::ADDRINUSE, "port_conflict");
    world.bind_and_keep(bound)?;
    // The accepting side closes first, and then the listener is gone, too. SO_REUSEADDR passes
    // on to TIME_WAIT.
    let listener = world.reusing_socket()?;
    let server = world.server_of(listener, waiting.port())?;
    let socket = world.socket()?;
    let (client, accepted) = world.connect(socket, &server)?;
    close_in_turn(accepted, client)?;
    drop(server);
    settle(0)?;
    let listening = world.server(SERVICE)?;
    for _ in world.times() {
        let socket = world.socket()?;
        world.ledger.bind_fails(&socket, bound, fault)?;
        world.ledger.bind_fails(&socket, waiting, fault)?;
        let socket = world.reusing_socket()?;
        world.ledger.bind_fails(&socket, listening.address, fault)?;
    }
    // SO_REUSEADDR is for TIME_WAIT.
    let socket = world.reusing_socket()?;
    world.ledger.binds(&socket, waiting)?;
    world.kept.push(socket);
    let free = world.here(45002);
    world.bind_and_keep(free)?;
    world.show(script, None)
}

/// `over`.
pub(super) fn exhausted(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    sys::set_range(RANGE)?;
    let mut world = World::new(options);
    let any = world.here(0);
    for _ in 0..16 {
        world.bind_and_keep(any)?;
    }
    let fault = Fault::exhausted(Errno::ADDRINUSE, RANGE);
    for _ in world.times() {
        let socket = world.socket()?;
        world.ledger.bind_fails(&socket, any, fault)?;
    }
    // Without a port nothing is searched, and outside of the range there is room.
    let socket = world.socket()?;
    sys::set_no_port(&socket)?;
    world.ledger.binds(&socket, any)?;
    world.kept.push(socket);
    let outside = world.here(45000);
    world.bind_and_keep(outside)?;
    world.show(
        script,
        Some(super::Breakdown {
            bound: 16,
            ..super::Breakdown::default()
        }),
    )
}

/// `over`: addresses of documentation (RFC 5737, RFC 3849), which nobody has.
pub(super) fn not_local(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    let mut world = World::new(options);
    let far: IpAddr = match options.v6 {
        true => "2001:db8::1".parse::<Ipv6Addr>()?.into(),
        false => Ipv4Addr::new(192, 0, 2, 1).into(),
    };
    let fault = Fault::at_once(Errno::ADDRNOTAVAIL, "address_not_local");
    for _ in world.times() {
        let socket = world.socket()?;
        (world.ledger).bind_fails(&socket, SocketAddr::new(far, 45000), fault)?;
    }
    for _ in world.times() {
        let any = world.here(0);
        world.bind_and_keep(any)?;
    }
    world.show(script, None)
}
