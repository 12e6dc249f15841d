//! Remembers what was learnt about processes, also after they are gone.

use std::collections::HashMap;
use std::time::Duration;

use crate::model::{ProcessId, ProcessInfo};

use super::process;

/// What is known about processes, bounded; looking one up costs a few /proc reads at most once
/// per refresh interval.
///
/// Policy: an entry younger than the refresh interval is given as it is. An older one is looked
/// up again; if the process is gone by then, its last state stays, marked as exited, and is not
/// looked up any more. When the cache is full, the entry that was asked for longest ago goes,
/// exited ones first.
pub struct Processes {
    entries: HashMap<ProcessId, Entry>,
    capacity: usize,
    refresh_ns: u64,
    evicted: u64,
}

struct Entry {
    info: ProcessInfo,
    /// When it was looked up; `None` when only the kernel side's name is known.
    looked_up_ns: Option<u64>,
    /// When it was last asked for.
    used_ns: u64,
}

impl Processes {
    /// An empty cache for at most `capacity` (at least 1) processes.
    pub fn new(capacity: usize, refresh: Duration) -> Self {
        Self {
            entries: HashMap::new(),
            capacity: capacity.max(1),
            refresh_ns: u64::try_from(refresh.as_nanos()).unwrap_or(u64::MAX),
            evicted: 0,
        }
    }

    /// Keeps the name that the kernel side saw, for a process that may be gone before anybody
    /// asks for it. `comm` must be printable.
    pub fn note(&mut self, id: ProcessId, comm: &str, now_ns: u64) {
        if !self.entries.contains_key(&id) {
            let info = ProcessInfo {
                comm: comm.to_owned(),
                ..ProcessInfo::default()
            };
            self.insert(id, info, None, now_ns);
        }
    }

    /// What is known about `id` at `now_ns` (any monotonic clock, always the same).
    pub fn get(&mut self, id: ProcessId, now_ns: u64) -> &ProcessInfo {
        self.get_with(id, now_ns, process::lookup)
    }

    /// [`Processes::get`] with another source than /proc.
    pub fn get_with(
        &mut self,
        id: ProcessId,
        now_ns: u64,
        lookup: impl FnOnce(ProcessId) -> Option<ProcessInfo>,
    ) -> &ProcessInfo {
        if self.is_stale(id, now_ns) {
            let info = match lookup(id) {
                Some(info) => ProcessInfo {
                    fd_at_ns: info.fd_used.map(|_| now_ns),
                    ..info
                },
                None => ProcessInfo {
                    exited: true,
                    ..self.known(id)
                },
            };
            self.insert(id, info, Some(now_ns), now_ns);
        }
        let entry = self.entries.entry(id).or_insert_with(|| Entry {
            info: ProcessInfo::default(),
            looked_up_ns: None,
            used_ns: now_ns,
        });
        entry.used_ns = now_ns;
        &entry.info
    }

    /// What is known about `id` without looking it up.
    pub fn peek(&self, id: ProcessId) -> Option<&ProcessInfo> {
        self.entries.get(&id).map(|entry| &entry.info)
    }

    /// Entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// There are no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Entries that had to go because the cache was full, since it was made.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    fn known(&self, id: ProcessId) -> ProcessInfo {
        self.peek(id).cloned().unwrap_or_default()
    }

    fn is_stale(&self, id: ProcessId, now_ns: u64) -> bool {
        let Some(entry) = self.entries.get(&id) else {
            return true;
        };
        match entry.looked_up_ns {
            Some(_) if entry.info.exited => false,
            Some(at) => now_ns.saturating_sub(at) >= self.refresh_ns,
            None => true,
        }
    }

    fn insert(&mut self, id: ProcessId, info: ProcessInfo, looked_up: Option<u64>, now_ns: u64) {
        if self.entries.len() >= self.capacity && !self.entries.contains_key(&id) {
            self.make_room();
        }
        let entry = Entry {
            info,
            looked_up_ns: looked_up,
            used_ns: now_ns,
        };
        self.entries.insert(id, entry);
    }

    /// Drops a sixteenth at once, so that a full cache does not search for a victim every time.
    fn make_room(&mut self) {
        let mut order: Vec<(bool, u64, ProcessId)> = self
            .entries
            .iter()
            .map(|(id, entry)| (!entry.info.exited, entry.used_ns, *id))
            .collect();
        order.sort_unstable();
        for (_, _, id) in order.into_iter().take((self.capacity / 16).max(1)) {
            self.entries.remove(&id);
            self.evicted += 1;
        }
        // A table in which elements come and go doubles when it is half full.
        self.entries.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;

    const REFRESH: Duration = Duration::from_nanos(100);

    fn id(pid: u32) -> ProcessId {
        ProcessId {
            pid,
            start_ticks: 7,
        }
    }

    fn named(comm: &str) -> Option<ProcessInfo> {
        Some(ProcessInfo {
            comm: comm.to_owned(),
            ..ProcessInfo::default()
        })
    }

    #[test]
    fn looks_up_once_per_interval() {
        let mut processes = Processes::new(10, REFRESH);
        let lookups = Cell::new(0);
        let mut get = |now| {
            let info = processes.get_with(id(1), now, |_| {
                lookups.set(lookups.get() + 1);
                named("a")
            });
            assert_eq!(info.comm, "a");
        };
        get(0);
        get(99);
        assert_eq!(lookups.get(), 1);
        get(100);
        assert_eq!(lookups.get(), 2);
    }

    #[test]
    fn the_name_survives_the_process() {
        let mut processes = Processes::new(10, REFRESH);
        processes.get_with(id(1), 0, |_| named("java"));
        let info = processes.get_with(id(1), 200, |_| None).clone();
        assert_eq!((info.comm.as_str(), info.exited), ("java", true));
        let again = processes.get_with(id(1), 900, |_| named("impostor"));
        assert_eq!(again.comm, "java");
    }

    #[test]
    fn the_kernel_sides_name_serves_when_nobody_was_fast_enough() {
        let mut processes = Processes::new(10, REFRESH);
        processes.note(id(1), "short", 0);
        let info = processes.get_with(id(1), 0, |_| None);
        assert_eq!((info.comm.as_str(), info.exited), ("short", true));
        processes.note(id(2), "old", 0);
        assert_eq!(processes.get_with(id(2), 0, |_| named("new")).comm, "new");
        processes.note(id(2), "older", 0);
        assert_eq!(processes.peek(id(2)).map(|i| i.comm.as_str()), Some("new"));
    }

    #[test]
    fn exited_entries_go_first() {
        let mut processes = Processes::new(3, REFRESH);
        processes.get_with(id(1), 0, |_| named("a"));
        processes.get_with(id(2), 1, |_| None);
        processes.get_with(id(3), 2, |_| named("c"));
        processes.get_with(id(4), 3, |_| named("d"));
        assert_eq!(processes.peek(id(2)), None);
        assert!(processes.peek(id(1)).is_some());
        assert_eq!(processes.evicted(), 1);
    }

    #[test]
    fn the_table_does_not_outgrow_its_entries() {
        let mut processes = Processes::new(1024, REFRESH);
        for pid in 0..100_000 {
            processes.get_with(id(pid), u64::from(pid), |_| named("x"));
        }
        // What the least table for 1,024 can take.
        let room = processes.entries.capacity();
        assert!(room <= 1792, "{room}");
    }

    #[test]
    fn real_processes() {
        let mut processes = Processes::new(10, REFRESH);
        let me = process::identify(std::process::id()).unwrap();
        assert!(!processes.get(me, 0).exited);
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let child_id = process::identify(child.id()).unwrap();
        assert!(!processes.get(child_id, 0).exited);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!processes.get(child_id, 50).exited);
        assert!(processes.get(child_id, 100).exited);
    }

    proptest! {
        #[test]
        fn stays_bounded(pids in proptest::collection::vec(0_u32..200, 0..400), capacity in 0_usize..40) {
            let mut processes = Processes::new(capacity, REFRESH);
            for (now, pid) in (0_u64..).zip(pids) {
                let info = processes.get_with(id(pid), now, |_| named("x"));
                prop_assert_eq!(&info.comm, "x");
                prop_assert!(processes.len() <= capacity.max(1));
            }
        }
    }
}
