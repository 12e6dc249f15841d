//! What the ports are good for, as they are and after a change.

use std::net::SocketAddr;

use super::{DiagnosisFacts, RouteUse, Space};
use crate::report::words::{count, counted};
use crate::report::{BusiestReport, ChecksReport, WhatIfReport};

/// TIME_WAIT lasts this long (`TCP_TIMEWAIT_LEN` of include/net/tcp.h), seconds.
pub(super) const TIME_WAIT_S: f64 = 60.0;
/// Where `tcp_tw_reuse` lets connect() take a TIME_WAIT over, it has to be older than this, seconds.
const REUSE_S: f64 = 1.0;
/// Connection tracking is nearly full from this share on.
const TRACKED: f64 = 0.9;

/// The destination towards which the largest share of a range is used.
pub fn busiest(spaces: &[Space]) -> Option<BusiestReport> {
    let (space, route) = busiest_route(spaces.iter())?;
    let (src, dst) = route.pair?;
    Some(BusiestReport {
        netns: space.netns,
        src: Some(src),
        dst,
        size: route.size(),
        used: route.used(),
        share: route.share().min(1.0),
    })
}

fn busiest_route<'a>(spaces: impl Iterator<Item = &'a Space>) -> Option<(&'a Space, &'a RouteUse)> {
    let routes = spaces.flat_map(|space| space.routes.iter().map(move |route| (space, route)));
    routes.max_by(|(_, a), (_, b)| (a.share().total_cmp(&b.share())).then(b.pair.cmp(&a.pair)))
}

/// What to say when nothing is wrong; `failed` calls were of those who were to be shown.
pub fn healthy(
    busiest: Option<&BusiestReport>,
    failed: u64,
    checks: &ChecksReport,
    traced_s: Option<f64>,
) -> String {
    let ports = match busiest {
        Some(one) => format!(
            "{:.0} % of ports towards the busiest destination ({}: {} of {})",
            one.share * 100.0,
            one.dst,
            count(one.used),
            count(one.size)
        ),
        None => "no connection uses a port of the range".to_owned(),
    };
    let failures = match (traced_s, failed) {
        (None, _) => "calls were not traced".to_owned(),
        (Some(s), 0) => format!("no failures in {s:.0} s"),
        (Some(s), some) => format!(
            "{} in {s:.0} s that want of ports does not explain (sockleak watch shows each)",
            counted(some, "failed call")
        ),
    };
    let tracked = match checks.conntrack {
        Some([used, max]) if used as f64 >= TRACKED * max as f64 => format!(
            "conntrack, which is nearly full ({} of {})",
            count(used),
            count(max)
        ),
        Some([used, max]) => format!("conntrack ({} of {})", count(used), count(max)),
        None => "conntrack".to_owned(),
    };
    let dropped = match checks.listen_overflows {
        Some(drops @ 1..) => format!(
            "; {} dropped meanwhile because an accept queue was full",
            counted(drops, "connection")
        ),
        _ => String::new(),
    };
    format!(
        "the local TCP stack is healthy: {ports}, {failures}{dropped}; if connections still fail, \
         look at SNAT / {tracked} / the remote side"
    )
}

/// What each change would come to, in the namespaces that findings are about, or where most of a
/// range is used.
pub fn what_if(facts: &DiagnosisFacts<'_>, wanted: &[u32]) -> Vec<WhatIfReport> {
    let mut spaces: Vec<&Space> = (facts.spaces.iter())
        .filter(|space| wanted.contains(&space.netns))
        .collect();
    if spaces.is_empty() {
        let busiest = busiest_route(facts.spaces.iter()).map(|(space, _)| space);
        spaces.extend(busiest.or(facts.spaces.first()));
    }
    spaces.into_iter().flat_map(changes).collect()
}

fn changes(space: &Space) -> Vec<WhatIfReport> {
    let route = busiest_route(std::iter::once(space)).map(|(_, route)| route);
    let dst = route.and_then(|route| route.pair).map(|(_, dst)| dst);
    let now = space.usable().saturating_sub(space.bound);
    let free = route.map(|route| route.size().saturating_sub(route.used()));
    let of = |change: &str, ports: u64, free: Option<u64>, note: String| WhatIfReport {
        change: change.to_owned(),
        netns: space.netns,
        dst,
        ports_per_destination: ports,
        free,
        sustained_per_s: round(ports as f64 / TIME_WAIT_S),
        note,
    };
    let (low, high) = space.range;
    let mut all = vec![of(
        "none: as it is now",
        now,
        free,
        format!(
            "{low}-{high}: {} ports, {} reserved, {} bound",
            count(space.size),
            count(space.reserved),
            count(space.bound)
        ),
    )];
    if space.bound_closed > 0 {
        let back = space.bound_closed;
        all.push(of(
            "the CLOSED sockets that hold ports are closed",
            now + back,
            free.map(|free| free + back),
            format!("{} come back to every destination", counted(back, "port")),
        ));
    }
    let early = space.bound_connected();
    if early > 0 && space.buckets_known {
        // Its own connections stay in the way of their destination.
        let own = route.map_or(0, |route| route.connected_bound);
        all.push(of(
            "IP_BIND_ADDRESS_NO_PORT before bind(), or no bind() before connect()",
            now + early,
            free.map(|free| free + early.saturating_sub(own)),
            format!(
                "{} serve one connection each now, and then one for every destination",
                counted(early, "port")
            ),
        ));
    }
    if let Some(((low, high), ports)) = space.wider {
        all.push(of(
            &format!("net.ipv4.ip_local_port_range=\"{low} {high}\""),
            ports,
            route.and_then(|route| route.free_in_wider),
            "without what listeners and others have bound in it now".to_owned(),
        ));
    }
    if space.tw_reuse != Some(1) && !dst.is_some_and(|dst| is_reused(space, dst)) {
        let now = space.tw_reuse.map_or("?".to_owned(), |now| now.to_string());
        let ports = space.usable().saturating_sub(space.bound);
        all.push(WhatIfReport {
            sustained_per_s: round(ports as f64 / REUSE_S),
            ..of(
                "net.ipv4.tcp_tw_reuse=1",
                ports,
                route.and_then(|route| route.free_with_reuse),
                format!(
                    "now {now}; a port comes back after 1 s, where both sides use TCP timestamps"
                ),
            )
        });
    }
    all.push(of(
        "one more source address, or one more address or port of the destination",
        now.saturating_mul(2),
        free.map(|free| free + now),
        "each adds a whole range; the figure is the sum of both".to_owned(),
    ));
    all
}

/// The default of tcp_tw_reuse does it for loopback.
fn is_reused(space: &Space, dst: SocketAddr) -> bool {
    matches!(space.tw_reuse, None | Some(2))
        && dst.ip().is_loopback()
        && space.timestamps != Some(0)
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
