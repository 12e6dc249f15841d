//! When to look at all descriptors again.

/// An inventory may take this share of the time that passes between two: 1/200.
const SHARE: u64 = 200;
/// When something was lost: 1/20.
const SHARE_AFTER_LOSS: u64 = 20;
/// Whatever it costs, classes are at most this old, ns.
const AT_LEAST_EVERY_NS: u64 = 60_000_000_000;

/// Spaces inventories so that they stay within a fixed share of one CPU, however many
/// descriptors there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cadence {
    next_ns: u64,
    /// The same after a loss.
    soonest_ns: u64,
    /// What had been lost when that was last asked.
    lost: u64,
    /// Something was lost since the last inventory.
    owed: bool,
}

impl Cadence {
    /// Notes an inventory that began at `at_ns` and took `took_ns`.
    pub fn took(&mut self, at_ns: u64, took_ns: u64) {
        let pause = took_ns.saturating_mul(SHARE).min(AT_LEAST_EVERY_NS);
        self.next_ns = at_ns.saturating_add(pause);
        self.soonest_ns = at_ns.saturating_add(pause.min(took_ns.saturating_mul(SHARE_AFTER_LOSS)));
        self.owed = false;
    }

    /// Something was lost on which counts of sockets rest (`lost` is the sum so far): an inventory makes
    /// them right again, so the next one may cost ten times the share.
    pub fn lost(&mut self, lost: u64) {
        self.owed |= lost > self.lost;
        self.lost = lost;
    }

    /// The next one is due at once, whatever the last one cost.
    pub fn demand(&mut self) {
        self.next_ns = 0;
    }

    /// Whether another one is due at `now_ns`.
    pub fn is_due(&self, now_ns: u64) -> bool {
        now_ns >= self.next_ns || self.owed && now_ns >= self.soonest_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn cheap_looks_are_frequent_and_dear_ones_rare() {
        let mut cadence = Cadence::default();
        assert!(cadence.is_due(0), "the first is due at once");
        cadence.took(1_000 * MS, MS);
        assert!(!cadence.is_due(1_199 * MS));
        assert!(cadence.is_due(1_200 * MS));
        cadence.took(2_000 * MS, 40 * MS);
        assert!(!cadence.is_due(9_999 * MS));
        assert!(cadence.is_due(10_000 * MS));
    }

    #[test]
    fn a_loss_brings_the_next_look_forward_once() {
        let mut cadence = Cadence::default();
        cadence.took(1_000 * MS, 10 * MS);
        cadence.lost(0);
        assert!(!cadence.is_due(1_500 * MS));
        cadence.lost(3);
        assert!(!cadence.is_due(1_199 * MS), "not at any price");
        assert!(cadence.is_due(1_200 * MS));
        cadence.lost(3);
        assert!(cadence.is_due(1_200 * MS), "it is owed until it is made");
        cadence.took(1_200 * MS, 10 * MS);
        cadence.lost(3);
        assert!(
            !cadence.is_due(3_199 * MS),
            "what was lost before is made good"
        );
        assert!(cadence.is_due(3_200 * MS));
    }

    #[test]
    fn nothing_gets_older_than_a_minute() {
        let mut cadence = Cadence::default();
        cadence.took(0, 5_000 * MS);
        assert!(cadence.is_due(60_000 * MS));
        cadence.took(u64::MAX, u64::MAX);
        assert!(!cadence.is_due(0));
    }
}
