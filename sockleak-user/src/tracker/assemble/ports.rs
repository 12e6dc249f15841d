//! Port use per network namespace: what descriptors hold against what the namespace offers.

use std::collections::BTreeMap;

use crate::model::{NamespacePorts, PortSet};
use crate::report::PortsReport;
use crate::tracker::Range;
use crate::tracker::census::Census;
use crate::tracker::ports::NamespaceUse;

/// Port use of every namespace that is in the census or in `namespaces`, by inode number.
///
/// Where TIME_WAIT could not be listed, its number stands in for its ports, and `free` may be
/// too low by those that are held otherwise as well.
pub fn port_reports(census: &Census, namespaces: &[NamespacePorts]) -> Vec<PortsReport> {
    let none = NamespaceUse::default();
    let mut reports: BTreeMap<u32, PortsReport> = BTreeMap::new();
    for settings in namespaces {
        let held = census
            .namespaces()
            .iter()
            .find(|held| held.netns == Some(settings.netns))
            .unwrap_or(&none);
        reports.insert(settings.netns, ports(held, settings));
    }
    for held in census.namespaces() {
        let Some(netns) = held.netns else {
            continue;
        };
        reports.entry(netns).or_insert_with(|| PortsReport {
            netns,
            ..PortsReport::default()
        });
    }
    reports.into_values().collect()
}

fn ports(held: &NamespaceUse, settings: &NamespacePorts) -> PortsReport {
    let range = Range::from(settings.range);
    let ends = settings.range;
    let (reserved, time_wait) = (&settings.reserved, &settings.time_wait);
    // The two are read one after the other and need not agree.
    let is_listed = !time_wait.is_empty() || settings.time_wait_count == 0;
    let mut taken = PortSet::default();
    for set in [&held.bound, &held.connected, &held.listening, time_wait] {
        taken.union_with(set);
    }
    let outside = taken.len() as u64 - taken.count_in(ends);
    let used = |first| {
        let in_half = |port: &u16| range.contains(*port) && range.is_first_parity(*port) == first;
        let ports = taken.iter().filter(|port| !reserved.contains(*port));
        is_listed.then(|| ports.filter(in_half).count() as u64)
    };
    let (first_parity_used, second_parity_used) = (used(true), used(false));
    taken.union_with(reserved);
    let free = range.size() - taken.count_in(ends);
    let (time_wait, free) = if is_listed {
        (time_wait.count_in(ends), free)
    } else {
        let ports = settings.time_wait_count.min(range.size());
        (ports, free.saturating_sub(ports))
    };
    PortsReport {
        netns: settings.netns,
        range: Some([range.low, range.high]),
        size: range.size(),
        reserved: reserved.count_in(ends),
        bound: held.bound.count_in(ends),
        connected: held.connected.count_in(ends),
        listening: held.listening.count_in(ends),
        time_wait,
        free,
        first_parity_used,
        second_parity_used,
        outside,
    }
}
