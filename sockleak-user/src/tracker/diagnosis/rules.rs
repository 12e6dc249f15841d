//! Thresholds of findings.

/// From which figures on something is a finding. Leaks, hot loops, warnings and failures have
/// been judged before, by their own rules (`verdict::Rules`, `hot::HotRules`,
/// `pressure::PressureRules`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DiagnosisRules {
    /// A leak that reaches its limit within this time is critical, s.
    pub soon_s: f64,
    /// A limit of which this share is used is near,
    pub near: f64,
    /// and with this one as good as reached.
    pub reached: f64,
    /// Limits on descriptors below this say nothing: small by intent.
    pub least_descriptors: u64,
    /// TIME_WAIT is pressure when it is most of what is used, and so much of the range is.
    /// Three fifths: the half that connect() tries first is used up by then.
    pub time_wait_share: f64,
    /// The same where connect() has failed there.
    pub time_wait_share_failed: f64,
    /// The first half is used up towards a destination when this share of it is: of fifty ports one
    /// is free, and a search looks at fifty on average. Connections that end leave gaps.
    pub first_half: f64,
    /// Walks through fewer ports than this cost too little to be said (0.1 ms).
    pub least_walk: u64,
    /// Connections on ports that bind() took are a finding when they have this share of the range.
    pub bound_share: f64,
    /// Where calls have failed, or the whole range is taken, so many ports are enough.
    pub least_bound: u64,
    /// Ports that two processes share after bind() are contested from this number on,
    pub contested: u64,
    /// or from this share of the range on, if they are `least_bound`.
    pub contested_share: f64,
    /// Orphans whose peer does not read are a finding from this number on.
    pub orphans_stuck: u64,
    /// A range with fewer usable ports is too small: 17 connections per second to a destination.
    pub small_range: u64,
    /// Reserved ports, or ports of listeners, are too many from this share of the range on.
    pub unusable_share: f64,
}

impl Default for DiagnosisRules {
    fn default() -> Self {
        Self {
            soon_s: 3600.0,
            near: 0.9,
            reached: 0.98,
            least_descriptors: 64,
            time_wait_share: 0.6,
            time_wait_share_failed: 0.25,
            first_half: 0.98,
            least_walk: 1000,
            bound_share: 0.25,
            least_bound: 16,
            contested: 256,
            contested_share: 0.05,
            orphans_stuck: 256,
            small_range: 1000,
            unusable_share: 0.5,
        }
    }
}
