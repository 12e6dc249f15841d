//! Whose stacks are worth their price: processes whose forgotten sockets seem to grow.
//!
//! Suspicion is cheap and early, no verdict: it only has the kernel side look closer.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::groups::{Group, Groups};
use crate::model::Arrange as _;
use crate::model::ProcessId;

/// Fewer idle sockets are nothing, however they grow.
const MIN_COUNT: u64 = 3;
/// In this many censuses there were more than before.
const MIN_STEPS: u64 = 2;
/// So many are worth a look even if they do not grow: perhaps their process has met its limit.
const MANY: u64 = 100;

/// Processes to look at closer, those whose idle sockets grow most first; at most `limit`.
pub fn suspects(groups: &Groups, limit: usize) -> Vec<ProcessId> {
    let mut by_process: HashMap<ProcessId, u64> = HashMap::new();
    for group in groups.iter() {
        if let Some(weight) = weight(group) {
            *by_process.entry(group.key.process).or_default() += weight;
        }
    }
    let mut all: Vec<_> = by_process.into_iter().collect();
    all.arrange_by_key(|(process, weight)| (Reverse(*weight), *process));
    all.truncate(limit);
    all.into_iter().map(|(process, _)| process).collect()
}

fn weight(group: &Group) -> Option<u64> {
    let total = group.tally.total;
    let rise = group.window.rise(|point| point.total);
    let grows = rise.growth >= MIN_COUNT && rise.steps >= MIN_STEPS;
    (total >= MIN_COUNT && grows || total >= MANY).then_some(rise.growth.max(1))
}
