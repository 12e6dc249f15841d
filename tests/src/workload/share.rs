//! Sockets whose holder is not their creator.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use anyhow::{Context as _, bail};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

use super::crew::{Member, obey};
use super::{Options, Script, Truth};

/// `shared` (three processes hold all), `inherited` (the creator has closed its own), `exited`
/// (the heirs are gone and with them the sockets).
pub(super) fn forked(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    let sockets = options.sockets(options.count)?;
    let count = sockets.len() as u64;
    let heir = |channel| {
        let truth = Truth {
            unbound: count,
            shared: count,
            ..Truth::of_self()
        };
        obey(channel, |_| Ok(truth.clone()))
    };
    let mut heirs = vec![Member::fork(heir)?, Member::fork(heir)?];
    let mut creator = Truth {
        unbound: count,
        shared: count,
        allocated: count,
        ..Truth::of_self()
    };
    let mut phase = script.phase("shared");
    phase.allocated = Some(count);
    phase.children = Some(0);
    phase.destroyed = Some(0);
    let mut inherited = (heirs.iter_mut())
        .map(|heir| heir.ask(b'?'))
        .collect::<anyhow::Result<Vec<_>>>()?;
    phase.processes = [vec![creator.clone()], inherited.clone()].concat();
    if !script.show(&phase)? {
        return Ok(());
    }

    drop(sockets);
    (creator.unbound, creator.shared) = (0, 0);
    phase.phase = "inherited".to_owned();
    phase.processes = [vec![creator.clone()], inherited.clone()].concat();
    if !script.show(&phase)? {
        return Ok(());
    }

    for heir in &mut heirs {
        heir.dismiss()?;
    }
    for heir in &mut inherited {
        (heir.unbound, heir.shared, heir.exited) = (0, 0, true);
    }
    phase.phase = "exited".to_owned();
    phase.destroyed = Some(count);
    phase.processes = [vec![creator], inherited].concat();
    script.show(&phase).map(drop)
}

/// `in-flight` (sent, not received, closed by the sender), `received`, `closed`.
pub(super) fn passed(options: &Options, script: &mut Script) -> anyhow::Result<()> {
    let total = options.count;
    let (to_receiver, from_sender) = UnixStream::pair().context("cannot make a socket pair")?;
    let mut receiver = Member::fork(move |channel| {
        let mut truth = Truth::of_self();
        let mut sockets = Vec::new();
        obey(channel, |order| {
            if order == RECEIVE {
                while sockets.len() < total {
                    receive(&from_sender, &mut sockets)?;
                }
            } else {
                sockets.clear();
            }
            truth.unbound = sockets.len() as u64;
            Ok(truth.clone())
        })
    })?;
    let mut sender = Truth::of_self();
    for done in (0..total).step_by(PER_MESSAGE) {
        let sockets = options.sockets(PER_MESSAGE.min(total - done))?;
        sender.allocated += sockets.len() as u64;
        send(&to_receiver, &sockets)?;
    }
    let mut phase = script.phase("in-flight");
    phase.allocated = Some(sender.allocated);
    phase.children = Some(0);
    phase.destroyed = Some(0);
    phase.in_flight = sender.allocated;
    let idle = Truth {
        pid: receiver.pid(),
        comm: sender.comm.clone(),
        ..Truth::default()
    };
    phase.processes = vec![sender.clone(), idle];
    if !script.show(&phase)? {
        return Ok(());
    }

    phase.phase = "received".to_owned();
    phase.in_flight = 0;
    phase.processes = vec![sender.clone(), receiver.ask(RECEIVE)?];
    if !script.show(&phase)? {
        return Ok(());
    }

    phase.phase = "closed".to_owned();
    phase.destroyed = Some(sender.allocated);
    phase.processes = vec![sender, receiver.ask(CLOSE)?];
    script.show(&phase).map(drop)
}

const RECEIVE: u8 = b'r';
const CLOSE: u8 = b'c';

/// Descriptors per message; the kernel allows 253 (SCM_MAX_FD).
const PER_MESSAGE: usize = 200;

type Ancillary = [MaybeUninit<u8>; rustix::cmsg_space!(ScmRights(PER_MESSAGE))];

fn send(channel: &UnixStream, sockets: &[OwnedFd]) -> anyhow::Result<()> {
    let borrowed: Vec<BorrowedFd<'_>> = sockets.iter().map(|one| one.as_fd()).collect();
    let mut space: Ancillary = [const { MaybeUninit::uninit() }; _];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        bail!("{} descriptors do not fit into a message", borrowed.len());
    }
    let content = [IoSlice::new(b".")];
    rustix::net::sendmsg(channel, &content, &mut ancillary, SendFlags::empty())
        .context("cannot send descriptors")?;
    Ok(())
}

fn receive(channel: &UnixStream, sockets: &mut Vec<OwnedFd>) -> anyhow::Result<()> {
    let mut space: Ancillary = [const { MaybeUninit::uninit() }; _];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut content = [IoSliceMut::new(&mut byte)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = rustix::net::recvmsg(channel, &mut content, &mut ancillary, flags)
        .context("cannot receive descriptors")?;
    if received.bytes == 0 {
        bail!("the sender is gone");
    }
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            sockets.extend(descriptors);
        }
    }
    Ok(())
}
