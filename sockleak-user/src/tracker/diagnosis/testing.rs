//! Facts put together by hand.

use super::*;
use crate::model::{Cause, Op};
use crate::report::{After, LeakClass, LeakOrigin};
use crate::tracker::testing::{NETNS, process};
use crate::tracker::{Half, Room};

pub(super) const TO: &str = "10.0.0.5:6379";
pub(super) const OWN: &str = "10.0.0.9";

/// Facts that own what they refer to.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) leaks: Vec<Leak>,
    pub(super) spaces: Vec<Space>,
    pub(super) failures: Vec<FailureReport>,
    pub(super) hot_loops: Vec<HotLoop>,
    pub(super) orphans: Option<OrphansReport>,
    pub(super) infos: ProcessInfos,
    pub(super) files: Option<FileLimits>,
    pub(super) tcp_mem: Option<[u64; 3]>,
    pub(super) mem_pages: u64,
}

impl World {
    pub(super) fn diagnose(&self) -> Vec<FindingReport> {
        self.with(diagnose)
    }

    pub(super) fn with<T>(&self, ask: impl FnOnce(&DiagnosisFacts<'_>) -> T) -> T {
        let mut processes: Vec<_> = self.infos.keys().copied().collect();
        processes.sort();
        ask(&DiagnosisFacts {
            rules: &DiagnosisRules::default(),
            leaks: &self.leaks,
            spaces: &self.spaces,
            failures: &self.failures,
            hot_loops: &self.hot_loops,
            pressures: &[],
            orphans: self.orphans.as_ref(),
            infos: &self.infos,
            processes: &processes,
            files: self.files,
            tcp_mem: self.tcp_mem,
            mem_pages: self.mem_pages,
            features: &PortFeatures::default(),
            traced: true,
        })
    }

    /// Kind, process and the kind of the cause of each finding.
    pub(super) fn found(&self) -> Vec<(FindingId, Option<u32>, Option<FindingId>)> {
        let findings = self.diagnose();
        let short = |one: &FindingReport| {
            let cause = one.caused_by.as_ref().map(|cause| cause.id);
            (one.id, one.pid, cause)
        };
        findings.iter().map(short).collect()
    }

    pub(super) fn first(&self) -> FindingReport {
        self.diagnose().into_iter().next().expect("a finding")
    }
}

pub(super) fn leak(pid: u32, class: LeakClass, count: u64, fates: &[(After, u64)]) -> Leak {
    let origins = fates.iter().map(|(after, count)| LeakOrigin {
        after: *after,
        errno: (*after == After::ConnectRefused).then(|| "ECONNREFUSED".to_owned()),
        peer: Some(TO.to_owned()),
        count: *count,
        oldest_age_s: None,
        rate_per_min: None,
        stack: None,
        unnamed: None,
    });
    Leak {
        pid,
        comm: "app".to_owned(),
        container: None,
        class,
        after: After::Unknown,
        errno: None,
        peer: None,
        count,
        oldest_age_s: Some(5.0),
        age_is_lower_bound: true,
        median_age_s: None,
        rate_per_min: None,
        stack: None,
        stacked: 0,
        origins: origins.collect(),
        other_origins: 0,
        limit: None,
        holders: vec![pid],
        held_by: Vec::new(),
        confidence: 0.8,
        evidence: vec!["evidence of the verdict".to_owned()],
        remedy: vec!["remedy of the verdict".to_owned()],
        coverage: Vec::new(),
    }
}

pub(super) fn failure(pid: u32, op: Op, cause: Cause, dst: Option<&str>) -> FailureReport {
    FailureReport {
        op,
        errno: "EADDRNOTAVAIL".to_owned(),
        cause,
        pid,
        tid: pid,
        comm: "victim".to_owned(),
        netns: NETNS,
        cgroup: None,
        container: None,
        src: None,
        dst: dst.map(str::to_owned),
        port: None,
        options: Vec::new(),
        range: Some([32768, 60999]),
        search_ns: None,
        candidates: None,
        count: 34,
        breakdown: None,
        holders: Vec::new(),
        held_by: Vec::new(),
        callers: Vec::new(),
        remedy: vec!["remedy of the failure".to_owned()],
    }
}

/// The default range, not used.
pub(super) fn space() -> Space {
    Space {
        netns: NETNS,
        range: (32768, 60999),
        size: 28_232,
        bind_free: Some(28_232),
        buckets_known: true,
        tw_reuse: Some(2),
        timestamps: Some(1),
        wider: Some(((10_240, 65_535), 55_296)),
        ..Space::default()
    }
}

/// So many ports connected, in TIME_WAIT and bound towards [`TO`], first halves first.
pub(super) fn route(space: &Space, connected: u64, waiting: u64, bound: u64) -> RouteUse {
    let size = space.usable();
    let used = connected + waiting + bound;
    let half = |taken: u64, of: u64| Half {
        size: of,
        used: taken,
    };
    let first = used.min(size / 2);
    RouteUse {
        pair: Some((OWN.parse().unwrap(), TO.parse().unwrap())),
        room: Room {
            range: space.range,
            size: space.size,
            reserved: space.reserved,
            bound,
            connected,
            time_wait: waiting,
            free: size.saturating_sub(used),
            first: half(first, size / 2),
            second: half(used - first, size - size / 2),
            time_wait_reusable: Some(0),
            blockers: vec![crate::tracker::Blocker {
                process: process(7),
                ports: connected,
                bound: 0,
            }],
            ..Room::default()
        },
        connected,
        connected_bound: 0,
        free_with_reuse: Some(size.saturating_sub(connected + bound)),
        free_in_wider: Some(55_296 - used),
    }
}

pub(super) fn with_route(connected: u64, waiting: u64) -> World {
    let mut space = space();
    space.routes = vec![route(&space, connected, waiting, 0)];
    World {
        spaces: vec![space],
        ..World::default()
    }
}
