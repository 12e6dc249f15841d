//! connect() finds no port.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use anyhow::{Context as _, bail};
use rustix::io::Errno;
use rustix::net::{AddressFamily, Protocol, SendFlags, SocketFlags, SocketType};

use super::super::crew::{Member, obey};
use super::super::{Options, Script};
use super::ledger::{Breakdown, Fault, Ledger};
use super::sys;
use super::world::{SERVICE, Server, World};

/// The range of local ports, and how many there are in it.
pub(super) const RANGE: [u16; 2] = [40000, 40015];
const SIZE: u16 = 16;

/// No port of the range is left.
pub(super) fn fault() -> Fault {
    Fault::exhausted(Errno::ADDRNOTAVAIL, RANGE)
}

/// Sets the range and listens on two ports outside of it.
fn begin(world: &mut World<'_>) -> anyhow::Result<(Server, Server)> {
    sys::set_range(RANGE)?;
    Ok((world.server(SERVICE)?, world.server(SERVICE + 1)?))
}

/// All ports are taken by connections to the first server; the second is not concerned.
fn fill(world: &mut World<'_>) -> anyhow::Result<(Server, Server)> {
    let (full, other) = begin(world)?;
    world.connect_and_keep(&full, SIZE.into())?;
    Ok((full, other))
}

/// Connections to another destination find ports.
fn others_work(world: &mut World<'_>, other: &Server) -> anyhow::Result<()> {
    world.connect_and_keep(other, 5)
}

/// `over`: connections that are refused have found a port. That they fail is not about ports.
pub(super) fn refused(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    let mut world = World::new(options);
    let (_, other) = begin(&mut world)?;
    for _ in world.times() {
        let socket = world.socket()?;
        let nobody = world.here(SERVICE + 2);
        world.ledger.connect_refused(&socket, nobody)?;
    }
    others_work(&mut world, &other)?;
    world.show(script, None)
}

const BY_CONNECTIONS: Breakdown = Breakdown {
    connected: SIZE as u64,
    time_wait: 0,
    bound: 0,
    reserved: 0,
};

/// `over`.
pub(super) fn connections(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    by_connections(options, script, |_| Ok(()))
}

/// `over`.
pub(super) fn nonblocking(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    by_connections(options, script, |socket| {
        rustix::io::ioctl_fionbio(socket, true).context("cannot set FIONBIO")
    })
}

/// `over`.
pub(super) fn fastopen(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    by_connections(options, script, sys::set_fastopen_connect)
}

fn by_connections(
    options: &Options,
    script: &mut Script,
    prepare: impl Fn(&OwnedFd) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut world = World::new(options);
    let (full, other) = fill(&mut world)?;
    let mut retry = None;
    for _ in world.times() {
        let socket = world.socket()?;
        prepare(&socket)?;
        (world.ledger).connect_fails(&socket, full.address, fault())?;
        retry = Some(socket);
    }
    // The same socket may try again, and elsewhere it finds a port.
    let retry = retry.context("--count must not be 0")?;
    world.ledger.connect_fails(&retry, full.address, fault())?;
    let both = world.connect(retry, &other)?;
    world.kept.extend([both.0, both.1]);
    others_work(&mut world, &other)?;
    world.show(script, Some(BY_CONNECTIONS))
}

/// `over`.
pub(super) fn sendto(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    /// MSG_FASTOPEN of include/linux/socket.h.
    const MSG_FASTOPEN: u32 = 0x2000_0000;
    let mut world = World::new(options);
    let (full, other) = fill(&mut world)?;
    let flags = SendFlags::from_bits_retain(MSG_FASTOPEN | SendFlags::NOSIGNAL.bits());
    for _ in world.times() {
        let socket = world.socket()?;
        match rustix::net::sendto(&socket, b"x", flags, &full.address) {
            Err(Errno::ADDRNOTAVAIL) => {}
            other => bail!("sendto with MSG_FASTOPEN gave {other:?}"),
        }
        (world.ledger).connect_failed(full.address, None, fault(), 1)?;
    }
    others_work(&mut world, &other)?;
    world.show(script, Some(BY_CONNECTIONS))
}

/// `over`.
pub(super) fn mptcp(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    let family = match options.v6 {
        true => AddressFamily::INET6,
        false => AddressFamily::INET,
    };
    let mptcp = Protocol::from_raw(std::num::NonZeroU32::new(262).context("262 is not 0")?);
    let socket = || {
        let flags = SocketFlags::CLOEXEC;
        rustix::net::socket_with(family, SocketType::STREAM, flags, Some(mptcp))
    };
    if let Err(Errno::PROTONOSUPPORT | Errno::INVAL | Errno::NOPROTOOPT) = socket() {
        return script.skip("the kernel has no MPTCP, or it is switched off");
    }
    let mut world = World::new(options);
    let (full, other) = fill(&mut world)?;
    for _ in world.times() {
        let socket = socket().context("cannot create an MPTCP socket")?;
        (world.ledger).connect_fails(&socket, full.address, fault())?;
    }
    let socket = socket().context("cannot create an MPTCP socket")?;
    let both = world.connect(socket, &other)?;
    world.kept.extend([both.0, both.1]);
    others_work(&mut world, &other)?;
    world.show(script, Some(BY_CONNECTIONS))
}

/// `over`. The destination is IPv4 for both families.
pub(super) fn mapped(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    let v4 = Options {
        v6: false,
        ..*options
    };
    let v6 = Options { v6: true, ..v4 };
    let mut world = World::new(&v4);
    let (full, other) = fill(&mut world)?;
    let map =
        |to: SocketAddr| SocketAddr::new(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(), to.port());
    for _ in world.times() {
        let socket = v6.socket()?;
        (world.ledger).connect_fails(&socket, map(full.address), fault())?;
    }
    let socket = v6.socket()?;
    world.ledger.connects(&socket, map(other.address))?;
    world.kept.push(socket);
    others_work_unaccepted(&mut world, &other)?;
    world.show(script, Some(BY_CONNECTIONS))
}

/// As [`others_work`], where an accept() would get somebody else's connection.
fn others_work_unaccepted(world: &mut World<'_>, other: &Server) -> anyhow::Result<()> {
    for _ in 0..5 {
        let socket = world.socket()?;
        world.ledger.connects(&socket, other.address)?;
        world.kept.push(socket);
    }
    Ok(())
}

/// `over`: processes that are gone by then.
pub(super) fn exited(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    let mut world = World::new(options);
    let (full, other) = fill(&mut world)?;
    for _ in 0..options.processes {
        let mut member = Member::fork(|channel| {
            obey(channel, |_| {
                let mut own = World::new(options);
                for _ in own.times() {
                    let socket = own.socket()?;
                    own.ledger.connect_fails(&socket, full.address, fault())?;
                }
                Ok(own.ledger)
            })
        })?;
        world.ledger.add(member.ask::<Ledger>(b'!')?);
        member.dismiss()?;
    }
    others_work(&mut world, &other)?;
    world.show(script, Some(BY_CONNECTIONS))
}

/// `over`: where a search begins decides whether it looks at the first or the last port of a
/// range of odd size, so both are bound.
pub(super) fn odd(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    let mut world = World::new(options);
    let (full, other) = begin(&mut world)?;
    let [low, high] = RANGE;
    let range = [low, high + 1];
    sys::set_range(range)?;
    for port in range {
        let address = world.here(port);
        world.bind_and_keep(address)?;
    }
    let free = usize::from(SIZE) - 1;
    world.connect_and_keep(&full, free)?;
    for _ in world.times() {
        let socket = world.socket()?;
        let fault = Fault::exhausted(Errno::ADDRNOTAVAIL, range);
        world.ledger.connect_fails(&socket, full.address, fault)?;
    }
    others_work(&mut world, &other)?;
    let taken = Breakdown {
        connected: free as u64,
        bound: 2,
        ..Breakdown::default()
    };
    world.show(script, Some(taken))
}

/// `over`.
pub(super) fn time_wait(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    let taken = Breakdown {
        time_wait: SIZE.into(),
        ..Breakdown::default()
    };
    occupied(options, script, taken)
}

/// `over`.
pub(super) fn bound(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    let taken = Breakdown {
        bound: SIZE.into(),
        ..Breakdown::default()
    };
    occupied(options, script, taken)
}

/// `over`.
pub(super) fn reserved(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    let taken = Breakdown {
        reserved: SIZE.into(),
        ..Breakdown::default()
    };
    occupied(options, script, taken)
}

/// `over`.
pub(super) fn mixed(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    let taken = Breakdown {
        connected: 4,
        time_wait: 4,
        bound: 4,
        reserved: 4,
    };
    occupied(options, script, taken)
}

/// The ports are taken as `taken` says, from the lowest on: reserved, bound, and what the
/// kernel chooses for the rest.
fn occupied(options: &Options, script: &mut Script, taken: Breakdown) -> anyhow::Result<()> {
    let mut world = World::new(options);
    let (full, other) = begin(&mut world)?;
    // 2, the default, lets loopback take ports out of TIME_WAIT after a second.
    sys::sysctl("tcp_tw_reuse", "0")?;
    // A late reset would end a TIME_WAIT otherwise (tcp_timewait_state_process).
    sys::sysctl("tcp_rfc1337", "1")?;
    let [low, _] = RANGE;
    let reserved = u16::try_from(taken.reserved)?;
    let bound = u16::try_from(taken.bound)?;
    if reserved > 0 {
        let ports = format!("{low}-{}", low + reserved - 1);
        sys::sysctl("ip_local_reserved_ports", &ports)?;
    }
    for port in low + reserved..low + reserved + bound {
        let address = world.here(port);
        world.bind_and_keep(address)?;
    }
    world.connect_and_wait(&full, taken.time_wait as usize)?;
    world.connect_and_keep(&full, taken.connected as usize)?;
    for _ in world.times() {
        let socket = world.socket()?;
        world.ledger.connect_fails(&socket, full.address, fault())?;
    }
    // What bind() or the administrator took is taken for every destination.
    if reserved + bound < SIZE {
        world.connect_and_keep(&other, 5)?;
    }
    world.show(script, Some(taken))
}

/// `over`.
pub(super) fn local_range(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    let mut world = World::new(options);
    let (full, other) = begin(&mut world)?;
    let range = [RANGE[0] + 4, RANGE[0] + 7];
    let fault = Fault {
        cause: "local_range_exhausted",
        range: Some(range),
        ..fault()
    };
    for turn in 0..4 + options.count {
        let socket = world.socket()?;
        if !sys::set_port_range(&socket, range)? {
            return script.skip("the kernel has no IP_LOCAL_PORT_RANGE (ENOPROTOOPT)");
        }
        if turn < 4 {
            let both = world.connect(socket, &full)?;
            world.kept.extend([both.0, both.1]);
        } else {
            world.ledger.connect_fails(&socket, full.address, fault)?;
        }
    }
    // Without the option there are ports, and with it towards somebody else.
    world.connect_and_keep(&full, 5)?;
    let socket = world.socket()?;
    sys::set_port_range(&socket, range)?;
    let both = world.connect(socket, &other)?;
    world.kept.extend([both.0, both.1]);
    world.show(script, None)
}
