//! Calls that somebody forbids.

use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets};

use anyhow::Context as _;

use super::super::crew::{Member, obey};
use super::super::{Options, Script};
use super::forbid::{CgroupBan, landlock_tcp};
use super::ledger::{Fault, Ledger};
use super::world::{SERVICE, World};

/// `over`: a child in a cgroup whose programs say no to connect() and bind().
pub(super) fn by_cgroup(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    let ban = match CgroupBan::make(options.v6)? {
        Ok(ban) => ban,
        Err(why) => return script.skip(&why),
    };
    let mut world = World::new(options);
    let server = world.server(SERVICE)?;
    world.connect_and_keep(&server, 5)?;
    let mut member = Member::fork(|channel| {
        obey(channel, |_| {
            let mut own = World::new(options);
            ban.submit()?;
            forbidden(&mut own, Errno::PERM)?;
            Ok(own.ledger)
        })
    })?;
    world.ledger.add(member.ask::<Ledger>(b'!')?);
    world.connect_and_keep(&server, 5)?;
    let shown = world.show(script, None);
    member.dismiss()?;
    ban.lift()?;
    shown
}

/// `over`: a child in a Landlock sandbox.
pub(super) fn by_landlock(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    let mut world = World::new(options);
    let server = world.server(SERVICE)?;
    world.connect_and_keep(&server, 5)?;
    let mut member = Member::fork(|channel| {
        obey(channel, |_| {
            let mut own = World::new(options);
            if landlock_tcp()? {
                forbidden(&mut own, Errno::ACCESS)?;
            }
            Ok(own.ledger)
        })
    })?;
    let ledger = member.ask::<Ledger>(b'!')?;
    if ledger.failures.is_empty() {
        return script.skip("the kernel has no Landlock rules for TCP (from Linux 6.7 on)");
    }
    world.ledger.add(ledger);
    let shown = world.show(script, None);
    member.dismiss()?;
    shown
}

fn forbidden(own: &mut World<'_>, errno: Errno) -> anyhow::Result<()> {
    let fault = Fault::at_once(errno, "denied");
    let (service, port) = (own.here(SERVICE), own.here(45000));
    for _ in own.times() {
        let socket = own.socket()?;
        own.ledger.connect_fails(&socket, service, fault)?;
        own.ledger.bind_fails(&socket, port, fault)?;
    }
    Ok(())
}

/// `over`: ports below `net.ipv4.ip_unprivileged_port_start` are for CAP_NET_BIND_SERVICE.
pub(super) fn by_capability(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    let mut world = World::new(options);
    let privileged = world.here(80);
    world.bind_and_keep(privileged)?;
    let mut member = Member::fork(|channel| {
        obey(channel, |_| {
            let mut own = World::new(options);
            drop_bind_service()?;
            let fault = Fault::at_once(Errno::ACCESS, "denied");
            for _ in own.times() {
                let socket = own.socket()?;
                let port = own.here(81);
                own.ledger.bind_fails(&socket, port, fault)?;
                let high = own.here(0);
                own.ledger.binds(&socket, high)?;
            }
            Ok(own.ledger)
        })
    })?;
    world.ledger.add(member.ask::<Ledger>(b'!')?);
    let shown = world.show(script, None);
    member.dismiss()?;
    shown
}

fn drop_bind_service() -> anyhow::Result<()> {
    let CapabilitySets {
        effective,
        permitted,
        inheritable,
    } = rustix::thread::capabilities(None).context("capget")?;
    let rest = CapabilitySets {
        effective: effective - CapabilitySet::NET_BIND_SERVICE,
        permitted,
        inheritable,
    };
    rustix::thread::set_capabilities(None, rest).context("capset")
}
