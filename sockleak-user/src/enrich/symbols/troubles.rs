//! What is to be read of processes whose files have ended or stopped the helper.

use std::collections::{HashMap, VecDeque};

use crate::model::ProcessId;

use super::Why;
use super::protocol::Depth;

/// Processes that are remembered. Beyond that the oldest gets another chance.
const MOST: usize = 1024;

/// Processes that are not read to the full depth.
#[derive(Debug, Default)]
pub struct Troubles {
    known: HashMap<ProcessId, Trouble>,
    order: VecDeque<ProcessId>,
}

/// What is still done about a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What may still be read; `None` when nothing may.
    pub depth: Option<Depth>,
    /// What happened.
    pub why: Why,
}

impl Troubles {
    /// What is known about a process.
    pub fn of(&self, process: ProcessId) -> Option<&Trouble> {
        self.known.get(&process)
    }

    /// Reading a process to `depth` has gone wrong: from now on less is read of it. Returns
    /// what is left.
    pub fn add(&mut self, process: ProcessId, depth: Depth, why: Why) -> Option<Depth> {
        let depth = match depth {
            Depth::Debug => Some(Depth::Symbols),
            Depth::Symbols => Some(Depth::Mappings),
            Depth::Mappings => None,
        };
        if self.known.insert(process, Trouble { depth, why }).is_none() {
            self.order.push_back(process);
        }
        if self.order.len() > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        depth
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32) -> ProcessId {
        ProcessId {
            pid,
            start_ticks: 1,
        }
    }

    #[test]
    fn less_and_less_is_read_until_nothing_is() {
        let mut troubles = Troubles::default();
        assert_eq!(troubles.of(process(1)), None);
        let mut depth = Some(Depth::Debug);
        let mut seen = Vec::new();
        while let Some(now) = depth {
            depth = troubles.add(process(1), now, Why::TimedOut);
            seen.push(depth);
        }
        assert_eq!(seen, [Some(Depth::Symbols), Some(Depth::Mappings), None]);
        assert_eq!(
            troubles.of(process(1)),
            Some(&Trouble {
                depth: None,
                why: Why::TimedOut
            })
        );
    }

    #[test]
    fn memory_is_bounded() {
        let mut troubles = Troubles::default();
        for pid in 0..5000 {
            troubles.add(process(pid), Depth::Debug, Why::TimedOut);
            troubles.add(process(pid), Depth::Symbols, Why::TimedOut);
        }
        assert_eq!((troubles.known.len(), troubles.order.len()), (MOST, MOST));
        assert!(troubles.of(process(0)).is_none());
        assert!(troubles.of(process(4999)).is_some());
    }
}
