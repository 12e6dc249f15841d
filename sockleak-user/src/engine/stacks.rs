//! Names of the stacks that leaking processes create their sockets from.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use crate::{
    enrich::symbols::{Answer, Frame, Kind, Request, Symbolizer},
    model::{ProcessId, Stack},
    source::pasts::{Pasts, Taken},
    tracker::{Groups, NamedStack, NamedStacks},
};

/// Stacks of smaller groups of idle sockets are not looked up: most groups are on their way.
const MIN_COUNT: u64 = 3;
/// Stacks that are remembered besides those that idle sockets have now; some 3 KB each.
const REMEMBERED: usize = 1 << 8;

/// Looks stacks up as soon as idle sockets have them, while their process lives.
#[derive(Default)]
pub struct StackNames {
    symbols: Option<Symbolizer>,
    named: NamedStacks,
    asked: HashMap<u64, Asked>,
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

    /// Asks for the stacks of idle sockets that are not known yet.
    pub fn look_up(&mut self, groups: &Groups, maps: &Pasts) {
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
        wanted.retain(|key| !self.named.contains_key(key) && !self.on_the_way.contains(key));
        if wanted.is_empty() {
            return;
        }
        let ids: HashSet<u32> = wanted.iter().map(|key| key.1).collect();
        let taken = maps.stacks(|id| ids.contains(&id));
        for key in wanted {
            let Some(Taken { addresses, top }) = taken.get(&key.1).cloned() else {
                let unnamed = Some("the kernel no longer has the stack".to_owned());
                let frames = Vec::new();
                self.named.insert(key, NamedStack { frames, unnamed });
                continue;
            };
            let (addresses, has_top) = with_top(addresses, top);
            if let Some(id) = self.ask(key.0, addresses) {
                self.asked.insert(id, Asked { key, has_top });
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
            if let Some(Asked { key, has_top }) = self.asked.remove(&answer.id) {
                self.on_the_way.remove(&key);
                self.named.insert(key, named(&answer, has_top));
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

/// A request on its way.
struct Asked {
    key: (ProcessId, u32),
    has_top: bool,
}

/// The stack with what was on top of it, where the caller of the innermost function may be, and
/// whether that was put in.
fn with_top(mut addresses: Vec<u64>, top: Option<u64>) -> (Vec<u64>, bool) {
    match top {
        Some(top) if !addresses.is_empty() && addresses.get(1) != Some(&top) => {
            addresses.insert(1, top);
            (addresses, true)
        }
        _ => (addresses, false),
    }
}

/// The stack as it is shown. Code without frame pointers ends in addresses that are none: they
/// are left out, and the reason says so.
fn named(answer: &Answer, has_top: bool) -> NamedStack {
    let mut frames: Vec<&[Frame]> = answer.frames.iter().map(Vec::as_slice).collect();
    if has_top && !is_caller(&frames) {
        frames.remove(1);
    }
    let is_something = |frames: &&[Frame]| frames.iter().any(|one| one.kind != Kind::Unknown);
    let kept = (frames.iter().rposition(is_something)).map_or(0, |last| last + 1);
    NamedStack {
        frames: (frames.iter().take(kept).copied().flatten())
            .map(ToString::to_string)
            .collect(),
        unnamed: answer.why.as_ref().map(ToString::to_string),
    }
}

/// Whether the second frame, which was on top of the stack, is the caller of the first: that is
/// so where the first is one of the short functions around a system call, which have no frame.
fn is_caller(frames: &[&[Frame]]) -> bool {
    let wraps_call = |frame: &Frame| {
        frame.function.as_ref().is_none_or(|name| {
            let name = name.to_ascii_lowercase();
            name.contains("socket") || name.contains("syscall")
        })
    };
    let (Some(first), Some(second)) = (frames.first(), frames.get(1)) else {
        return false;
    };
    first.first().is_none_or(wraps_call) && second.iter().any(|one| one.kind != Kind::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enrich::symbols::Base;

    fn frame(function: Option<&str>, kind: Kind) -> Vec<Frame> {
        vec![Frame {
            function: function.map(str::to_owned),
            module: Some("/usr/lib/libc.so.6".to_owned()),
            offset: 7,
            counted_from: Base::Function,
            source: None,
            inlined: false,
            kind,
        }]
    }

    fn shown(frames: Vec<Vec<Frame>>, has_top: bool) -> Vec<String> {
        let answer = Answer {
            id: 1,
            process: ProcessId {
                pid: 1,
                start_ticks: 1,
            },
            frames,
            why: None,
        };
        named(&answer, has_top).frames
    }

    #[test]
    fn the_caller_without_a_frame_is_put_in_once() {
        assert_eq!(with_top(vec![1, 3], Some(2)), (vec![1, 2, 3], true));
        assert_eq!(with_top(vec![1, 2], Some(2)), (vec![1, 2], false));
        assert_eq!(with_top(vec![1], None), (vec![1], false));
        assert_eq!(with_top(vec![], Some(2)), (vec![], false));
    }

    #[test]
    fn what_is_no_caller_is_left_out() {
        let code = |name| frame(Some(name), Kind::Native);
        let leaf = vec![code("__GI_socket"), code("leak_here"), code("main")];
        assert_eq!(shown(leaf, true).len(), 3);
        // A function with a frame of its own: on top of its stack is whatever it keeps there.
        let framed = vec![code("leak_here"), code("some_callback"), code("main")];
        assert_eq!(shown(framed.clone(), true).len(), 2);
        assert_eq!(shown(framed, false).len(), 3);
        let data = vec![code("socket"), frame(None, Kind::Unknown), code("main")];
        assert_eq!(shown(data, true).len(), 2);
        let garbage = vec![code("socket"), code("main"), frame(None, Kind::Unknown)];
        assert_eq!(shown(garbage, false).len(), 2);
    }
}
