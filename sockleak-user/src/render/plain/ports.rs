//! The ports of every network namespace.

use super::super::columns::{Align, Columns, alarming, maybe, number};
use super::super::page::{Page, Style};
use super::super::units::count;
use super::TEXT;
use crate::report::PortsReport;

pub fn put(page: &mut Page, namespaces: &[PortsReport]) {
    if namespaces.is_empty() {
        return;
    }
    page.gap();
    let mut table = Columns::new(&[
        ("PORTS-OF-NETNS", Align::Right),
        ("RANGE", Align::Left),
        ("SIZE", Align::Right),
        ("BOUND", Align::Right),
        ("CONN", Align::Right),
        ("LISTEN", Align::Right),
        ("TIMEW", Align::Right),
        ("RESERVED", Align::Right),
        ("FREE", Align::Right),
        ("OUTSIDE", Align::Right),
    ]);
    for ports in namespaces {
        let used_up = ports.range.is_some() && ports.free == 0;
        table.row(vec![
            number(ports.netns.into()),
            maybe(ports.range, |[low, high]| format!("{low}-{high}")),
            number(ports.size),
            alarming(Style::Warn, ports.bound),
            number(ports.connected),
            number(ports.listening),
            number(ports.time_wait),
            number(ports.reserved),
            match (ports.range, used_up) {
                (None, _) => maybe(None::<u64>, |_| String::new()),
                (Some(_), true) => (Style::Bad, "0".to_owned()),
                (Some(_), false) => number(ports.free),
            },
            number(ports.outside),
        ]);
    }
    table.put(page);
    for ports in namespaces {
        if let Some([low, high]) = ports.range.filter(|_| ports.free == 0) {
            put_exhausted(page, ports, low, high);
        }
    }
}

fn put_exhausted(page: &mut Page, ports: &PortsReport, low: u16, high: u16) {
    let text = format!(
        "all {} ports of {low}-{high} in netns {} are taken: {} by CLOSED sockets, \
         {} by connections, {} by listeners, {} by TIME_WAIT, {} reserved; bind() without a port \
         and connect() fail there, unless they may share one",
        count(ports.size),
        ports.netns,
        count(ports.bound),
        count(ports.connected),
        count(ports.listening),
        count(ports.time_wait),
        count(ports.reserved),
    );
    page.labelled(0, "no port", TEXT, Style::Bad, &text);
}
