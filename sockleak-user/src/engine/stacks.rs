//! Names of the stacks that leaking processes create their sockets from.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use crate::{
    enrich::symbols::{Answer, Kind, Request, Symbolizer},
    model::{ProcessId, Stack},
    tracker::{Groups, NamedStack, NamedStacks},
};

/// Stacks of smaller groups of idle sockets are not looked up: most groups are on their way.
const MIN_COUNT: u64 = 3;
/// Most stacks that are remembered.
const REMEMBERED: usize = 1 << 13;

/// Looks stacks up as soon as idle sockets have them, while their process lives.
#[derive(Default)]
pub struct StackNames {
    symbols: Option<Symbolizer>,
    named: NamedStacks,
    asked: HashMap<u64, (ProcessId, u32)>,
    on_the_way: HashSet<(ProcessId, u32)>,
    last_id: u64,
}

impl StackNames {
    /// Names found so far.
    pub fn named(&self) -> &NamedStacks {
        &self.named
    }

    /// Has the mappings of these processes remembered: they may have ended by the time that a
    /// stack of theirs is to be looked up.
    pub fn remember(&mut self, processes: &[ProcessId]) {
        for process in processes {
            self.ask(*process, Vec::new());
        }
    }

    /// Asks for the stacks of idle sockets that are not known yet; `stack` reads one from the
    /// kernel's map.
    pub fn look_up(&mut self, groups: &Groups, stack: impl Fn(u32) -> Option<Vec<u64>>) {
        self.take_answers(Duration::ZERO);
        let mut wanted = HashSet::new();
        for group in groups.iter().filter(|group| group.tally.total >= MIN_COUNT) {
            for (origin, _) in &group.tally.origins {
                if let Stack::Id(id) = origin.past.stack {
                    wanted.insert((group.key.process, id));
                }
            }
        }
        if self.named.len() > REMEMBERED {
            self.named.retain(|key, _| wanted.contains(key));
        }
        for key in wanted {
            if self.named.contains_key(&key) || self.on_the_way.contains(&key) {
                continue;
            }
            let Some(addresses) = stack(key.1) else {
                let unnamed = Some("the kernel no longer has the stack".to_owned());
                let frames = Vec::new();
                self.named.insert(key, NamedStack { frames, unnamed });
                continue;
            };
            if let Some(id) = self.ask(key.0, addresses) {
                self.asked.insert(id, key);
                self.on_the_way.insert(key);
            }
        }
    }

    /// Takes in what has been found; waits no longer than `patience` for what is on its way.
    pub fn take_answers(&mut self, patience: Duration) {
        let Some(symbols) = &mut self.symbols else {
            return;
        };
        for answer in symbols.resolve_all(patience) {
            if let Some(key) = self.asked.remove(&answer.id) {
                self.on_the_way.remove(&key);
                self.named.insert(key, named(&answer));
            }
        }
    }

    fn ask(&mut self, process: ProcessId, addresses: Vec<u64>) -> Option<u64> {
        let symbols = match &mut self.symbols {
            Some(symbols) => symbols,
            none => match Symbolizer::start() {
                Ok(symbols) => none.insert(symbols),
                Err(error) => {
                    log::warn!("stacks will have no names: cannot start a thread: {error}");
                    return None;
                }
            },
        };
        self.last_id += 1;
        let id = self.last_id;
        let request = Request {
            id,
            process,
            addresses,
        };
        // Refused: there are many already; the next look asks again.
        symbols.submit(request).then_some(id)
    }
}

/// The stack as it is shown. Code without frame pointers ends in addresses that are none: they
/// are left out, and the reason says so.
fn named(answer: &Answer) -> NamedStack {
    let is_nothing = |frames: &Vec<crate::enrich::symbols::Frame>| {
        frames.iter().all(|frame| frame.kind == Kind::Unknown)
    };
    let kept = (answer.frames.iter())
        .rposition(|frames| !is_nothing(frames))
        .map_or(0, |last| last + 1);
    NamedStack {
        frames: (answer.frames.iter().take(kept).flatten())
            .map(ToString::to_string)
            .collect(),
        unnamed: answer.why.as_ref().map(ToString::to_string),
    }
}
