//! Processes that come and go, leak, fail, and connect to ever other destinations.

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::{children, traffic};

/// A new process this often.
const EVERY: Duration = Duration::from_millis(100);
/// How long one lives.
const LIFE: Duration = Duration::from_millis(1500);
/// Sockets that each leaks, destinations that it tries, ports that it cannot have.
const LEAKS: usize = 20;
const DESTINATIONS: u32 = 40;
const REFUSALS: usize = 10;

/// The child: in a network of its own, starts processes until its input ends.
pub fn run() -> Result<()> {
    children::die_with_parent()?;
    traffic::own_network()?;
    let program = std::env::current_exe().context("finding this program")?;
    let over = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&over);
    thread::spawn(move || {
        let _ = std::io::Read::read_to_end(&mut std::io::stdin(), &mut Vec::new());
        seen.store(true, Ordering::Relaxed);
    });
    println!("ready");
    let mut lives: Vec<Child> = Vec::new();
    let mut number: u32 = 0;
    while !over.load(Ordering::Relaxed) {
        let life = Command::new(&program)
            .args(["life", &number.to_string()])
            .stdin(Stdio::null())
            .spawn()
            .context("starting a life")?;
        lives.push(life);
        number = number.wrapping_add(1);
        thread::sleep(EVERY);
        reap(&mut lives)?;
    }
    for mut life in lives {
        life.wait().context("waiting for a life")?;
    }
    Ok(())
}

fn reap(lives: &mut Vec<Child>) -> Result<()> {
    let mut failed = Ok(());
    lives.retain_mut(|life| match life.try_wait() {
        Ok(None) => true,
        Ok(Some(_)) => false,
        Err(error) => {
            failed = Err(error);
            false
        }
    });
    failed.context("waiting for a life")
}

/// One of these processes.
pub fn live(number: u32) -> Result<()> {
    children::die_with_parent()?;
    let leaked = (0..LEAKS)
        .map(|_| traffic::stream())
        .collect::<Result<Vec<_>>>()?;
    let (listener, taken) = traffic::listener()?;
    for _ in 0..REFUSALS {
        let socket = traffic::stream()?;
        // What is expected is the failure.
        let _ = rustix::net::bind(&socket, &taken);
    }
    for at in 0..DESTINATIONS {
        let socket = traffic::stream()?;
        let there = number.wrapping_mul(DESTINATIONS).wrapping_add(at) % (1 << 22);
        let there = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 0)) + there);
        // Nobody listens there.
        let _ = rustix::net::connect(&socket, &SocketAddr::V4(SocketAddrV4::new(there, 9)));
    }
    for _ in 0..LEAKS {
        traffic::once(&listener, taken)?;
    }
    // Connections that nobody accepts: they end with the process.
    let waiting = (0..LEAKS)
        .map(|_| {
            let socket = traffic::stream()?;
            rustix::net::connect(&socket, &taken).context("connecting")?;
            Ok(socket)
        })
        .collect::<Result<Vec<_>>>()?;
    thread::sleep(LIFE);
    drop((leaked, waiting));
    Ok(())
}
