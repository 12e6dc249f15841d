//! Lines on their way to the disk, and what is known of those that never arrived.

use super::frame::{Kind, encode};

/// Lines that could not be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// How many.
    pub lines: u64,
    /// When the first was made, RFC 3339.
    pub since: String,
    /// When the last was made.
    pub until: String,
    /// Why.
    pub reason: String,
}

impl Lost {
    /// Both, for the reason of the earlier.
    fn and(self, later: Self) -> Self {
        Self {
            lines: self.lines.saturating_add(later.lines),
            since: self.since,
            until: later.until,
            reason: self.reason,
        }
    }

    /// What there is of both.
    pub fn merge(earlier: Option<Self>, later: Option<Self>) -> Option<Self> {
        match (earlier, later) {
            (Some(earlier), Some(later)) => Some(earlier.and(later)),
            (earlier, later) => earlier.or(later),
        }
    }
}

/// Whole frames on their way to the disk.
#[derive(Debug, Default)]
pub struct Batch {
    /// The frames.
    pub frames: Vec<u8>,
    /// Lines in them.
    pub lines: u64,
    since: String,
    until: String,
    /// What got lost in front of it.
    pub lost: Option<Lost>,
    /// It belongs to the end and has to be recorded whatever the length.
    pub last: bool,
}

impl Batch {
    /// Without anything in it; `last` is for the end.
    pub fn new(last: bool) -> Self {
        Self {
            last,
            ..Self::default()
        }
    }

    /// Adds a line of JSON, without its end, made at `ts` (RFC 3339).
    pub fn line(&mut self, line: &[u8], ts: &str) {
        if encode(Kind::Line, line, &mut self.frames).is_none() {
            let lost = Lost {
                lines: 1,
                since: ts.to_owned(),
                until: ts.to_owned(),
                reason: "a line is too long for the format".to_owned(),
            };
            self.lost = Lost::merge(self.lost.take(), Some(lost));
            return;
        }
        if self.lines == 0 {
            ts.clone_into(&mut self.since);
        }
        ts.clone_into(&mut self.until);
        self.lines += 1;
    }

    /// An interval has all its lines.
    pub fn mark(&mut self) {
        // A payload of no bytes always fits.
        let _ = encode(Kind::Mark, &[], &mut self.frames);
    }

    /// Nothing of it is recorded.
    pub fn into_lost(self, reason: &str) -> Option<Lost> {
        let own = (self.lines > 0).then(|| Lost {
            lines: self.lines,
            since: self.since,
            until: self.until,
            reason: reason.to_owned(),
        });
        Lost::merge(self.lost, own)
    }
}
