//! connect() that fails for its addresses, not for want of ports.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use anyhow::Context as _;
use rustix::io::Errno;

use super::super::script::settle;
use super::super::{Options, Script};
use super::ledger::Fault;
use super::sys;
use super::world::{SERVICE, World};

/// Port that the sockets bind before they connect.
const PORT: u16 = 45000;

/// `over`: the port is shared by SO_REUSEADDR, and one of the sharers has the connection.
pub(super) fn duplicate(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    let mut world = World::new(options);
    let (taken, other) = (world.server(SERVICE)?, world.server(SERVICE + 1)?);
    let here = world.here(PORT);
    let socket = world.reusing_socket()?;
    world.ledger.binds(&socket, here)?;
    let both = world.connect(socket, &taken)?;
    world.kept.extend([both.0, both.1]);
    let fault = Fault::at_once(Errno::ADDRNOTAVAIL, "duplicate_tuple");
    for _ in world.times() {
        let socket = world.reusing_socket()?;
        world.ledger.binds(&socket, here)?;
        world.ledger.connect_fails(&socket, taken.address, fault)?;
    }
    // Towards another destination the same port will do.
    let socket = world.reusing_socket()?;
    world.ledger.binds(&socket, here)?;
    let both = world.connect(socket, &other)?;
    world.kept.extend([both.0, both.1]);
    world.connect_and_keep(&taken, 5)?;
    world.show(script, None)
}

/// `over`: the connection has ended, and TIME_WAIT has its addresses and ports.
pub(super) fn time_wait(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    // With timestamps, a bound socket may take over from TIME_WAIT whatever tcp_tw_reuse says
    // (tcp_twsk_unique with twp == NULL).
    sys::sysctl("tcp_timestamps", "0")?;
    sys::sysctl("tcp_tw_reuse", "0")?;
    // A late reset would end the TIME_WAIT otherwise (tcp_timewait_state_process).
    sys::sysctl("tcp_rfc1337", "1")?;
    let mut world = World::new(options);
    let (taken, other) = (world.server(SERVICE)?, world.server(SERVICE + 1)?);
    let here = world.here(PORT);
    let socket = world.reusing_socket()?;
    world.ledger.binds(&socket, here)?;
    world.pass_by(socket, &taken)?;
    settle(0)?;
    let fault = Fault::at_once(Errno::ADDRNOTAVAIL, "time_wait");
    for _ in world.times() {
        let socket = world.reusing_socket()?;
        world.ledger.binds(&socket, here)?;
        world.ledger.connect_fails(&socket, taken.address, fault)?;
    }
    let socket = world.reusing_socket()?;
    world.ledger.binds(&socket, here)?;
    let both = world.connect(socket, &other)?;
    world.kept.extend([both.0, both.1]);
    world.show(script, None)
}

/// `over`.
pub(super) fn no_source(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    if !options.v6 {
        return script.skip("IPv4 answers ENETUNREACH: only IPv6 has routes without a source");
    }
    let mut world = World::new(options);
    let network: Ipv6Addr = "2001:db8::".parse()?;
    let far: Ipv6Addr = "2001:db8::1".parse()?;
    sys::add_route(IpAddr::V6(network), 32)?;
    let server = world.server(SERVICE)?;
    world.connect_and_keep(&server, 5)?;
    // Without the address their FINs get no answer: the kernel is not to try for minutes.
    let retries = "/proc/sys/net/ipv4/tcp_orphan_retries";
    std::fs::write(retries, "1").with_context(|| format!("cannot write {retries}"))?;
    sys::remove_address(Ipv6Addr::LOCALHOST.into(), 128)?;
    let fault = Fault::at_once(Errno::ADDRNOTAVAIL, "no_source_address");
    for _ in world.times() {
        let socket = world.socket()?;
        let dst = SocketAddr::new(far.into(), SERVICE);
        world.ledger.connect_fails(&socket, dst, fault)?;
    }
    world.show(script, None)
}
