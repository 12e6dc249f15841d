//! Sockets that several processes, no process, or only a thread can reach.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use anyhow::{Context as _, bail};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::process::{Pid, Signal};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use super::{Kept, local, socket, wait_for_end};

/// A child that lives until its standard input, which is ours, ends. Runs `first` in it.
fn fork(first: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Pid> {
    // SAFETY: this process has a single thread, so the child may go on as usual.
    match unsafe { libc::fork() } {
        -1 => Err(std::io::Error::last_os_error()).context("cannot fork"),
        0 => {
            let armed = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
            if armed.is_ok() && first().is_ok() {
                wait_for_end();
            }
            std::process::exit(0);
        }
        child => Pid::from_raw(child).context("no pid"),
    }
}

fn number(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().unsigned_abs()
}

/// A listener and an unbound socket that parent and child hold under the same numbers.
pub fn forked(kept: &mut Kept) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let unbound = socket(AddressFamily::INET)?;
    let child = fork(|| Ok(()))?;
    kept.note("forked-listen", number(child), listener.as_raw_fd(), port);
    kept.note("forked-unbound", number(child), unbound.as_raw_fd(), 0);
    kept.keep("forked-listen", listener)?;
    kept.keep("forked-unbound", unbound)
}

/// A bound socket and one that is not, made here, passed over SCM_RIGHTS and closed here.
pub fn passed(kept: &mut Kept) -> anyhow::Result<()> {
    let (ours, theirs) = UnixStream::pair()?;
    let (confirm, confirmed) = UnixStream::pair()?;
    let child = fork(|| {
        let sockets = receive(&theirs)?;
        let mut numbers = Vec::new();
        for socket in &sockets {
            numbers.extend(socket.as_raw_fd().to_ne_bytes());
        }
        rustix::io::write(&confirm, &numbers)?;
        std::mem::forget(sockets);
        Ok(())
    })?;
    let bound = socket(AddressFamily::INET)?;
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    rustix::net::bind(&bound, &any)?;
    let port = local(&bound)?.port();
    let unbound = socket(AddressFamily::INET6)?;
    send(&ours, &[bound.as_fd(), unbound.as_fd()])?;
    drop((bound, unbound));
    let mut numbers = [0; 8];
    if rustix::io::read(&confirmed, &mut numbers)? != numbers.len() {
        bail!("the child did not get the sockets");
    }
    let fds = numbers
        .as_chunks::<4>()
        .0
        .iter()
        .copied()
        .map(i32::from_ne_bytes);
    for ((name, port), fd) in [("passed-bound", port), ("passed-unbound", 0)]
        .into_iter()
        .zip(fds)
    {
        kept.note(name, number(child), fd, port);
    }
    kept.keep_silently(ours);
    Ok(())
}

fn send(over: &UnixStream, sockets: &[std::os::fd::BorrowedFd<'_>]) -> anyhow::Result<()> {
    let mut space = [MaybeUninit::uninit(); 64];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(sockets)) {
        bail!("no room for the descriptors");
    }
    sendmsg(
        over,
        &[IoSlice::new(b"x")],
        &mut control,
        SendFlags::empty(),
    )?;
    Ok(())
}

fn receive(over: &UnixStream) -> anyhow::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); 64];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut data = [IoSliceMut::new(&mut byte)];
    recvmsg(over, &mut data, &mut control, RecvFlags::empty())?;
    let mut sockets = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            sockets.extend(descriptors);
        }
    }
    Ok(sockets)
}

/// An unbound and a listening socket in a descriptor table that only one thread has.
pub fn in_thread(mut kept: Kept) -> anyhow::Result<()> {
    std::thread::spawn(move || {
        // SAFETY: this thread gets a copy of the table and uses only that from here on.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FILES) }?;
        kept.keep("thread-listen", TcpListener::bind("127.0.0.1:0")?)?;
        kept.keep("thread-unbound", socket(AddressFamily::INET)?)?;
        kept.show()?;
        wait_for_end();
        anyhow::Ok(())
    })
    .join()
    .map_err(|_| anyhow::anyhow!("the thread panicked"))?
}

/// Sockets in a network namespace that this process has left, so that only they keep it.
pub fn in_namespace_left_behind(kept: &mut Kept) -> anyhow::Result<()> {
    let home = std::fs::File::open("/proc/thread-self/ns/net")?;
    // SAFETY: only CLONE_NEWNET is passed; the descriptor table stays shared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
    sockleak::demo::loopback_up()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    kept.keep(
        "stray-client",
        std::net::TcpStream::connect(listener.local_addr()?)?,
    )?;
    kept.keep("stray-listen", listener)?;
    let bound = socket(AddressFamily::INET)?;
    rustix::net::bind(&bound, &std::net::SocketAddr::from(([127, 0, 0, 1], 0)))?;
    kept.keep("stray-bound", bound)?;
    let refused = socket(AddressFamily::INET)?;
    let _ = rustix::net::connect(&refused, &std::net::SocketAddr::from(([127, 0, 0, 1], 1)));
    kept.keep_with("stray-refused", refused, 0);
    rustix::thread::move_into_link_name_space(home.as_fd(), Some(LinkNameSpaceType::Network))?;
    Ok(())
}

/// Opens, connects and closes sockets, and starts and ends processes, until told to end.
pub fn churn() -> anyhow::Result<()> {
    Kept::default().show()?;
    let stop = rustix::event::PollFd::new;
    let stdin = std::io::stdin();
    let none = rustix::time::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    loop {
        let mut watched = [stop(&stdin, rustix::event::PollFlags::IN)];
        if rustix::event::poll(&mut watched, Some(&none))? > 0 {
            return Ok(());
        }
        let pair = super::peers::Pair::new("127.0.0.1:0")?;
        // SAFETY: this process has a single thread, so the child may go on as usual.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let _more = (0..20)
                .map(|_| socket(AddressFamily::INET))
                .collect::<Vec<_>>();
            std::process::exit(0);
        }
        drop(pair);
        let child = Pid::from_raw(child).context("cannot fork")?;
        rustix::process::waitpid(Some(child), rustix::process::WaitOptions::empty())?;
    }
}
