//! Connections with both ends here.

use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// An accepted connection.
pub struct Pair {
    pub client: TcpStream,
    pub server: TcpStream,
}

impl Pair {
    /// Over a listener at `address`, which is closed afterwards.
    pub fn new(address: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let client = TcpStream::connect(listener.local_addr()?)?;
        let (server, _) = listener.accept()?;
        Ok(Self { client, server })
    }

    /// The same with a client socket that exists already.
    pub fn from(client: OwnedFd) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        rustix::net::connect(&client, &listener.local_addr()?)?;
        let (server, _) = listener.accept()?;
        Ok(Self {
            client: client.into(),
            server,
        })
    }
}

/// Closes one end so that the other gets a RST.
pub fn close_with_reset(end: TcpStream) -> anyhow::Result<()> {
    rustix::net::sockopt::set_socket_linger(&end, Some(Duration::ZERO))?;
    drop(end);
    settle();
    Ok(())
}

/// Packets on loopback are delivered by softirq, at the latest when ksoftirqd gets a CPU.
pub fn settle() {
    std::thread::sleep(Duration::from_millis(50));
}
