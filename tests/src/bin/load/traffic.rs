//! Connections at a rate, in a network namespace of its own.

use std::{
    io::{BufRead as _, Write as _},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use rustix::{
    net::{AddressFamily, SocketFlags, SocketType, sockopt},
    thread::UnshareFlags,
};

use super::{Rate, children};

/// Connections that are made between two looks at the clock.
const STEP: Duration = Duration::from_millis(5);

/// Words for the child that makes them.
pub fn words(rate: Rate) -> [String; 2] {
    let rate = match rate {
        Rate::Of(rate) => rate,
        Rate::Max => 0,
    };
    ["traffic".to_owned(), rate.to_string()]
}

/// The child: connects, accepts and closes both ends `rate` times a second, 0 for as often as it can. For
/// each line it reads it prints how often it has been.
pub fn run(rate: u32) -> Result<()> {
    children::die_with_parent()?;
    own_network()?;
    let (listener, address) = listener()?;
    let done = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&done);
    thread::spawn(move || {
        let began = Instant::now();
        loop {
            let so_far = counter.load(Ordering::Relaxed);
            let due = match rate {
                0 => so_far + 1024,
                rate => (began.elapsed().as_secs_f64() * f64::from(rate)) as u64,
            };
            for _ in so_far..due {
                if let Err(error) = once(&listener, address) {
                    eprintln!("load: traffic: {error:#}");
                    std::process::exit(1);
                }
                counter.fetch_add(1, Ordering::Relaxed);
            }
            if rate != 0 {
                thread::sleep(STEP);
            }
        }
    });
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        line.context("reading what is asked")?;
        println!("{}", done.load(Ordering::Relaxed));
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// A network namespace in which only this process is, with lo up.
pub fn own_network() -> Result<()> {
    // SAFETY: only CLONE_NEWNET is passed; the descriptor table stays shared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }
        .context("making a network namespace")?;
    sockleak::demo::loopback_up().context("bringing lo up")
}

/// A listener on a port of the kernel's choice.
pub fn listener() -> Result<(OwnedFd, SocketAddr)> {
    let listener = stream()?;
    let any = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));
    rustix::net::bind(&listener, &any).context("binding the listener")?;
    rustix::net::listen(&listener, 128).context("listening")?;
    let address = SocketAddr::try_from(rustix::net::getsockname(&listener)?)?;
    Ok((listener, address))
}

/// One connection; the first end to close does so by reset, so that no TIME_WAIT is left.
pub fn once(listener: &OwnedFd, address: SocketAddr) -> Result<()> {
    let socket = stream()?;
    rustix::net::connect(&socket, &address).context("connecting")?;
    let accepted = rustix::net::accept_with(listener, SocketFlags::CLOEXEC).context("accepting")?;
    sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
    drop(socket);
    drop(accepted);
    Ok(())
}

/// A TCP socket that nothing was done with.
pub fn stream() -> Result<OwnedFd> {
    rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .context("creating a socket")
}
