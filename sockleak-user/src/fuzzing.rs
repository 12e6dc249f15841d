//! Whatever is not ours, as bytes: the targets of `cargo xtask fuzz` and of the test that mutates
//! the kept corpora. A target panics when something is wrong; each stands beside what it feeds.

mod recording;
#[cfg(test)]
mod replay;

/// Something that takes foreign bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of the directory of its corpus.
    pub name: &'static str,
    /// Feeds it; panics when something is wrong.
    pub run: fn(&[u8]),
}

/// Every target; `tests/fuzz/fuzz_targets` has a file for each.
pub const TARGETS: [Target; 9] = [
    target("records", crate::decode::fuzz::records),
    target("tracker", crate::tracker::fuzz::tracker),
    target("recording", recording::recording),
    target("lines", recording::lines),
    target("btf", crate::kernel::btf::fuzz::btf),
    target("perf_map", crate::enrich::symbols::fuzz::perf_map),
    target("symbols", crate::enrich::symbols::fuzz::symbols),
    target("proc", crate::source::fuzz::proc),
    target("netlink", crate::source::fuzz::netlink),
];

const fn target(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run }
}

/// Feeds the target of this name.
///
/// # Panics
/// When there is none, or what it feeds misbehaves.
pub fn run(name: &str, data: &[u8]) {
    let Some(target) = TARGETS.iter().find(|target| target.name == name) else {
        panic!("there is no target {name}");
    };
    (target.run)(data);
}
