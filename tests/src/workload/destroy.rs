//! Ends a connection from outside, as `ss -K` does: SOCK_DESTROY of sock_diag(7), with CAP_NET_ADMIN.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, ensure};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, netlink, recv, send, socket};

/// `SOCK_DESTROY` (include/uapi/linux/sock_diag.h)
const SOCK_DESTROY: u16 = 21;
/// `NLM_F_REQUEST | NLM_F_ACK`
const FLAGS: u16 = 1 | 4;
/// `struct nlmsghdr` and `struct inet_diag_req_v2`.
const LENGTH: usize = 16 + 56;

/// Destroys the end at `local` of the connection to `peer`, in this network namespace.
pub(super) fn destroy(local: SocketAddr, peer: SocketAddr) -> anyhow::Result<()> {
    let netlink = socket(
        AddressFamily::NETLINK,
        SocketType::RAW,
        Some(netlink::SOCK_DIAG),
    )
    .context("cannot open a netlink socket")?;
    send(&netlink, &request(local, peer), SendFlags::empty()).context("cannot ask sock_diag")?;
    let mut answer = [0; 256];
    let (_, length) =
        recv(&netlink, &mut answer, RecvFlags::empty()).context("sock_diag does not answer")?;
    ensure!(length >= 20, "a short answer of sock_diag: {length} bytes");
    let error = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
    ensure!(
        error == 0,
        "cannot destroy {local} -> {peer}: {}",
        std::io::Error::from_raw_os_error(-error)
    );
    Ok(())
}

fn request(local: SocketAddr, peer: SocketAddr) -> Vec<u8> {
    let family = if local.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    let mut bytes = Vec::with_capacity(LENGTH);
    bytes.extend((LENGTH as u32).to_ne_bytes());
    bytes.extend(SOCK_DESTROY.to_ne_bytes());
    bytes.extend(FLAGS.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([family as u8, libc::IPPROTO_TCP as u8, 0, 0]);
    bytes.extend(u32::MAX.to_ne_bytes());
    bytes.extend(local.port().to_be_bytes());
    bytes.extend(peer.port().to_be_bytes());
    for address in [local.ip(), peer.ip()] {
        match address {
            IpAddr::V4(ip) => {
                bytes.extend(ip.octets());
                bytes.extend([0; 12]);
            }
            IpAddr::V6(ip) => bytes.extend(ip.octets()),
        }
    }
    // No interface; `INET_DIAG_NOCOOKIE`.
    bytes.extend([0; 4]);
    bytes.extend([0xff; 8]);
    bytes
}
