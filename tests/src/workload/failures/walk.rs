//! Connections of which it is known which ports were taken when the kernel looked for theirs.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::{Options, Script};
use super::ledger::local;
use super::sys;
use super::world::{SERVICE, World};

/// How many connections.
const CONNECTS: usize = 100;
/// The range: 60 of 200 ports are taken beforehand, so that the connections come to its second
/// parity on the way.
const RANGE: [u16; 2] = [40000, 40199];

/// What is needed to replay the port searches of [`Walks::ports`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walks {
    /// Where all connected to.
    pub dst: Option<SocketAddr>,
    /// The range searched.
    pub range: [u16; 2],
    /// It is the sockets' own range (IP_LOCAL_PORT_RANGE).
    pub own_range: bool,
    /// Ports that were bound or reserved before.
    pub taken: Vec<u16>,
    /// Ports that the kernel chose, in this order; all stay connected.
    pub ports: Vec<u16>,
}

/// `over`.
pub(super) fn in_range(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    walk(options, script, RANGE, false)
}

/// `over`.
pub(super) fn in_local_range(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    let probe = options.socket()?;
    sys::set_range([39000, 41999])?;
    if !sys::set_port_range(&probe, RANGE)? {
        return script.skip("the kernel has no IP_LOCAL_PORT_RANGE (ENOPROTOOPT)");
    }
    walk(options, script, [39000, 41999], true)
}

fn walk(
    options: &Options,
    script: &mut Script,
    range: [u16; 2],
    own_range: bool,
) -> anyhow::Result<()> {
    sys::set_range(range)?;
    let mut world = World::new(options);
    let server = world.server(SERVICE)?;
    let [low, _] = RANGE;
    let mut taken = Vec::new();
    // 20 bound, 20 bound on another address, 20 reserved; in clumps and on both parities.
    for port in (low + 10..low + 30).chain(low + 101..low + 121) {
        let address = match port < low + 100 {
            true => world.here(port),
            false => world.other_here(port),
        };
        taken.push(world.bind_and_keep(address)?);
    }
    sys::sysctl(
        "ip_local_reserved_ports",
        &format!("{}-{}", low + 150, low + 169),
    )?;
    taken.extend(low + 150..low + 170);
    let mut ports = Vec::new();
    for _ in 0..CONNECTS {
        // Slow enough for whoever wants to see each of them.
        std::thread::sleep(Duration::from_millis(10));
        let socket = world.socket()?;
        if own_range {
            sys::set_port_range(&socket, RANGE)?;
        }
        let both = world.connect(socket, &server)?;
        ports.push(local(&both.0)?.port());
        world.kept.extend([both.0, both.1]);
    }
    let walks = Walks {
        dst: Some(server.address),
        range: RANGE,
        own_range,
        taken,
        ports,
    };
    world.show_with(script, Some(walks))
}
