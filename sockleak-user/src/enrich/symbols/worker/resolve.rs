//! Names for addresses: in files by blazesym, in code made at run time by what its compiler says.

use std::io;

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolized, Symbolizer};

use super::confine;
use super::known::{Place, Processes};
use super::modules::{Module, Modules};
use crate::enrich::symbols::call;
use crate::enrich::symbols::frame::{self, Base, Frame, Kind};
use crate::enrich::symbols::protocol::{Depth, Question, Reply};
use crate::enrich::symbols::why::Why;
use crate::model::ProcessId;
use crate::sanitize::printable;
use crate::source::pid_dir::PidDir;

/// Frames of one stack, inlined ones included.
const FRAMES: usize = 2048;

/// Everything that is known.
pub struct Resolver {
    processes: Processes,
    modules: Modules,
    symbolizer: Symbolizer,
}

impl Resolver {
    /// Nothing is known.
    pub fn new() -> Self {
        Self {
            processes: Processes::default(),
            modules: Modules::default(),
            symbolizer: Symbolizer::new(),
        }
    }

    /// Names a stack.
    pub fn answer(&mut self, question: &Question) -> Reply {
        let id = ProcessId {
            pid: question.pid,
            start_ticks: question.start_ticks,
        };
        let calls: Vec<u64> = question.addresses.iter().copied().map(call).collect();
        let mut why = None;
        let process = match self.look_at(id, &calls) {
            Ok(process) => process,
            Err(reason) => {
                Why::add(&mut why, reason);
                None
            }
        };
        let mut frames = Vec::with_capacity(calls.len());
        let mut left = FRAMES;
        for call in calls {
            let mut of_call = self.name(id, process.as_ref(), call, question.depth, &mut why);
            if of_call.len() > left {
                // The outermost is the one that is really there.
                let cut = of_call.len() - left.clamp(1, of_call.len());
                of_call.drain(..cut);
            }
            left = left.saturating_sub(of_call.len());
            frames.push(of_call);
        }
        Reply { frames, why }
    }

    /// Forgets what takes too much room.
    pub fn make_room(&mut self) {
        self.processes.make_room();
        let memory = confine::memory_in_use().unwrap_or(0);
        if self.modules.is_full() || memory > confine::MEMORY / 2 {
            self.symbolizer = Symbolizer::new();
            self.modules = Modules::default();
        }
    }

    /// The process, if it is still there, with what is mapped in it known.
    ///
    /// Everything is read through one descriptor of its directory, and that is tied to the
    /// process, not to the pid: once the start time has been seen to be right through it,
    /// nothing read through it can be of another process.
    fn look_at(&mut self, id: ProcessId, calls: &[u64]) -> Result<Option<PidDir>, Why> {
        let process = PidDir::open(id.pid).ok().filter(|process| {
            let start = process.start_ticks();
            start.is_ok_and(|ticks| id.start_ticks == 0 || ticks == id.start_ticks)
        });
        let known = self.processes.get(id);
        let refreshed = match &process {
            Some(process) => known.refresh(process, calls),
            None => Ok(false),
        };
        match refreshed {
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                Err(Why::Denied(e.to_string()))
            }
            // ESRCH: it has ended since.
            Err(e) if e.raw_os_error() != Some(libc::ESRCH) => Err(Why::Unreadable(e.to_string())),
            _ if known.is_empty() => Err(Why::Gone),
            Ok(true) => Ok(process),
            _ => Ok(None),
        }
    }

    fn name(
        &mut self,
        id: ProcessId,
        process: Option<&PidDir>,
        address: u64,
        depth: Depth,
        why: &mut Option<Why>,
    ) -> Vec<Frame> {
        let Some(place) = self.processes.get(id).find(address) else {
            Why::add(why, Why::NotMapped);
            return vec![Frame::unknown(address)];
        };
        if !place.mapping.object.is_memory() {
            return self.name_in_file(process, &place, address, depth, why);
        }
        if depth < Depth::Symbols {
            return vec![Frame {
                kind: Kind::Jit,
                ..Frame::unknown(address)
            }];
        }
        let mut reason = None;
        let frame = self.name_compiled(id, process, address, &mut reason);
        let mut frames = vec![frame];
        if reason.is_some() && place.mapping.object.is_file() {
            // It may be a program or library that was loaded from a memfd.
            let mut other = None;
            let found = self.name_in_file(process, &place, address, depth, &mut other);
            if found.iter().any(|frame| frame.counted_from != Base::File) {
                (frames, reason) = (found, other);
            }
        }
        if let Some(reason) = reason {
            Why::add(why, reason);
        }
        frames
    }

    fn name_compiled(
        &mut self,
        id: ProcessId,
        process: Option<&PidDir>,
        address: u64,
        why: &mut Option<Why>,
    ) -> Frame {
        let function = match self.processes.get(id).compiled(process, address) {
            Ok(Some(function)) => Some(frame::name(function)),
            Ok(None) => {
                let error = "its /tmp/perf-PID.map does not have the address";
                Why::add(why, Why::NoPerfMap(error.to_owned()));
                None
            }
            Err(error) => {
                Why::add(why, Why::NoPerfMap(printable(error.as_bytes())));
                None
            }
        };
        Frame {
            function,
            kind: Kind::Jit,
            ..Frame::unknown(address)
        }
    }

    fn name_in_file(
        &mut self,
        process: Option<&PidDir>,
        place: &Place,
        address: u64,
        depth: Depth,
        why: &mut Option<Why>,
    ) -> Vec<Frame> {
        let mapping = &place.mapping;
        let shown = frame::name(&mapping.object.name);
        let inside = address.saturating_sub(mapping.start);
        let offset = inside.saturating_add(mapping.file_offset);
        let unnamed = Frame {
            module: Some(shown.clone()),
            offset,
            counted_from: Base::File,
            kind: Kind::Native,
            ..Frame::unknown(address)
        };
        if !mapping.object.is_file() {
            // The vDSO, whose file is the mapping itself.
            Why::add(why, Why::NoSymbols(shown));
            return vec![Frame {
                offset: inside,
                counted_from: Base::Module,
                ..unnamed
            }];
        }
        if depth < Depth::Symbols {
            return vec![unnamed];
        }
        let process = process.filter(|_| place.current);
        let module = match self.modules.open(process, mapping, place.file) {
            Ok(module) => module,
            Err(error) => {
                let error = error.to_string();
                Why::add(
                    why,
                    Why::NoFile {
                        module: shown,
                        error,
                    },
                );
                return vec![unnamed];
            }
        };
        let mut frames = self.symbols(&module, offset, depth);
        if frames.is_empty() {
            Why::add(why, Why::NoSymbols(shown.clone()));
            frames.push(match module.address_of(offset) {
                Some(address) => Frame {
                    offset: address,
                    counted_from: Base::Module,
                    ..unnamed
                },
                None => unnamed,
            });
        }
        for frame in &mut frames {
            frame.module = Some(shown.clone());
        }
        frames
    }

    /// Frames of the byte at a file offset, innermost first; none when it has no name.
    fn symbols(&self, module: &Module, offset: u64, depth: Depth) -> Vec<Frame> {
        // Broken debug information does not make the symbols any worse.
        let sources = [depth == Depth::Debug, false];
        let tried = if sources[0] {
            &sources[..]
        } else {
            &sources[1..]
        };
        for debug_syms in tried {
            let mut elf = Elf::new(&module.path);
            elf.debug_syms = *debug_syms;
            let source = Source::Elf(elf);
            let found = self
                .symbolizer
                .symbolize_single(&source, Input::FileOffset(offset));
            if let Ok(Symbolized::Sym(symbol)) = found
                && !symbol.name.is_empty()
            {
                return frames_of(&symbol);
            }
        }
        Vec::new()
    }
}

fn frames_of(symbol: &Sym<'_>) -> Vec<Frame> {
    let frame = |name: &str, source: Option<&CodeInfo<'_>>, inlined| Frame {
        function: Some(frame::name(name.as_bytes())),
        module: None,
        offset: symbol.offset as u64,
        counted_from: Base::Function,
        source: source.and_then(source_line),
        inlined,
        kind: Kind::Native,
    };
    // blazesym has the outermost first.
    let inlined = symbol.inlined.iter().rev();
    inlined
        .map(|inlined| frame(&inlined.name, inlined.code_info.as_ref(), true))
        .chain([frame(&symbol.name, symbol.code_info.as_deref(), false)])
        .collect()
}

fn source_line(info: &CodeInfo<'_>) -> Option<(String, u32)> {
    let path = info.to_path();
    Some((frame::name(path.as_os_str().as_encoded_bytes()), info.line?))
}
