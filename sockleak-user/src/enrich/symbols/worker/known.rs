//! What is known about processes: what is mapped where, and what their compilers say. It stays
//! known when they have ended.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Mode, OFlags, openat, statat};

use super::modules::{self, FileId};
use crate::enrich::symbols::maps::{Mapping, Mappings, Object};
use crate::enrich::symbols::perf_map::{self, BOUNDS, PerfMap};
use crate::model::ProcessId;
use crate::source::pid_dir::PidDir;

/// Processes that are remembered.
const PROCESSES: usize = 512;
/// Mappings that are remembered, of all processes together.
const MAPPINGS: usize = 1 << 15;
/// Bytes of perf maps that are remembered, of all processes together.
const PERF_MAPS: usize = 32 << 20;
/// Bytes of `/proc/PID/maps` that are read.
const MAPS_TEXT: u64 = 32 << 20;
/// What is mapped is read again after this time.
const FRESH: Duration = Duration::from_secs(1);
/// What takes longer to read is not read again sooner than after [`PAUSE`] times as long.
const CHEAP: Duration = Duration::from_millis(5);
/// See [`CHEAP`].
const PAUSE: u32 = 20;

/// All processes that were asked about lately.
#[derive(Debug, Default)]
pub struct Processes {
    known: HashMap<ProcessId, Known>,
    uses: u64,
}

impl Processes {
    /// What is known about a process; nothing yet when it is new.
    pub fn get(&mut self, process: ProcessId) -> &mut Known {
        self.uses += 1;
        let known = self.known.entry(process).or_default();
        known.used = self.uses;
        known
    }

    /// Forgets what was not used for longest until the rest fits.
    pub fn make_room(&mut self) {
        let too_much = |known: &HashMap<ProcessId, Known>| {
            let perf_maps: usize = known.values().map(Known::perf_map_size).sum();
            let mappings: usize = known.values().map(Known::mappings_len).sum();
            known.len() > PROCESSES || mappings > MAPPINGS || perf_maps > PERF_MAPS
        };
        while self.known.len() > 1 && too_much(&self.known) {
            let oldest = self.known.iter().min_by_key(|(_, known)| known.used);
            let Some(oldest) = oldest.map(|(process, _)| *process) else {
                return;
            };
            self.known.remove(&oldest);
        }
    }
}

/// What is known about one process.
#[derive(Debug, Default)]
pub struct Known {
    used: u64,
    /// Device and inode of its program: another one after exec(2).
    program: Option<(u64, u64)>,
    mappings: Mappings,
    /// Of the program before that.
    previous: Mappings,
    files: HashMap<Rc<Object>, FileId>,
    read: Option<Timing>,
    perf_map: Option<Jit>,
}

/// When something was read and what it cost.
#[derive(Clone, Copy, Debug)]
struct Timing {
    at: Instant,
    took: Duration,
}

impl Timing {
    fn since(began: Instant) -> Self {
        Self {
            at: Instant::now(),
            took: began.elapsed(),
        }
    }

    /// Whether it is old enough to be read again without spending most of the time on it.
    fn is_over(self, pause: Duration) -> bool {
        let dear = if self.took > CHEAP {
            self.took * PAUSE
        } else {
            Duration::ZERO
        };
        self.at.elapsed() >= pause.max(dear)
    }
}

#[derive(Debug)]
struct Jit {
    map: Result<PerfMap, String>,
    /// Length of the file when it was read.
    len: u64,
    read: Timing,
}

/// Where an address is mapped.
#[derive(Clone, Debug)]
pub struct Place {
    /// The mapping.
    pub mapping: Mapping,
    /// The file that is mapped, when that could be seen.
    pub file: Option<FileId>,
    /// It is mapped there now, as far as is known; otherwise it was before an exec(2).
    pub current: bool,
}

impl Known {
    /// Nothing is known.
    pub fn is_empty(&self) -> bool {
        self.read.is_none()
    }

    /// Reads what is mapped, unless what is known is new enough for these addresses.
    ///
    /// # Errors
    /// When it cannot be read; what was known stays. So it does, without an error but with
    /// `false`, when nothing is mapped any more: the process is ending or a zombie.
    pub fn refresh(&mut self, process: &PidDir, addresses: &[u64]) -> io::Result<bool> {
        let program = statat(process, "exe", AtFlags::empty());
        let program = program.ok().map(|stat| (stat.st_dev, stat.st_ino));
        let replaced = self.read.is_some() && program != self.program;
        let due = match self.read {
            None => true,
            Some(_) if replaced => true,
            Some(read) => {
                let missing = |address: &u64| self.mappings.find(*address).is_none();
                let missing = addresses.iter().any(missing);
                read.is_over(if missing { Duration::ZERO } else { FRESH })
            }
        };
        if !due {
            return Ok(true);
        }
        let began = Instant::now();
        let mappings = read(process)?;
        if mappings.is_empty() {
            return Ok(false);
        }
        // The same program again after exec(2) is usually somewhere else.
        let moved = self.read.is_some() && !mappings.share_a_file_with(&self.mappings);
        if replaced || moved {
            self.previous = std::mem::take(&mut self.mappings);
            self.perf_map = None;
        }
        if mappings != self.mappings {
            self.files = self.identify(process, &mappings);
        }
        self.mappings = mappings;
        self.program = program;
        self.read = Some(Timing::since(began));
        Ok(true)
    }

    /// Which files are mapped, now or before the last exec(2).
    fn identify(&self, process: &PidDir, now: &Mappings) -> HashMap<Rc<Object>, FileId> {
        let mut files = HashMap::new();
        for (mappings, current) in [(&self.previous, false), (now, true)] {
            for mapping in mappings.iter().filter(|mapping| mapping.object.is_file()) {
                if files.contains_key(&mapping.object) {
                    continue;
                }
                let id = match self.files.get(&mapping.object) {
                    None if current => modules::identify(process, mapping),
                    known => known.copied(),
                };
                if let Some(id) = id {
                    files.insert(Rc::clone(&mapping.object), id);
                }
            }
        }
        files
    }

    /// Where an address is mapped, or was before the last exec(2).
    pub fn find(&self, address: u64) -> Option<Place> {
        let current = self.mappings.find(address);
        let mapping = current.or_else(|| self.previous.find(address))?;
        Some(Place {
            mapping: mapping.clone(),
            file: self.files.get(&mapping.object).copied(),
            current: current.is_some(),
        })
    }

    /// Name of the function at an address of code made at run time; the map is read again when
    /// it has grown and does not have the address. `process` is `None` when it is gone.
    ///
    /// # Errors
    /// Why there is no map that could be used.
    pub fn compiled(
        &mut self,
        process: Option<&PidDir>,
        address: u64,
    ) -> Result<Option<&[u8]>, String> {
        let found = |jit: &Jit| matches!(&jit.map, Ok(map) if map.find(address).is_some());
        if let Some(process) = process
            && !self.perf_map.as_ref().is_some_and(found)
        {
            self.read_perf_map(process);
        }
        match &self.perf_map {
            Some(Jit { map: Ok(map), .. }) => Ok(map.find(address)),
            Some(Jit { map: Err(e), .. }) => Err(e.clone()),
            None => Err("the process is gone, and so is what it said".to_owned()),
        }
    }

    fn read_perf_map(&mut self, process: &PidDir) {
        if let Some(known) = &self.perf_map
            && !known.read.is_over(Duration::ZERO)
        {
            return;
        }
        let began = Instant::now();
        let (map, len) = match perf_map::open(process) {
            Ok(opened) => {
                let known = self.perf_map.as_ref().filter(|known| known.map.is_ok());
                if known.is_some_and(|known| known.len == opened.len) {
                    return;
                }
                // Not both in memory at a time.
                self.perf_map = None;
                let map = PerfMap::read(opened.file, &BOUNDS);
                (map.map_err(|error| error.to_string()), opened.len)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                (Err("it writes no /tmp/perf-PID.map".to_owned()), 0)
            }
            Err(error) => (Err(error.to_string()), 0),
        };
        self.perf_map = Some(Jit {
            map,
            len,
            read: Timing::since(began),
        });
    }

    fn perf_map_size(&self) -> usize {
        match &self.perf_map {
            Some(Jit { map: Ok(map), .. }) => map.size(),
            _ => 0,
        }
    }

    fn mappings_len(&self) -> usize {
        self.mappings.len() + self.previous.len()
    }
}

fn read(process: &PidDir) -> io::Result<Mappings> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = File::from(openat(process, "maps", flags, Mode::empty())?);
    let mut text = Vec::new();
    file.take(MAPS_TEXT).read_to_end(&mut text)?;
    Ok(Mappings::parse(&text))
}
