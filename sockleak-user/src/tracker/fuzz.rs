//! Any course of samples, of bytes as the kernel side might send them: nothing overflows, no
//! bound is passed, and what is said about it can be printed and read back.

use std::collections::HashMap;
use std::mem::offset_of;

use sockleak_ebpf::{
    AF_INET, AF_INET6, FailureKey, FailureStats, InventoryRecord, ProcessKey, ProcessSlot,
    SearchKey, SearchSlot, SearchStats,
};

use super::{
    Baseline, CallsInput, CallsReading, Census, Config, EndInput, IntervalInput, Inventory,
    PortFeatures, ProcessInfos, Rules, Sample, Selection, Surroundings, Tracker, VisibleCalls, end,
    interval,
};
use crate::decode;
use crate::model::{
    Counters, FailureCounters, FileLimits, NamespacePorts, ProcessCounters, SearchCounters,
    Sockstat,
};
use crate::render::{Json, Plain, Renderer};
use crate::report::{Body, Loss, Report, SelfCost};
use crate::sanitize::is_harmless;

/// Samples of one input: enough to fill every table.
const SAMPLES: u32 = 48;

/// The bytes are a script: what a reading consists of, and when it is taken.
pub fn tracker(data: &[u8]) {
    let mut script = Script(data);
    let mut course = Course::new(&mut script);
    let mut samples = 0;
    while !script.0.is_empty() && samples < SAMPLES {
        match script.byte() % 8 {
            0 => course.processes.extend(script.process()),
            1 => course.holds(&mut script),
            2 => course.searches.extend(script.search()),
            3 => course.failures.extend(script.failure()),
            4 => course.count(&mut script),
            5 => course.kernel_counts(&mut script),
            which => {
                course.observe(which == 7);
                samples += 1;
            }
        }
    }
    course.observe(true);
    course.conclude();
}

/// Bytes that are taken from the front, zeros when there are none left.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut taken = [0; N];
        let len = self.0.len().min(N);
        let (now, later) = self.0.split_at(len);
        taken[..len].copy_from_slice(now);
        self.0 = later;
        taken
    }

    fn byte(&mut self) -> u8 {
        let [byte] = self.take();
        byte
    }

    /// Mostly small, sometimes any.
    fn number(&mut self) -> u64 {
        match self.byte() {
            255 => u64::from_le_bytes(self.take()),
            small => small.into(),
        }
    }

    /// Keys repeat, so that elements grow, end and begin again.
    fn process_key(&mut self) -> [u8; size_of::<ProcessKey>()] {
        let mut key = [0; size_of::<ProcessKey>()];
        let [pid, start] = self.take();
        key[..8].copy_from_slice(&(u64::from(start) * 10_000_000).to_ne_bytes());
        key[8] = pid % 16;
        key
    }

    fn process(&mut self) -> Option<ProcessCounters> {
        let mut slot = [0; size_of::<ProcessSlot>()];
        for word in slot.chunks_exact_mut(8) {
            word.copy_from_slice(&self.number().to_ne_bytes());
        }
        let key = self.process_key();
        slot[..key.len()].copy_from_slice(&key);
        slot[offset_of!(ProcessSlot, ready)..][..4].copy_from_slice(&1_u32.to_ne_bytes());
        decode::process_slot(&slot).ok()?
    }

    /// A key that begins with a process and has small numbers behind it.
    fn call_key<const N: usize>(&mut self) -> [u8; N] {
        let mut key = [0; N];
        let process = self.process_key();
        key[..process.len()].copy_from_slice(&process);
        for byte in &mut key[process.len()..] {
            *byte = self.byte() & 0x0f;
        }
        key
    }

    fn values<const N: usize>(&mut self) -> [u8; N] {
        let mut value = [0; N];
        for _ in 0..self.byte() % 24 {
            let (at, number) = (usize::from(self.byte()), self.number());
            if let Some(word) = value.chunks_exact_mut(8).nth(at) {
                word.copy_from_slice(&number.to_ne_bytes());
            }
        }
        value
    }

    fn search(&mut self) -> Option<SearchCounters> {
        let key: [u8; size_of::<SearchKey>()] = self.call_key();
        let stats: [u8; size_of::<SearchStats>()] = self.values();
        let mut slot = [0; size_of::<SearchSlot>()];
        slot[..key.len()].copy_from_slice(&key);
        slot[offset_of!(SearchSlot, ready)..][..4].copy_from_slice(&1_u32.to_ne_bytes());
        slot[offset_of!(SearchSlot, stats)..][..stats.len()].copy_from_slice(&stats);
        decode::search_slot(&slot).ok()?
    }

    fn failure(&mut self) -> Option<FailureCounters> {
        let key: [u8; size_of::<FailureKey>()] = self.call_key();
        let value: [u8; size_of::<FailureStats>()] = self.values();
        decode::failure_counters(&key, &value).ok()
    }
}

/// Thresholds for a world of few sockets.
pub(super) fn small_rules() -> Rules {
    Rules {
        min_count: 2,
        min_growth: 2,
        min_steps: 2,
        large: 5,
        share_min_count: 2,
        ..Rules::default()
    }
}

/// A tracker and the reading that it is given next.
struct Course {
    tracker: Tracker,
    infos: ProcessInfos,
    namespaces: Vec<NamespacePorts>,
    at_ns: u64,
    before: Counters,
    counters: Counters,
    sockstat: Sockstat,
    processes: Vec<ProcessCounters>,
    searches: Vec<SearchCounters>,
    failures: Vec<FailureCounters>,
    census: Census,
    step_ns: u64,
}

impl Course {
    fn new(script: &mut Script<'_>) -> Self {
        // Small, so that every limit is reached.
        let config = Config {
            older_ns: script.number(),
            window_ns: script.number().saturating_mul(1_000_000_000).max(1),
            processes: 8,
            idle_sockets: 28,
            groups: 4,
            calls: 6,
            rules: small_rules(),
        };
        let baseline = Baseline {
            alloc: script.number(),
            ..Baseline::default()
        };
        let range = (1000 + u16::from(script.byte()), 1200);
        let mut tracker = Tracker::new(config, baseline);
        tracker.calls_mut().see(VisibleCalls {
            connect: true,
            bind: true,
            only_failed_binds: script.byte() & 1 != 0,
            bounded_connects: false,
        });
        Self {
            tracker,
            infos: ProcessInfos::new(),
            namespaces: vec![NamespacePorts {
                netns: 1,
                range,
                ..NamespacePorts::default()
            }],
            at_ns: 0,
            before: Counters::default(),
            counters: Counters::default(),
            sockstat: Sockstat::default(),
            processes: Vec::new(),
            searches: Vec::new(),
            failures: Vec::new(),
            census: Census::new(),
            step_ns: script.number().saturating_mul(10_000_000),
        }
    }

    /// A descriptor of an inventory: few sockets, processes and namespaces, any flags.
    fn holds(&mut self, script: &mut Script<'_>) {
        let mut bytes = [0; size_of::<InventoryRecord>()];
        for (at, byte) in script.take::<12>().into_iter().enumerate() {
            bytes[at * 8] = byte & 0x1f;
        }
        let rest: [u8; 16] = script.take();
        let at = bytes.len() - rest.len();
        bytes[at..].copy_from_slice(&rest);
        let family = if script.byte() & 1 == 0 {
            AF_INET
        } else {
            AF_INET6
        };
        let word = std::mem::offset_of!(InventoryRecord, family);
        bytes[word..word + 2].copy_from_slice(&family.to_ne_bytes());
        let state = u16::from(script.byte() % 13).to_ne_bytes();
        let word = std::mem::offset_of!(InventoryRecord, state);
        bytes[word..word + 2].copy_from_slice(&state);
        if let Ok(socket) = decode::held_socket(&bytes) {
            self.census.add(&socket);
        }
    }

    fn count(&mut self, script: &mut Script<'_>) {
        let mut bytes = [0; size_of::<sockleak_ebpf::Counters>()];
        for _ in 0..script.byte() % 16 {
            let (at, number) = (usize::from(script.byte()), script.number());
            if let Some(word) = bytes.chunks_exact_mut(8).nth(at % 40) {
                word.copy_from_slice(&number.to_ne_bytes());
            }
        }
        self.before = self.counters;
        if let Ok(counters) = decode::counters([bytes.as_slice()]) {
            self.counters = counters;
        }
    }

    fn kernel_counts(&mut self, script: &mut Script<'_>) {
        self.sockstat = Sockstat {
            alloc: script.number(),
            inuse: script.number(),
            orphan: script.number(),
            tw: script.number(),
            mem_pages: script.number(),
        };
    }

    fn observe(&mut self, looked: bool) {
        self.at_ns = self.at_ns.saturating_add(self.step_ns);
        let inventory = looked.then(|| {
            let census = std::mem::replace(&mut self.census, Census::new());
            Inventory {
                at_ns: self.at_ns,
                totals: census.totals(),
                census,
                complete: true,
            }
        });
        self.tracker.observe(Sample {
            at_ns: self.at_ns,
            before: self.before,
            sockstat: self.sockstat,
            counters: self.counters,
            processes: &self.processes,
            inventory,
            infos: &self.infos,
        });
        self.processes.clear();
        self.tracker.calls_mut().advance(CallsReading {
            at_ns: self.at_ns,
            before: self.before,
            searches: std::mem::take(&mut self.searches),
            failures: std::mem::take(&mut self.failures),
        });
        self.bounded();
        let nothing = Nothing::default();
        let body = interval(
            &self.tracker,
            IntervalInput {
                infos: &self.infos,
                boot_unix_ns: 0,
                selection: Selection::default(),
                namespaces: &self.namespaces,
                calls: nothing.input(&self.infos),
                orphans: None,
                loss: Loss::default(),
                self_cost: SelfCost::default(),
            },
        );
        said(Body::Interval(body));
    }

    /// No table is larger than it may be.
    fn bounded(&self) {
        let config = self.tracker.config();
        assert!(self.tracker.accounts().iter().count() <= config.processes);
        assert!(self.tracker.groups().iter().count() <= config.groups);
        assert!(self.tracker.calls().searches().len() <= 2 * config.calls);
        assert!(self.tracker.calls().failures().len() <= 2 * config.calls);
    }

    fn conclude(&self) {
        let leaks = self.tracker.leaks(&Surroundings {
            infos: &self.infos,
            namespaces: &self.namespaces,
            files: Some(FileLimits { used: 9, max: 10 }),
            tcp_mem: Some(3),
            lost: self.counters.sockets_full,
            pasts: super::Pasts::default(),
            coverage: &[],
        });
        for leak in &leaks {
            assert!(leak.count >= self.tracker.config().rules.min_count);
            assert!((0.0..=1.0).contains(&leak.confidence));
        }
        let nothing = Nothing::default();
        let body = end(
            &self.tracker,
            EndInput {
                infos: &self.infos,
                boot_unix_ns: 0,
                selection: Selection::default(),
                namespaces: &self.namespaces,
                kernel_sockets: Some(0),
                hidden: None,
                accept_visible: true,
                calls: nothing.input(&self.infos),
                pressures: Vec::new(),
                leaks,
                coverage: Vec::new(),
                orphans: None,
                loss: Loss::default(),
                self_cost: SelfCost::default(),
            },
        );
        said(Body::End(Box::new(body)));
    }
}

/// What nobody has looked up.
#[derive(Default)]
struct Nothing {
    features: PortFeatures,
    ranges: HashMap<crate::model::FailureId, super::RangeUse>,
    owners: HashMap<crate::model::FailureId, super::PortOwners>,
}

impl Nothing {
    fn input<'a>(&'a self, infos: &'a ProcessInfos) -> CallsInput<'a> {
        CallsInput {
            infos,
            keep: &|_, _| true,
            features: &self.features,
            ranges: &self.ranges,
            owners: &self.owners,
        }
    }
}

/// It can be printed, harms nobody and is read back as it was.
fn said(body: Body) {
    let report = Report::new("2026-08-01T03:14:15.926Z".to_owned(), body);
    let printed = |renderer: &dyn Renderer| {
        let mut out = Vec::new();
        let result = renderer.render(&report, &mut out);
        assert!(result.is_ok(), "{result:?}");
        String::from_utf8_lossy(&out).into_owned()
    };
    let line = printed(&Json);
    let mut again = Vec::new();
    match Report::from_json(line.trim_end()) {
        Ok(report) => assert!(Json.render(&report, &mut again).is_ok()),
        Err(error) => panic!("{error}: {line}"),
    }
    assert_eq!(String::from_utf8_lossy(&again), line);
    let text = printed(&Plain::default());
    assert!(
        text.lines().all(|line| line.chars().all(is_harmless)),
        "{text}"
    );
}
