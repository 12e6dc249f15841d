//! What to change against a shortage of ports, on the kernel that is running.
//!
//! What a remedy needs is decided by what the kernel has, not by its version: distributions
//! backport. Versions are in the text for people who can choose another kernel.

use crate::model::{Cause, Op, PortOptions};

/// What the running kernel can do about ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortFeatures {
    /// Kernel release, for the text.
    pub release: String,
    /// It has the socket option IP_LOCAL_PORT_RANGE (6.3, and backports).
    pub local_port_range: bool,
    /// With that option connect() walks the range in one pass, without parity (6.8).
    pub single_pass: bool,
    /// The search takes no lock for ports that are taken (6.15).
    pub lockless: bool,
}

/// A failure or a slow search that needs a remedy.
#[derive(Clone, Copy, Debug)]
pub struct Trouble {
    /// What was called.
    pub op: Op,
    /// Why it failed.
    pub cause: Cause,
    /// Options of the socket.
    pub options: PortOptions,
    /// Range that was searched.
    pub range: Option<(u16, u16)>,
    /// The destination is on this host, through loopback.
    pub loopback: bool,
    /// Ports in TIME_WAIT are a quarter of the range or more; `None` when not known.
    pub time_wait: Option<bool>,
    /// Ports held by bind() are a quarter of the range or more; `None` when not known.
    pub bound: Option<bool>,
    /// Ports held by connections are a quarter of the range or more; `None` when not known.
    pub connected: Option<bool>,
    /// `net.ipv4.tcp_tw_reuse` of the namespace; `None` when not known.
    pub tw_reuse: Option<u8>,
    /// `net.ipv4.tcp_timestamps` of the namespace; `None` when not known.
    pub timestamps: Option<u8>,
}

impl Trouble {
    /// Of a call without anything special.
    pub fn new(op: Op, cause: Cause) -> Self {
        Self {
            op,
            cause,
            options: PortOptions::default(),
            range: None,
            loopback: false,
            time_wait: None,
            bound: None,
            connected: None,
            tw_reuse: None,
            timestamps: None,
        }
    }
}

pub(super) const REUSE: &str = "keep connections open and use them again (keepalive, a connection pool): a \
     connection that this side closes first holds its port for another 60 s in TIME_WAIT";
pub(super) const ADDRESSES: &str = "use more addresses: a port can be taken once for every source address, \
     destination address and destination port, so each address or port that is added on either \
     side adds a whole range; choose a source by bind() with IP_BIND_ADDRESS_NO_PORT before \
     connect()";
pub(super) const NO_PORT: &str = "set IP_BIND_ADDRESS_NO_PORT (Linux 4.2 or later) before bind() to a source \
     address: connect() then chooses the port, once per destination; bind() alone has to find one \
     that is free towards all destinations";

/// What to change after a failed call.
pub fn of_failure(trouble: &Trouble) -> Vec<String> {
    match trouble.cause {
        Cause::EphemeralExhausted => match trouble.op {
            Op::Connect => connect_exhausted(trouble),
            Op::Bind | Op::Listen => bind_exhausted(trouble),
        },
        Cause::LocalRangeExhausted => {
            let mut lines = vec![format!(
                "give IP_LOCAL_PORT_RANGE more ports{}, within net.ipv4.ip_local_port_range, which \
                 bounds it: the socket's own range is used up, whatever the namespace has left",
                now(trouble.range)
            )];
            if trouble.op == Op::Connect {
                lines.extend([REUSE.to_owned(), ADDRESSES.to_owned()]);
            }
            lines
        }
        Cause::DuplicateTuple => vec![
            "a live connection has the same addresses and ports: do not bind() to a fixed port \
             before connect(), or close the other connection first"
                .to_owned(),
            "to fix the source address only, bind() to port 0 with IP_BIND_ADDRESS_NO_PORT \
             (Linux 4.2 or later): connect() then finds a port that is free towards this \
             destination"
                .to_owned(),
        ],
        Cause::TimeWait => vec![
            "the connection that had the same addresses and ports was closed less than 60 s ago: \
             do not bind() to a fixed port before connect(), or let the other side close first"
                .to_owned(),
            "with TCP timestamps on both sides (net.ipv4.tcp_timestamps=1) the kernel takes over \
             a TIME_WAIT when the port is given by bind()"
                .to_owned(),
        ],
        Cause::NoSourceAddress => vec![
            "no interface has an address from which the destination can be reached: add one of \
             the destination's family (ip address, ip -6 address; net.ipv6.conf.*.disable_ipv6), \
             or bind() to one that exists"
                .to_owned(),
        ],
        Cause::AddressNotLocal => vec![
            "the address belongs to no interface of this network namespace: add it (ip address \
             add), wait until an IPv6 address is no longer tentative, or bind() to another one"
                .to_owned(),
            "if it is meant to come later: IP_FREEBIND on the socket, or \
             net.ipv4.ip_nonlocal_bind=1 (net.ipv6.ip_nonlocal_bind for IPv6)"
                .to_owned(),
        ],
        Cause::PortConflict => conflict(trouble),
        Cause::Denied => vec![
            "a cgroup BPF program, a security module or a missing capability refused it: \
             `bpftool cgroup tree` and the audit log name it; ports below \
             net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE"
                .to_owned(),
        ],
        Cause::OutOfMemory => vec![
            "the kernel had no memory for the port's entry: look at the memory limits of the \
             cgroup and at the kernel's log"
                .to_owned(),
        ],
        Cause::Other => Vec::new(),
    }
}

/// What to change when the search is slow or the range is nearly used up.
pub fn of_search(trouble: &Trouble, kernel: &PortFeatures) -> Vec<String> {
    if trouble.op != Op::Connect {
        let mut lines = bind_exhausted(trouble);
        lines.extend(lockless(kernel));
        return lines;
    }
    let mut lines = vec![REUSE.to_owned()];
    if trouble.time_wait == Some(true) {
        lines.extend(take_over(trouble));
    }
    lines.push(ADDRESSES.to_owned());
    lines.extend(wider(trouble.range));
    lines.push(local_range(kernel));
    lines.extend(lockless(kernel));
    lines
}

fn connect_exhausted(trouble: &Trouble) -> Vec<String> {
    let mut lines = Vec::new();
    if trouble.bound == Some(true) {
        lines.push(
            "free the ports that bind() holds: connect() skips them whatever the destination, as \
             long as any socket has them; close those that are not used, let clients bind() with \
             IP_BIND_ADDRESS_NO_PORT (Linux 4.2 or later) and without SO_REUSEADDR, and servers \
             use ports outside the range"
                .to_owned(),
        );
    }
    if trouble.connected != Some(false) || trouble.time_wait != Some(false) {
        lines.push(REUSE.to_owned());
    }
    lines.extend(take_over(trouble));
    lines.push(ADDRESSES.to_owned());
    lines.extend(wider(trouble.range));
    lines
}

/// connect() may take over a TIME_WAIT: where that is off or cannot work.
pub(super) fn take_over(trouble: &Trouble) -> Vec<String> {
    if trouble.time_wait == Some(false) {
        return Vec::new();
    }
    let mut lines = Vec::new();
    let is_on = match trouble.tw_reuse {
        Some(1) => Some(true),
        Some(2) => Some(trouble.loopback),
        Some(_) => Some(false),
        // The default covers loopback.
        None => trouble.loopback.then_some(true),
    };
    if is_on != Some(true) {
        let now = trouble
            .tw_reuse
            .map_or(String::new(), |value| format!(" (now {value})"));
        lines.push(format!(
            "net.ipv4.tcp_tw_reuse=1{now} lets connect() take over a port that has been in \
             TIME_WAIT for more than 1 s (2, the default, does so for loopback only; needs TCP \
             timestamps on both sides), or let the server close first"
        ));
    }
    if trouble.timestamps == Some(0) {
        lines.push(
            "net.ipv4.tcp_timestamps=1 (now 0): without timestamps no TIME_WAIT can be taken over"
                .to_owned(),
        );
    }
    lines
}

fn bind_exhausted(trouble: &Trouble) -> Vec<String> {
    let mut lines = Vec::new();
    if trouble.op == Op::Bind && !trouble.options.no_port {
        lines.push(NO_PORT.to_owned());
    }
    if trouble.op == Op::Listen {
        lines.push(
            "bind() to a port outside the range before listen(): without one, listen() needs a \
             free port of the range"
                .to_owned(),
        );
    }
    if trouble.bound != Some(false) {
        lines.push(
            "close sockets that hold a port and are not used: they hold it until their last \
             descriptor is closed, there is no timeout"
                .to_owned(),
        );
    }
    lines.extend(wider(trouble.range));
    lines
}

fn conflict(trouble: &Trouble) -> Vec<String> {
    let mut lines =
        vec!["another socket has the port: stop its owner or choose another port".to_owned()];
    if !trouble.options.reuse_addr {
        lines.push(
            "if only connections of an earlier run are left (TIME_WAIT): set SO_REUSEADDR before \
             bind(); the earlier run's sockets need it too"
                .to_owned(),
        );
    }
    if !trouble.options.reuse_port {
        lines.push(
            "if several processes are to listen on it: all of them set SO_REUSEPORT before \
             bind(), and run as the same user"
                .to_owned(),
        );
    }
    lines
}

/// A range that is wider than this one, with an even first port and an odd last one; `None` when
/// there is none.
pub fn wider_range(range: Option<(u16, u16)>) -> Option<(u16, u16)> {
    const WIDEST: (u16, u16) = (1024, 65535);
    if range.is_some_and(|(low, high)| low <= WIDEST.0 && high == WIDEST.1) {
        return None;
    }
    let low = range.map_or(10_240, |(low, _)| (low & !1).clamp(WIDEST.0, 10_240));
    Some((low, WIDEST.1))
}

pub(super) fn wider(range: Option<(u16, u16)>) -> Option<String> {
    let (low, high) = wider_range(range)?;
    Some(format!(
        "widen net.ipv4.ip_local_port_range{}, for example to {low} {}, with ends of different \
         parity so that both halves are of one size; ports of your own servers in it belong into \
         net.ipv4.ip_local_reserved_ports",
        now(range),
        high
    ))
}

fn now(range: Option<(u16, u16)>) -> String {
    range.map_or(String::new(), |(low, high)| format!(" (now {low} {high})"))
}

fn local_range(kernel: &PortFeatures) -> String {
    match (kernel.local_port_range, kernel.single_pass) {
        (true, true) => {
            "set the socket option IP_LOCAL_PORT_RANGE, if only to the whole range: this \
             kernel then walks it in one pass, without a first and a second parity"
                .to_owned()
        }
        (true, false) => format!(
            "IP_LOCAL_PORT_RANGE keeps clients apart on this kernel ({}), but the search keeps its \
             two parities; one pass comes with Linux 6.8",
            kernel.release
        ),
        (false, _) => format!(
            "this kernel ({}) has no IP_LOCAL_PORT_RANGE; it comes with Linux 6.3, and with 6.8 \
             a search in one pass",
            kernel.release
        ),
    }
}

fn lockless(kernel: &PortFeatures) -> Option<String> {
    (!kernel.lockless).then(|| {
        format!(
            "a newer kernel: from Linux 6.15 on the search takes no lock for ports that are \
             taken; this one ({}) locks each of them",
            kernel.release
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Release, IP_LOCAL_PORT_RANGE, one pass, no locks: as the kernels' BTF says.
    const KERNELS: [(&str, bool, bool, bool); 5] = [
        ("5.10.223", false, false, false),
        ("6.1.176", true, false, false),
        ("6.12.107", true, true, false),
        ("6.18.15", true, true, true),
        ("7.2.13", true, true, true),
    ];

    fn kernels() -> impl Iterator<Item = PortFeatures> {
        KERNELS
            .iter()
            .map(|(release, local, single, lockless)| PortFeatures {
                release: (*release).to_owned(),
                local_port_range: *local,
                single_pass: *single,
                lockless: *lockless,
            })
    }

    fn all(cause: Cause, op: Op) -> String {
        of_failure(&Trouble::new(op, cause)).join("\n")
    }

    const CAUSES: [Cause; 10] = [
        Cause::EphemeralExhausted,
        Cause::LocalRangeExhausted,
        Cause::DuplicateTuple,
        Cause::TimeWait,
        Cause::NoSourceAddress,
        Cause::Denied,
        Cause::OutOfMemory,
        Cause::PortConflict,
        Cause::AddressNotLocal,
        Cause::Other,
    ];

    #[test]
    fn nothing_dead_is_recommended_on_any_kernel() {
        let mut texts = Vec::new();
        for op in Op::ALL {
            for cause in CAUSES {
                let text = all(cause, op);
                assert_eq!(text.is_empty(), cause == Cause::Other, "{op:?} {cause:?}");
                texts.push(text);
            }
            let trouble = Trouble::new(op, Cause::Other);
            texts.extend(kernels().map(|kernel| of_search(&trouble, &kernel).join("\n")));
        }
        for text in texts {
            for dead in ["tw_recycle", "tw_timeout", "tcp_mem", "step_width"] {
                assert!(!text.contains(dead), "{dead}: {text}");
            }
        }
    }

    #[test]
    fn what_a_kernel_lacks_is_not_offered_but_named() {
        let trouble = Trouble::new(Op::Connect, Cause::Other);
        for kernel in kernels() {
            let text = of_search(&trouble, &kernel).join("\n");
            let release = kernel.release.as_str();
            assert_eq!(
                text.contains("set the socket option IP_LOCAL_PORT_RANGE"),
                matches!(release, "6.12.107" | "6.18.15" | "7.2.13"),
                "{release}"
            );
            assert_eq!(
                text.contains("has no IP_LOCAL_PORT_RANGE"),
                release == "5.10.223"
            );
            assert_eq!(
                text.contains("keeps its two parities"),
                release == "6.1.176"
            );
            assert_eq!(
                text.contains("from Linux 6.15 on"),
                matches!(release, "5.10.223" | "6.1.176" | "6.12.107"),
                "{release}"
            );
        }
    }

    #[test]
    fn time_wait_remedies_need_time_wait_and_a_way_that_helps() {
        let exhausted = Trouble {
            range: Some((32768, 60999)),
            ..Trouble::new(Op::Connect, Cause::EphemeralExhausted)
        };
        let text = |trouble: &Trouble| of_failure(trouble).join("\n");
        assert!(text(&exhausted).contains("tcp_tw_reuse=1"));
        assert!(text(&exhausted).contains("(now 32768 60999)"));
        let pool = Trouble {
            time_wait: Some(false),
            ..exhausted
        };
        assert!(!text(&pool).contains("tcp_tw_reuse"));
        let loopback = Trouble {
            loopback: true,
            time_wait: Some(true),
            ..exhausted
        };
        let advises = |trouble: &Trouble, tw_reuse| {
            let trouble = Trouble {
                tw_reuse,
                ..*trouble
            };
            text(&trouble).contains("tcp_tw_reuse=1")
        };
        // The default, which covers loopback.
        assert!(!advises(&loopback, None) && !advises(&loopback, Some(2)));
        assert!(advises(&exhausted, Some(2)) && advises(&exhausted, Some(0)));
        assert!(advises(&loopback, Some(0)));
        assert!(!advises(&exhausted, Some(1)) && !advises(&loopback, Some(1)));
        let blind = Trouble {
            timestamps: Some(0),
            ..exhausted
        };
        assert!(text(&blind).contains("tcp_timestamps=1 (now 0)"));
        assert!(!text(&exhausted).contains("tcp_timestamps=1"));
        let stolen = Trouble {
            bound: Some(true),
            connected: Some(false),
            time_wait: Some(false),
            ..exhausted
        };
        assert!(
            !text(&stolen).contains("keepalive"),
            "no connection is in the way"
        );
        assert!(text(&exhausted).contains("keepalive"));
        assert!(!text(&exhausted).contains("free the ports that bind() holds"));
        let held = Trouble {
            bound: Some(true),
            ..exhausted
        };
        assert!(text(&held).contains("free the ports that bind() holds"));
    }

    #[test]
    fn a_full_range_is_not_widened_and_set_options_are_not_asked_for() {
        let mut trouble = Trouble {
            range: Some((1024, 65535)),
            ..Trouble::new(Op::Bind, Cause::EphemeralExhausted)
        };
        let text = |trouble: &Trouble| of_failure(trouble).join("\n");
        assert!(!text(&trouble).contains("widen"));
        trouble.range = Some((2001, 60999));
        assert!(text(&trouble).contains("(now 2001 60999), for example to 2000 65535"));
        assert!(text(&trouble).contains("IP_BIND_ADDRESS_NO_PORT"));
        trouble.options.no_port = true;
        assert!(!text(&trouble).contains("IP_BIND_ADDRESS_NO_PORT"));

        let mut trouble = Trouble::new(Op::Bind, Cause::PortConflict);
        assert!(text(&trouble).contains("SO_REUSEADDR"));
        trouble.options.reuse_addr = true;
        trouble.options.reuse_port = true;
        assert!(!text(&trouble).contains("SO_REUSE"));
    }
}
