//! The ports of one network namespace: the answer first, then the figures behind it.

use super::super::columns::{Align, Columns, alarming, maybe, number, text};
use super::super::page::{Page, Style};
use super::super::units::{count, counted, duration, per_second};
use super::TEXT;
use crate::report::{DestinationReport, OccupancyReport, OutsideReport, TowardsReport};

/// Columns of the bar.
const BAR: usize = 68;
/// Other namespaces that are named.
const SPACES: usize = 3;

#[inline(never)]
pub fn put(page: &mut Page, look: &OccupancyReport) {
    let left = look.to.as_ref().map_or(look.free, |to| to.free);
    let style = if left == 0 { Style::Bad } else { Style::Strong };
    page.labelled(0, "ports", TEXT, style, &look.conclusion);
    put_range(page, look);
    put_time_wait(page, look);
    if let Some(to) = &look.to {
        put_towards(page, look, to);
    }
    put_rest(page, look);
    for why in &look.incomplete {
        page.labelled(0, "unseen", TEXT, Style::Warn, why);
    }
    for limit in &look.limits {
        page.labelled(0, "but", TEXT, Style::Faint, limit);
    }
    let how = match look.method {
        "bpf" => "BPF iterator over all descriptors, sock_diag",
        "proc" => "/proc, socket attributes and sock_diag, without BPF",
        other => other,
    };
    let text = format!("{how}, {}", duration(look.took_s));
    page.labelled(0, "method", TEXT, Style::Faint, &text);

    put_holders(page, look);
    put_outside(page, &look.outside);
    match &look.to {
        Some(to) => {
            put_blockers(page, to);
            put_destinations(page, "SOURCE", &to.sources, 0);
        }
        None => {
            let omitted = look.destinations_omitted;
            put_destinations(page, "BUSIEST-SOURCE", &look.destinations, omitted);
        }
    }
    put_addresses(page, look);
}

fn put_range(page: &mut Page, look: &OccupancyReport) {
    let [low, high] = look.range;
    let text = format!(
        "{low}-{high} of netns {}: {} bound, {} connected, {} only TIME_WAIT, {} reserved, \
         {} free of {}",
        look.netns,
        count(look.bound),
        count(look.connected),
        count(look.time_wait),
        count(look.reserved),
        count(look.free),
        count(look.size),
    );
    page.labelled(0, "range", TEXT, Style::Normal, &text);
    let parts = [
        ('b', look.bound),
        ('c', look.connected),
        ('t', look.time_wait),
        ('r', look.reserved),
        ('.', look.free),
    ];
    page.labelled(0, "", TEXT, Style::Normal, &bar(&parts));
    if look.bound > 0 {
        let mut text = format!(
            "{} by listeners, {} by CLOSED sockets",
            count(look.bound_listening),
            count(look.bound_closed),
        );
        if let Some(connections) = look.bound_connected.filter(|connections| *connections > 0) {
            let text_of = format!(
                ", {} by connections (bind() before connect())",
                count(connections)
            );
            text.push_str(&text_of);
        }
        text.push_str("; no connect() without a port takes these, wherever it goes");
        page.labelled(0, "bound", TEXT, Style::Normal, &text);
    }
    let text = format!(
        "{} of {} in the one that connect() tries first, {} of {} in the one that bind(0) tries \
         first",
        count(look.first_parity_used),
        count(look.first_parity_size),
        count(look.second_parity_used),
        count(look.second_parity_size),
    );
    page.labelled(0, "halves", TEXT, Style::Normal, &text);
}

/// One letter per share of the range; what there is of has at least one.
fn bar(parts: &[(char, u64)]) -> String {
    let parts = parts.iter().filter(|(_, ports)| *ports > 0);
    let total: u128 = parts.clone().map(|(_, ports)| u128::from(*ports)).sum();
    let room = BAR.saturating_sub(parts.clone().count());
    let mut bar = String::from("[");
    for (letter, ports) in parts {
        let share = u128::from(*ports) * room as u128 / total.max(1);
        // At most `room`.
        bar.extend((0..=share).map(|_| *letter));
    }
    bar.push(']');
    bar
}

fn put_time_wait(page: &mut Page, look: &OccupancyReport) {
    let sockets = look.time_wait_sockets;
    if sockets.is_none_or(|sockets| sockets > 0) {
        let mut text = match sockets {
            Some(sockets) => format!("{} on any port", counted(sockets, "socket")),
            None => "number unknown".to_owned(),
        };
        if let Some(drain) = look.drain.filter(|drain| drain.last_s > 0.0) {
            text.push_str(&format!(
                "; {} end within 1 s, {} within 10 s, {} within 30 s, the last in {}",
                count(drain.within_1_s),
                count(drain.within_10_s),
                count(drain.within_30_s),
                duration(drain.last_s),
            ));
        }
        let reuse = match look.tw_reuse {
            Some(0) => "; tcp_tw_reuse=0: none is taken over",
            Some(1) => "; tcp_tw_reuse=1: connect() takes them over after 1 s",
            Some(2) => "; tcp_tw_reuse=2: connect() takes them over after 1 s on loopback only",
            _ => "",
        };
        text.push_str(reuse);
        page.labelled(0, "timewait", TEXT, Style::Normal, &text);
    }
    let text = format!(
        "{} to one destination when this side closes first ({} over 60 s of TIME_WAIT)",
        per_second((look.sustained_per_s * 10.0) as u64, 10.0),
        counted(
            look.size
                .saturating_sub(look.reserved.saturating_add(look.bound)),
            "port"
        ),
    );
    page.labelled(0, "sustains", TEXT, Style::Normal, &text);
}

fn put_towards(page: &mut Page, look: &OccupancyReport, to: &TowardsReport) {
    let from = to.src.map_or(String::new(), |src| format!(" from {src}"));
    let text = format!(
        "{}{from}: {} can be taken ({} unused, {} in use elsewhere); {} bound, {} connected to it, \
         {} in TIME_WAIT towards it",
        to.dst,
        count(to.free),
        count(to.unused),
        count(to.other),
        count(to.bound),
        count(to.connected),
        count(to.time_wait),
    );
    page.labelled(0, "to", TEXT, Style::Normal, &text);
    let parts = [
        ('b', to.bound),
        ('c', to.connected),
        ('t', to.time_wait),
        ('r', look.reserved),
        ('o', to.other),
        ('.', to.unused),
    ];
    page.labelled(0, "", TEXT, Style::Normal, &bar(&parts));
    let text = format!(
        "{} of {} taken in the first half, {} of {} in the second",
        count(to.first_parity_used),
        count(to.first_parity_size),
        count(to.second_parity_used),
        count(to.second_parity_size),
    );
    page.labelled(0, "", TEXT, Style::Normal, &text);
    if let Some(reusable) = to.time_wait_reusable.filter(|_| to.time_wait > 0) {
        let text = format!("{} of the TIME_WAIT may be taken over now", count(reusable));
        page.labelled(0, "", TEXT, Style::Normal, &text);
    }
}

fn put_rest(page: &mut Page, look: &OccupancyReport) {
    let mut text = format!(
        "{} in this namespace, {} of them outside of the range",
        counted(look.in_use, "port"),
        count(look.outside.count),
    );
    if look.reserved_used > 0 {
        text.push_str(&format!(", {} reserved", count(look.reserved_used)));
    }
    let spaces: Vec<String> = (look.elsewhere.iter().take(SPACES))
        .map(|space| format!("{}: {}", space.netns, count(space.in_use)))
        .collect();
    let elsewhere = look.elsewhere.iter().map(|space| space.in_use);
    let elsewhere = elsewhere.fold(0, u64::saturating_add);
    if elsewhere > 0 {
        text.push_str(&format!(
            "; other namespaces use {} of their own (netns {})",
            count(elsewhere),
            spaces.join(", "),
        ));
    }
    page.labelled(0, "in use", TEXT, Style::Normal, &text);
    if look.unowned > 0 {
        let text = format!(
            "{} of the range belong to nobody who could be seen: closed by their process, not \
             accepted yet, or of a hidden process",
            counted(look.unowned, "port"),
        );
        page.labelled(0, "nobody", TEXT, Style::Normal, &text);
    }
    if let Some(free) = look.bind_free {
        let style = if free == 0 { Style::Bad } else { Style::Normal };
        let text = format!("{} for any address", counted(free, "port"));
        page.labelled(0, "bind(0)", TEXT, style, &text);
    }
}

fn put_holders(page: &mut Page, look: &OccupancyReport) {
    if look.holders.is_empty() {
        return;
    }
    page.gap();
    let mut table = Columns::new(&[
        ("PID", Align::Right),
        ("COMM", Align::Left),
        ("BOUND", Align::Right),
        ("CONN", Align::Right),
        ("CONN+BOUND", Align::Right),
        ("LISTEN", Align::Right),
        ("OUTSIDE", Align::Right),
    ]);
    for holder in &look.holders {
        table.row(vec![
            number(holder.pid.into()),
            text(&holder.comm),
            alarming(Style::Warn, holder.bound),
            number(holder.connected),
            maybe(holder.connected_bound, |ports| ports.to_string()),
            number(holder.listening),
            number(holder.outside),
        ]);
    }
    table.put(page);
    put_omitted(page, look.holders_omitted);
}

fn put_outside(page: &mut Page, outside: &OutsideReport) {
    if outside.count == 0 {
        return;
    }
    page.gap();
    let mut table = Columns::new(&[
        ("OUTSIDE-PID", Align::Right),
        ("COMM", Align::Left),
        ("BOUND", Align::Right),
        ("CONN", Align::Right),
        ("LISTEN", Align::Right),
        ("PORTS", Align::Left),
    ]);
    for holder in &outside.holders {
        let mut ports: Vec<String> = (holder.ports.iter())
            .map(|[low, high]| match low == high {
                true => low.to_string(),
                false => format!("{low}-{high}"),
            })
            .collect();
        if holder.ports_omitted > 0 {
            ports.push(format!("+{}", holder.ports_omitted));
        }
        table.row(vec![
            number(holder.pid.into()),
            text(&holder.comm),
            alarming(Style::Warn, holder.bound),
            number(holder.connected),
            number(holder.listening),
            text(&ports.join(",")),
        ]);
    }
    table.put(page);
    put_omitted(page, outside.holders_omitted);
}

fn put_blockers(page: &mut Page, to: &TowardsReport) {
    if to.holders.is_empty() {
        return;
    }
    page.gap();
    let mut table = Columns::new(&[
        ("BLOCKS-PID", Align::Right),
        ("COMM", Align::Left),
        ("PORTS", Align::Right),
        ("BOUND", Align::Right),
    ]);
    for holder in &to.holders {
        table.row(vec![
            number(holder.pid.into()),
            text(&holder.comm),
            number(holder.ports),
            alarming(Style::Warn, holder.bound),
        ]);
    }
    table.put(page);
    put_omitted(page, to.holders_omitted);
}

fn put_destinations(
    page: &mut Page,
    heading: &'static str,
    rows: &[DestinationReport],
    omitted: u64,
) {
    if rows.is_empty() {
        return;
    }
    page.gap();
    let mut table = Columns::new(&[
        (heading, Align::Left),
        ("DESTINATION", Align::Left),
        ("CONN", Align::Right),
        ("BOUND", Align::Right),
        ("TIMEW", Align::Right),
        ("LEFT", Align::Right),
    ]);
    for row in rows {
        table.row(vec![
            text(&row.src.to_string()),
            text(&row.dst.to_string()),
            number(row.connected),
            alarming(Style::Warn, row.connected_bound),
            number(row.time_wait),
            match row.free {
                0 => (Style::Bad, "0".to_owned()),
                free => number(free),
            },
        ]);
    }
    table.put(page);
    put_omitted(page, omitted);
}

fn put_addresses(page: &mut Page, look: &OccupancyReport) {
    if look.addresses.is_empty() {
        return;
    }
    page.gap();
    let mut table = Columns::new(&[
        ("LOCAL-ADDRESS", Align::Left),
        ("IN-USE", Align::Right),
        ("BIND(0)-LEFT", Align::Right),
    ]);
    for row in &look.addresses {
        table.row(vec![
            text(&row.address.to_string()),
            number(row.in_use),
            number(row.bind_free),
        ]);
    }
    table.put(page);
    put_omitted(page, look.addresses_omitted);
}

fn put_omitted(page: &mut Page, omitted: u64) {
    if omitted > 0 {
        let text = format!("and {} more (--top 0 shows all)", count(omitted));
        page.line(Style::Faint, &text);
    }
}
