//! One of each.

use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;

use anyhow::Context as _;
use rustix::net::{AddressFamily, bind, ipproto, listen, socket_with};
use rustix::net::{SocketFlags, SocketType};

use super::peers::{Pair, close_with_reset, settle};
use super::{Kept, local, socket};

const V4: AddressFamily = AddressFamily::INET;
const V6: AddressFamily = AddressFamily::INET6;

fn at(address: &str) -> anyhow::Result<SocketAddr> {
    Ok(address.parse()?)
}

fn bound(family: AddressFamily, address: &str) -> anyhow::Result<OwnedFd> {
    let socket = socket(family)?;
    bind(&socket, &at(address)?).with_context(|| format!("cannot bind {address}"))?;
    Ok(socket)
}

/// Everything.
pub fn fill(kept: &mut Kept) -> anyhow::Result<()> {
    closed(kept)?;
    listening(kept)?;
    connected(kept)?;
    spent(kept)?;
    no_tcp(kept)?;
    mptcp(kept)
}

/// Never used for a connection.
pub fn closed(kept: &mut Kept) -> anyhow::Result<()> {
    kept.keep("unbound4", socket(V4)?)?;
    kept.keep("unbound6", socket(V6)?)?;
    kept.keep("bound4", bound(V4, "127.0.0.1:0")?)?;
    kept.keep("bound4-any", bound(V4, "0.0.0.0:0")?)?;
    kept.keep("bound6", bound(V6, "[::1]:0")?)?;
    let late = socket(V4)?;
    sockopt_no_port(&late)?;
    bind(&late, &at("127.0.0.1:0")?)?;
    kept.keep("bound-no-port", late)?;
    let twice = bound(V4, "127.0.0.1:0")?;
    let port = local(&twice)?.port();
    kept.keep_with("dup", rustix::io::fcntl_dupfd_cloexec(&twice, 0)?, port);
    kept.keep("dup", twice)
}

fn listening(kept: &mut Kept) -> anyhow::Result<()> {
    kept.keep("listen6", TcpListener::bind("[::1]:0")?)?;
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let address = silent.local_addr()?;
    for _ in 0..2 {
        kept.keep("established-unaccepted", TcpStream::connect(address)?)?;
    }
    kept.keep("listen4-queue2", silent)?;

    // With a full accept queue the kernel ignores SYNs, and the client keeps trying.
    let full = bound(V4, "127.0.0.1:0")?;
    listen(&full, 0)?;
    let address = local(&full)?;
    kept.keep("established-unaccepted", TcpStream::connect(address)?)?;
    let trying = socket_with(V4, SocketType::STREAM, SocketFlags::NONBLOCK, None)?;
    let _ = rustix::net::connect(&trying, &address);
    kept.keep("syn-sent", trying)?;
    kept.keep("listen4-queue1", full)?;

    // Autobound by listen(), and given back by shutdown().
    let done = socket(V4)?;
    listen(&done, 1)?;
    rustix::net::shutdown(&done, rustix::net::Shutdown::Both)?;
    kept.keep_with("spent-listener", done, 0);
    Ok(())
}

fn connected(kept: &mut Kept) -> anyhow::Result<()> {
    for (name, address) in [("established4", "127.0.0.1:0"), ("established6", "[::1]:0")] {
        let pair = Pair::new(address)?;
        kept.keep(name, pair.client)?;
        kept.keep(name, pair.server)?;
    }
    let dual = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0))?;
    let port = dual.local_addr()?.port();
    let client = TcpStream::connect(("127.0.0.1", port))?;
    kept.keep("mapped-server", dual.accept()?.0)?;
    kept.keep("mapped-client", client)?;

    let half = Pair::new("127.0.0.1:0")?;
    half.client.shutdown(std::net::Shutdown::Write)?;
    settle();
    kept.keep("fin-wait2", half.client)?;
    kept.keep("close-wait", half.server)
}

/// CLOSED after a connection or an attempt. getsockname() still names the port.
fn spent(kept: &mut Kept) -> anyhow::Result<()> {
    let dead = local(bound(V4, "127.0.0.1:0")?)?;
    let refused = socket(V4)?;
    let _ = rustix::net::connect(&refused, &dead);
    kept.keep_with("refused", refused, 0);
    let refused = socket_with(V4, SocketType::STREAM, SocketFlags::NONBLOCK, None)?;
    let _ = rustix::net::connect(&refused, &dead);
    kept.keep_with("refused-nonblocking", refused, 0);
    let refused = bound(V4, "127.0.0.1:0")?;
    let _ = rustix::net::connect(&refused, &dead);
    kept.keep_with("refused-after-bind-0", refused, 0);
    let refused = bound(V4, "127.0.0.1:20001")?;
    let _ = rustix::net::connect(&refused, &dead);
    kept.keep_with("refused-after-bind-port", refused, 20001);

    let pair = Pair::new("127.0.0.1:0")?;
    close_with_reset(pair.server)?;
    kept.keep_with("reset-client", pair.client, 0);
    let pair = Pair::new("[::1]:0")?;
    close_with_reset(pair.client)?;
    kept.keep_with("reset-server", pair.server, 0);
    let pair = Pair::from(bound(V4, "127.0.0.1:20002")?)?;
    close_with_reset(pair.server)?;
    kept.keep_with("reset-after-bind-port", pair.client, 20002);

    let pair = Pair::new("127.0.0.1:0")?;
    drop(pair.server);
    settle();
    pair.client.shutdown(std::net::Shutdown::Write)?;
    kept.keep_with("finished", pair.client, 0);
    settle();
    Ok(())
}

fn no_tcp(kept: &mut Kept) -> anyhow::Result<()> {
    kept.keep_silently(UdpSocket::bind("127.0.0.1:0")?);
    let (a, b) = std::os::unix::net::UnixStream::pair()?;
    kept.keep_silently(a);
    kept.keep_silently(b);
    let (reader, writer) = std::io::pipe()?;
    kept.keep_silently(reader);
    kept.keep_silently(writer);
    kept.keep_silently(std::fs::File::open("/proc/self/ns/net")?);
    Ok(())
}

/// Nothing when the kernel has no MPTCP.
fn mptcp(kept: &mut Kept) -> anyhow::Result<()> {
    let new = || {
        socket_with(
            V4,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            Some(ipproto::MPTCP),
        )
    };
    let Ok(unused) = new() else {
        return Ok(());
    };
    let server = new()?;
    bind(&server, &at("127.0.0.1:0")?)?;
    listen(&server, 8)?;
    let server = TcpListener::from(server);
    let address = server.local_addr()?;
    let client = new()?;
    rustix::net::connect(&client, &address)?;
    kept.keep("mptcp-established", client)?;
    kept.keep("mptcp-established", server.accept()?.0)?;
    kept.keep("plain-client-of-mptcp", TcpStream::connect(address)?)?;
    kept.keep("plain-server-of-mptcp", server.accept()?.0)?;
    kept.keep("mptcp-listen", server)?;
    kept.keep("mptcp-closed", unused)
}

/// IP_BIND_ADDRESS_NO_PORT: bind() takes the address only.
fn sockopt_no_port(socket: &OwnedFd) -> anyhow::Result<()> {
    use std::os::fd::AsRawFd as _;
    let on: libc::c_int = 1;
    // SAFETY: the option's value is the int behind the pointer.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    anyhow::ensure!(result == 0, std::io::Error::last_os_error());
    Ok(())
}
