//! Finds the TCP sockets that processes hold right now, whoever made them and whenever.

pub mod bpf;

/// How an inventory went; the sockets themselves go to its callback as they are found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Processes that were looked at.
    pub processes: u64,
    /// Processes whose descriptors could not be read for lack of rights.
    pub denied: u64,
    /// Processes that ended during the look.
    pub vanished: u64,
    /// What is missing or uncertain in the result, one printable sentence each; empty means
    /// that every process was seen and every socket classified exactly.
    pub incomplete: Vec<String>,
}
