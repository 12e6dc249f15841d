//! What each process has done since attach and in the last interval.

use std::collections::HashMap;

use super::census::Holding;
use super::window::{Point, Window};
use crate::model::{ProcessCounters, ProcessId, ProcessInfo};

/// A process that holds nothing and was missing in more samples than this may be forgotten.
const GONE_AFTER: u64 = 2;
/// Processes that are over and still remembered, those that had most sockets.
const ENDED: usize = 1024;

/// Sockets that came to a process and left it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// Created with socket().
    pub allocated: u64,
    /// Accepted.
    pub accepted: u64,
    /// Of those, destroyed.
    pub destroyed: u64,
}

impl Activity {
    fn of(counters: &ProcessCounters) -> Self {
        Self {
            allocated: counters.allocated,
            accepted: counters.accepted,
            destroyed: counters.destroyed,
        }
    }

    /// Nothing happened.
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    fn add(&mut self, other: &Self) {
        self.allocated = self.allocated.saturating_add(other.allocated);
        self.accepted = self.accepted.saturating_add(other.accepted);
        self.destroyed = self.destroyed.saturating_add(other.destroyed);
    }

    /// What came on top of `earlier`. Kernel-side counters only grow, so one that is smaller
    /// belongs to a new record of the same process: all of it is new. (A new record that has
    /// already overtaken the old one is taken for the old one: too little rather than too much.)
    fn since(&self, earlier: &Self) -> Self {
        let differences = (
            self.allocated.checked_sub(earlier.allocated),
            self.accepted.checked_sub(earlier.accepted),
            self.destroyed.checked_sub(earlier.destroyed),
        );
        match differences {
            (Some(allocated), Some(accepted), Some(destroyed)) => Self {
                allocated,
                accepted,
                destroyed,
            },
            _ => *self,
        }
    }
}

/// One process.
#[derive(Clone, Debug)]
pub struct Account {
    /// The process.
    pub process: ProcessId,
    /// The last that was known about it while it lived.
    pub info: ProcessInfo,
    /// Since attach.
    pub total: Activity,
    /// In the last interval.
    pub interval: Activity,
    /// Course of the CLOSED sockets it holds.
    closed: Option<Window>,
    /// The kernel side's counters at the last sample.
    raw: Option<Activity>,
    /// Sample in which it was last heard of.
    last_sample: u64,
    holds: u64,
}

impl Account {
    fn new(process: ProcessId) -> Self {
        Self {
            process,
            info: ProcessInfo::default(),
            total: Activity::default(),
            interval: Activity::default(),
            closed: None,
            raw: None,
            last_sample: 0,
            holds: 0,
        }
    }

    /// Whether it holds nothing, and the kernel side has not known it in the last of so many samples. One
    /// look at the kernel side's map may miss a record that is there.
    fn is_gone(&self, samples: u64) -> bool {
        self.holds == 0 && self.last_sample + GONE_AFTER < samples
    }

    /// Growth per minute of the CLOSED sockets it holds; `None` before two censuses.
    pub fn closed_per_min(&self) -> Option<f64> {
        self.closed.as_ref()?.rate_per_min()
    }

    fn learn(&mut self, info: &ProcessInfo) {
        let old = &mut self.info;
        if !info.comm.is_empty() {
            old.comm.clone_from(&info.comm);
        }
        if info.exited {
            // Nothing of what else is in there can be right any more.
            old.exited = true;
            return;
        }
        for (old, new) in [
            (&mut old.cgroup, &info.cgroup),
            (&mut old.container, &info.container),
            (&mut old.pod, &info.pod),
        ] {
            if new.is_some() {
                old.clone_from(new);
            }
        }
        old.ns_pid = info.ns_pid.or(old.ns_pid);
        old.netns = info.netns.or(old.netns);
        old.fd_used = info.fd_used.or(old.fd_used);
        old.fd_limit = info.fd_limit.or(old.fd_limit);
        old.exited = false;
    }
}

/// All processes that have been heard of, bounded.
#[derive(Clone, Debug)]
pub struct Accounts {
    limit: usize,
    span_ns: u64,
    accounts: HashMap<ProcessId, Account>,
    samples: u64,
    censuses: u64,
    previous_census_ns: Option<u64>,
    omitted: u64,
    /// Sample in which there was nothing to forget.
    full_since: Option<u64>,
    /// What processes did that are no longer remembered.
    forgotten: Activity,
    forgotten_processes: u64,
}

impl Accounts {
    /// None yet; remembers at most `limit` processes.
    pub fn new(limit: usize, span_ns: u64) -> Self {
        Self {
            limit,
            span_ns,
            accounts: HashMap::new(),
            samples: 0,
            censuses: 0,
            previous_census_ns: None,
            omitted: 0,
            full_since: None,
            forgotten: Activity::default(),
            forgotten_processes: 0,
        }
    }

    /// Takes in the kernel side's counters: one interval has passed.
    pub fn advance(&mut self, counters: &[ProcessCounters]) {
        self.samples += 1;
        let had_omitted = std::mem::take(&mut self.omitted) > 0;
        for account in self.accounts.values_mut() {
            account.interval = Activity::default();
        }
        for record in counters {
            let raw = Activity::of(record);
            let samples = self.samples;
            let Some((account, is_new)) = self.open(record.process) else {
                self.omitted += 1;
                continue;
            };
            account.last_sample = samples;
            let new = match account.raw {
                Some(earlier) => raw.since(&earlier),
                // There was no room for it before, so these counts may be old ones.
                None if is_new && had_omitted => Activity::default(),
                None => raw,
            };
            account.raw = Some(raw);
            account.interval.add(&new);
            account.total.add(&new);
            if account.info.comm.is_empty() {
                account.info.comm.clone_from(&record.comm);
            }
            account.info.netns = account.info.netns.or(record.netns);
        }
        self.forget_ended();
    }

    /// Takes in what each process holds, from a census made at `now_ns`.
    pub fn census<'a>(&mut self, now_ns: u64, holdings: impl Iterator<Item = &'a Holding>) {
        self.censuses += 1;
        for account in self.accounts.values_mut() {
            account.holds = 0;
        }
        let samples = self.samples;
        let (span_ns, previous) = (self.span_ns, self.previous_census_ns);
        for holding in holdings {
            let Some((account, _)) = self.open(holding.process) else {
                self.omitted += 1;
                continue;
            };
            account.holds = holding.total();
            account.last_sample = samples;
            let total = holding.closed();
            if account.closed.is_none() && total > 0 {
                let mut window = Window::new(span_ns);
                if let Some(at_ns) = previous {
                    window.push(Point {
                        at_ns,
                        total: 0,
                        aged: 0,
                    });
                }
                account.closed = Some(window);
            }
            if let Some(window) = &mut account.closed {
                window.push(Point {
                    at_ns: now_ns,
                    total,
                    aged: 0,
                });
            }
        }
        for account in self.accounts.values_mut() {
            // Not in the census: it holds nothing now.
            if let Some(window) = &mut account.closed {
                if window.last().is_some_and(|point| point.at_ns < now_ns) {
                    window.push(Point {
                        at_ns: now_ns,
                        total: 0,
                        aged: 0,
                    });
                }
                if window.is_idle() || account.is_gone(samples) {
                    account.closed = None;
                }
            }
        }
        self.previous_census_ns = Some(now_ns);
    }

    /// Takes in what is known about processes; strangers are ignored.
    pub fn learn<'a>(&mut self, infos: impl Iterator<Item = (&'a ProcessId, &'a ProcessInfo)>) {
        for (process, info) in infos {
            if let Some(account) = self.accounts.get_mut(process) {
                account.learn(info);
            }
        }
    }

    fn open(&mut self, process: ProcessId) -> Option<(&mut Account, bool)> {
        let is_new = !self.accounts.contains_key(&process);
        if is_new && self.accounts.len() >= self.limit {
            // A search that found nothing finds nothing until the next sample either.
            if self.full_since == Some(self.samples) {
                return None;
            }
            if !self.forget_gone() {
                self.full_since = Some(self.samples);
                return None;
            }
        }
        let account = self
            .accounts
            .entry(process)
            .or_insert_with(|| Account::new(process));
        Some((account, is_new))
    }

    /// Makes room: forgets the processes that neither the kernel side nor the last census knows,
    /// the longest unheard of first. Says whether there is room now.
    fn forget_gone(&mut self) -> bool {
        let mut gone = self.gone(|account| account.last_sample);
        gone.sort_unstable();
        // Some more at once, so that the next newcomer does not have to search again.
        gone.truncate(self.limit / 16 + 1);
        self.forget(gone);
        self.accounts.len() < self.limit
    }

    /// Forgets processes that are over when there are more than [`ENDED`] of them.
    fn forget_ended(&mut self) {
        if self.accounts.len() <= ENDED {
            return;
        }
        let mut gone = self.gone(|account| {
            let Activity {
                allocated,
                accepted,
                ..
            } = account.total;
            (allocated.saturating_add(accepted), account.last_sample)
        });
        if gone.len() <= ENDED {
            return;
        }
        gone.sort_unstable();
        // Some more at once, as above.
        gone.truncate(gone.len() - ENDED + ENDED / 16);
        self.forget(gone);
    }

    /// Whether neither the kernel side nor the last census knows this process.
    pub fn is_gone(&self, process: ProcessId) -> bool {
        let account = self.accounts.get(&process);
        account.is_none_or(|account| account.is_gone(self.samples))
    }

    /// The processes that are gone, with something of each.
    fn gone<T>(&self, what: impl Fn(&Account) -> T) -> Vec<(T, ProcessId)> {
        self.accounts
            .values()
            .filter(|account| account.is_gone(self.samples))
            .map(|account| (what(account), account.process))
            .collect()
    }

    fn forget<T>(&mut self, gone: Vec<(T, ProcessId)>) {
        for (_, process) in gone {
            if let Some(account) = self.accounts.remove(&process) {
                self.forgotten.add(&account.total);
                self.forgotten_processes += 1;
            }
        }
        // A table in which elements come and go doubles when it is half full.
        self.accounts.shrink_to_fit();
    }

    /// One process.
    pub fn get(&self, process: ProcessId) -> Option<&Account> {
        self.accounts.get(&process)
    }

    /// All processes remembered, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Account> {
        self.accounts.values()
    }

    /// Number of censuses taken in.
    pub fn censuses(&self) -> u64 {
        self.censuses
    }

    /// Processes of the last sample for which there was no room.
    pub fn omitted(&self) -> u64 {
        self.omitted
    }

    /// Processes that were remembered once, and what they did.
    pub fn forgotten(&self) -> (u64, Activity) {
        (self.forgotten_processes, self.forgotten)
    }
}
