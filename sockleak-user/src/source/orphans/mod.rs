//! What is known about orphans: who created them, and how often the kernel had to reset some.

mod netstat;

use std::collections::HashMap;
use std::io::{self, Read};

use sockleak_ebpf::ProcessKey;

use crate::{decode, model::ProcessId};

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use netstat::parse as parse_netstat;
pub use netstat::{Aborts, Overflows, aborts, overflows};

/// Processes that are told apart.
const PROCESSES: usize = 1 << 14;
const KEY: usize = size_of::<ProcessKey>();

/// Who had made or accepted connections that nobody has any more.
#[derive(Debug, Default)]
pub struct Creators {
    /// How many of each.
    pub by_process: HashMap<ProcessId, u64>,
    /// Entries that made no sense.
    pub undecodable: u64,
}

impl Creators {
    /// Adds those that the iterator tells of.
    ///
    /// # Errors
    /// When the kernel ends the walk.
    pub fn read(&mut self, mut walk: impl Read) -> io::Result<()> {
        let mut buffer = vec![0; 4096 * KEY];
        let mut filled = 0;
        loop {
            let room = buffer.get_mut(filled..).unwrap_or_default();
            let count = match walk.read(room) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            filled += count;
            let whole = filled - filled % KEY;
            for key in buffer.get(..whole).unwrap_or_default().chunks_exact(KEY) {
                match decode::process_id(key) {
                    Ok(process) => self.count(process),
                    Err(_) => self.undecodable += 1,
                }
            }
            buffer.copy_within(whole..filled, 0);
            filled -= whole;
        }
    }

    fn count(&mut self, process: ProcessId) {
        if self.by_process.len() < PROCESSES || self.by_process.contains_key(&process) {
            *self.by_process.entry(process).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a few bytes at a time.
    struct Slowly<'a>(&'a [u8]);

    impl Read for Slowly<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = buffer.len().min(self.0.len()).min(7);
            let (now, later) = self.0.split_at(count);
            buffer[..count].copy_from_slice(now);
            self.0 = later;
            Ok(count)
        }
    }

    #[test]
    fn creators_are_counted_however_the_bytes_come() {
        let mut bytes = Vec::new();
        for n in 0..10_000_u32 {
            bytes.extend(120_000_000_u64.to_ne_bytes());
            bytes.extend((70 + n % 3).to_ne_bytes());
            bytes.extend([0; 4]);
        }
        let mut at_once = Creators::default();
        at_once.read(bytes.as_slice()).unwrap();
        let mut slowly = Creators::default();
        slowly.read(Slowly(&bytes)).unwrap();
        assert_eq!(at_once.by_process, slowly.by_process);
        let process = |pid| ProcessId {
            pid,
            start_ticks: 12,
        };
        assert_eq!(at_once.by_process[&process(70)], 3_334);
        assert_eq!(at_once.by_process[&process(72)], 3_333);
    }
}
