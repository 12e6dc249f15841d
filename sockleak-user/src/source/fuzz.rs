//! Text and messages that the kernel hands out, with names and paths that anybody may choose.

use crate::kernel::{Symbols, features};
use crate::model::Family;
use crate::source::{limits, netns, orphans, pid_dir, sockstat};

/// The first byte says which file of /proc the rest is.
pub fn proc(data: &[u8]) {
    let Some((which, rest)) = data.split_first() else {
        return;
    };
    let text = str::from_utf8(rest);
    match which % 10 {
        0 => {
            if let Some(stat) = pid_dir::Stat::parse(rest) {
                let _ = stat.is_kernel_thread();
            }
        }
        1 => {
            for link in rest.split(|byte| *byte == b'\n') {
                if let Some(inode) = pid_dir::parse_socket_link(link) {
                    let digits = link.len() - "socket:[]".len();
                    // Zeros in front are the only other way to write it.
                    assert!(inode.to_string().len() <= digits);
                    assert_eq!(pid_dir::parse_ns_link(link), None);
                }
                let _ = pid_dir::parse_ns_link(link);
            }
        }
        2 => crate::enrich::process::fuzz(rest),
        3 => netns::fuzz(rest),
        4 => {
            let wanted = ["tcp_v4_init_sock", "t", ""];
            let Ok(symbols) = Symbols::read(rest, &wanted) else {
                panic!("bytes in memory can be read");
            };
            assert!(symbols.found.len() <= wanted.len());
        }
        5 => {
            if let Ok(text) = text {
                let _ = sockstat::parse(text);
            }
        }
        6 => {
            if let Ok(text) = text {
                let _ = (limits::parse_file_nr(text), limits::parse_tcp_mem(text));
            }
        }
        7 => {
            if let Ok(text) = text {
                let _ = orphans::parse_netstat(text);
            }
        }
        8 => {
            if let Ok(text) = text {
                let range = netns::parse_port_range(text);
                assert!(range.is_none_or(|(low, high)| low <= high));
                if let Some(ports) = netns::parse_port_list(text) {
                    assert!(ports.is_sorted() && ports.len() <= 1 << 16);
                }
            }
        }
        _ => {
            if let Ok(text) = text {
                let mount = features::cgroup2_mount(text);
                assert!(mount.is_none_or(|mount| mount.len() <= 2 * text.len()));
            }
        }
    }
}

/// A datagram of sock_diag; the request had sequence number 7.
pub fn netlink(data: &[u8]) {
    let mut messages = 0;
    for (socket, _) in super::sock_diag::fuzz(data, 7) {
        messages += 1;
        let Some(socket) = socket else { continue };
        assert_eq!(socket.local.is_ipv4(), socket.family == Family::V4);
        assert!(socket.peer.is_none_or(|peer| peer.port() != 0));
    }
    // None is shorter than its header, so that no datagram is walked for ever.
    assert!(messages <= data.len() / 16 + 1);
}
