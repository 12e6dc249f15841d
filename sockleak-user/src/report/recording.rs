//! What a recording says about itself (`watch --record`, `report`).

use serde::{Deserialize, Serialize};

/// First object of a recording: who made it where. The time of the report is when it began.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct RecordingReport {
    /// Version of the file's format.
    pub format: u32,
    /// Version of sockleak that wrote it.
    pub sockleak: String,
    /// Name of the host (`uname -n`).
    pub host: String,
    /// Kernel release (`uname -r`).
    pub kernel: String,
    /// Machine (`uname -m`).
    pub machine: String,
    /// Command line, the program first.
    pub command: Vec<String>,
}

/// Lines that are missing in the middle of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct GapReport {
    /// How many lines `watch` had for this place.
    pub lines: u64,
    /// When the first of them was made, RFC 3339 in UTC; the time of the report is that of the
    /// last.
    pub since: String,
    /// Why they were not recorded.
    pub reason: String,
}

/// A recording that has no end. The time of the report is that of the last line that could be
/// read.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct CutReport {
    /// What was found where the next line should be.
    pub reason: String,
    /// Intervals that were recorded in full.
    pub intervals: u64,
    /// When the last of them was over, RFC 3339 in UTC; `None` without one.
    pub until: Option<String>,
    /// Bytes of the file up to the end of the last line that could be read.
    pub read_bytes: u64,
    /// Bytes behind it; `None` when they were not counted.
    pub unread_bytes: Option<u64>,
    /// The totals of the whole run were recorded before: they are final.
    pub after_end: bool,
}
