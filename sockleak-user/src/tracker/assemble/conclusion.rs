//! What the figures of a namespace's ports come to, and what they leave open, in words.

use crate::report::words::{count, counted, named};
use crate::report::{OccupancyReport, OutsideReport, TowardsReport};
use crate::tracker::Occupancy;

/// Most names in a sentence.
const NAMED: usize = 3;

/// The answer in a few sentences: the destination that was asked for, or the range; what lies
/// outside; who has most.
pub(super) fn conclusion(report: &OccupancyReport) -> String {
    let mut sentences = Vec::new();
    match &report.to {
        Some(to) => sentences.push(towards(report, to)),
        None => sentences.push(range(report)),
    }
    sentences.extend(mostly_time_wait(report));
    sentences.extend(bound_first(report));
    sentences.extend(in_use(report));
    let most = report.holders.first();
    if let Some(most) = most.filter(|most| held(most) > 0 && held(most) * 2 > used(report)) {
        sentences.push(format!(
            "{} has {} of the range.",
            named(&most.comm, most.pid),
            count(held(most)),
        ));
    }
    sentences.join(" ")
}

fn held(holder: &crate::report::PortHolderReport) -> u64 {
    holder.bound.max(holder.connected).max(holder.listening)
}

/// Ports of the range that are not free, reserved ones aside.
fn used(report: &OccupancyReport) -> u64 {
    report.first_parity_used + report.second_parity_used
}

fn towards(report: &OccupancyReport, to: &TowardsReport) -> String {
    let from = to.src.map_or(String::new(), |src| format!(" from {src}"));
    let whither = format!("connect(){from} to {}", to.dst);
    let size = counted(report.size, "port");
    let mut parts = vec![
        part(to.connected, "connected to it"),
        part(to.time_wait, "in TIME_WAIT towards it"),
        part(to.bound, "bound"),
        part(report.reserved, "reserved"),
    ];
    parts.retain(|part| !part.is_empty());
    let parts = parts.join(", ");
    match (to.free, to.time_wait_reusable) {
        (0, Some(reusable)) if reusable > 0 => format!(
            "{whither} finds none of the {size} of the range unused ({parts}), but tcp_tw_reuse \
             lets it take over {} in TIME_WAIT.",
            counted(reusable, "port")
        ),
        (0, _) => format!(
            "{whither} fails with EADDRNOTAVAIL: none of the {size} of the range is left ({parts})."
        ),
        (free, _) if to.first_parity_used >= to.first_parity_size => format!(
            "{whither} can still take {} of {size}, all in the half that it tries last ({parts}): \
             each call first walks {} in vain.",
            count(free),
            counted(to.first_parity_size, "port"),
        ),
        (free, _) => {
            let why = match parts.as_str() {
                "" => String::new(),
                parts => format!("; the others are {parts}"),
            };
            format!("{whither} can still take {} of {size}{why}.", count(free))
        }
    }
}

/// What to expect when TIME_WAIT is most of what is taken, and much is.
fn mostly_time_wait(report: &OccupancyReport) -> Option<String> {
    let (waiting, taken) = match &report.to {
        Some(to) => (to.time_wait, to.used),
        None => (report.time_wait, used(report)),
    };
    let much = taken * 2 > report.size - report.reserved && waiting * 2 > taken;
    much.then(|| {
        format!(
            "TIME_WAIT lasts 60 s: towards one destination the range sustains {} new connections \
             per second while this side closes first.",
            count(report.sustained_per_s as u64),
        )
    })
}

/// Ports that are lost to every destination because of a bind() before connect().
fn bound_first(report: &OccupancyReport) -> Option<String> {
    let ports = report.bound_connected.filter(|ports| *ports > 0)?;
    let who = (report.holders.iter())
        .filter(|holder| holder.connected_bound > Some(0))
        .max_by_key(|holder| holder.connected_bound)
        .map_or(String::new(), |holder| {
            let most = holder.connected_bound.unwrap_or(0);
            let name = named(&holder.comm, holder.pid);
            format!(", {} of them of {name}", count(most))
        });
    let of = counted(ports, "port");
    let has = if ports == 1 { "has" } else { "have" };
    Some(format!(
        "{of} {has} connections on ports that somebody called bind() for{who}: no other connect() \
         can share these, wherever it goes.",
    ))
}

fn range(report: &OccupancyReport) -> String {
    let [low, high] = report.range;
    let closed = report.bound + report.reserved;
    if report.size > 0 && closed == report.size {
        let why = match (report.bound, report.reserved) {
            (_, 0) => "bound",
            (0, _) => "reserved",
            _ => "bound or reserved",
        };
        return format!(
            "All {} of {low}-{high} are {why}: every connect() without a port fails with \
             EADDRNOTAVAIL, wherever it goes, and every bind() to port 0 with EADDRINUSE.",
            counted(report.size, "port"),
        );
    }
    if report.free == 0 {
        return format!(
            "None of the {} of {low}-{high} is free: bind() to port 0 of any address fails with \
             EADDRINUSE, and connect() works only towards destinations that have not used a port.",
            counted(report.size, "port"),
        );
    }
    format!(
        "{} of the {} of {low}-{high} are free.",
        count(report.free),
        counted(report.size, "port"),
    )
}

/// Why more ports are in use than one would think.
fn in_use(report: &OccupancyReport) -> Option<String> {
    let outside = &report.outside;
    if outside.count == 0 {
        return None;
    }
    let lie = if outside.count == 1 { "lies" } else { "lie" };
    let who = outside_holders(outside);
    let total = counted(report.in_use, "port");
    let are = if report.in_use == 1 { "is" } else { "are" };
    Some(if report.in_use > report.size {
        format!(
            "{total} {are} in use although the range holds {}: {} {lie} outside of it{who}.",
            count(report.size),
            count(outside.count),
        )
    } else {
        format!(
            "{total} {are} in use, of which {} {lie} outside of the range{who}.",
            count(outside.count),
        )
    })
}

fn outside_holders(outside: &OutsideReport) -> String {
    let mut parts: Vec<String> = (outside.holders.iter().take(NAMED))
        .map(|holder| {
            let mut kinds = vec![
                part(holder.listening, "listening"),
                part(holder.bound, "bound"),
                part(holder.connected, "connected"),
            ];
            kinds.retain(|kind| !kind.is_empty());
            format!("{}: {}", named(&holder.comm, holder.pid), kinds.join(", "))
        })
        .collect();
    let more = outside.holders.len().saturating_sub(NAMED) as u64 + outside.holders_omitted;
    if more > 0 {
        parts.push(counted(more, "other process"));
    }
    if outside.time_wait > 0 {
        parts.push(part(outside.time_wait, "in TIME_WAIT"));
    }
    if outside.unowned > 0 {
        parts.push(part(outside.unowned, "of nobody who could be seen"));
    }
    match parts.join("; ").as_str() {
        "" => String::new(),
        parts => format!(" ({parts})"),
    }
}

/// What the figures leave open.
pub(super) fn limits(report: &OccupancyReport, occupancy: &Occupancy<'_>) -> Vec<String> {
    let mut limits = Vec::new();
    let unknown = occupancy.unknown_buckets();
    if unknown > 0 {
        limits.push(format!(
            "{} have connections of which it is not known whether their socket was bound before \
             connect(); connect() to other destinations cannot take those that were",
            counted(unknown, "port"),
        ));
    }
    if report.time_wait > 0 {
        limits.push(
            "TIME_WAIT does not show whether its port was bound before connect(); if it was, no \
             connect() takes it until it ends"
                .to_owned(),
        );
    }
    if let Some(to) = &report.to {
        if to.src.is_none() {
            let text = format!("no route to {}: all sources are taken together", to.dst);
            limits.push(text);
        }
        if to.time_wait_reusable.is_some_and(|reusable| reusable > 0) {
            limits.push(
                "TIME_WAIT can be taken over only where both sides use TCP timestamps, which it \
                 does not show"
                    .to_owned(),
            );
        }
    }
    let left = match &report.to {
        Some(to) => to.first_parity_size - to.first_parity_used,
        None => report.first_parity_size - report.first_parity_used,
    };
    if occupancy.range().one_is_left_out() && left == 1 {
        limits.push(format!(
            "the range has an odd number of ports, of which one search leaves out the first or \
             the last: if only {} or {} is left, connect() may fail",
            report.range[0], report.range[1],
        ));
    }
    limits
}

/// `12 bound`, or nothing.
fn part(value: u64, what: &str) -> String {
    match value {
        0 => String::new(),
        value => format!("{} {what}", count(value)),
    }
}
