//! From files and offsets to names.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use super::Files;
use super::files::Known;
use super::guess::{Guess, with_guesses};
use crate::enrich::process::identify;
use crate::enrich::symbols::{Answer, Frame, Request, Symbolizer, Why};
use crate::model::{Code, CodeFrame, NamedCode};

/// Names stacks.
pub struct Names {
    symbols: Symbolizer,
    /// Of frames that are only addresses, asked for while their process lived.
    early: HashMap<u64, Answer>,
}

/// Requests about mappings of our own; below are the ids of stacks.
const OWN: u64 = 1 << 32;

impl Names {
    /// # Errors
    /// When a thread cannot be started.
    pub fn start() -> io::Result<Self> {
        Ok(Self {
            symbols: Symbolizer::start()?,
            early: HashMap::new(),
        })
    }

    /// Asks for the names of what only the living process can tell: addresses of the stack `id`
    /// that are in no file with a build id.
    pub fn ask_early(&mut self, id: u32, code: &Code) {
        let addresses: Vec<u64> = addresses(code).collect();
        if addresses.is_empty() {
            return;
        }
        self.symbols.submit(Request {
            id: u64::from(id),
            process: code.process,
            addresses,
        });
        self.collect();
    }

    /// Takes answers that have come.
    pub fn collect(&mut self) {
        for answer in self.symbols.poll() {
            self.early.insert(answer.id, answer);
        }
    }

    /// Names stacks by their ids, in no more than about `patience`.
    pub fn name(
        &mut self,
        stacks: &[(u32, Code)],
        files: &Files,
        patience: Duration,
    ) -> HashMap<u32, NamedCode> {
        let until = Instant::now() + patience;
        let mut mapped: HashMap<usize, Mapped> = HashMap::new();
        let Some(myself) = identify(std::process::id()) else {
            return HashMap::new();
        };
        // All of them are mapped before the first question: what is mapped is not read again
        // for each.
        let stacks: Vec<(u32, &Code, Vec<Guess>)> = (stacks.iter())
            .map(|(id, code)| (*id, code, with_guesses(code, files)))
            .collect();
        let requests: Vec<Request> = stacks
            .iter()
            .map(|(id, code, frames)| Request {
                id: OWN | u64::from(*id),
                process: myself,
                addresses: located(code, frames, files)
                    .into_iter()
                    .flatten()
                    .map(|(index, at)| address(&mut mapped, files, index, at).unwrap_or(0))
                    .collect(),
            })
            .collect();
        for request in requests {
            self.symbols.submit(request);
            if self.symbols.outstanding() > 512 {
                self.take(until);
            }
        }
        self.take(until);
        stacks
            .iter()
            .map(|(id, code, frames)| (*id, self.put_together(*id, code, frames, files)))
            .collect()
    }

    fn take(&mut self, until: Instant) {
        let left = until.saturating_duration_since(Instant::now());
        for answer in self.symbols.resolve_all(left) {
            self.early.insert(answer.id, answer);
        }
    }

    fn put_together(&self, id: u32, code: &Code, frames: &[Guess], files: &Files) -> NamedCode {
        let early = self.early.get(&u64::from(id));
        let own = self.early.get(&(OWN | u64::from(id)));
        let mut early_frames = early.map_or(&[][..], |answer| &answer.frames).iter();
        let mut own_frames = own.map_or(&[][..], |answer| &answer.frames).iter();
        let mut named = NamedCode {
            thread: code.thread.clone(),
            ..NamedCode::default()
        };
        for ((frame, is_guess), located) in frames.iter().zip(located(code, frames, files)) {
            let names = match (frame, located) {
                (CodeFrame::Address(_), _) => early_frames.next(),
                (_, Some(_)) => own_frames.next(),
                (_, None) => None,
            };
            match names {
                Some(names) if *is_guess => {
                    let has_name = |name: &&Frame| name.function.is_some();
                    let names = names.iter().filter(has_name);
                    named.lines.extend(names.map(|name| format!("? {name}")));
                }
                None if *is_guess => {}
                Some(names) if !names.is_empty() => {
                    named.lines.extend(names.iter().map(ToString::to_string));
                }
                _ => {
                    named.lines.push(unnamed(*frame));
                    named.why = Some("a file was gone before it was looked at".to_owned());
                }
            }
        }
        let reasons = [own, early].into_iter().flatten();
        for reason in reasons.filter_map(|answer| answer.why.as_ref()) {
            named.why = Some(reason.to_string());
        }
        if code.cut {
            named.lines.push("...".to_owned());
        }
        // socket(), who called it, main() and what called that are four.
        let nowhere = matches!(
            own.or(early).and_then(|a| a.why.as_ref()),
            Some(Why::NotMapped)
        );
        named.ends_early = code.frames.len() < 4 || nowhere;
        named
    }
}

fn located(code: &Code, frames: &[Guess], files: &Files) -> Vec<Option<(usize, u64)>> {
    let find = |(frame, _): &Guess| files.find(*frame, code.executable);
    frames.iter().map(find).collect()
}

fn addresses(code: &Code) -> impl Iterator<Item = u64> {
    code.frames.iter().filter_map(|frame| match frame {
        CodeFrame::Address(address) => Some(*address),
        _ => None,
    })
}

fn unnamed(frame: CodeFrame) -> String {
    match frame {
        CodeFrame::File { build_id, offset } => {
            let id: String = build_id.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("[build id {id}]+{offset:#x} (file offset)")
        }
        CodeFrame::Program(behind) => format!("[program]+{behind:#x}"),
        CodeFrame::Address(address) => format!("{address:#x}"),
    }
}

fn address(
    mapped: &mut HashMap<usize, Mapped>,
    files: &Files,
    index: usize,
    offset: u64,
) -> Option<u64> {
    if let std::collections::hash_map::Entry::Vacant(place) = mapped.entry(index) {
        match Mapped::new(files.get(index)?) {
            Ok(map) => drop(place.insert(map)),
            Err(error) => log::debug!("a program cannot be mapped: {error}"),
        }
    }
    let map = mapped.get(&index)?;
    let within = usize::try_from(offset).ok().filter(|at| *at < map.len)?;
    Some(map.start as u64 + within as u64)
}

/// A file mapped into this process, so that an address stands for its contents. Nothing reads
/// it here: whoever names the address opens the file behind it.
struct Mapped {
    start: *mut libc::c_void,
    len: usize,
}

impl Mapped {
    fn new(known: &Known) -> io::Result<Self> {
        let len = usize::try_from(known.file.metadata()?.len()).map_err(io::Error::other)?;
        // SAFETY: a new mapping at an address that the kernel chooses touches no other memory,
        // and nothing reads through it. The symboliser looks at mappings with code only.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_EXEC,
                libc::MAP_PRIVATE,
                known.file.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { start, len })
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: exactly what mmap() gave, to which nothing refers.
        unsafe { libc::munmap(self.start, self.len) };
    }
}
